"""Programs from Debian's packages that some tests need: nginx, chromium, buildah…

`require("nginx-light")` returns at once when the package is there. Otherwise root on a Debian system installs it
(once, even with several pytest workers); anyone else skips the test, or fails it in CI.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.need import cannot_run

_INSTALL = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
_LOCK = Path(tempfile.gettempdir()) / f"chat-proxy-apt.{os.getuid()}.lock"


def require(*packages: str) -> None:
    """Make sure these Debian packages are installed, or stop the test."""
    if not missing(packages):
        return
    wanted = " ".join(missing(packages))
    if shutil.which("apt-get") is None:
        cannot_run(f"needs the Debian packages {wanted}, and this is no Debian system")
    if os.geteuid() != 0:
        cannot_run(f"needs Debian packages: run `sudo apt-get install {wanted}`")
    with _one_at_a_time():
        if still := missing(packages):  # another worker may have installed them meanwhile
            _install(still)


def missing(packages: tuple[str, ...] | list[str]) -> list[str]:
    return [package for package in packages if not _installed(package)]


def _installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode == 0 and answer.stdout == "installed"


def _install(packages: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "--quiet"], [*_INSTALL, *packages]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        # A third-party source may be out of reach; only the installation itself decides.
        if done.returncode and "install" in command:
            cannot_run(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
