"""The proxy, running: inside the test's own loop for speed and insight, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from bench.aiohttp_transport import AiohttpTransport
from proxy.app import READ_AHEAD, App
from proxy.errors import EndReason
from proxy.server.handler import Handler
from proxy.server.listener import Server
from proxy.server.sockets import bind
from proxy.telemetry.record import StreamRecord
from tests.support.connections import connections
from tests.support.quiescence import quiescent

StartProxy = Callable[..., Awaitable["Running"]]


class Running:
    """A proxy that listens on a port of this process."""

    def __init__(self, app: App, server: Server, port: int, config: Path) -> None:
        self.app, self.server, self.port, self.config = app, server, port, config
        self.url = f"http://127.0.0.1:{port}"
        self.ollama_port = 0  # where it listens as Ollama would, if it does
        self.records: list[StreamRecord] = []

    async def ended(self, count: int = 1, within: float = 60.0) -> list[StreamRecord]:
        """Wait until `count` requests are over; returns what is known of them."""
        async with asyncio.timeout(within):
            while len(self.records) < count:
                await asyncio.sleep(0.005)
        return self.records

    async def end_reason(self, within: float = 60.0) -> EndReason | None:
        """The reason of the first request's end (R7)."""
        return (await self.ended(1, within))[0].end

    def rewrite(self, config: str) -> None:
        self.config.write_text(dedent(config))


def openai_config(upstream_url: str, *, server: str = "{}", **more: str) -> str:
    """A config with one wire backend, `far`. `more` are keys of its only route, as YAML."""
    extra = "".join(f"\n            {key}: {value}" for key, value in more.items())
    return f"""
        server: {server}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream_url}"}}
        routes:
          - name: default
            to: far/scripted-1{extra}
    """


async def at_rest(app: App, within: float = 60.0) -> None:
    """Nothing is under way, and what is connected to an upstream is only waiting for the next request (R6)."""
    try:
        async with asyncio.timeout(within):
            while app.active or connections(app.transport).in_use:
                await asyncio.sleep(0.005)
    except TimeoutError:
        stats = connections(app.transport)
        raise AssertionError(f"{len(app.active)} still under way, upstream connections {stats}") from None


@contextlib.asynccontextmanager
async def _listening(config: Path) -> AsyncIterator[Running]:
    app = App(str(config), host="127.0.0.1", port=0)
    if os.environ.get("TRANSPORT") == "aiohttp":  # which of these tests would another transport pass?
        app.transport = AiohttpTransport(high_water=READ_AHEAD)
    await app.start()
    server = Server(Handler(app), limits=app.connection_limits)
    app.metrics.watch_waiting(server.waiting)
    ports = []
    for port, prefix, _ in app.snapshot.config.settings.server.listen:
        (sock,) = bind("127.0.0.1", port)
        ports.append(sock.getsockname()[1])
        server.listen(sock, prefix)
    running = Running(app, server, ports[0], config)
    running.ollama_port = ports[-1] if len(ports) > 1 else 0
    app.sinks.append(_Records(running.records))
    try:
        yield running
        await at_rest(app)
    finally:
        await server.aclose()
        await app.aclose()


class _Records:
    """A record sink that keeps all."""

    def __init__(self, records: list[StreamRecord]) -> None:
        self._records = records

    def ended(self, record: StreamRecord) -> None:
        self._records.append(record)


@contextlib.asynccontextmanager
async def proxies(folder: Path, *, within: float = 60.0) -> AsyncIterator[StartProxy]:
    """Start proxies with their files in `folder`. When all are closed, nothing of any is left.

    They are looked at together: while one is closed, another may rightly open a connection more.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def opened(config: str) -> Running:
            path = folder / f"config-{len(list(folder.iterdir()))}.yaml"
            path.write_text(dedent(config))
            nonlocal watched
            if not watched:
                watched = True
                warm_up = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
                warm_up.close()  # uvloop opens descriptors of its own with its first server
                await stack.enter_async_context(quiescent(within=within))
            return await stack.enter_async_context(_listening(path))

        watched = False
        yield opened


@pytest.fixture
async def start_proxy(tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Start proxies inside the test: `await start_proxy(config_text)`."""
    async with proxies(tmp_path) as start:
        yield start


class Process:
    """`chat-proxy serve` as users run it."""

    def __init__(self, process: asyncio.subprocess.Process, config: Path) -> None:
        self.process, self.config = process, config
        self.port = 0
        self.url = ""
        self.printed = ""
        self.logged: list[str] = []
        self.keeping: asyncio.Task[None]

    async def wait_until_listening(self, within: float = 60.0) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(within):
            while not self.port:
                line = (await self.process.stdout.readline()).decode()
                if not line:
                    await asyncio.sleep(0.1)
                    raise AssertionError(f"it ended: {self.printed}\n{''.join(self.logged)}")
                self.printed += line
                if found := re.search(r"listening on http://[^ ]*:(\d+)", line):
                    self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self, within: float = 60.0) -> int:
        """Wait for the end of the process, and for all that it logged: its end may be known before its last lines."""
        async with asyncio.timeout(within):
            code = await self.process.wait()
            await asyncio.wait([self.keeping])
        return code

    def rewrite(self, config: str) -> None:
        """Replace the file as editors do: write beside it, rename over it."""
        beside = self.config.with_suffix(".new")
        beside.write_text(dedent(config))
        beside.replace(self.config)

    async def _keep_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.logged.append(line.decode())

    async def read_output(self) -> None:
        """All that is printed and logged until the end."""
        assert self.process.stdout is not None
        self.printed += (await self.process.stdout.read()).decode()
        await asyncio.wait([self.keeping])


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Start `chat-proxy serve` processes: `await serve(config_text, "--port", "0", env={…})`."""
    async with contextlib.AsyncExitStack() as stack:

        async def started(
            config: str,
            *options: str,
            env: Mapping[str, str] | None = None,
            wait: bool = True,
            **how: Any,
        ) -> Process:
            path = tmp_path / f"config-{len(list(tmp_path.iterdir()))}.yaml"
            path.write_text(dedent(config))
            running = await stack.enter_async_context(serving(path, *options, env=env, **how))
            if wait:
                await running.wait_until_listening()
            return running

        yield started


@contextlib.asynccontextmanager
async def serving(
    config: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    own_group: bool = False,
) -> AsyncIterator[Process]:
    """Run `chat-proxy serve`, on a free port unless `options` say otherwise, and kill it in the end.

    `within` is a command that runs it, and `own_group` has it lead a process group, as a shell does.
    """
    process = await asyncio.create_subprocess_exec(
        *within, sys.executable, "-m", "proxy", "serve", "-c", str(config), *(options or ("--port", "0")),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})}, start_new_session=own_group,
    )  # fmt: skip
    running = Process(process, config)
    running.keeping = asyncio.create_task(running._keep_log())
    try:
        yield running
    finally:
        await _finish(running)


async def _finish(running: Process) -> None:
    if running.process.returncode is None:
        running.process.kill()
    await running.process.wait()
    await running.keeping
    if running.process.stdout is not None:
        await running.process.stdout.read()
    transport = running.process._transport  # the pipes' transports outlive the process otherwise
    transport.close()
