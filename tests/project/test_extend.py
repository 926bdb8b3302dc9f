"""The example packages are installed as anybody's would be, and do what docs/extend says.

Every block of those pages is checked: `sh` is run, `yaml` is served or checked, and `python` and `toml` stand in the
example's files as they are shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.testing.script import LAST_CHUNK, Send, chunked, head
from tests.project.test_docs import BLOCK, serving

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"backend": ROOT / "docs/extend/backend.md", "contract": ROOT / "docs/extend/contract.md"}
PIP = """#!/bin/sh
# `pip` of the page: without an index, and with the build backend that is here already
[ "$1" = install ] && shift && exec {python} -m uv pip install -q --offline --no-deps --no-build-isolation \\
  --python "{venv}/bin/python" "$@"
"""

pytestmark = pytest.mark.xdist_group("extend")


class Place(NamedTuple):
    folder: Path
    environment: dict[str, str]
    python: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A venv that sees this one's packages, with both examples installed by the commands of their pages."""
    folder = tmp_path_factory.mktemp("extend")
    shutil.copytree(ROOT / "examples", folder / "examples")
    made = folder / "venv"
    venv.create(made, symlinks=True, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(made), "platbase": str(made)}))
    here = sysconfig.get_path("purelib")
    (packages / "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, text in {
        "pip": PIP.format(python=sys.executable, venv=made),
        "pytest": f'#!/bin/sh\nexec "{made}/bin/python" -m pytest -p no:cacheprovider "$@"\n',
        "chat-proxy": f'#!/bin/sh\nexec "{made}/bin/python" -m proxy "$@"\n',
    }.items():
        (made / "bin" / name).write_text(text)
        (made / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{made}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    place = Place(folder, environment, str(made / "bin" / "python"))
    for page in EXAMPLES.values():
        for match in BLOCK.finditer(page.read_text()):
            if match["language"] == "sh" and "pip install" in match["text"]:
                install, *_ = match["text"].splitlines()
                shell(place, install)
    return place


def shell(place: Place, text: str) -> str:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def unindented(text: str) -> str:
    """The lines alone: a page shows the inside of a class at the left margin."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_page_shows_what_stands_in_the_files(example: str):
    files = "\n".join(file.read_text() for file in sorted((ROOT / "examples" / example).iterdir()) if file.is_file())
    shown = [
        match["text"]
        for match in BLOCK.finditer(EXAMPLES[example].read_text())
        if match["language"] in {"python", "toml"}
    ]
    assert len(shown) >= 4
    for text in shown:
        assert unindented(text) in unindented(files)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_pages_commands_work_and_print_what_it_says(example: str, place: Place):
    """In the order of the page; a `curl` asks a proxy that serves the echo."""
    config = place.folder / "config.yaml"
    ran = 0
    for match in BLOCK.finditer(EXAMPLES[example].read_text()):
        if match["language"] == "yaml":
            config.write_text(match["text"])
        if match["language"] != "sh":
            continue
        text = match["text"]
        if "localhost:8080" in text:
            echo = place.folder / "echo"
            echo.mkdir()
            (echo / "config.yaml").write_text("backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n")
            with serving(echo, python=place.python, env=place.environment) as site:
                printed = shell(place, text.replace("localhost:8080", site.url))
        else:
            printed = shell(place, text)
        ran += 1
        if match["prints"] is not None:
            pattern = ".*".join(map(re.escape, match["prints"].rstrip("\n").split("…")))
            assert re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL), printed
    assert ran >= 2


async def test_a_request_in_the_one_example_is_answered_by_the_other(place: Place, upstream):
    """A real process, a real request: both plug-ins by their entry points."""
    folder = place.folder / "both"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        f"backends: {{far: {{kind: ollama-native, base_url: '{upstream.origin}'}}}}\n"
        "routes: [{name: default, match: {contract: lines}, to: far/m}]\n"
    )
    lines = [{"message": {"content": "It "}}, {"message": {"content": "rains."}}, {"done": True}]
    upstream.play(
        Send(head(200, {"content-type": "application/x-ndjson", "transfer-encoding": "chunked"})),
        *[Send(chunked(json.dumps(line).encode() + b"\n")) for line in lines],
        Send(LAST_CHUNK),
    )
    with serving(folder, python=place.python, env=place.environment) as site:
        request = urllib.request.Request(f"{site.url}/lines", b'{"question": "And the weather?"}')

        def ask() -> bytes:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()

        answer = await asyncio.to_thread(ask)
    assert [json.loads(line) for line in answer.splitlines()] == [{"say": "It "}, {"say": "rains."}, {"end": "stop"}]
    assert upstream.requests[0].json()["messages"] == [{"role": "user", "content": "And the weather?"}]
