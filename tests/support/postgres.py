"""A Postgres server that a test starts and stops."""

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

from tests.support import debian


class PostgresServer:
    """A server on a Unix socket in a folder of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self.folder = programs, folder
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self.process: subprocess.Popen[bytes] | None = None
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
        if self._as:
            shutil.chown(folder, "postgres")
        folder.chmod(0o711)
        self._run("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def start(self) -> None:
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
        command = [*self._as, str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options]
        self.process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

    def answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.Error):
            psycopg.connect(self.url, connect_timeout=5).close()
            return True
        return False

    def stop(self) -> None:
        """At once: connections are cut."""
        if self.process is None:
            return
        leader = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(leader, signal.SIGQUIT)
        self.process.wait()
        self.process = None


@contextlib.contextmanager
def running() -> Iterator[PostgresServer]:
    """Start a server; skips the test, and says why, where there is none."""
    on_path = shutil.which("postgres")
    if on_path is None:  # Debian has the server's programs aside
        debian.require("postgresql")
    programs = Path(on_path or max(Path("/usr/lib/postgresql").glob("*/bin/postgres"))).parent
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:  # short, as sockets need it
        server = PostgresServer(programs, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
