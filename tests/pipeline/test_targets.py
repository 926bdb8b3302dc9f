"""Circuits: when a target is left alone, for how long, and what lets it back in."""

from __future__ import annotations

import pytest

from proxy.errors import (
    BadRequest,
    FrameTooLarge,
    UpstreamAuth,
    UpstreamConnect,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTruncated,
)
from proxy.pipeline.targets import TargetStates

DOWN = UpstreamConnect("refused")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> TargetStates:
    return TargetStates(clock, failures=3, open_s=1, longest_s=5)


def fail(health: TargetStates, times: int = 1, target: str = "a/m") -> None:
    for _ in range(times):
        assert health.admit(target) == 0
        health.failed(target, DOWN)


def test_failures_in_a_row_open_a_circuit_for_a_while(health: TargetStates, clock: Clock) -> None:
    fail(health, 3)
    assert health.admit("a/m") == pytest.approx(1)
    assert health.admit("b/m") == 0, "each target has its own"
    assert health.open_circuits() == {"a/m": pytest.approx(1)}
    clock.now += 0.6
    assert health.admit("a/m") == pytest.approx(0.4)


def test_a_whole_answer_in_between_starts_the_count_anew(health: TargetStates) -> None:
    fail(health, 2)
    health.admit("a/m")
    health.answering("a/m")
    health.done("a/m")
    fail(health, 2)
    assert health.admit("a/m") == 0


def test_after_its_time_one_attempt_is_let_through_and_the_others_wait(health: TargetStates, clock: Clock) -> None:
    fail(health, 3)
    clock.now += 1
    assert health.admit("a/m") == 0
    assert health.admit("a/m") > 0
    health.answering("a/m")
    assert health.admit("a/m") == 0


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_limit(health: TargetStates, clock: Clock) -> None:
    fail(health, 3)
    waits = []
    for _ in range(4):
        clock.now += 60
        fail(health)
        waits.append(health.admit("a/m"))
    assert waits == [2, 4, 5, 5]
    clock.now += 60
    health.admit("a/m")
    health.answering("a/m")
    health.done("a/m")
    fail(health, 3)
    assert health.admit("a/m") == 1, "a whole answer forgives everything"


def test_a_probe_that_tells_nothing_makes_room_for_the_next(health: TargetStates, clock: Clock) -> None:
    fail(health, 3)
    clock.now += 1
    assert health.admit("a/m") == 0
    health.unknown("a/m")
    assert health.admit("a/m") == 0


def test_answers_cut_in_the_middle_count_too(health: TargetStates) -> None:
    for _ in range(3):
        assert health.admit("a/m") == 0
        health.answering("a/m")
        health.failed("a/m", UpstreamTruncated("cut"))
    assert health.admit("a/m") > 0


@pytest.mark.parametrize(
    "error", [BadRequest("x"), UpstreamRefused("x"), UpstreamAuth("x"), FrameTooLarge("x")], ids=lambda e: e.code
)
def test_what_a_request_brings_on_itself_does_not_count(health: TargetStates, error: UpstreamFailed) -> None:
    for _ in range(10):
        health.failed("a/m", error)
    assert health.admit("a/m") == 0


def test_attempts_from_before_it_was_opened_do_not_prolong_it(health: TargetStates) -> None:
    fail(health, 3)
    for _ in range(10):
        health.failed("a/m", DOWN)
    assert health.admit("a/m") == pytest.approx(1)


def test_it_can_be_switched_off(clock: Clock) -> None:
    fail(TargetStates(clock, failures=0), 50)
