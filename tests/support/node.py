"""Real JavaScript clients for tests: Node, and the npm packages that `tests/clients/package-lock.json` pins.

`modules()` installs them once into `.make/node` (keyed by the lock's content) and returns that folder;
`run(script)` runs a script that may `import` them. Other sets of packages have locks of their own, in the folders
of `tests/clients/npm`: `modules("newest")`.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.support.need import cannot_run

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
_OLDEST_NODE = 20


@functools.cache
def node() -> str:
    """Return the path of the node program, or stop the test."""
    found = shutil.which("node")
    if found is None:
        cannot_run(f"needs Node.js {_OLDEST_NODE} or newer; there is no `node` on the PATH")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < _OLDEST_NODE:
        cannot_run(f"needs Node.js {_OLDEST_NODE} or newer; `node` is {version}")
    return found


@functools.cache
def packaged_node(name: str) -> str:
    """Return the path of the Node program that is one of a set's packages, for clients that want a newer one."""
    processor = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    program = modules(name) / "node_modules" / f"node-linux-{processor}" / "bin" / "node"
    if not program.exists():
        cannot_run(f"needs a newer Node.js, which no package brings for {platform.system()} on {platform.machine()}")
    return str(program)


def lock(name: str = "") -> Path:
    """The lock file of a set of packages."""
    return (CLIENTS / "npm" / name if name else CLIENTS) / "package-lock.json"


def version_in_lock(package: str, name: str = "") -> str:
    """Which version of a package a set has."""
    packages = json.loads(lock(name).read_text())["packages"]
    version: str = packages[f"node_modules/{package}"]["version"]
    return version


@functools.cache
def modules(name: str = "") -> Path:
    """Install the pinned npm packages once and return the folder that holds `node_modules`, or stop the test."""
    node()
    key = hashlib.sha256(lock(name).read_bytes()).hexdigest()[:16]
    folder = ROOT / ".make" / "node" / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)  # several pytest workers, one installation
        if not (folder / ".complete").exists():
            _install(lock(name).parent, folder)
            (folder / ".complete").touch()
    return folder


def among_modules(script: Path, name: str = "") -> Path:
    """Copy a script and the modules beside it to where its `import`s find the pinned packages; return that copy."""
    folder = modules(name)  # `import` looks for node_modules beside the script, whatever NODE_PATH says
    for source in {script, *script.parent.glob("*.mjs")}:
        copy = folder / source.name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            fresh = folder / f".{source.name}.{os.getpid()}"
            shutil.copyfile(source, fresh)
            fresh.replace(copy)
    return folder / script.name


def run(
    script: Path, *arguments: str, env: dict[str, str] | None = None, input: str | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a script with the pinned packages in reach of its `import`s; its exit status is the caller's to judge."""
    return subprocess.run(
        [node(), str(among_modules(script)), *arguments],
        env=os.environ | (env or {}),
        input=input,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _install(source: Path, folder: Path) -> None:
    if shutil.which("npm") is None:
        cannot_run("needs npm to install the pinned JavaScript clients; there is no `npm` on the PATH")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(source / name, folder / name)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        cannot_run(f"`npm ci` failed:\n{(done.stdout + done.stderr)[-2000:]}")
