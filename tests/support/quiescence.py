"""Check Q (docs/reliability.md R6): when the last client has left, nothing of it is left.

    async with quiescent(active=lambda: len(app.active)):
        ...  # clients come and go

Warm up what stays for good (a first request that fills the idle pool, an imported SDK) before entering.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

Probe = Callable[[], int]


@contextlib.asynccontextmanager
async def quiescent(*, within: float = 60.0, spare_fds: int | Probe = 0, **probes: Probe) -> AsyncIterator[None]:
    """Fail unless tasks, file descriptors and `probes` are back at what they were, `within` seconds after the block.

    `spare_fds` is how many more descriptors may stay open, such as idle upstream connections (two each when
    both ends are in this process). A block that fails is not checked: its own error is the one to read.
    """
    complaints = _Complaints()
    asyncio_log = logging.getLogger("asyncio")
    tasks, fds = _tasks(), _fds()
    counts = {name: probe() for name, probe in probes.items()}
    gc.collect(1)
    gc.freeze()  # to look through all that was ever imported, too, took most of the time of a test
    asyncio_log.addHandler(complaints)
    try:
        yield
        deadline = asyncio.get_running_loop().time() + within
        while left := _left_over(tasks, fds, spare_fds, counts, probes):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"{within} s after the last client left there is still:\n  " + "\n  ".join(left))
            await asyncio.sleep(0.01)
        gc.collect()  # what nobody awaited or closed is told when it is collected
        assert not complaints.said, "asyncio complained:\n  " + "\n  ".join(complaints.said)
    finally:
        asyncio_log.removeHandler(complaints)


def _left_over(
    tasks: set[asyncio.Task[object]],
    fds: dict[int, str],
    spare_fds: int | Probe,
    counts: dict[str, int],
    probes: dict[str, Probe],
) -> list[str]:
    left = [f"task {_described(task)}" for task in _tasks() - tasks - {asyncio.current_task()}]
    now = _fds()
    if len(now) - len(fds) > (spare_fds if isinstance(spare_fds, int) else spare_fds()):
        left += [f"fd {fd}: {_shown(fd, target)}" for fd, target in sorted(now.items() - fds.items())]
    for name, probe in probes.items():
        if probe() != counts[name]:
            left.append(f"{name}: {probe()}, and it was {counts[name]}")
    return left


def _tasks() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if not task.done()}


def _described(task: asyncio.Task[object]) -> str:
    frames = task.get_stack(limit=1)
    where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{task.get_name()} {getattr(task.get_coro(), '__qualname__', task.get_coro())}{where}"


def _fds() -> dict[int, str]:
    """Open descriptors and what they lead to; a socket's inode tells it apart from a later one."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself
            found[int(entry.name)] = str(entry.readlink())
    return found


def _shown(fd: int, target: str) -> str:
    """What a descriptor leads to; for a connection, both its ends."""
    if target.startswith("socket:"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as twin:
            return f"{target} {twin.getsockname()} -> {twin.getpeername()}"
    return target


class _Complaints(logging.Handler):
    """What asyncio logs as errors: exceptions nobody retrieved, tasks destroyed while pending."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
