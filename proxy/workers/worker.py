"""A worker: one of several processes that serve together. From outside, all of them look like one.

It takes orders from its parent and reports to it.
"""

import asyncio
import os
import socket
from operator import itemgetter
from typing import Any

import msgspec
import structlog

from proxy.app import App
from proxy.config.models import ServerSettings
from proxy.contracts.base import Reply
from proxy.errors import ConfigErrors
from proxy.server.listener import Server
from proxy.server.operator_pages import JSON, TEXT, OperatorPages
from proxy.server.snapshot import ConfigSnapshot
from proxy.server.sockets import join
from proxy.serving import Process, background, run
from proxy.telemetry import sums
from proxy.telemetry.metrics import exposition
from proxy.web.look import Query, Seen, look
from proxy.workers.channel import Channel, ChannelClosed, Handlers, SharedState

log = structlog.get_logger("proxy.workers")

COUNTS_S, LOOK_S, PARENT_S = 1.0, 10.0, 2.0
"""How long a worker may take for its counts, and for what it knows of its requests: it may have to check a config. The
parent, which asks it, may take so much longer."""


class WorkerPages(OperatorPages):
    """The pages of a worker, with the sums of all."""

    _app: "WorkerApp"

    async def metrics(self) -> Reply:
        try:
            gathered = await self._app.everybody("counts", COUNTS_S)
        except OSError:  # this worker's own counts alone would look as if counters had gone back
            return Reply(
                503, b"The parent process, which adds up the metrics of all workers, is gone or silent.\n", TEXT
            )
        serving = sum(row["state"] == "serving" for row in gathered["rows"])
        restarts, died = "chat_proxy_worker_restarts", gathered["restarts"]
        counts = [row["answer"]["metrics"] for row in gathered["rows"] if row["answer"]]
        families = [
            *sums.total(counts, gathered["dead"]),
            ["chat_proxy_workers", "gauge", "Worker processes that serve.", [["chat_proxy_workers", [], serving]]],
            [restarts, "counter", "Workers started again because one had died.", [[restarts + "_total", [], died]]],
        ]
        body, content_type = exposition(families)
        return Reply(200, body, {"Content-Type": content_type})

    async def status(self) -> Reply:
        state = self.state()
        try:
            gathered = await self._app.everybody("counts", COUNTS_S)
        except OSError:
            return Reply(200, msgspec.json.encode(state | {"workers": None}), JSON)
        rows, counts = gathered["rows"], [row.pop("answer") or {} for row in gathered["rows"]]
        rows = [row | one.get("row", {}) for row, one in zip(rows, counts, strict=True)]
        state["active"] = sum(row.get("active", 0) for row in rows)
        circuits = [item for one in counts for item in one.get("circuits_open", {}).items()]
        state["circuits_open"] = dict(sorted(circuits, key=itemgetter(1)))  # of a target, the longest is kept
        for name in ("targets", "concurrency"):
            state[name] = sums.of_targets(one.get(name, {}) for one in counts)
        state |= {"workers": rows, "worker_restarts": gathered["restarts"]}
        return Reply(200, msgspec.json.encode(state), JSON)


class WorkerApp(App):
    """Takes up a config when all workers have it, has a share of the connection limit, and shows the sums of all."""

    pages = WorkerPages

    def __init__(self, state: SharedState, channel: Channel, **app: Any) -> None:
        self._state, self._channel = state, channel
        super().__init__(**app)
        self._prepared: ConfigSnapshot | None = None
        self._preparing: object = None

    @property
    def snapshot(self) -> ConfigSnapshot:
        """The snapshot in force: the prepared one from the moment the shared state names it."""
        prepared = self._prepared
        if prepared is not None and prepared.number == self._state.generation:
            self._prepared = None
            self._replace(prepared)
        return super().snapshot

    async def prepare(self, content: bytes, *, generation: int, loaded_at: int) -> ConfigSnapshot:
        """Build the config that may come into force next, and keep it ready. Raises `ConfigErrors`."""
        token = self._preparing = object()
        snapshot = await self._load_and_build(lambda: self.load(content), generation, loaded_at=loaded_at)
        if self._preparing is token:
            self._discard_prepared()
            self._prepared = snapshot
        else:  # it took too long: the parent does not wait for it any more
            self._in_background(snapshot.close())
        return snapshot

    def commit(self, *, log: bool) -> None:
        """Take up the prepared config, if the first request after the commit has not done so already."""
        snapshot = self.snapshot
        if log:
            self._report_accepted(snapshot)

    def reject(self, errors: list[str], *, log: bool) -> None:
        self._preparing = None
        self._discard_prepared()
        self.rejected = errors
        if log:
            self._report_rejected()

    async def aclose(self) -> None:
        self._discard_prepared()
        await super().aclose()

    def _discard_prepared(self) -> None:
        snapshot, self._prepared = self._prepared, None
        if snapshot is not None:
            self._in_background(snapshot.close())

    @property
    def draining(self) -> bool:
        """Whether the proxy is stopping. The parent sets it for all workers at once, so they agree about `/readyz`."""
        return self._draining or bool(self._state.draining)

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining

    async def everybody(self, word: str, within: float, **values: Any) -> Any:
        """A row for each worker with its answer to `word`. Raises `OSError` when the parent does not bring them."""
        return await self._channel.ask("everybody", word=word, each=within, within=within + PARENT_S, **values)

    async def look(self, query: Query) -> list[Seen]:
        """What all workers know of their requests; without the parent, what this one knows."""
        try:
            gathered = await self.everybody("look", LOOK_S, query=msgspec.json.encode(query))
        except OSError:
            return await super().look(query)
        return [msgspec.json.decode(row["answer"], type=Seen) for row in gathered["rows"] if row["answer"]]

    async def looked(self, query: bytes) -> bytes:
        """This worker's part of what `look` brings."""
        return msgspec.json.encode(await look(self, msgspec.json.decode(query, type=Query)), enc_hook=str)

    def counts(self) -> dict[str, Any]:
        """What this worker adds to the sums of all."""
        state = OperatorPages(self).state()
        row = {"active": state["active"], "generation": state["config"]["generation"]}
        of_targets = {name: state[name] for name in ("circuits_open", "targets", "concurrency")}
        return {"row": row, "metrics": self.metrics.snapshot(), **of_targets}


class Worker(Process):
    """A serving process with a parent."""

    _app: WorkerApp

    def __init__(self, channel: Channel, state: SharedState, *, number: int, **spec: Any) -> None:
        super().__init__(WorkerApp(state, channel, **spec))
        self._channel, self._log_as = channel, {"worker": number, "turn": state}

    async def live(self) -> int:
        """Serve until the parent says stop, or is gone; returns the exit code."""
        async with background(self._take_orders()):
            try:
                await self.run()
            except ConfigErrors as errors:
                self._channel.tell("refused", errors=_plain(errors))
                return 1
            finally:
                self._stop.set()  # that the channel closes now does not mean that the parent is gone
                if self._app.started:
                    self._channel.tell("counted", counts=self._app.counts())
                await self._channel.aclose()
        return 0

    def _catch_signals(self) -> None:
        """The parent takes the signals."""

    async def _listen(self, server: Server, settings: ServerSettings) -> None:
        listen = [tuple(port) for port in settings.listen]
        built = {"host": settings.host, "listen": listen, "drain_s": settings.drain_s}
        number = self._app.snapshot.number
        try:
            while "prepare" in (order := await self._channel.ask("built", within=None, generation=number, **built)):
                number = (await self._app.prepare(**order["prepare"])).number  # it came into force meanwhile
                self._app.commit(log=False)
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

    async def _take_orders(self) -> None:
        app = self._app
        orders: Handlers = {
            "prepare": self._prepare,
            "commit": app.commit,
            "reject": app.reject,
            "counts": app.counts,
            "look": app.looked,
            "ping": lambda: None,
            "say": self._say,
            "drain": self._stop.set,
            "now": self._signalled,  # for the second time
        }
        try:
            await self._channel.run(orders)
        except Exception:
            log.exception("order_failed")
        if not self._stop.is_set():
            log.error("parent_gone")  # nobody would replace this worker, and from now on it takes signals itself
            super()._catch_signals()
            self._stop.set()

    async def _say(self, event: str, fields: dict[str, Any]) -> None:
        """The answer is that the line is written: what killed the worker that it tells of may kill this one next."""
        log.error(event, **fields)
        await asyncio.to_thread(self._log.flush)

    async def _prepare(self, **order: Any) -> dict[str, Any]:
        try:
            built = await self._app.prepare(**order)
        except ConfigErrors as errors:
            return {"errors": _plain(errors)}
        self._log.adopt()
        return {"drain_s": built.config.settings.server.drain_s}


def _plain(errors: ConfigErrors) -> list[dict[str, Any]]:
    return [vars(error) for error in errors.errors]


async def work(channel: Channel, state: SharedState) -> int:
    await channel.open()
    _, _, spec = await channel.receive()
    return await Worker(channel, state, **spec).live()


def main(channel: int, state: int) -> int:
    """Run a worker on two inherited descriptors; returns the exit code."""
    for descriptor in (channel, state):
        os.set_inheritable(descriptor, False)  # not for programs that this process starts
    code: int = run(work(Channel(socket.socket(fileno=channel)), SharedState.at(state)))
    return code
