"""Redis and Valkey servers that a test starts, stops and slows down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import debian

SERVERS = ("redis-server", "valkey-server")
USUAL = os.environ.get("REDIS_SERVER", "redis-server")
TRIXIE = Path(__file__).resolve().parents[2] / ".make" / "valkey"
"""A root of the first Debian that has Valkey. tests/image/test_valkey.py makes it."""


def command(program: str) -> list[str]:
    """What runs `program`; empty if this machine has none."""
    if (found := shutil.which(program)) is not None:
        return [found]
    inside = TRIXIE / "usr" / "bin" / program
    if not inside.exists():
        return []
    (loader,), (libraries,) = TRIXIE.glob("usr/lib*/ld-linux-*.so.*"), TRIXIE.glob("usr/lib/*-linux-gnu")
    return [str(loader), "--library-path", str(libraries), str(inside)]


class RedisServer:
    """A server on a Unix socket, and on `port` if that is given. It keeps nothing on disk."""

    def __init__(self, program: str, folder: Path, port: int = 0) -> None:
        self.program, self.folder, self.port = program, folder, port
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        whole = [*command(self.program), "--port", str(self.port), "--unixsocket", str(self.socket), "--save", ""]
        whole += ["--dir", ".", "--appendonly", "no", "--enable-debug-command", "yes"]
        self.process = subprocess.Popen(whole, cwd=self.folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)

    def answers(self) -> bool:
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def clients(self) -> int:
        """How many connections it has, but for the one that asks."""
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket))) as client:
            return len(client.client_list()) - 1

    def kept_for_ever(self) -> list[str]:
        """Keys that never expire."""
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket))) as client:
            return [key.decode() for key in client.keys("*") if client.ttl(key) == -1]

    def flush(self) -> None:
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket))) as client:
            client.flushall()

    def stop(self) -> None:
        """Kill it: what it knew is lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(program: str = USUAL, port: int = 0, restored: Path | None = None) -> Iterator[RedisServer]:
    """Start a server, with what a copy of `dump.rdb` holds; skips the test, and says why, where there is none."""
    if not command(program):
        if program == "valkey-server":
            pytest.skip("valkey-server is not installed; `make test-image` fetches it and tests with it")
        debian.require("redis-server")
    from proxy.store.redis import RedisStore

    with (
        tempfile.TemporaryDirectory(prefix="redis") as folder,  # a short path: those of sockets are limited
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setitem(RedisStore.__init__.__kwdefaults__, "timeout_s", 60.0)  # a machine that is late is no outage
        server = RedisServer(program, Path(folder), port)
        if restored is not None:
            shutil.copyfile(restored, server.folder / "dump.rdb")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def patience(client: Any, seconds: float) -> None:
    """How long a client waits for its server from now on."""
    pool = client.connection_pool
    pool.timeout = seconds  # for a connection, where the pool waits for one
    for name in ("socket_timeout", "socket_connect_timeout"):
        pool.connection_kwargs[name] = seconds
        for connection in (*pool._available_connections, *pool._in_use_connections):
            setattr(connection, name, seconds)


async def reachable(store: object, *, within: float = 60.0) -> None:
    """Wait until a store has found its server again."""
    async with asyncio.timeout(within):
        while store.away:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
