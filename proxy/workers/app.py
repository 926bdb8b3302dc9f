"""The app of a worker: one of several that look like one from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from proxy.app import JSON, App, ConfigSnapshot, settings_for
from proxy.config.load import Config, load_config
from proxy.config.models import LimitSettings
from proxy.contracts.base import Reply
from proxy.telemetry import sums
from proxy.telemetry.metrics import exposition
from proxy.workers.child import WorkerSpec

NOBODY = b"The parent of the workers, which knows the counts of all, is gone or does not answer.\n"


class Gathered(NamedTuple):
    """What all workers told of themselves. One that told nothing yet has only its row."""

    rows: list[dict[str, Any]]
    metrics: list[list[sums.Family]]
    dead: list[sums.Family]
    restarts: int


class WorkerApp(App):
    """Takes up a config when all have it, shares the limit on connections, and shows the sums of all."""

    def __init__(self, birth: WorkerSpec, gather: Callable[[], Awaitable[Gathered]]) -> None:
        self._board = birth.board
        super().__init__(birth.path, host=birth.host, port=birth.port)
        self._birth = birth
        self._gather = gather
        self._prepared: ConfigSnapshot | None = None
        self._limits: tuple[int, LimitSettings] | None = None

    # -- generations -------------------------------------------------------------------------------------------

    @property
    def generation(self) -> ConfigSnapshot:
        """The one in force: the one prepared, from the moment that the board says so."""
        prepared = self._prepared
        if prepared is not None and prepared.number == self._board.generation:
            self._prepared = None
            self._take_up(prepared)
        return super().generation

    def load(self) -> Config:
        return self._checked(self._birth.content)

    async def start(self, config: Config | None = None) -> None:
        """Build the config that is in force, whatever the file holds by now."""
        birth = self._birth
        generation = await self._build(config or self.load(), birth.generation, loaded_at=birth.loaded_at)
        self._install(generation)
        if birth.first and birth.number == 1:  # what all would say, one says
            self._warn(generation)

    async def build_beside(self, content: bytes, number: int, loaded_at: int) -> ConfigSnapshot:
        """Build what may come next. Raises `ConfigErrors`."""
        return await self._attempt(lambda: self._checked(content), number, loaded_at=loaded_at)

    def hold(self, generation: ConfigSnapshot) -> None:
        """Keep it ready."""
        self.let_go()
        self._prepared = generation

    def let_go(self, generation: ConfigSnapshot | None = None) -> None:
        """What is ready, or was to be, is not wanted any more."""
        if generation is None:
            generation, self._prepared = self._prepared, None
        if generation is not None:
            self._retire(generation)

    def commit(self, *, tell: bool) -> None:
        generation = self.generation
        if tell:
            self._tell_taken_up(generation)

    def reject(self, errors: list[str], *, tell: bool) -> None:
        self.let_go()
        self._reject(errors)
        if tell:
            self._tell_rejected()

    def recall(self, rejected: list[str]) -> None:
        """What was turned down before this worker came."""
        self._reject(rejected)

    async def aclose(self) -> None:
        self.let_go()
        await super().aclose()

    def _checked(self, content: bytes) -> Config:
        return load_config(self.path, content=content, settings_for=settings_for, host=self._host, port=self._port)

    # -- limits ------------------------------------------------------------------------------------------------

    def connection_limits(self) -> LimitSettings:
        """This worker's share. A client's own limit is not divided: the kernel does not deal evenly by client."""
        generation = self.generation
        if self._limits is None or self._limits[0] != generation.number:
            limits = generation.config.settings.server.limits
            share = -(-limits.connections // self._birth.workers)
            self._limits = generation.number, limits.model_copy(update={"connections": share})
        return self._limits[1]

    # -- pages for operators -----------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Also from the moment that the parent is told to stop: no worker says ready after another has said no."""
        return self._draining or self._board.draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining

    def counts(self) -> bytes:
        """What this worker tells when somebody asks another one for the sums."""
        told = super()._told()
        row = {name: told[name] for name in ("active", "circuits_open")} | {"generation": told["config"]["generation"]}
        return msgspec.json.encode({"row": row, "metrics": self.metrics.snapshot()})

    async def _metrics(self) -> Reply:
        try:
            gathered = await self._gather()
        except OSError:  # what this one alone has counted would look as if the rest had been undone
            return Reply(503, NOBODY, {"Content-Type": "text/plain; charset=utf-8"})
        families = sums.total(gathered.metrics, gathered.dead)
        serving = sum(row["state"] == "serving" for row in gathered.rows)
        body, content_type = exposition([*families, *_of_workers(serving, gathered.restarts)])
        return Reply(200, body, {"Content-Type": content_type})

    async def _status(self) -> Reply:
        told = self._told()
        try:
            gathered = await self._gather()
        except OSError:
            return Reply(200, msgspec.json.encode(told | {"workers": None}), JSON)
        circuits: dict[str, float] = {}
        for row in gathered.rows:
            for name, left in row.pop("circuits_open", {}).items():
                circuits[name] = max(left, circuits.get(name, 0.0))
        told["active"] = sum(row.get("active", 0) for row in gathered.rows)
        told["circuits_open"] = circuits
        told["workers"] = gathered.rows
        told["worker_restarts"] = gathered.restarts
        return Reply(200, msgspec.json.encode(told), JSON)


def _of_workers(serving: int, restarts: int) -> list[sums.Family]:
    died = "chat_proxy_worker_restarts"
    return [
        ["chat_proxy_workers", "gauge", "Worker processes that serve.", [["chat_proxy_workers", [], serving]]],
        [died, "counter", "Workers started again because one had died.", [[died + "_total", [], restarts]]],
    ]
