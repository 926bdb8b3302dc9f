"""A worker: one of several processes that serve together. It takes orders from its parent and reports to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog

from proxy.config.models import LogSettings, ServerSettings
from proxy.errors import ConfigErrors
from proxy.server.listener import Server
from proxy.server.sockets import join
from proxy.serving import Process, background, run
from proxy.telemetry import log as logs
from proxy.workers.app import Gathered, WorkerApp
from proxy.workers.channel import Channel, Message
from proxy.workers.spec import LogTurn, SharedState, WorkerSpec

log = structlog.get_logger("proxy.workers")

GATHER_S = 3.0
"""How long the parent may take to bring the metrics of all workers; it waits one second for each of them."""

LOOK_S = 12.0
"""The same for what they know of their requests: one may have to check a config, for which the parent gives it 10 s."""


def main(channel: int, state: int) -> int:
    """Run a worker on two inherited descriptors; returns the exit code."""
    sock, shared = socket.socket(fileno=channel), SharedState(state)
    for descriptor in (channel, state):
        os.set_inheritable(descriptor, False)  # not for programs that this process starts
    code: int = run(work(Channel(sock), shared))
    return code


async def work(channel: Channel, state: SharedState) -> int:
    await channel.open()
    start = await channel.receive()
    return await Worker(channel, start, state).live()


class Worker(Process):
    """A serving process with a parent."""

    def __init__(self, channel: Channel, start: Message, state: SharedState) -> None:
        self._spec = WorkerSpec(**start.values, content=start.load)
        self._workers_app = WorkerApp(self._spec, state, self._gather, self._ask_all)
        super().__init__(self._workers_app)
        self._channel, self._start, self._turn = channel, start, LogTurn(state)
        self._ordered = asyncio.Event()
        self._listen_order: Message | None = None

    async def live(self) -> int:
        """Serve until the parent says stop, or is gone; returns the exit code."""
        async with background(self._take_orders()):
            try:
                await self.run()
            except ConfigErrors as errors:
                self._channel.answer(self._start, errors=_lines(errors))
                return 1
            finally:
                self._stop.set()  # that the channel closes now does not mean that the parent is gone
                if self._app.started:
                    self._channel.tell("counts", self._workers_app.counts())  # the last counts
                await self._channel.aclose()
        return 0

    # -- what a single process does otherwise ------------------------------------------------------------------

    def _catch_signals(self) -> None:
        """The parent takes the signals."""

    def _configure_log(self, settings: LogSettings) -> logs.Log:
        redactor, worker = self._app.redactor, self._spec.number
        return logs.configure(settings.format, settings.level, redactor=redactor, worker=worker, turn=self._turn)

    async def _listen(self, server: Server, settings: ServerSettings) -> None:
        self._channel.answer(self._start, host=settings.host, listen=settings.listen, drain_s=settings.drain_s)
        await self._ordered.wait()
        if (order := self._listen_order) is None:  # told to stop instead
            return
        try:
            for prefix, address in order.values["places"]:
                server.listen(join(address), prefix)
        except OSError as error:
            server.stop_accepting()
            self._channel.answer(order, why=f"cannot listen on {error.strerror or error}")

    def _announce(self, served: str) -> None:
        assert self._listen_order is not None
        self._channel.answer(self._listen_order, banner=served)

    async def _reload_on_change(self) -> None:
        await self._watch(lambda: self._channel.tell("changed"))

    # -- orders ------------------------------------------------------------------------------------------------

    async def _take_orders(self) -> None:
        try:
            await self._channel.run(self._obey)
        except Exception:
            log.exception("order_failed")
        if not self._stop.is_set():
            # The parent is gone. Nobody would replace this worker, and from now on it takes signals itself.
            log.error("parent_gone")
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._signalled)
            self._stop_soon()

    def _obey(self, message: Message) -> Coroutine[Any, Any, None] | None:
        app, values = self._workers_app, message.values
        match message.word:
            case "listen":
                app.recall(values["rejected"])
                self._listen_order = message
                self._ordered.set()
            case "prepare":
                return self._prepare(message)
            case "commit":
                app.commit(log=values["log"])
            case "reject":
                app.reject(values["errors"], log=values["log"])
            case "collect":
                self._channel.answer(message, app.counts())
            case "look":
                return self._look(message)
            case "ping":
                self._channel.answer(message)
            case "say":
                getattr(log, values["level"])(values["event"], **values["fields"])
            case "drain":
                self._stop_soon()
            case "now":
                self._stop_soon()
                self._stop_now.set()
            case word:
                raise ValueError(word)
        return None

    def _stop_soon(self) -> None:
        self._stop.set()
        self._ordered.set()

    async def _prepare(self, order: Message) -> None:
        try:
            built = await self._workers_app.prepare(order.load, **order.values)
        except ConfigErrors as errors:
            self._channel.answer(order, errors=_lines(errors))
            return
        self._log.adopt()
        self._channel.answer(order, drain_s=built.config.settings.server.drain_s)

    async def _look(self, question: Message) -> None:
        self._channel.answer(question, await self._workers_app.looked(question.load))

    async def _ask_all(self, query: bytes) -> list[Any]:
        """What each worker answers to `query`. Raises `OSError` when the parent does not bring it."""
        answer = await self._channel.ask("look", query, within=LOOK_S)
        answers: list[Any] = msgspec.json.decode(answer.load)
        return answers

    async def _gather(self) -> Gathered:
        """The metrics of all workers. Raises `OSError` when the parent does not bring them."""
        answer = await self._channel.ask("gather", within=GATHER_S)
        dead, *counts = msgspec.json.decode(answer.load)
        rows = [row | one["row"] if one else row for row, one in zip(answer.values["rows"], counts, strict=True)]
        return Gathered(rows, [one["metrics"] for one in counts if one], dead, answer.values["restarts"])


def _lines(errors: ConfigErrors) -> list[str]:
    return [str(error) for error in errors.errors]
