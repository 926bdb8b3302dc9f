"""A changed config, taken up by all workers at one moment or by none.

Two steps. *Prepare*: one worker builds the new config, then all others do, while they go on serving the old one.
So a bad file, or one that kills the process that loads it, costs one worker at most. *Commit*: once all have it
ready, its number is written to the shared state, and every request that begins after that, in any worker, uses it.
The message `commit` that follows is for workers without requests. The parent keeps the content in force: a worker
that starts later builds that, whatever the file holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from proxy.config.file import FileReader, read
from proxy.errors import ConfigErrors
from proxy.workers.channel import ChannelClosed
from proxy.workers.handle import WorkerHandle
from proxy.workers.spec import SharedState

MOST_LOST = 2
"""Workers that may die while they load a file for the first time; one death may be a coincidence."""


class Rejected(Exception):
    """A config that a worker did not build, and its errors."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(errors)
        self.errors = errors


class Reload:
    """The config in force, and how the next one is taken up."""

    def __init__(
        self,
        path: str,
        state: SharedState,
        serving: Callable[[], list[WorkerHandle]],
        *,
        within: float,
        content: bytes | None = None,
    ) -> None:
        """Read the first config, unless its `content` is given. `within`: seconds a worker may take to build one. Raises `ConfigErrors`."""
        self.content = read(path) if content is None else content
        self._last_read: bytes | None = self.content  # None if it could not be read
        self.number = state.generation = 1
        self.loaded_at = int(time.time())
        self.rejected: list[str] = []
        self.drain_s = 0.0  # the longest of all that workers have built
        self.lock = asyncio.Lock()
        """Held during a reload, and by a worker while it begins to serve: it must not miss a commit."""
        self.staffed = asyncio.Event()
        """Set when a worker begins to serve: from then on one can load the file."""
        self._file = FileReader(path)
        self._path, self._state, self._serving, self._within = path, state, serving, within
        self._wanted = asyncio.Event()
        self._forced = False

    def look(self, *, forced: bool) -> None:
        """Have the file read. Unless `forced`, it is taken up only if it differs from what was read last."""
        self._forced |= forced
        self._wanted.set()

    async def run(self) -> None:
        """Do what `look` asks for, until cancelled."""
        while True:
            await self._wanted.wait()
            await self.staffed.wait()
            async with self.lock:
                if not self._serving():
                    self.staffed.clear()
                    continue
                self._wanted.clear()
                forced, self._forced = self._forced, False
                try:
                    await self._read(forced=forced)
                except Rejected as rejected:
                    self._reject(rejected.errors)

    async def build(self, worker: WorkerHandle, word: str, content: bytes, **values: Any) -> dict[str, Any]:
        """Have a worker build a config; returns its answer. Raises `Rejected`, `ChannelClosed`."""
        try:
            answer = (await worker.ask(word, content, within=self._within, **values)).values
        except TimeoutError:
            late = f"{self._path}: worker {worker.number} did not load this file within {self._within:.0f} s"
            raise Rejected([late]) from None
        if errors := answer.get("errors"):
            raise Rejected(errors)
        worker.generation = values["generation"]
        self.drain_s = max(self.drain_s, answer["drain_s"])
        return answer

    async def catch_up(self, worker: WorkerHandle) -> None:
        """Have a worker that is not serving yet build the config in force. Raises as `build` does."""
        if worker.generation != self.number:
            await self.build(worker, "prepare", self.content, generation=self.number, loaded_at=self.loaded_at)

    async def _read(self, *, forced: bool) -> None:
        before = self._last_read
        try:
            self._last_read = content = await self._file.read()
        except ConfigErrors as errors:
            self._last_read = None
            if before is not None or forced:  # otherwise another worker has reported it
                raise Rejected([str(error) for error in errors.errors]) from errors
            return
        if content != before or forced:
            await self._take_up(content, int(time.time()))

    async def _take_up(self, content: bytes, loaded_at: int) -> None:
        """Have one worker prepare the config, then all others, then commit it."""
        number = self.number + 1
        ready: list[WorkerHandle] = []
        lost = 0
        while others := [worker for worker in self._serving() if worker not in ready]:
            asked = others if ready else others[:1]
            preparing = (
                self.build(worker, "prepare", content, generation=number, loaded_at=loaded_at) for worker in asked
            )
            for worker, result in zip(asked, await asyncio.gather(*preparing, return_exceptions=True), strict=True):
                if isinstance(result, ChannelClosed):
                    lost += 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    ready.append(worker)
            if not ready and lost == MOST_LOST:
                break
        if not ready:
            raise Rejected([f"{self._path}: {lost} workers died while they loaded this file; the log says how"])
        self.number = self._state.generation = number
        self.content, self.loaded_at, self.rejected = content, loaded_at, []
        for index, worker in enumerate(self._serving()):
            worker.tell("commit", log=index == 0)

    def _reject(self, errors: list[str]) -> None:
        self.rejected = errors
        for index, worker in enumerate(self._serving()):
            worker.tell("reject", errors=errors, log=index == 0)
