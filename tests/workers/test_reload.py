"""The two steps of a reload, as a play: what the file holds, what workers are told, what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ConfigErrors
from proxy.workers.board import SharedState
from proxy.workers.reload import PATIENCE_S, Reload


class Clock:
    """In place of the parent's loop: its timers ring when told to."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None], Clock]] = []
        self.cancelled = False

    def after(self, seconds: float, call: Callable[[], None]) -> Clock:
        timer = Clock()
        self.timers.append((seconds, call, timer))
        return timer

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        for _, call, timer in self.timers:
            if not timer.cancelled:
                call()


class Worker:
    """In place of a process: remembers what it was told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.told: list[tuple[str, bytes, dict[str, Any]]] = []

    def send(self, word: str, load: bytes = b"", /, **values: Any) -> None:
        self.told.append((word, load, values))

    @property
    def heard(self) -> list[str]:
        return [word for word, _, _ in self.told]

    @property
    def proposal(self) -> int:
        proposal: int = [values for word, _, values in self.told if word == "prepare"][-1]["proposal"]
        return proposal


class Stage:
    def __init__(self, file: Path, count: int = 3) -> None:
        self.file = file
        file.write_text("one")
        self.board, self.clock = SharedState(), Clock()
        self.workers = [Worker(number) for number in range(1, count + 1)]
        self.overs = 0
        self.reload = Reload(str(file), self.board, self.clock, voters=lambda: list(self.workers), over=self.over)

    def over(self) -> None:
        self.overs += 1

    def change(self, text: str, *, forced: bool = False) -> None:
        self.file.write_text(text)
        self.reload.look(forced=forced)

    def prepared(self, *workers: Worker) -> None:
        for worker in workers:
            self.reload.prepared(worker, worker.proposal)

    def refused(self, worker: Worker, *errors: str) -> None:
        self.reload.refused(worker, worker.proposal, list(errors))

    def die(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.reload.lost(worker)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "config.yaml")


def test_one_is_asked_first_then_all_others_and_when_all_have_it_it_is_in_force(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("two")
    assert [one.heard for one in (a, b, c)] == [["prepare"], [], []]
    assert a.told[0][1] == b"two"
    stage.prepared(a)
    assert [one.heard for one in (a, b, c)] == [["prepare"]] * 3
    stage.prepared(c)
    assert (stage.board.generation, stage.reload.content) == (1, b"one")
    stage.prepared(b)
    assert (stage.board.generation, stage.reload.number, stage.reload.content) == (2, 2, b"two")
    assert [one.heard for one in (a, b, c)] == [["prepare", "commit"]] * 3
    assert [one.told[-1][2]["tell"] for one in (a, b, c)] == [True, False, False], "one of them says so in the log"
    assert not stage.reload.busy
    assert stage.overs == 1


def test_a_bad_file_troubles_one_worker_and_all_are_told_why(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("bad")
    stage.refused(a, "config.yaml:1:1: bad")
    assert [one.heard for one in (a, b, c)] == [["prepare", "reject"], ["reject"], ["reject"]]
    assert stage.reload.rejected == ["config.yaml:1:1: bad"]
    assert (stage.board.generation, stage.reload.content) == (1, b"one")
    stage.change("two")
    stage.prepared(a)
    stage.prepared(b, c)
    assert (stage.board.generation, stage.reload.rejected) == (2, [])


def test_one_that_refuses_what_others_have_ready_keeps_it_from_all(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("two")
    stage.prepared(a)
    stage.prepared(b)
    stage.refused(c, "no such variable")
    assert stage.board.generation == 1
    assert [one.heard[-1] for one in (a, b, c)] == ["reject"] * 3


def test_a_look_at_what_was_seen_before_asks_nobody_unless_it_is_forced(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("one")
    stage.change("bad")
    stage.refused(a, "bad")
    stage.reload.look(forced=False)
    assert a.heard == ["prepare", "reject"], "it was rejected before, and is no news"
    stage.reload.look(forced=True)
    assert a.heard == ["prepare", "reject", "prepare"]
    stage.prepared(a)
    stage.prepared(b, c)
    assert stage.board.generation == 2


def test_changes_that_come_meanwhile_are_looked_at_afterwards_and_once(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("two")
    for _ in range(3):  # each worker tells of the same change
        stage.reload.look(forced=False)
    stage.prepared(a)
    stage.prepared(b, c)
    assert a.heard == ["prepare", "commit"], "the file is what is in force"
    stage.change("three")
    stage.change("four")
    stage.prepared(a)
    stage.prepared(b, c)
    assert [load for word, load, _ in a.told if word == "prepare"] == [b"two", b"three", b"four"]
    assert stage.board.generation == 3


def test_one_that_dies_meanwhile_has_no_say(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("two")
    stage.die(a)
    assert b.heard == ["prepare"], "another one is asked first"
    stage.prepared(b)
    stage.die(c)
    assert stage.board.generation == 2
    assert b.heard == ["prepare", "commit"]


def test_the_first_may_die_while_the_others_get_ready(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("two")
    stage.prepared(a)
    stage.die(a)
    stage.prepared(b, c)
    assert stage.board.generation == 2


def test_a_file_that_two_have_died_of_is_rejected(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("deadly")
    stage.die(a)
    stage.die(b)
    assert c.heard == ["reject"]
    assert "whoever loaded this file died of it" in stage.reload.rejected[0]
    assert not stage.reload.busy


def test_with_nobody_there_it_waits_for_somebody(stage: Stage) -> None:
    workers, stage.workers = stage.workers, []
    stage.change("two", forced=True)
    assert not stage.reload.busy
    stage.workers = workers[:1]
    stage.reload.look_later()
    assert workers[0].heard == ["prepare"]


def test_one_that_never_answers_keeps_it_from_all_for_a_minute_and_is_named(stage: Stage) -> None:
    a, b, c = stage.workers
    stage.change("two")
    stage.prepared(a)
    stage.prepared(b)
    late = c.proposal
    assert [seconds for seconds, _, timer in stage.clock.timers if not timer.cancelled] == [PATIENCE_S]
    stage.clock.ring()
    assert "worker 3 did not get it ready" in stage.reload.rejected[0]
    assert stage.board.generation == 1
    stage.change("three")
    stage.prepared(a)
    stage.prepared(b)
    stage.reload.prepared(c, late)
    assert stage.board.generation == 1, "that was for the proposal before"
    stage.prepared(c)
    assert (stage.board.generation, stage.reload.content) == (2, b"three")


def test_a_file_that_is_gone_is_waited_for_and_missed_only_on_demand(stage: Stage) -> None:
    a = stage.workers[0]
    stage.file.unlink()
    stage.reload.look(forced=False)
    assert a.heard == []
    stage.reload.look(forced=True)
    assert a.heard == ["reject"]
    assert "no such file" in stage.reload.rejected[0]
    stage.change("one")
    assert stage.reload.rejected, "what is in force came back; nothing to take up"


def test_without_a_file_there_is_nothing_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="no such file"):
        Reload(str(tmp_path / "none"), SharedState(), Clock(), voters=list, over=lambda: None)
