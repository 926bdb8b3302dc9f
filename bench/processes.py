"""Start, pin, watch and stop processes, by what Linux says of them in /proc."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

PROXY_CPU, HARNESS_CPU = 0, 1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def allow_many_files() -> None:
    """Raise the limit of open files to the hard one, for us and for all we start: 4,000 streams take 8,000."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def can_pin() -> bool:
    return {PROXY_CPU, HARNESS_CPU} <= os.sched_getaffinity(0)


@contextlib.contextmanager
def on_cpu(cpu: int | None) -> Iterator[None]:
    """This thread, and what it starts meanwhile, runs on that CPU only. `None` changes nothing."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    cpu: int | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: IO[bytes] | int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts; it and its children are then stopped, by force after 8 s."""
    with on_cpu(cpu):
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            start_new_session=True,  # a group of its own, to be stopped whole
        )
    try:
        yield process
    finally:
        _stop(process)
        if process.stdout:
            process.stdout.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):  # what is left of the group, such as a worker that outlived it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for one in found:  # grows while it is read
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """CPU time of a process tree so far, user and system, reaped children included. Steps of 10 ms."""
    return sum(cpu_s_each(pid).values())


def cpu_s_each(pid: int) -> dict[int, float]:
    """The same for each process of the tree."""
    found = {}
    for one in tree(pid):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{one}/stat").read_text()
            fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold spaces
            ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
            found[one] = ticks / TICKS_PER_S
    return found


def children_cpu_s() -> float:
    """CPU time of our own children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def memory_kb(pid: int, kind: str = "Rss") -> int:
    """Memory of a process tree: `Rss`, or `Pss`, which counts shared pages once."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith(f"{kind}:"):
                    total += int(line.split()[1])
    return total


class PeakMemory:
    """The most memory a process tree had while this was entered, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.kb = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.kb = max(self.kb, memory_kb(self._pid, "Pss"))
