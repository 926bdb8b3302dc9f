"""Which targets are held back, for how long, and what brings them back."""

from __future__ import annotations

import pytest

from proxy.errors import (
    BadRequest,
    FrameTooLarge,
    ProxyError,
    UpstreamAuth,
    UpstreamConnect,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTruncated,
)
from proxy.pipeline.targets import MOST_NAMED_BY_CLIENTS, PROBE_S, TargetStates
from proxy.routing.plan import Target

A, B = Target("a", "m"), Target("b", "m")
DOWN = UpstreamConnect("refused")
OPEN, WAIT = "circuit_open", "rate_limit_wait"


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


def attempt(states: TargetStates, error: ProxyError | None, target: Target = A, *, begun: bool = False) -> None:
    states.begin(target)
    if begun:
        states.first_token(target, 0.1)
    states.end(target, error)


def fail(states: TargetStates, times: int = 1, target: Target = A) -> None:
    for _ in range(times):
        attempt(states, DOWN, target)


def held_for(states: TargetStates, clock: Clock, target: Target = A) -> float:
    """Seconds until `target` is not held back any more."""
    started = clock.now
    while states.held_back(target):
        clock.now += 0.25
        assert clock.now - started < 1000
    waited, clock.now = clock.now - started, started
    return waited


def test_failures_in_a_row_open_a_circuit_for_a_while(states: TargetStates, clock: Clock) -> None:
    fail(states, 2)
    assert states.held_back(A) == ""
    fail(states)
    assert states.held_back(A) == OPEN
    assert states.held_back(B) == "", "each target has its own"
    assert states.open_circuits() == {"a/m": pytest.approx(1)}
    clock.now += 1
    assert states.held_back(A) == ""


def test_a_whole_answer_in_between_starts_the_count_anew(states: TargetStates) -> None:
    fail(states, 2)
    attempt(states, None, begun=True)
    fail(states, 2)
    assert states.held_back(A) == ""


def test_after_its_time_one_attempt_is_let_through_and_the_others_wait(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    clock.now += 1
    states.begin(A)
    assert states.held_back(A) == OPEN
    states.first_token(A, 0.1)
    assert states.held_back(A) == ""


def test_A2_a_probe_that_takes_long_keeps_others_away_for_two_seconds_only(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    clock.now += 1
    states.begin(A)
    clock.now += PROBE_S - 0.1
    assert states.held_back(A) == OPEN
    clock.now += 0.1
    assert states.held_back(A) == ""
    states.begin(A)
    assert states.held_back(A) == OPEN, "the next probe"


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_limit(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    waits = []
    for _ in range(4):
        clock.now += 60
        fail(states)
        waits.append(held_for(states, clock))
    assert waits == [2, 4, 5, 5]
    clock.now += 60
    attempt(states, None, begun=True)
    fail(states, 3)
    assert held_for(states, clock) == 1, "a whole answer forgives everything"


def test_an_outage_may_last_for_days(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    for _ in range(3000):
        clock.now += 60
        fail(states)
        attempt(states, UpstreamFailed("busy", status=429), B)
    assert held_for(states, clock) == 5
    assert held_for(states, clock, B) == 5


def test_a_probe_that_shows_nothing_makes_room_for_the_next(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    clock.now += 1
    states.begin(A)
    states.left(A)
    assert states.held_back(A) == ""


def test_answers_cut_in_the_middle_count_too(states: TargetStates) -> None:
    for _ in range(3):
        attempt(states, UpstreamTruncated("cut"), begun=True)
    assert states.held_back(A) == OPEN


@pytest.mark.parametrize(
    "error", [BadRequest("x"), UpstreamRefused("x"), UpstreamAuth("x"), FrameTooLarge("x")], ids=lambda e: e.code
)
def test_what_a_request_brings_on_itself_does_not_count(states: TargetStates, error: ProxyError) -> None:
    for _ in range(10):
        attempt(states, error)
    assert states.held_back(A) == ""


def test_attempts_at_an_open_circuit_do_not_prolong_it(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    fail(states, 10)
    assert held_for(states, clock) == 1


def test_it_can_be_switched_off(clock: Clock) -> None:
    states = TargetStates(clock, failures=0)
    fail(states, 50)
    assert states.held_back(A) == ""


def test_A2_a_429_is_a_wait_and_no_failure(states: TargetStates, clock: Clock) -> None:
    for _ in range(10):
        attempt(states, UpstreamFailed("slow down", status=429, retry_after=20))
    assert states.held_back(A) == WAIT
    assert states.open_circuits() == {}
    assert held_for(states, clock) == 20
    clock.now += 20
    assert states.held_back(A) == ""


def test_A2_a_429_without_a_time_waits_longer_each_time(states: TargetStates, clock: Clock) -> None:
    waits = []
    for _ in range(4):
        attempt(states, UpstreamFailed("slow down", status=429))
        waits.append(held_for(states, clock))
        clock.now += 60
    assert waits == [1, 2, 4, 5]
    attempt(states, UpstreamFailed("slow down", status=429))
    states.first_token(A, 0.1)
    assert states.held_back(A) == WAIT, "it was let in before"
    clock.now += 0.2
    states.first_token(A, 0.1)
    assert states.held_back(A) == "", "an answer ends the wait"


def test_A2_models_do_not_share_what_they_did(states: TargetStates) -> None:
    named, other = Target("a", "x", asked=True), Target("a", "y", asked=True)
    fail(states, 3, named)
    assert states.held_back(named) == OPEN
    assert states.held_back(other) == ""
    assert states.held_back(A) == ""


def test_A2_models_that_clients_name_take_limited_room(states: TargetStates) -> None:
    fail(states, 3, A)
    for number in range(MOST_NAMED_BY_CLIENTS * 3):
        fail(states, 3, Target("a", f"made-up-{number}", asked=True))
    assert len(states.open_circuits()) == MOST_NAMED_BY_CLIENTS + 1
    assert states.held_back(A) == OPEN, "what the config names is not forgotten for them"


def test_A11_a_target_that_recovered_starts_slowly(states: TargetStates, clock: Clock) -> None:
    fail(states, 3)
    clock.now += 1
    states.begin(A)
    for answered in range(10):  # all of them go on
        states.first_token(A, 0.1)
        while not states.held_back(A):
            states.begin(A)
        assert (states.stats(A).open, states.held_back(A)) == (2 + answered, "slow_start")
    states.first_token(A, 0.1)
    assert states.held_back(A) == ""


def test_A11_a_target_that_recovered_and_is_asked_one_request_at_a_time_is_asked_at_once(
    states: TargetStates, clock: Clock
) -> None:
    fail(states, 3)
    clock.now += 1
    for _ in range(20):
        assert states.held_back(A) == ""
        attempt(states, None, begun=True)


def test_times_to_the_first_token_are_kept_as_a_peak_that_is_forgotten(states: TargetStates, clock: Clock) -> None:
    def sampled(seconds: float | None) -> float:
        states.begin(A)
        states.first_token(A, seconds)
        states.end(A, None)
        return states.stats(A).first_token_s

    assert sampled(None) == 0, "an answer in one piece says nothing of a first token"
    assert sampled(1.0) == 1.0
    assert sampled(3.0) == 3.0, "a peak counts at once"
    clock.now += 10
    assert sampled(1.0) == pytest.approx(1.736, abs=0.001)
    clock.now += 31
    assert sampled(0.5) == 0.5, "what is old counts no more"
    assert states.live() == {"a/m": {"open": 0, "first_token_s": 0.5}}


def test_open_streams_are_counted_down_however_they_end(states: TargetStates) -> None:
    for end in (
        lambda: states.end(A, None),
        lambda: states.end(A, DOWN),
        lambda: states.end(A, BadRequest("x")),
        lambda: states.end(A, UpstreamFailed("slow down", status=429)),
        lambda: states.left(A),
    ):
        states.begin(A)
        assert states.stats(A).open == 1
        end()
        assert states.stats(A).open == 0


def test_A11_a_good_health_check_lets_a_target_that_failed_be_tried_at_once(states: TargetStates) -> None:
    fail(states, 3)
    assert states.held_back(A) == OPEN
    assert not states.well("a"), "its checks had not failed"
    assert states.held_back(A) == ""
    states.unwell("a")
    assert (states.held_back(A), states.held_back(B)) == ("unwell", "")
    assert states.well("a")
    assert states.held_back(A) == ""
