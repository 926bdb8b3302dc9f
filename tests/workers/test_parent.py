"""What the parent brings of all workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.telemetry import sums
from proxy.workers.channel import ChannelClosed
from proxy.workers.parent import Parent

COUNTED = ["n", "counter", "", [["n_total", [], 1.0]]]


class Worker:
    """In place of a process: answers when the test says so."""

    state, closed, pid = "serving", False, 0

    def __init__(self, number: int, counts: dict[str, Any] | None = None) -> None:
        self.number, self.counts = number, counts
        self.asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def ask(self, word: str, *, within: float) -> Any:
        assert within == 1
        return await self.asked


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    return Parent(str(tmp_path / "config.yaml"), host=None, port=None, workers=2, content=b"")


async def test_the_counts_of_a_worker_that_dies_while_all_are_asked_are_there_once(parent: Parent) -> None:
    counts = {"metrics": [COUNTED]}
    living, dying = Worker(1), Worker(2, counts)
    parent._places |= {1: living, 2: dying}
    asking = asyncio.create_task(parent._ask_everybody("counts", 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    dying.asked.set_exception(ChannelClosed())
    parent._places[2], parent._dead = None, sums.bury([], counts["metrics"])  # as where it ends
    living.asked.set_result(counts)
    gathered = await asking
    assert [row["worker"] for row in gathered["rows"]] == [1]
    ((*_, samples),) = sums.total([row["answer"]["metrics"] for row in gathered["rows"]], gathered["dead"])
    assert samples == [["n_total", [], 2.0]]


async def test_a_worker_that_does_not_answer_or_is_ending_is_silent_and_its_last_counts_stand(parent: Parent) -> None:
    parent._places |= {1: Worker(1, {"metrics": []}), 2: Worker(2)}
    parent._places[1].asked.set_exception(TimeoutError())
    parent._places[2].asked.set_exception(ChannelClosed())
    rows = (await parent._ask_everybody("counts", 1))["rows"]
    assert [(row["state"], row["answer"]) for row in rows] == [("silent", {"metrics": []}), ("silent", None)]


class Writer(Worker):
    """Writes a line once it is told to go on, or dies with it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.serving: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.serving.set_result(0.0)
        self.taken = asyncio.Event()
        self.lines: list[str] = []

    async def ask(self, word: str, *, within: None, event: str, fields: dict[str, Any]) -> None:
        self.taken.set()
        await self.asked
        self.lines.append(event)


async def test_a_line_that_a_worker_dies_with_is_written_by_another_one_or_the_next_to_serve(parent: Parent) -> None:
    first, second = Writer(1), Writer(2)
    parent._places |= {1: first, 2: second}
    saying = asyncio.create_task(parent._say("worker_died", worker=3))
    await first.taken.wait()
    first.closed = True
    first.asked.set_exception(ChannelClosed())
    second.asked.set_result(None)
    await saying
    assert (first.lines, second.lines, parent._unsaid) == ([], ["worker_died"], [])
    second.closed = True
    await parent._say("worker_died", worker=3)
    assert [line["event"] for line in parent._unsaid] == ["worker_died"]
