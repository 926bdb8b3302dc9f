"""The metrics of all workers, for the one that is asked for `/metrics` or `/status`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from proxy.telemetry import sums
from proxy.workers.channel import ChannelClosed
from proxy.workers.handle import WorkerHandle


class MetricsGather:
    """Asks all workers for their metrics, and keeps the counts of workers that died.

    When a worker dies, what it counted after it was last asked is lost, as all counts of a single process are.
    """

    def __init__(self, workers: Callable[[], list[WorkerHandle]], *, within: float) -> None:
        self.restarts = 0
        self._workers, self._within = workers, within
        self._dead: list[sums.Family] = []

    async def gather(self) -> tuple[list[dict[str, Any]], bytes]:
        """A row for each worker, and a JSON list: the metrics of workers that died, then those of each row's worker (or null).

        For a worker that does not answer, its last known metrics are taken: they are old, but no counter goes back.
        """
        silent: set[WorkerHandle] = set()

        async def collect(worker: WorkerHandle) -> None:
            try:
                worker.counts = (await worker.ask("collect", within=self._within)).load
            except TimeoutError:
                silent.add(worker)
            except ChannelClosed:
                pass

        await asyncio.gather(*(collect(worker) for worker in self._workers() if worker.state == "serving"))
        rows = [
            {"worker": one.number, "pid": one.pid, "state": "silent" if one in silent else one.state}
            for one in self._workers()
        ]
        counts = [json.dumps(self._dead).encode(), *(one.counts or b"null" for one in self._workers())]
        return rows, b"[" + b",".join(counts) + b"]"

    def lost(self, worker: WorkerHandle) -> None:
        """A worker is gone. Keep its counters."""
        if worker.counts:
            self._dead = sums.bury(self._dead, json.loads(worker.counts)["metrics"])


async def ask_all(workers: list[WorkerHandle], word: str, load: bytes, *, within: float) -> bytes:
    """A JSON list of what the workers answer, without those that do not."""

    async def ask(worker: WorkerHandle) -> bytes:
        try:
            return (await worker.ask(word, load, within=within)).load
        except (TimeoutError, ChannelClosed):
            return b""

    return b"[" + b",".join(filter(None, await asyncio.gather(*map(ask, workers)))) + b"]"
