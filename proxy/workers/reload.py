"""A changed config, taken up by all workers at one moment or by none.

Two steps. *Prepare*: one worker builds the new config, then all others do, while they go on serving the old one.
So a bad file, or one that kills the process that loads it, costs one worker at most. *Commit*: once all have it
ready, its number is written to the shared state, and every request that begins after that, in any worker, uses it.
The message `commit` that follows is for workers without requests. The parent keeps the content in force: a worker
that starts later builds that, whatever the file holds.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from proxy.config.file import FileReader, read
from proxy.errors import ConfigError, ConfigErrors
from proxy.workers.channel import ChannelClosed, SharedState
from proxy.workers.handle import WorkerHandle

BUILD_S = 60.0
"""How long a worker may take to build a config: importing litellm takes six seconds on a slow machine."""

MOST_LOST = 2
"""Workers that may die while they load a file for the first time; one death may be a coincidence."""


class Reload:
    """The config in force, and how the next one is taken up."""

    def __init__(
        self, path: str, state: SharedState, serving: Callable[[], list[WorkerHandle]], content: bytes | None = None
    ) -> None:
        """Read the first config, unless its `content` is given. Raises `ConfigErrors`."""
        self._last_read: bytes | None = read(path) if content is None else content  # None if it could not be read
        self.in_force = {"content": self._last_read, "generation": 1, "loaded_at": int(time.time())}
        state.generation = 1
        self.rejected: list[str] = []
        self.drain_s = 0.0  # the longest of all that workers have built
        self.staffed = asyncio.Event()  # set when a worker begins to serve: from then on one can load the file
        self._file = FileReader(path)
        self._path, self._state, self._serving = path, state, serving
        self._wanted = asyncio.Event()
        self._forced = False

    def look(self, *, forced: bool = False) -> None:
        """Have the file read. Unless `forced`, it is taken up only if it differs from what was read last."""
        self._forced |= forced
        self._wanted.set()

    async def run(self) -> None:
        """Do what `look` asks for, until cancelled."""
        while True:
            await self._wanted.wait()
            while not self._serving():
                self.staffed.clear()
                await self.staffed.wait()
            self._wanted.clear()
            forced, self._forced = self._forced, False
            try:
                await self._read(forced=forced)
            except ConfigErrors as errors:
                self.rejected = list(map(str, errors.errors))
                for index, worker in enumerate(self._serving()):
                    worker.tell("reject", errors=self.rejected, log=index == 0)

    def late(self, worker: WorkerHandle) -> ConfigErrors:
        message = f"worker {worker.number} did not load this file within {BUILD_S:.0f} s"
        return ConfigErrors([ConfigError(message, file=self._path)])

    async def _read(self, *, forced: bool) -> None:
        before, self._last_read = self._last_read, None
        try:
            content = self._last_read = await self._file.read()
        except ConfigErrors:
            if before is not None or forced:  # otherwise another worker has reported it
                raise
            return
        if content != before or forced:
            await self._take_up(content)

    async def _take_up(self, content: bytes) -> None:
        """Have one worker prepare a config, then all others, also those that begin to serve meanwhile, then commit it."""
        config = {"content": content, "generation": self._state.generation + 1, "loaded_at": int(time.time())}
        ready: list[WorkerHandle] = []
        lost = 0
        while (others := [worker for worker in self._serving() if worker not in ready]) and lost < MOST_LOST:
            asked = others if ready else others[:1]
            preparing = (self._prepare(worker, config) for worker in asked)
            for worker, result in zip(asked, await asyncio.gather(*preparing, return_exceptions=True), strict=True):
                if isinstance(result, ChannelClosed):
                    lost += not ready
                elif isinstance(result, BaseException):
                    raise result
                else:
                    ready.append(worker)
        if not ready:
            message = f"{lost} workers died while they loaded this file; the log says how"
            raise ConfigErrors([ConfigError(message, file=self._path)])
        self.in_force, self.rejected = config, []
        self._state.generation += 1
        for index, worker in enumerate(self._serving()):
            worker.tell("commit", log=index == 0)

    async def _prepare(self, worker: WorkerHandle, config: dict[str, Any]) -> None:
        """Have a worker build a config. Raises `ConfigErrors`, `ChannelClosed`."""
        try:
            answer = await worker.ask("prepare", within=BUILD_S, **config)
        except TimeoutError:
            raise self.late(worker) from None
        if errors := answer.get("errors"):
            raise ConfigErrors([ConfigError(**error) for error in errors])
        self.drain_s = max(self.drain_s, answer["drain_s"])
