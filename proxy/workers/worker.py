"""A worker: one of several processes that serve together. It takes orders from its parent and reports to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import structlog

from proxy.config.models import LogSettings, ServerSettings
from proxy.errors import ConfigErrors
from proxy.server.listener import Server
from proxy.server.sockets import join
from proxy.serving import Process, background, run
from proxy.telemetry import log as logs
from proxy.workers.app import WorkerApp
from proxy.workers.channel import Channel, ChannelClosed, Hears
from proxy.workers.spec import SharedState, WorkerSpec

log = structlog.get_logger("proxy.workers")


def main(channel: int, state: int) -> int:
    """Run a worker on two inherited descriptors; returns the exit code."""
    for descriptor in (channel, state):
        os.set_inheritable(descriptor, False)  # not for programs that this process starts
    code: int = run(work(Channel(socket.socket(fileno=channel)), SharedState.at(state)))
    return code


async def work(channel: Channel, state: SharedState) -> int:
    await channel.open()
    _, _, spec = await channel.receive()
    return await Worker(channel, WorkerSpec(**spec), state).live()


class Worker(Process):
    """A serving process with a parent."""

    _app: WorkerApp

    def __init__(self, channel: Channel, spec: WorkerSpec, state: SharedState) -> None:
        super().__init__(WorkerApp(spec, state, channel))
        self._channel, self._spec, self._state = channel, spec, state

    async def live(self) -> int:
        """Serve until the parent says stop, or is gone; returns the exit code."""
        async with background(self._take_orders()):
            try:
                await self.run()
            except ConfigErrors as errors:
                self._channel.tell("refused", errors=[vars(error) for error in errors.errors])
                return 1
            finally:
                self._stop.set()  # that the channel closes now does not mean that the parent is gone
                if self._app.started:
                    self._channel.tell("counted", counts=self._app.counts())
                await self._channel.aclose()
        return 0

    # -- what a single process does otherwise ------------------------------------------------------------------

    def _catch_signals(self) -> None:
        """The parent takes the signals."""

    def _configure_log(self, settings: LogSettings) -> logs.Log:
        redactor, worker = self._app.redactor, self._spec.number
        return logs.configure(settings.format, settings.level, redactor=redactor, worker=worker, turn=self._state)

    async def _listen(self, server: Server, settings: ServerSettings) -> None:
        built = {"host": settings.host, "listen": tuple(map(tuple, settings.listen)), "drain_s": settings.drain_s}
        generation = self._spec.generation
        try:
            while "prepare" in (order := await self._channel.ask("built", within=None, generation=generation, **built)):
                await self._app.prepare(**order["prepare"])  # what came into force meanwhile
                self._app.commit(log=False)
                generation = order["prepare"]["generation"]
        except ChannelClosed:  # told to stop instead
            return
        self._app.rejected = order["rejected"]
        try:
            for prefix, address in order["places"]:
                server.listen(join(address), prefix)
        except OSError as error:
            server.stop_accepting()
            self._channel.tell("failed", why=f"cannot listen on {error.strerror or error}")

    def _announce(self, served: str) -> None:
        self._channel.tell("serving", banner=served)

    async def _reload_on_change(self) -> None:
        await self._watch(lambda: self._channel.tell("changed"))

    # -- orders ------------------------------------------------------------------------------------------------

    async def _take_orders(self) -> None:
        app = self._app
        orders: Hears = {
            "prepare": self._prepare,
            "commit": app.commit,
            "reject": app.reject,
            "counts": app.counts,
            "look": app.looked,
            "ping": lambda: None,
            "say": lambda event, fields: log.error(event, **fields),
            "drain": self._stop.set,
            "now": self._end_now,
        }
        try:
            await self._channel.run(orders)
        except Exception:
            log.exception("order_failed")
        if not self._stop.is_set():
            # The parent is gone. Nobody would replace this worker, and from now on it takes signals itself.
            log.error("parent_gone")
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._signalled)
            self._stop.set()

    def _end_now(self) -> None:
        self._stop.set()
        self._stop_now.set()

    async def _prepare(self, **order: Any) -> dict[str, Any]:
        try:
            built = await self._app.prepare(**order)
        except ConfigErrors as errors:
            return {"errors": [vars(error) for error in errors.errors]}
        self._log.adopt()
        return {"drain_s": built.config.settings.server.drain_s}
