"""What a worker gets from its parent: its settings, and a page of memory that all processes share."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import tempfile
from typing import NamedTuple, Self


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


class SharedState(ctypes.Structure):
    """A page of memory: the parent writes, and all processes see it at the same moment.

    As a context it is a lock between processes that write to the same log: a pipe takes up to 4 KiB (PIPE_BUF) in one
    piece, and a line with a traceback is longer. The kernel releases it when its holder dies.
    """

    generation: int  # number of the config in force; all workers have built it before it is written here
    draining: int  # 1 from the moment the parent is told to stop
    _fields_ = (("generation", ctypes.c_uint64), ("draining", ctypes.c_uint64))
    descriptor: int

    @classmethod
    def at(cls, descriptor: int | None = None) -> Self:
        """Map the memory behind `descriptor`, by default new memory."""
        if descriptor is None:
            descriptor = _unnamed_file()
            os.ftruncate(descriptor, mmap.PAGESIZE)
        state = cls.from_buffer(mmap.mmap(descriptor, mmap.PAGESIZE))
        state.descriptor = descriptor
        return state

    def __enter__(self) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):  # needs no folder that can be written to
        return os.memfd_create("chat-proxy workers")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
