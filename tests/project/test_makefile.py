"""`make` sets up a machine that has only Python: it says what it does, does it once, and recovers from a half-made .venv.

The real Makefile runs here over an empty lock and a stand-in project, so that nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "stand-in"
version = "1.0"
"""

BACKEND = '''\
"""The smallest build backend that gives `chat-proxy` a command."""
import zipfile

FILES = {
    "stand_in.py": "import sys\\ndef main(): print('serving', *sys.argv[1:])\\n",
    "stand_in-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: stand-in\\nVersion: 1.0\\n",
    "stand_in-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "stand_in-1.0.dist-info/entry_points.txt": "[console_scripts]\\nchat-proxy = stand_in:main\\n",
    "stand_in-1.0.dist-info/RECORD": "",
}

def build_editable(folder, settings=None, metadata=None):
    name = "stand_in-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name

build_wheel = build_editable
'''

pytestmark = [
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
    pytest.mark.xdist_group("makefile"),  # they share what is set up
]


def stand_in(folder: Path) -> Path:
    shutil.copyfile(ROOT / "Makefile", folder / "Makefile")
    (folder / "deploy").mkdir()
    shutil.copyfile(ROOT / "deploy" / "needs.py", folder / "deploy" / "needs.py")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    for lock in ROOT.glob("requirements*.lock"):
        (folder / lock.name).write_text("# nothing\n")
    (folder / "requirements-dev.lock").write_text("no-such-package==1\n")  # no hash: refused, should it be looked at
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return stand_in(tmp_path)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A project where `make run` was the first command: making .venv is what takes the time."""
    folder = stand_in(tmp_path_factory.mktemp("ready"))
    return folder, make(folder, "run", "CONFIG=mine.yaml", "ARGS=--port 9")


@pytest.fixture(scope="module")
def ready(first_run: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """A project that is set up already."""
    return first_run[0]


@pytest.fixture
def copying(ready: Path, tmp_path: Path) -> Path:
    """A Python whose `venv` copies one that is made, which takes a tenth of the time."""
    copy = f'cp -R "{ready}/.venv/." "$3" && rm -f "$3"/.stamp-*'
    return script(tmp_path, f'test "$2" = venv && {{ mkdir -p "$3" && {copy}; exit; }}; exec "{sys.executable}" "$@"')


def make(project: Path, *arguments: str, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "CONFIG", "ARGS"))
    }
    return subprocess.run(
        ["make", f"PYTHON={python}", *arguments], cwd=project, env=clean, capture_output=True, text=True, check=False
    )


def script(folder: Path, text: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_run_sets_up_once_and_serves_the_given_config(first_run):
    project, first = first_run
    assert first.returncode == 0, first.stderr
    said = first.stdout.splitlines()
    assert said[0].startswith("making .venv with Python 3.")
    assert "requirements-core.lock" in said[1]
    assert said[-1] == "serving serve -c mine.yaml --port 9"
    assert make(project, "run").stdout.splitlines() == ["serving serve -c config.yaml"]


def test_the_extras_are_installed_for_a_config_that_needs_them(ready):
    (ready / "requirements-core.lock").write_text("# the core\n")
    (ready / "mine.yaml").write_text("backends: {a: {kind: litellm}}")
    assert make(ready, "run").stdout.splitlines() == ["serving serve -c config.yaml"], "what is there has the core"
    for stamp in (ready / ".venv").glob(".stamp-locked-*"):
        stamp.unlink()
    for config, said in (
        ("config.yaml", ["requirements-core.lock"]),
        ("mine.yaml", ["requirements.lock"]),
        ("config.yaml", []),
    ):
        installed = re.findall(r"installing the packages of (\S+)", make(ready, "run", f"CONFIG={config}").stdout)
        assert installed == said


def test_the_test_packages_are_installed_by_what_needs_them_only(ready):
    assert make(ready, "run").returncode == 0
    refused = make(ready, "test")
    assert refused.returncode != 0
    assert "requirements-dev.lock" in refused.stdout


def test_the_python_clients_get_a_venv_of_their_own(ready, copying):
    (ready / "requirements-dev.lock").write_text("# nothing\n")
    lock = ready / "tests" / "clients" / "requirements.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("no-such-package==1\n")
    refused = make(ready, "test-clients", python=copying)
    assert "tests/clients/requirements.lock" in refused.stdout
    assert "no-such-package" in refused.stderr
    lock.write_text("# mended\n")
    lock.with_name("frameworks.lock").write_text("# nothing\n")
    assert "No module named pytest" in make(ready, "test-clients", python=copying).stderr, "it got as far as the tests"
    assert (ready / ".make" / "clients" / "bin" / "python").exists()
    assert (ready / ".make" / "frameworks" / "bin" / "python").exists()


def test_a_half_made_venv_is_made_again(ready, tmp_path, copying):
    project = shutil.copytree(ready, tmp_path / "copy", symlinks=True)
    (project / ".venv" / "bin" / "python").unlink()  # as after a system upgrade
    again = make(project, "run", python=copying)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("making .venv")
    for pip in (project / ".venv").glob("lib/python3*/site-packages/pip*"):
        shutil.rmtree(pip)  # as after an interrupted `python -m venv`
    for stamp in (project / ".venv").glob(".stamp-*"):
        stamp.unlink()
    again = make(project, "run", python=copying)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("making .venv")


def test_an_edited_lock_is_installed_without_starting_over(ready):
    (ready / "requirements.lock").write_text("# edited\n")
    said = make(ready, "venv").stdout.splitlines()
    assert [line for line in said if "requirements.lock" in line]
    assert not [line for line in said if line.startswith("making")]


def test_a_failed_installation_is_tried_again(ready):
    (ready / "requirements.lock").write_text("no-such-package==1\n")
    assert make(ready, "venv").returncode != 0
    assert make(ready, "venv").returncode != 0
    (ready / "requirements.lock").write_text("# mended\n")
    assert make(ready, "venv").returncode == 0


def test_an_old_python_is_named_with_what_to_do(project, tmp_path):
    old = script(tmp_path, 'test "$1" = --version && echo Python 3.9.2 && exit; exit 1')
    answer = make(project, "run", python=old)
    assert answer.returncode != 0
    assert "3.11" in answer.stderr
    assert "3.9.2" in answer.stderr
    assert "make PYTHON=" in answer.stderr


def test_a_python_without_venv_is_explained(project, tmp_path):
    lacking = script(tmp_path, f'test "$2" = venv && exit 1; exec "{sys.executable}" "$@"')
    answer = make(project, "run", python=lacking)
    assert answer.returncode != 0
    assert "python3-venv" in answer.stderr
    assert not (project / ".venv").exists()


def test_help_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = make(ROOT, "help").stdout
    assert phony
    assert {name for name in phony[1].split() if f"make {name} " not in listed} <= {"venv"}


def test_the_tests_of_a_group_share_a_process(request):
    grouped = request.config.getoption("loadgroup", default=False)  # in a process of pytest-xdist
    assert request.node.nodeid.endswith("@makefile") == grouped, "pytest-xdist does not see its groups"
