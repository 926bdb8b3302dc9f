"""The counts of all workers, brought to the one that is asked for `/metrics` or `/status`."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count

from proxy.telemetry import sums
from proxy.workers.child import WorkerHandle
from proxy.workers.loop import Loop, Timer

PATIENCE_S = 1.0
"""How long a worker may take to tell its counts. Then its last ones stand: old, but they do not go back."""


class _Round:
    def __init__(self, asker: WorkerHandle, number: int, asked: set[WorkerHandle]) -> None:
        self.asker, self.number, self.asked = asker, number, asked
        self.silent: set[WorkerHandle] = set()
        self.timer: Timer | None = None


class MetricsGather:
    """Asks all when one is asked, and keeps what the dead have counted.

    What a worker has counted since it was last asked dies with it, as it would with a single process.
    """

    def __init__(self, loop: Loop, workers: Callable[[], list[WorkerHandle]]) -> None:
        self.restarts = 0
        self._loop, self._workers = loop, workers
        self._rounds: dict[int, _Round] = {}
        self._numbers = count(1)
        self._dead: list[sums.Family] = []

    def begin(self, asker: WorkerHandle, number: int) -> None:
        one = _Round(asker, number, {child for child in self._workers() if child.state == "serving"})
        mine = next(self._numbers)
        self._rounds[mine] = one
        one.timer = self._loop.after(PATIENCE_S, lambda: self._too_late(mine))
        for child in one.asked:
            child.send("collect", round=mine)

    def counted(self, child: WorkerHandle, number: int | None, counts: bytes) -> None:
        child.counts = counts
        one = self._rounds.get(number or 0)
        if one is not None:
            one.asked.discard(child)
            self._finish_rounds()

    def lost(self, child: WorkerHandle) -> None:
        """A worker is gone: what it counted stays."""
        if child.counts:
            self._dead = sums.bury(self._dead, json.loads(child.counts)["metrics"])
        for one in self._rounds.values():
            one.asked.discard(child)
        self._finish_rounds()

    def _too_late(self, number: int) -> None:
        one = self._rounds[number]
        one.silent, one.asked = one.asked, set()
        self._finish_rounds()

    def _finish_rounds(self) -> None:
        for number, one in list(self._rounds.items()):
            if not one.asked:
                del self._rounds[number]
                self._finish(one)

    def _finish(self, one: _Round) -> None:
        if one.timer is not None:
            one.timer.cancel()
        loads = [json.dumps(self._dead).encode()]
        rows = []
        for child in self._workers():
            state = "silent" if child in one.silent else child.state
            rows.append({"worker": child.number, "pid": child.pid, "state": state})
            loads.append(child.counts)
        sizes = [len(load) for load in loads]
        one.asker.send("gathered", b"".join(loads), round=one.number, rows=rows, sizes=sizes, restarts=self.restarts)
