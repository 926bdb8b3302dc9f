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
from proxy.routing.plan import Target

A, B = Target("a", "m"), Target("b", "m")
DOWN = UpstreamConnect("refused")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def states(clock: Clock) -> TargetStates:
    return TargetStates(clock, failures=3, open_s=1, longest_s=5)


def fail(states: TargetStates, times: int = 1, target: Target = A) -> None:
    for _ in range(times):
        assert states.wait_s(target) == 0
        states.begin(target)
        states.end(target, DOWN)


def test_failures_in_a_row_open_a_circuit_for_a_while(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    assert states.wait_s(A) == pytest.approx(1)
    assert states.wait_s(B) == 0, "each target has its own"
    assert states.open_circuits() == {"a/m": pytest.approx(1)}
    clock.now += 0.6
    assert states.wait_s(A) == pytest.approx(0.4)


def test_a_whole_answer_in_between_starts_the_count_anew(states: TargetStates) -> None:
    fail(states, 2)
    states.begin(A)
    states.first_token(A, 0.1)
    states.end(A, None)
    fail(states, 2)
    assert states.wait_s(A) == 0


def test_after_its_time_one_attempt_is_let_through_and_the_others_wait(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    clock.now += 1
    assert states.wait_s(A) == 0
    states.begin(A)
    assert states.wait_s(A) > 0
    states.first_token(A, 0.1)
    assert states.wait_s(A) == 0


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_limit(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    waits = []
    for _ in range(4):
        clock.now += 60
        fail(states)
        waits.append(states.wait_s(A))
    assert waits == [2, 4, 5, 5]
    clock.now += 60
    states.begin(A)
    states.first_token(A, 0.1)
    states.end(A, None)
    fail(states, 3)
    assert states.wait_s(A) == 1, "a whole answer forgives everything"


def test_a_probe_that_tells_nothing_makes_room_for_the_next(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    clock.now += 1
    states.begin(A)
    assert states.wait_s(A) > 0
    states.left(A)
    assert states.wait_s(A) == 0


def test_answers_cut_in_the_middle_count_too(states: TargetStates) -> None:
    for _ in range(3):
        assert states.wait_s(A) == 0
        states.begin(A)
        states.first_token(A, 0.1)
        states.end(A, UpstreamTruncated("cut"))
    assert states.wait_s(A) > 0


@pytest.mark.parametrize(
    "error", [BadRequest("x"), UpstreamRefused("x"), UpstreamAuth("x"), FrameTooLarge("x")], ids=lambda e: e.code
)
def test_what_a_request_brings_on_itself_does_not_count(states: TargetStates, error: UpstreamFailed) -> None:
    for _ in range(10):
        states.end(A, error)
    assert states.wait_s(A) == 0


def test_attempts_from_before_it_was_opened_do_not_prolong_it(states: TargetStates) -> None:
    fail(states, 3)
    for _ in range(10):
        states.end(A, DOWN)
    assert states.wait_s(A) == pytest.approx(1)


def test_it_can_be_switched_off(clock: Clock) -> None:
    fail(TargetStates(clock, failures=0), 50)
