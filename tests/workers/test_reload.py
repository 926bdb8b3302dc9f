"""The two steps of a reload, as a play: what the file holds, what workers are told, what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ConfigError, ConfigErrors
from proxy.workers.channel import ChannelClosed, SharedState
from proxy.workers.reload import Reload


class Worker:
    """In place of a process: remembers what it was told, and answers when the test says so."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.asked: asyncio.Future[dict[str, Any]] | None = None

    def tell(self, word: str, /, **values: Any) -> None:
        self.told.append((word, values))

    async def ask(self, word: str, /, *, within: float, **values: Any) -> dict[str, Any]:
        assert within == 60
        self.told.append((word, values))
        self.asked = asyncio.get_running_loop().create_future()
        return await self.asked

    @property
    def heard(self) -> list[str]:
        return [word for word, _ in self.told]


class Stage:
    def __init__(self, file: Path, count: int = 3) -> None:
        self.file = file
        file.write_text("one")
        self.state = SharedState.at()
        self.workers = [Worker(number) for number in range(1, count + 1)]
        self.reload = Reload(str(file), self.state, lambda: list(self.workers))
        self.reload.staffed.set()

    async def change(self, text: str, *, forced: bool = False) -> None:
        self.file.write_text(text)
        await self.look(forced=forced)

    async def look(self, *, forced: bool) -> None:
        self.reload.look(forced=forced)
        await self.settle()

    async def answer(self, *workers: Worker, errors: list[str] | None = None, raised: Exception | None = None) -> None:
        for worker in workers:
            assert worker.asked is not None
            if raised:
                worker.asked.set_exception(raised)
            else:
                placed = [vars(ConfigError(error, file="config.yaml", line=1, column=1)) for error in errors or []]
                worker.asked.set_result({"errors": placed, "drain_s": 30.0})
        await self.settle()

    async def die(self, worker: Worker) -> None:
        self.workers.remove(worker)
        if worker.asked is not None and not worker.asked.done():
            await self.answer(worker, raised=ChannelClosed())

    @property
    def in_force(self) -> tuple[int, bytes]:
        assert self.state.generation == self.reload.in_force["generation"]
        return self.state.generation, self.reload.in_force["content"]

    async def settle(self) -> None:
        """Until nothing happens any more; the file is read in a thread."""
        for _ in range(20):
            await asyncio.sleep(0)
        while self.reload._file._reading is not None:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path / "config.yaml")
    running = asyncio.create_task(stage.reload.run())
    yield stage
    running.cancel()
    await asyncio.wait([running])


async def test_one_is_asked_first_then_all_others_and_when_all_have_it_it_is_in_force(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    assert [one.heard for one in (a, b, c)] == [["prepare"], [], []]
    assert a.told[0][1]["content"] == b"two"
    await stage.answer(a)
    assert [one.heard for one in (a, b, c)] == [["prepare"]] * 3
    await stage.answer(c)
    assert stage.in_force == (1, b"one")
    await stage.answer(b)
    assert stage.in_force == (2, b"two")
    assert [one.heard for one in (a, b, c)] == [["prepare", "commit"]] * 3
    assert [one.told[-1][1]["log"] for one in (a, b, c)] == [True, False, False], "one of them says so in the log"


async def test_a_bad_file_troubles_one_worker_and_all_are_reported_why(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("bad")
    await stage.answer(a, errors=["bad"])
    assert [one.heard for one in (a, b, c)] == [["prepare", "reject"], ["reject"], ["reject"]]
    assert stage.reload.rejected == ["config.yaml:1:1: bad"]
    assert stage.in_force == (1, b"one")
    await stage.change("two")
    await stage.answer(a)
    await stage.answer(b, c)
    assert (stage.state.generation, stage.reload.rejected) == (2, [])


async def test_one_that_refuses_what_others_have_ready_keeps_it_from_all(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    await stage.answer(a)
    await stage.answer(b)
    await stage.answer(c, errors=["no such variable"])
    assert stage.state.generation == 1
    assert [one.heard[-1] for one in (a, b, c)] == ["reject"] * 3


async def test_a_look_at_what_was_seen_before_asks_nobody_unless_it_is_forced(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("one")
    await stage.change("bad")
    await stage.answer(a, errors=["bad"])
    await stage.look(forced=False)
    assert a.heard == ["prepare", "reject"], "it was rejected before, and is no news"
    await stage.look(forced=True)
    assert a.heard == ["prepare", "reject", "prepare"]
    await stage.answer(a)
    await stage.answer(b, c)
    assert stage.state.generation == 2


async def test_changes_that_come_meanwhile_are_looked_at_afterwards_and_once(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    for _ in range(3):  # each worker tells of the same change
        await stage.look(forced=False)
    await stage.answer(a)
    await stage.answer(b, c)
    assert a.heard == ["prepare", "commit"], "the file is what is in force"
    await stage.change("three")
    await stage.change("four")
    await stage.answer(a)
    await stage.answer(b, c)
    assert [values["content"] for word, values in a.told if word == "prepare"] == [b"two", b"three", b"four"]
    assert stage.state.generation == 3


async def test_one_that_dies_meanwhile_has_no_say(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    await stage.die(a)
    assert b.heard == ["prepare"], "another one is asked first"
    await stage.answer(b)
    await stage.die(c)
    assert stage.state.generation == 2
    assert b.heard == ["prepare", "commit"]


async def test_the_first_may_die_while_the_others_get_ready(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    await stage.answer(a)
    await stage.die(a)
    await stage.answer(b, c)
    assert stage.state.generation == 2


async def test_a_file_that_two_have_died_of_is_rejected(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("deadly")
    await stage.die(a)
    await stage.die(b)
    assert c.heard == ["reject"]
    assert "2 workers" in stage.reload.rejected[0]


async def test_with_nobody_there_it_waits_for_somebody(stage: Stage) -> None:
    workers, stage.workers = stage.workers, []
    await stage.change("two", forced=True)
    stage.workers = workers[:1]
    stage.reload.staffed.set()
    await stage.settle()
    assert workers[0].heard == ["prepare"]


async def test_one_that_never_answers_keeps_it_from_all_and_is_named(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    await stage.answer(a)
    await stage.answer(b)
    await stage.answer(c, raised=TimeoutError())
    assert "worker 3" in stage.reload.rejected[0]
    assert stage.state.generation == 1
    await stage.change("three")
    await stage.answer(a)
    await stage.answer(b, c)
    assert stage.in_force == (2, b"three")


async def test_A5_a_file_that_cannot_be_read_is_reported_once_and_a_good_one_taken_up_afterwards(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.file.unlink()
    for _ in range(3):  # each worker tells of it
        await stage.look(forced=False)
    assert a.heard == ["reject"]
    assert stage.reload.rejected[0].startswith(f"{stage.file}: ")
    await stage.look(forced=True)
    assert a.heard == ["reject", "reject"]
    await stage.change("one")
    await stage.answer(a)
    await stage.answer(b, c)
    assert (stage.state.generation, stage.reload.rejected) == (2, []), "also where it is the one in force"


async def test_one_that_begins_to_serve_during_a_reload_is_asked_before_it_comes_into_force(stage: Stage) -> None:
    a, b, c = stage.workers
    await stage.change("two")
    await stage.answer(a)
    late = Worker(4)
    stage.workers.append(late)
    await stage.answer(b, c)
    assert (stage.state.generation, late.heard) == (1, ["prepare"])
    await stage.answer(late)
    assert stage.in_force == (2, b"two")
    assert late.heard == ["prepare", "commit"]


def test_without_a_file_there_is_nothing_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors):
        Reload(str(tmp_path / "none"), SharedState.at(), list)
