"""The app of a worker. From outside, all workers look like one process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import structlog

from proxy.app import App
from proxy.config.load import Config
from proxy.config.models import LimitSettings
from proxy.contracts.base import Reply
from proxy.server.operator_pages import JSON, TEXT, OperatorPages
from proxy.server.snapshot import ConfigSnapshot
from proxy.telemetry import sums
from proxy.telemetry.metrics import exposition
from proxy.web.look import Query, Seen, look
from proxy.workers.spec import SharedState, WorkerSpec

log = structlog.get_logger("proxy.app")

UNAVAILABLE = b"The parent process, which adds up the metrics of all workers, is gone or does not answer.\n"


class Gathered(NamedTuple):
    """What all workers reported: a row of `/status` each, and their metrics."""

    rows: list[dict[str, Any]]
    metrics: list[list[sums.Family]]
    dead: list[sums.Family]
    restarts: int


class WorkerApp(App):
    """Takes up a config when all workers have it, has a share of the connection limit, and shows the sums of all."""

    def __init__(
        self,
        spec: WorkerSpec,
        state: SharedState,
        gather: Callable[[], Awaitable[Gathered]],
        ask_all: Callable[[bytes], Awaitable[list[Any]]],
    ) -> None:
        self._state, self._ask_all = state, ask_all
        # The content is that of the config in force, whatever the file holds by now.
        super().__init__(
            spec.path, host=spec.host, port=spec.port, content=spec.content, without_file=spec.without_file
        )
        self._spec = spec
        self.operations = self._pages(WorkerPages(self, gather))
        self._prepared: ConfigSnapshot | None = None
        self._preparing: object = None
        self._limits: tuple[int, LimitSettings] | None = None

    # -- configs -----------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> ConfigSnapshot:
        """The snapshot in force: the prepared one from the moment the shared state names it."""
        prepared = self._prepared
        if prepared is not None and prepared.number == self._state.generation:
            self._prepared = None
            self._replace(prepared)
        return super().snapshot

    async def start(self, config: Config | None = None) -> None:
        spec = self._spec
        snapshot = await self._build(config or self.load(), spec.generation, loaded_at=spec.loaded_at)
        self._put_in_force(snapshot)
        if spec.first and spec.number == 1:  # one worker warns for all
            self._log_warnings(snapshot)

    async def prepare(self, content: bytes, *, generation: int, loaded_at: int) -> ConfigSnapshot:
        """Build the config that may come into force next, and keep it ready. Raises `ConfigErrors`."""
        token = self._preparing = object()
        snapshot = await self._load_and_build(lambda: self.load(content), generation, loaded_at=loaded_at)
        if self._preparing is token:
            self._discard_prepared()
            self._prepared = snapshot
        else:  # it took too long: the parent does not wait for it any more
            self._close_later(snapshot)
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

    def recall(self, rejected: list[str]) -> None:
        """Show the errors of a file that was rejected before this worker started."""
        self.rejected = rejected

    async def aclose(self) -> None:
        self._discard_prepared()
        await super().aclose()

    def _log_warnings(self, snapshot: ConfigSnapshot) -> None:
        super()._log_warnings(snapshot)
        config = snapshot.config
        limited = snapshot.admission is not None or any(
            getattr(row, "limits", None) for row in config.backends.values()
        )
        if limited and config.settings.store is None:
            message = (
                f"limits are counted by each process alone: {self._spec.workers} workers together admit up to "
                f"{self._spec.workers} times as much; name a `store: redis://…` that counts for all of them"
            )
            log.warning("config_warning", message=message)

    def _discard_prepared(self) -> None:
        snapshot, self._prepared = self._prepared, None
        if snapshot is not None:
            self._close_later(snapshot)

    def connection_limits(self) -> LimitSettings:
        """This worker's share. The limit per client is not divided: the kernel may give all its connections to one."""
        snapshot = self.snapshot
        if self._limits is None or self._limits[0] != snapshot.number:
            limits = snapshot.limits
            share = -(-limits.connections // self._spec.workers)
            self._limits = snapshot.number, limits.model_copy(update={"connections": share})
        return self._limits[1]

    async def look(self, query: Query) -> list[Seen]:
        """What all workers know of their requests; without the parent, what this one knows."""
        try:
            return msgspec.convert(await self._ask_all(msgspec.json.encode(query)), list[Seen])
        except OSError:
            return await super().look(query)

    async def looked(self, query: bytes) -> bytes:
        """This worker's part of what `look` brings."""
        return msgspec.json.encode(await look(self, msgspec.json.decode(query, type=Query)), enc_hook=str)

    # -- pages for operators -----------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the proxy is stopping. The parent sets it for all workers at once, so they agree about `/readyz`."""
        return self._draining or bool(self._state.draining)

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining

    def counts(self) -> bytes:
        """What this worker adds to the sums of all."""
        told = OperatorPages(self).state()
        row = {name: told[name] for name in ("active", "circuits_open", "targets", "concurrency")} | {
            "generation": told["config"]["generation"]
        }
        return msgspec.json.encode({"row": row, "metrics": self.metrics.snapshot()})


class WorkerPages(OperatorPages):
    """The pages of a worker, with the sums of all."""

    def __init__(self, app: WorkerApp, gather: Callable[[], Awaitable[Gathered]]) -> None:
        super().__init__(app)
        self._gather = gather

    async def metrics(self) -> Reply:
        try:
            gathered = await self._gather()
        except OSError:  # this worker's own counts alone would look as if counters had gone back
            return Reply(503, UNAVAILABLE, TEXT)
        serving = sum(row["state"] == "serving" for row in gathered.rows)
        families = [*sums.total(gathered.metrics, gathered.dead), *_of_workers(serving, gathered.restarts)]
        body, content_type = exposition(families)
        return Reply(200, body, {"Content-Type": content_type})

    async def status(self) -> Reply:
        told = self.state()
        try:
            gathered = await self._gather()
        except OSError:
            return Reply(200, msgspec.json.encode(told | {"workers": None}), JSON)
        circuits: dict[str, float] = {}
        for row in gathered.rows:
            for name, left in row.pop("circuits_open", {}).items():
                circuits[name] = max(left, circuits.get(name, 0.0))
        told["active"] = sum(row.get("active", 0) for row in gathered.rows)
        for name in ("targets", "concurrency"):
            told[name] = _added([row.pop(name, {}) for row in gathered.rows])
        told |= {"circuits_open": circuits, "workers": gathered.rows, "worker_restarts": gathered.restarts}
        return Reply(200, msgspec.json.encode(told), JSON)


def _added(parts: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """What several processes know of each target: counts are added, and of times the longest is kept."""
    found: dict[str, dict[str, float]] = {}
    for target, numbers in [item for part in parts for item in part.items()]:
        row = found.setdefault(target, {})
        for name, number in numbers.items():
            before = row.get(name, 0)
            row[name] = max(before, number) if name.endswith("_s") else before + number
    return found


def _of_workers(serving: int, restarts: int) -> list[sums.Family]:
    died = "chat_proxy_worker_restarts"
    return [
        ["chat_proxy_workers", "gauge", "Worker processes that serve.", [["chat_proxy_workers", [], serving]]],
        [died, "counter", "Workers started again because one had died.", [[died + "_total", [], restarts]]],
    ]
