"""A Postgres server that a test starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.need import cannot_run


def programs() -> Path:
    """Where Debian keeps them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        cannot_run("Postgres is not installed: apt install postgresql")
    return found[-1]


@contextlib.contextmanager
def running() -> Iterator[Path]:
    """Run a server on a Unix socket and nothing else; yields the socket's folder. Its superuser is `postgres`."""
    with tempfile.TemporaryDirectory(prefix="pg") as name:  # a short path: those of sockets are limited
        folder = Path(name)
        other: list[str] = []
        if os.geteuid() == 0:  # it refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        data = folder / "data"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        made = [*other, programs() / "initdb", "-D", data, "--username=postgres", "--auth=trust", "--no-sync"]
        subprocess.run(made, check=True, cwd="/", **quiet)
        command = [
            *other,
            programs() / "postgres",
            "-D",
            data,
            "-k",
            folder,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ]
        with subprocess.Popen(command, cwd="/", **quiet) as process:
            try:
                deadline = time.monotonic() + 60
                ready = [programs() / "pg_isready", "--quiet", "--host", folder]
                while subprocess.run(ready, check=False).returncode:
                    assert process.poll() is None, "the server ended"
                    assert time.monotonic() < deadline, "the server does not answer"
                    time.sleep(0.05)
                yield folder
            finally:
                process.send_signal(signal.SIGINT)  # at once, and in order
