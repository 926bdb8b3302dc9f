"""The running process: listen, print what is served, take signals, reload, drain, leave.

SIGTERM and SIGINT drain: readiness says no at once, listening ends after a short grace, running answers may
finish for `drain_s`, those that do not end with an error frame. A second signal ends them now. SIGHUP reloads.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import structlog

from proxy.app import App
from proxy.banner import Served, banner, terminal
from proxy.config.models import ServerSettings
from proxy.config.reload import watch
from proxy.errors import Draining
from proxy.printing import print_banner
from proxy.server.handler import Handler
from proxy.server.listener import Server
from proxy.server.sockets import bind, bind_each
from proxy.telemetry import log as logs

log = structlog.get_logger("proxy.serving")

GRACE_S = 1.0
"""How long new requests are still taken after the signal, while a balancer learns from `/readyz`."""

LATE_S = 0.5
"""How long a connection that was made before listening ended has to send its request: a balancer may have chosen this
server for it, and cannot send it elsewhere any more."""

LAST_WRITES_S = 1.0
"""How long the error frames at the end of a drain may take to be written."""


def serve(path: str, *, host: str | None = None, port: int | None = None, content: bytes | None = None) -> None:
    """Serve the config file `path`, or `content` while it is not there, until a signal.

    Raises `ConfigErrors`, or `OSError` when the port is taken.
    """
    run(Process(App(path, host=host, port=port, content=content, without_file=content is not None)).run())


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a process's `main` on the faster loop, where there is one, and return its result."""
    try:
        import uvloop  # noqa: PLC0415 - absent on some platforms; asyncio serves as well, slower
    except ImportError:
        return asyncio.run(main)
    else:
        return uvloop.run(main)


def _freeze_garbage() -> None:
    """Keep the garbage collector from visiting what the start has made, which lives as long as the process.

    Requests make few cycles, so it may also run less often. Both save 8 % of the CPU time of a request (measured).
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 20, 20)


class Process:
    """One process that serves, from its start to its end. A worker is one that takes orders instead of signals."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._log_as: dict[str, Any] = {}

    async def run(self) -> None:
        self._catch_signals()
        app = self._app
        config = app.load()
        settings = config.settings.server.log
        self._log = logs.configure(settings.format, settings.level, redactor=app.redactor, **self._log_as)
        app.metrics.watch_log(lambda: self._log.dropped)
        try:
            await app.start(config)
            self._log.adopt()
            _freeze_garbage()
            if not self._stop.is_set():
                await self._serve(config.settings.server)
        finally:
            await app.aclose()
            self._log.close()

    async def _serve(self, settings: ServerSettings) -> None:
        app = self._app
        server = Server(Handler(app), limits=app.connection_limits)
        app.metrics.watch_waiting(server.waiting)
        try:
            await self._listen(server, settings)
            if server.acceptors:
                port = server.acceptors[0].port
                path = "" if app.without_file else app.path
                self._announce(banner(Served(app.snapshot, path, server.acceptors, app.operations), terminal()))
                log.info("listening", host=settings.host, port=port, generation=app.snapshot.number)
                async with background(self._reload_on_change()):
                    await self._stop.wait()
                await self._drain(server)
        finally:
            await server.aclose()

    async def _listen(self, server: Server, settings: ServerSettings) -> None:
        """Begin to accept connections. A worker waits for its parent's order first."""
        for prefix, sockets in bind_each(bind, settings.host, settings.listen, file=self._app.path):
            for sock in sockets:
                server.listen(sock, prefix)

    def _announce(self, served: str) -> None:
        print_banner(served)

    # -- reload ------------------------------------------------------------------------------------------------

    async def _reload_on_change(self) -> None:
        """Two reasons to reload, one at a time: the file changed, or somebody sent SIGHUP."""
        loop = asyncio.get_running_loop()
        wanted = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, wanted.set)
        async with background(self._watch(wanted.set)):
            while True:
                await wanted.wait()
                wanted.clear()
                if await self._app.reload():
                    self._log.adopt()

    async def _watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever the file is no longer what was loaded, or was there at the last call."""
        config = self._app.snapshot.config
        if config.settings.server.reload != "off":
            known = None if self._app.without_file else config.digest  # a file that appears is a change
            async for _ in watch(config.path, known=known):
                changed()

    # -- the end -----------------------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # until there is something to reload

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def _drain(self, server: Server) -> None:
        app = self._app
        drain_s = app.snapshot.config.settings.server.drain_s
        log.info("draining", active=len(app.active), drain_s=drain_s)
        app.draining = True
        deadline = asyncio.get_running_loop().time() + drain_s
        await self._pause(min(GRACE_S, drain_s))
        server.stop_accepting()
        await self._pause(min(LATE_S, drain_s))
        app.closed = True
        while app.active and asyncio.get_running_loop().time() < deadline and not self._stop_now.is_set():
            server.close_idle()
            await self._pause(0.05)
        if app.active:
            log.warning("drain_deadline", cut=len(app.active))
            app.stop_all(Draining("The server is stopping and could not wait for this answer. Try again."))
        await self._until_closed(server)
        log.info("stopped")

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a second signal."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_now.wait()

    async def _until_closed(self, server: Server) -> None:
        """Wait until the last answers are sent. Clients that do not take them are cut when the server closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITES_S):
                while server.open_connections:
                    server.close_idle()
                    await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def background(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A task that lives as long as the block; its failure is logged, its end awaited."""
    task = asyncio.create_task(coroutine)

    def failed(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("background_failed", exc_info=task.exception())

    task.add_done_callback(failed)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
