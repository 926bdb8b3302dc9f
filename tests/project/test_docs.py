"""Every config, command and program that the documentation shows is run here, and does what it shows.

A block of `yaml` is a whole config, or begins with `# part of a config`. `sh`, `python` and `js` blocks run beside a
proxy that serves config.yaml, or on a page that declares `frontends:`, `resume:` or `usage:` the last config above that does; a `text` block
right after one is what it must print, where `…` stands for anything.
`<!-- not run: why -->` before a block is the only way out.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import yaml

from proxy.backends.base import kind
from proxy.config.load import load_config
from tests.support import node

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = [
    ROOT / "docs" / name for name in ("config.md", "cli.md", "architecture.md", "translation.md", "peers.md", "team.md")
]
BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^>]+ -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$(?:\n+```text\n(?P<prints>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    prints: str | None
    config: str  # what the proxy serves beside it; empty for config.yaml


PART = "# part of a config"
REST = "\nbackends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n"


def whole(text: str) -> str:
    """The config of a block."""
    return text + REST if text.startswith(PART) else text


def blocks(*languages: str) -> list[object]:
    found = []
    for page in PAGES:
        if (
            page.parent.name in {"transcripts", "extend"} or page.name == "team.md"
        ):  # the last two have tests of their own
            continue
        content, config = page.read_text(), ""
        for match in BLOCK.finditer(content):
            if match["language"] == "yaml" and re.search(r"^(frontends|  resume|usage):", match["text"], re.MULTILINE):
                config = whole(match["text"])
            if match["language"] in languages and not match["skip"]:
                line = content[: match.start("language")].count("\n") + 1
                name = str(page.relative_to(ROOT))
                block = Block(name, line, match["language"], match["text"], match["prints"], config)
                in_order = pytest.mark.xdist_group(name)  # a command may need what one above it wrote
                found.append(pytest.param(block, id=f"{name}:{line}", marks=in_order))
    assert found
    return found


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_config_shown_is_valid(block: Block, tmp_path: Path):
    text = whole(block.text)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    variables = set(re.findall(r"\$\{(\w+)", text))
    config = load_config(
        path,
        settings_for=lambda name: kind(name).settings,
        env=dict.fromkeys(variables, "a-value-as-long-as-a-key-has-to-be"),
    )
    assert config.settings.routes
    assert [str(warning) for warning in config.warnings] == []


class Site(NamedTuple):
    url: str
    folder: Path


Sites = Callable[[str], Site]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """The proxy as `make run` starts it, on a free port, and a folder to run commands in; one for each config."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def site(config: str) -> Site:
            folder = tmp_path_factory.mktemp("site")
            (folder / "config.yaml").write_text(config or (ROOT / "config.yaml").read_text())
            return stack.enter_context(serving(folder))

        yield site


@contextlib.contextmanager
def serving(folder: Path, *, python: str = sys.executable, env: Mapping[str, str] | None = None) -> Iterator[Site]:
    """The config in `folder`, served on a free port."""
    command = [python, "-m", "proxy", "serve", "-c", "config.yaml", "--port", "0"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=folder, env=env or environment(), stdout=subprocess.PIPE, stderr=log, text=True
        ) as proxy,
    ):
        try:
            yield Site(listening(proxy, folder / "log"), folder)
        finally:
            proxy.kill()  # a drain takes a second and a half, some fifty times


def listening(proxy: subprocess.Popen[str], log: Path, within_s: float = 120) -> str:
    assert proxy.stdout is not None
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and select.select([proxy.stdout], [], [], within_s)[0]:
        line = proxy.stdout.readline()
        if found := re.search(r"listening on (http://\S+)", line):
            return found[1]
        if not line:
            break
    raise AssertionError(f"the proxy does not listen:\n{log.read_text()}")


def environment() -> dict[str, str]:
    """Without keys: what the documentation shows must work on a machine that has none."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    return clean | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("block", blocks("sh", "python", "js"))
def test_what_is_shown_runs_and_prints_what_it_says(block: Block, site: Sites, tmp_path: Path):
    beside = site(block.config)
    text = re.sub(r"(http://)?localhost:8080", beside.url, block.text)
    match block.language:
        case "sh":
            command = ["bash", "-euo", "pipefail", "-c", text]
        case "python":
            command = [sys.executable, "-c", text]
        case _:
            script = tmp_path / "shown.mjs"
            script.write_text(text)
            command = [node.node(), str(script)]
    ran = subprocess.run(
        command, cwd=beside.folder, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    if block.prints is not None:
        pattern = ".*".join(map(re.escape, block.prints.rstrip("\n").split("…")))
        assert re.fullmatch(pattern, ran.stdout.rstrip("\n"), re.DOTALL), ran.stdout


@pytest.mark.parametrize("page", [page.name for page in MADE])
def test_the_reference_is_up_to_date(page: str):
    assert (ROOT / "docs" / page).read_text() == module("generate").PAGES[page](), "run `make docs`"


def module(name: str) -> ModuleType:
    """A program in docs/."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)", prose):
        assert not target or (page.parent / target).exists(), target


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links if (page.parent / link).exists()]
    assert set(PAGES) <= reached


def test_the_contracts_that_are_shipped_as_examples_are_those_that_are_explained():
    shipped = yaml.safe_load((ROOT / "deploy" / "examples" / "frontends.yaml").read_text())["frontends"]
    shown: dict[str, object] = {}
    for match in BLOCK.finditer((ROOT / "docs" / "contracts" / "declared.md").read_text()):
        if match["language"] == "yaml":
            shown |= yaml.safe_load(match["text"])["frontends"]
    assert {name: shown.get(name) for name in shipped} == shipped


def test_the_shipped_config_needs_no_key(tmp_path: Path):
    """`make run` on a fresh machine: nothing set, echo answers."""
    assert yaml.safe_load((ROOT / "config.yaml").read_text())["backends"]["echo"] == {"kind": "echo"}
    config = load_config(ROOT / "config.yaml", settings_for=lambda name: kind(name).settings, env={})
    assert set(config.backends) == {"echo"}
