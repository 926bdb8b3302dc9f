"""The app of a worker. From outside, all workers look like one process."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import msgspec

from proxy.app import App
from proxy.config.load import Config
from proxy.contracts.base import Reply
from proxy.server.operator_pages import JSON, TEXT, OperatorPages
from proxy.server.snapshot import ConfigSnapshot
from proxy.telemetry import sums
from proxy.telemetry.metrics import exposition
from proxy.web.look import Query, Seen, look
from proxy.workers.channel import Channel
from proxy.workers.spec import SharedState, WorkerSpec

UNAVAILABLE = b"The parent process, which adds up the metrics of all workers, is gone or does not answer.\n"

COUNTS_S, LOOK_S = 1.0, 10.0
"""How long a worker may take to bring its counts, or what it knows of its requests: it may have to check a config."""

PARENT_S = 2.0
"""How much longer the parent may take to bring the answers of all."""


class WorkerPages(OperatorPages):
    """The pages of a worker, with the sums of all."""

    _app: WorkerApp

    async def metrics(self) -> Reply:
        try:
            gathered = await self._app.everybody("counts", COUNTS_S)
        except OSError:  # this worker's own counts alone would look as if counters had gone back
            return Reply(503, UNAVAILABLE, TEXT)
        serving, died = sum(row["state"] == "serving" for row in gathered["rows"]), "chat_proxy_worker_restarts"
        restarts = [[died + "_total", [], gathered["restarts"]]]
        counts = [row["answer"]["metrics"] for row in gathered["rows"] if row["answer"]]
        families = [
            *sums.total(counts, gathered["dead"]),
            ["chat_proxy_workers", "gauge", "Worker processes that serve.", [["chat_proxy_workers", [], serving]]],
            [died, "counter", "Workers started again because one had died.", restarts],
        ]
        body, content_type = exposition(families)
        return Reply(200, body, {"Content-Type": content_type})

    async def status(self) -> Reply:
        told = self.state()
        try:
            gathered = await self._app.everybody("counts", COUNTS_S)
        except OSError:
            return Reply(200, msgspec.json.encode(told | {"workers": None}), JSON)
        counts = [row.pop("answer") or {} for row in gathered["rows"]]
        told["active"] = sum(one.get("active", 0) for one in counts)
        circuits = [item for one in counts for item in one.get("circuits_open", {}).items()]
        told["circuits_open"] = dict(sorted(circuits, key=itemgetter(1)))  # of a target, the longest is kept
        for name in ("targets", "concurrency"):
            told[name] = sums.of_targets(one.get(name, {}) for one in counts)
        rows = [
            row | {name: one[name] for name in ("active", "generation") if one}
            for row, one in zip(gathered["rows"], counts, strict=True)
        ]
        told |= {"workers": rows, "worker_restarts": gathered["restarts"]}
        return Reply(200, msgspec.json.encode(told), JSON)


class WorkerApp(App):
    """Takes up a config when all workers have it, has a share of the connection limit, and shows the sums of all."""

    pages = WorkerPages

    def __init__(self, spec: WorkerSpec, state: SharedState, channel: Channel) -> None:
        self._spec, self._state, self._channel = spec, state, channel
        self.processes = spec.workers
        # The content is that of the config in force, whatever the file holds by now.
        super().__init__(
            spec.path, host=spec.host, port=spec.port, content=spec.content, without_file=spec.without_file
        )
        self._prepared: ConfigSnapshot | None = None
        self._preparing: object = None

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

    async def aclose(self) -> None:
        self._discard_prepared()
        await super().aclose()

    def _discard_prepared(self) -> None:
        snapshot, self._prepared = self._prepared, None
        if snapshot is not None:
            self._close_later(snapshot)

    # -- what all workers know ---------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the proxy is stopping. The parent sets it for all workers at once, so they agree about `/readyz`."""
        return self._draining or bool(self._state.draining)

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining

    async def everybody(self, word: str, within: float, **values: Any) -> dict[str, Any]:
        """A row for each worker with its answer to `word`. Raises `OSError` when the parent does not bring them."""
        answers: dict[str, Any] = await self._channel.ask(
            "everybody", word=word, each=within, within=within + PARENT_S, **values
        )
        return answers

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
        told = OperatorPages(self).state()
        row = {name: told[name] for name in ("active", "circuits_open", "targets", "concurrency")}
        return row | {"generation": told["config"]["generation"], "metrics": self.metrics.snapshot()}
