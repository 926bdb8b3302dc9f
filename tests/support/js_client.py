"""The JavaScript client and its example app, built once from this checkout into `.make/js`."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support import node
from tests.support.need import cannot_run

SOURCES = ("clients/js", "examples/react")
_MADE = shutil.ignore_patterns("node_modules", "dist")


@functools.cache
def client() -> Path:
    """Build the client; returns the folder of its package, with `dist` in it."""
    return _built(*SOURCES[:1], command=("node_modules/.bin/tsc",))


@functools.cache
def example() -> Path:
    """Build the example app over the client; returns the app's folder, with `dist` in it."""
    client()
    return _built(*SOURCES, command=("node_modules/.bin/vite", "build"))


def _built(*sources: str, command: tuple[str, ...]) -> Path:
    node.node()
    files = [file for source in sources for file in sorted((node.ROOT / source).rglob("*")) if _is_source(file)]
    key = hashlib.sha256(b"".join(str(file).encode() + file.read_bytes() for file in files)).hexdigest()[:16]
    root = node.ROOT / ".make" / "js" / key
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)  # several pytest workers, one build
        if not (root / ".complete").exists():
            for source in sources:
                shutil.copytree(node.ROOT / source, root / source, ignore=_MADE, dirs_exist_ok=True)
                _run(root / source, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
                if source == "clients/js":
                    _run(root / source, "node_modules/.bin/tsc")
            _run(root / sources[-1], *command)
            (root / ".complete").touch()
    return root / sources[-1]


def _is_source(file: Path) -> bool:
    return file.is_file() and not {"node_modules", "dist"} & set(file.parts)


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode and command[0] == "npm":
        cannot_run(f"`npm ci` failed in {folder.name}:\n{(done.stdout + done.stderr)[-2000:]}")
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
