"""The parent's view of one worker."""

from __future__ import annotations

import signal

from proxy.workers.channel import ChannelClosed
from proxy.workers.handle import WorkerHandle, described


class Scripted:
    """In place of a worker: answers pings as the script says."""

    def __init__(self, *script: type[Exception] | None) -> None:
        self.script = list(script)
        self.killed = ""

    async def ask(self, word: str, *, within: float) -> None:
        assert (word, within) == ("ping", 0)
        if error := self.script.pop(0):
            raise error

    def kill(self, why: str) -> None:
        self.killed = why


async def test_A4_so_many_silences_in_a_row_are_too_many_and_an_answer_starts_the_count_anew() -> None:
    worker = Scripted(*[TimeoutError] * 4, None, *[TimeoutError] * 5, None)
    await WorkerHandle.ping(worker, 0)
    assert worker.script == [None]
    assert worker.killed


async def test_a_worker_that_leaves_has_as_long_to_end() -> None:
    worker = Scripted(None, *[ChannelClosed] * 5)
    await WorkerHandle.ping(worker, 0)
    assert worker.script == []
    assert worker.killed


def test_an_end_is_described_as_shells_do() -> None:
    assert described(3) == "exit status 3"
    assert described(-signal.SIGKILL) == "killed by SIGKILL"
    assert described(-signal.SIGRTMAX + 1) == f"killed by signal {signal.SIGRTMAX - 1}"
