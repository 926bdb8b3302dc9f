"""docs/architecture.md names what there is: files, functions, layers. `make docs` writes its table of imports."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE)))
FILES = sorted(set(re.findall(r"`((?:proxy|docs|tests)/[\w/]+\.\w+)`", PAGE)))


@cache
def names(file: str) -> frozenset[str]:
    """The functions and classes of a module, methods as `Class.method`."""
    found: set[str] = set()

    def walk(body: list[ast.stmt], before: str) -> None:
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found.add(before + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{before}{node.name}.")

    walk(ast.parse((ROOT / "proxy" / file).read_text()).body, "")
    return frozenset(found)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_the_page_names_exists(file: str, name: str):
    assert name in names(file)


def test_both_paths_are_reported_with_their_functions():
    assert len(NAMED) > 25


@pytest.mark.parametrize("file", FILES)
def test_the_files_of_the_checklist_exist(file: str):
    assert (ROOT / file).is_file()


def test_the_picture_is_the_layers_that_the_imports_are_held_to():
    """import-linter holds the code to the layers, and this the picture to import-linter."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [one["layers"] for one in tool["contracts"] if one["type"] == "layers"]
    [picture] = re.findall(r"## The picture\n.*?```text\n(.*?)```", PAGE, re.DOTALL)
    drawn = [re.split(r"  +", line)[0] for line in picture.splitlines()]
    assert drawn == [layer.replace("proxy.", "") for layer in layers]


def test_every_room_is_in_the_picture():
    [picture] = re.findall(r"## The picture\n.*?```text\n(.*?)```", PAGE, re.DOTALL)
    drawn = {name for line in picture.splitlines() for name in re.split(r"  +", line)[0].split(" | ")}
    drawn |= {"request", "errors"}
    rooms = {
        path.stem for path in (ROOT / "proxy").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__", "lean", "fast_imports"} - drawn == set()
