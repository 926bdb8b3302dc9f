"""One of several processes that serve together: it takes orders from its parent, and reports to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from itertools import accumulate, count, pairwise
from typing import Any

import msgspec
import structlog

from proxy.config.models import LogSettings, ServerSettings
from proxy.errors import ConfigErrors
from proxy.server.listener import Listening, Runner
from proxy.server.sockets import Address, join
from proxy.serving import Process, background, run
from proxy.telemetry import log as logs
from proxy.workers.app import Gathered, WorkerApp
from proxy.workers.channel import Decoder, Message, encode
from proxy.workers.child import WorkerSpec

log = structlog.get_logger("proxy.workers")

GATHER_S = 3.0
"""How long the parent may take to bring the counts of all; it waits for a worker for a second."""


def work(birth: WorkerSpec, sock: socket.socket) -> int:
    """Be a worker; returns the exit code."""
    worker = Worker(birth, sock)
    run(worker.run())
    return worker.exit_code


class Worker(Process):
    """A serving process with a parent."""

    def __init__(self, birth: WorkerSpec, sock: socket.socket) -> None:
        self._shared = WorkerApp(birth, self._gather)
        super().__init__(self._shared)
        self.exit_code = 1
        self._birth = birth
        self._sock = sock
        self._orphan = False
        self._where: asyncio.Event = asyncio.Event()
        self._places: list[tuple[str, Address]] = []
        self._proposal: object = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._rounds = count(1)
        self._waiting: dict[int, asyncio.Future[Gathered]] = {}

    async def run(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock)
        try:
            async with background(self._take_orders(reader)):
                await self._live()
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _live(self) -> None:
        try:
            await super().run()
            self.exit_code = 0
        except ConfigErrors as errors:
            self._refuse(0, errors)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._shared.started:
                self._tell("counts", self._shared.counts(), round=0)  # the last ones

    # -- where a single process does otherwise ------------------------------------------------------------------

    def _catch_signals(self) -> None:
        """Signals are the parent's business."""

    def _configure_log(self, settings: LogSettings) -> logs.Log:
        birth, redactor = self._birth, self._shared.redactor
        return logs.configure(settings.format, settings.level, redactor=redactor, worker=birth.number, turn=birth.turn)

    async def _listen(self, runner: Runner, server: ServerSettings) -> Sequence[Listening]:
        number = self._shared.generation.number
        self._tell("ready", generation=number, host=server.host, listen=server.listen, drain_s=server.drain_s)
        await self._where.wait()
        sites: list[Listening] = []
        try:
            for prefix, address in self._places:
                sites.append(await runner.listen(join(address), prefix))
        except OSError as error:
            self._tell("failed", why=f"cannot listen: {error.strerror or error}")
            return []
        return sites

    def _announce(self, served: str) -> None:
        self._tell("serving", banner=served)

    async def _reload_on_change(self) -> None:
        await self._watch(lambda: self._tell("changed"))

    # -- orders -------------------------------------------------------------------------------------------------

    async def _take_orders(self, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        try:
            while data := await reader.read(256 * 1024):
                for message in decoder.feed(data):
                    self._obey(message)
        except ConnectionError:
            pass
        except Exception:
            log.exception("order_failed")
        self._be_an_orphan()

    def _obey(self, message: Message) -> None:
        app, values = self._shared, message.values
        match message.word:
            case "listen":
                app.recall(values["rejected"])
                self._places = values["places"]
                self._where.set()
            case "prepare":
                self._prepare(message.load, **values)
            case "commit":
                app.commit(tell=values["tell"])
            case "reject":
                self._proposal = None
                app.reject(values["errors"], tell=values["tell"])
            case "collect":
                self._tell("counts", app.counts(), round=values["round"])
            case "gathered":
                self._gathered(message.load, **values)
            case "say":
                getattr(log, values["level"])(values["event"], **values["fields"])
            case "drain":
                self._drain_once()
            case "now":
                self._stop.set()
                self._stop_now.set()
                self._where.set()
            case word:
                raise ValueError(word)

    def _drain_once(self) -> None:
        self._stop.set()
        self._where.set()  # to nowhere

    def _be_an_orphan(self) -> None:
        """The parent is gone: nobody will start this worker again, so it leaves as if told to."""
        self._orphan = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError())
        if not self._stop.is_set():
            log.error("parent_gone")
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._signalled)
            self._drain_once()

    # -- the next config ----------------------------------------------------------------------------------------

    def _prepare(self, content: bytes, *, proposal: int, generation: int, loaded_at: int) -> None:
        token = self._proposal = object()

        async def prepare() -> None:
            try:
                built = await self._shared.build_beside(content, generation, loaded_at)
            except ConfigErrors as errors:
                if self._proposal is token:
                    self._refuse(proposal, errors)
                return
            if self._proposal is not token:  # it took too long, and nobody waits for it any more
                self._shared.let_go(built)
                return
            self._log.adopt()
            self._shared.hold(built)
            drain_s = built.config.settings.server.drain_s
            self._tell("prepared", proposal=proposal, generation=generation, drain_s=drain_s)

        task = asyncio.create_task(prepare())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, proposal: int, errors: ConfigErrors) -> None:
        self._tell("refused", proposal=proposal, errors=[str(error) for error in errors.errors])

    # -- counts -------------------------------------------------------------------------------------------------

    async def _gather(self) -> Gathered:
        """The counts of all workers. Raises `OSError` when there is nobody to bring them."""
        if self._orphan:
            raise ConnectionResetError
        number = next(self._rounds)
        waiting: asyncio.Future[Gathered] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._tell("gather", round=number)
            async with asyncio.timeout(GATHER_S):
                return await waiting
        finally:
            del self._waiting[number]

    def _gathered(
        self, load: bytes, *, round: int, rows: list[dict[str, Any]], sizes: list[int], restarts: int
    ) -> None:
        waiting = self._waiting.get(round)
        if waiting is None or waiting.done():
            return
        dead, *parts = (load[start:end] for start, end in pairwise(accumulate(sizes, initial=0)))
        told = [msgspec.json.decode(part) if part else {"row": {}, "metrics": []} for part in parts]
        rows = [row | counts["row"] for row, counts in zip(rows, told, strict=True)]
        metrics = [counts["metrics"] for counts in told]
        waiting.set_result(Gathered(rows, metrics, msgspec.json.decode(dead), restarts))

    def _tell(self, word: str, load: bytes = b"", /, **values: Any) -> None:
        if not self._orphan and not self._writer.is_closing():
            self._writer.write(encode(word, load, **values))
