"""How the others are installed: once, into the work folder, by the ordinary clients, at pinned versions."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.tools import HERE, ROOT, WORK, CannotMeasure

ENVOY = "1.40.0"
LITELLM = "1.106.12"
SMG = "1.13.0"
VLLM_ROUTER = "0.1.17"
PORTKEY_PROGRAM = "node_modules/@portkey-ai/gateway/build/start-server.js"  # its version is in its package.json


def install_debian(program: str, package: str) -> None:
    """A server from Debian's packages, where it is missing."""
    if shutil.which(program):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CannotMeasure(f"{program} is missing: install it (Debian: sudo apt-get install {package})")
    _say(f"installing {package}")
    options = ["--yes", "--quiet", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    _run("apt-get", "update", "--quiet", "--quiet")
    _run("apt-get", "install", *options, package, environment={"DEBIAN_FRONTEND": "noninteractive"})


def install_wheel(folder: str, program: str, requirement: str) -> None:
    """A virtual environment of its own, so that no peer's dependencies meet ours. A new pin makes a new one."""
    place = WORK / folder
    stamp = place / "installed.txt"
    if (place / "bin" / program).exists() and stamp.exists() and stamp.read_text() == requirement:
        return
    _say(f"installing {requirement}")
    _run(sys.executable, "-m", "venv", "--clear", str(place))
    _run(str(place / "bin" / "python"), "-m", "pip", "-qq", "--disable-pip-version-check", "install", requirement)
    stamp.write_text(requirement)


def install_portkey() -> None:
    if shutil.which("npm") is None:
        raise CannotMeasure("Portkey runs on Node: install node and npm, version 18 or later")
    place, pins = WORK / "portkey", (HERE / "configs" / "portkey-package.json").read_text()
    stamp = place / "installed.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return
    _say("installing @portkey-ai/gateway")
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text(pins)
    _run("npm", "install", "--no-audit", "--no-fund", "--loglevel", "error", folder=place)
    stamp.write_text(pins)


def nginx_version() -> str:
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].strip()


def haproxy_version() -> str:
    told = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    return told.split()[2]


def portkey_version() -> str:
    pins = json.loads((HERE / "configs" / "portkey-package.json").read_text())
    version: str = pins["dependencies"]["@portkey-ai/gateway"]
    return version


def own_version() -> str:
    """The commit; `-dirty` if what is measured is not what was committed. Figures written meanwhile do not count."""
    commit = _git("rev-parse", "--short", "HEAD")
    return f"{commit}-dirty" if _git("status", "--porcelain", "--", "proxy", "pyproject.toml") else commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


@functools.lru_cache
def knows_ticks(place: str) -> bool:
    """Whether the chat-proxy in that folder has the setting `delivery.tick_ms`; older revisions never pace."""
    schema = [sys.executable, "-m", "proxy", "schema"]
    environment = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run(schema, cwd=place, env=environment, capture_output=True, check=False)
    return b'"tick_ms"' in done.stdout


def _run(*command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise CannotMeasure(f"`{' '.join(command)}` failed:\n{result.stderr[-2000:]}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
