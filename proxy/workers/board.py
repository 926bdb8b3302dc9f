"""What all processes see at the same moment, and the one thing that only one may do at a time."""

from __future__ import annotations

import fcntl
import mmap
import os
from types import TracebackType


class SharedState:
    """Words in memory that parent and workers share. The parent writes; a message would reach each at another time."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)  # anonymous and shared: a fork inherits it
        self._words = memoryview(self._memory).cast("Q")

    @property
    def generation(self) -> int:
        """The number of the config in force. All workers have it ready before it is written here."""
        return self._words[0]

    @generation.setter
    def generation(self, number: int) -> None:
        self._words[0] = number

    @property
    def draining(self) -> bool:
        return bool(self._words[1])

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._words[1] = draining


class Turn:
    """Held by one process at a time, and let go by a process that dies: for writing lines to the same pipe.

    A pipe takes up to 4 KiB whole (PIPE_BUF), and a line with a traceback is longer.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("turn")
        else:
            import tempfile  # noqa: PLC0415 - costs memory that the parent can do without

            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
