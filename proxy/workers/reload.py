"""A changed config, taken up by all workers or by none.

Two steps. *Prepare*: one worker is asked to build it, then all others; they go on serving the old one meanwhile,
and a file that is bad, or kills whoever loads it, troubles one of them at most. *Commit*: once all have it
ready its number is written on the board, and every request that begins after that moment, in any worker, is
answered by it; the messages that follow are for those that have no requests. The parent keeps the content in
force: a worker that is started again gets that, whatever the file holds by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from proxy.config.file import read
from proxy.errors import ConfigErrors
from proxy.workers.board import SharedState
from proxy.workers.child import WorkerHandle
from proxy.workers.loop import Loop, Timer

PATIENCE_S = 60.0
"""How long a worker may take to build a config; importing litellm takes six seconds on a slow machine."""

MOST_LOST = 2
"""Workers that may die while they load a file for the first time; one may have been a coincidence."""


class Reload:
    """The config in force, and the one that may be next."""

    def __init__(
        self,
        path: str,
        board: SharedState,
        loop: Loop,
        *,
        voters: Callable[[], list[WorkerHandle]],
        over: Callable[[], None],
    ) -> None:
        self.number = 1
        self.content = read(path)
        self.loaded_at = int(time.time())
        self.rejected: list[str] = []
        self._path, self._board, self._loop = path, board, loop
        self._voters, self._over = voters, over
        self._seen = self.content  # what was read last, whatever became of it
        self._proposal = 0  # counts them: an answer to one that was given up is none to the next
        self._proposed_at = 0
        self._asked: set[WorkerHandle] = set()
        self._willing: list[WorkerHandle] = []
        self._lost = 0
        self._timer: Timer | None = None
        self._later: bool | None = None  # asked for meanwhile, and whether by force
        board.generation = self.number

    @property
    def busy(self) -> bool:
        return bool(self._asked)

    def look(self, *, forced: bool) -> None:
        """Read the file, and see whether all can take it up. Unless `forced`, only if it is another than the last."""
        if self.busy or not self._voters():
            self._later = forced or bool(self._later)
            return
        try:
            content = read(self._path)
        except ConfigErrors as errors:
            if forced:  # a file that is gone is waited for
                self._reject([str(error) for error in errors.errors])
            return
        if content == self._seen and not forced:
            return
        self._seen, self._proposed_at = content, int(time.time())
        self._proposal += 1
        self._lost = 0
        self._ask(self._voters()[:1])

    def look_later(self) -> None:
        """Somebody is there to be asked: is there something that had to wait?"""
        if self._later is not None and not self.busy and self._voters():
            forced, self._later = self._later, None
            self.look(forced=forced)

    def give(self, child: WorkerHandle) -> None:
        """Have a worker build the config in force."""
        child.send("prepare", self.content, proposal=0, generation=self.number, loaded_at=self.loaded_at)

    def prepared(self, child: WorkerHandle, proposal: int) -> None:
        if child in self._asked and proposal == self._proposal:
            self._asked.discard(child)
            self._willing.append(child)
            self._go_on()

    def refused(self, child: WorkerHandle, proposal: int, errors: list[str]) -> None:
        if child in self._asked and proposal == self._proposal:
            self._reject(errors)

    def lost(self, child: WorkerHandle) -> None:
        """A worker died."""
        if child in self._willing:
            self._willing.remove(child)
        if child not in self._asked:
            return
        self._asked.discard(child)
        self._lost += not self._willing
        if self._lost >= MOST_LOST or not self._voters():
            self._reject([f"{self._path}: whoever loaded this file died of it; the log says how"])
        else:
            self._go_on()

    def _ask(self, children: list[WorkerHandle]) -> None:
        if self._timer is None:
            self._timer = self._loop.after(PATIENCE_S, self._too_late)
        for child in children:
            self._asked.add(child)
            child.send(
                "prepare",
                self._seen,
                proposal=self._proposal,
                generation=self.number + 1,
                loaded_at=self._proposed_at,
            )

    def _go_on(self) -> None:
        if self._asked:
            return
        others = [child for child in self._voters() if child not in self._willing]
        if others:
            self._ask(others if self._willing else others[:1])
        else:
            self._commit()

    def _commit(self) -> None:
        self.number += 1
        self.content, self.loaded_at, self.rejected = self._seen, self._proposed_at, []
        self._board.generation = self.number  # from this moment on
        for index, child in enumerate(self._willing):
            child.send("commit", generation=self.number, tell=index == 0)
        self._end()

    def _reject(self, errors: list[str]) -> None:
        self.rejected = errors
        for index, child in enumerate(self._voters()):
            child.send("reject", errors=errors, tell=index == 0)
        self._end()

    def _too_late(self) -> None:
        late = ", ".join(str(child.number) for child in sorted(self._asked, key=lambda child: child.number))
        self._reject([f"{self._path}: worker {late} did not get it ready within {PATIENCE_S:.0f} s"])

    def _end(self) -> None:
        self._asked.clear()
        self._willing.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._over()
        self.look_later()
