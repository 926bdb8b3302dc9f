"""What a worker gets from its parent: its settings, and a page of memory that all processes share."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from contextlib import AbstractContextManager
from typing import Any, NamedTuple


class WorkerSpec(NamedTuple):
    """Which worker this is, and which config it builds."""

    number: int
    workers: int
    first: bool  # False for the replacement of a worker that died
    path: str
    host: str | None
    port: int | None
    generation: int
    loaded_at: int
    content: bytes  # of the config in force; the file may hold another one by now
    without_file: bool = False

    def values(self) -> dict[str, Any]:
        """All but the content, as a message takes them."""
        return {name: value for name, value in self._asdict().items() if name != "content"}


class Intervals(NamedTuple):
    """How long the parent waits, in seconds. Tests pass shorter ones."""

    build: float = 60.0  # for a worker to build a config: importing litellm takes six seconds on a slow machine
    counts: float = 1.0  # for a worker's metrics
    look: float = 10.0  # for what a worker knows of its requests, or says about a config
    ping: float = 1.0  # before each ping, and for its answer
    pings: int = 5  # unanswered in a row, then the worker is killed
    first_pause: float = 0.1  # before a worker is replaced; doubled each time it died within `good_life`
    longest_pause: float = 10.0
    good_life: float = 10.0
    stuck: float = 5.0  # after the end of the drain, until a worker that is still there is killed
    stuck_now: float = 2.0  # the same after a second signal; stopping then takes a second at most


INTERVALS = Intervals()


class _Word:
    """One number in the shared memory."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __get__(self, state: SharedState, owner: type[SharedState]) -> int:
        return state.words[self._index]

    def __set__(self, state: SharedState, number: int) -> None:
        state.words[self._index] = number


class SharedState:
    """A page of memory: the parent writes, and all processes see it at the same moment."""

    generation = _Word(0)  # number of the config in force; all workers have built it before it is written here
    draining = _Word(1)  # 1 from the moment the parent is told to stop

    def __init__(self, descriptor: int | None = None) -> None:
        """Map the memory behind `descriptor`, by default new memory."""
        if descriptor is None:
            descriptor = _unnamed_file()
            os.ftruncate(descriptor, mmap.PAGESIZE)
        self.descriptor = descriptor
        self.words = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("Q")


class LogTurn(AbstractContextManager[None]):
    """A lock between processes that write to the same log. The kernel releases it when its holder dies.

    A pipe takes up to 4 KiB (PIPE_BUF) in one piece, and a line with a traceback is longer.
    """

    def __init__(self, state: SharedState) -> None:
        self._descriptor = state.descriptor

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):  # needs no folder that can be written to
        return os.memfd_create("chat-proxy workers")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
