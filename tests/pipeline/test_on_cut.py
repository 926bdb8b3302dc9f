"""An answer that goes on from another attempt: what the client gets, in any order of events. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.errors import ProxyError, Stopped, UpstreamTruncated
from proxy.events import Fault, Finish, Start, TextDelta
from proxy.pipeline.client import ClientGone
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.on_cut import CONTINUED
from proxy.routing.plan import Hedge, Target, Timers
from tests.support.told import FOREVER, Step, Taker, Told, exchange
from tests.support.virtual_time import run

TIMERS = Timers(token_gap_s=FOREVER, total_s=FOREVER)


class Ran:
    """A request that is over."""

    def __init__(
        self,
        *backends: Told,
        stop: tuple[float, ProxyError] | None = None,
        leaves: float = 0.0,
        left: float = 3.0,
        client: Taker | None = None,
    ) -> None:
        """`left` is the budget of the first backend for extra work."""
        self.client, self.backends = client or Taker(), backends
        self.unhandled: list[dict[str, Any]] = []
        run(self._run(stop, leaves, left))

    async def _run(self, stop: tuple[float, ProxyError] | None, leaves: float, left: float) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: self.unhandled.append(what))
        self.exchange: Exchange = exchange(*self.backends, timers=TIMERS, on_cut="continue", keeps_request=True)
        self.exchange._pipeline.states.extra._left = {"b0": left}
        running = asyncio.create_task(self.exchange.run(self.client))
        if stop is not None:
            loop.call_later(stop[0], self.exchange.interrupt, stop[1])
        if leaves:
            loop.call_later(leaves, self._leave, running)
        await asyncio.wait([running])
        await asyncio.sleep(10)  # what is left of it would happen by now
        assert running.cancelled() == bool(leaves)
        assert all(backend.closed == len(backend.asked) for backend in self.backends)

    def _leave(self, running: asyncio.Task[None]) -> None:
        self.client._fails, self.client._fails_at = ClientGone(), 0
        running.cancel()

    @property
    def asked(self) -> list[int]:
        return [len(backend.asked) for backend in self.backends]

    @property
    def error(self) -> str:
        assert isinstance(self.client.end, Fault)
        return self.client.end.error.code


def told(*steps: Step | str) -> Told:
    return Told(Start("1", "m"), *[TextDelta(step) if isinstance(step, str) else step for step in steps])


def test_the_client_is_told_that_it_goes_on() -> None:
    ran = Ran(told("alpha ", "beta "), told("gamma", Finish()))
    assert ran.client.text == "alpha beta gamma"
    assert ran.client.events.count(CONTINUED) == 1


def test_what_was_held_back_of_an_attempt_that_was_cut_too_is_not_shown() -> None:
    """The next one is not told of it, so it would come twice."""
    ran = Ran(told("alpha beta "), told("gam", 0.1), told(1.0, "gamma", " delta", Finish()))
    assert ran.client.text == "alpha beta gamma delta"
    assert isinstance(ran.client.end, Finish)


@pytest.mark.parametrize("asking", [told(5.0, "beta", Finish()), told("beta gamma ", 5.0, "delta", Finish())])
def test_a_stop_meanwhile_is_the_end_and_asks_nobody_else(asking: Told) -> None:
    ran = Ran(told("alpha "), asking, told("beta", Finish()), stop=(2.0, Stopped()))
    assert ran.error == "stopped"
    assert ran.asked == [1, 1, 0]
    assert ran.exchange.record.error_code == "stopped"


class Slow(Taker):
    """One that needs five seconds for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = True

    async def caught_up(self) -> None:
        await asyncio.sleep(5)


def test_a_stop_while_a_slow_client_is_told_that_it_goes_on_closes_the_upstream() -> None:
    ran = Ran(told("alpha "), told("beta ", 1.0, "gamma", Finish()), stop=(11.0, Stopped()), client=Slow())
    assert ran.error == "stopped"
    assert ran.exchange.record.end == "stopped"
    assert ran.exchange._pipeline.states.stats(Target("b1", "m")).open == 0


def test_a_client_that_leaves_while_text_is_held_back_leaves_no_timer() -> None:
    ran = Ran(told("alpha beta "), told("gam", FOREVER), leaves=0.1)
    assert ran.unhandled == []
    assert ran.client.text == "alpha beta "


def test_when_no_other_goes_on_the_first_error_is_told() -> None:
    ran = Ran(told("alpha "), told("beta ", 1.0, UpstreamTruncated("again")), told(1.0))
    assert ran.error == "upstream_truncated"
    assert ran.client.text == "alpha beta "


def test_without_budget_nobody_is_asked_and_the_record_says_so() -> None:
    ran = Ran(told("alpha "), *[told("beta ", 1.0) for _ in range(9)], left=20.0)
    assert ran.error == "upstream_truncated"
    last = ran.exchange.record.attempts[-1]
    assert (last.outcome, last.role) == ("upstream_truncated", "continuation")
    poor = told("alpha ")
    ran = Ran(poor, told("beta", Finish()), left=0.5)
    assert ran.asked == [1, 0]
    last = ran.exchange.record.attempts[-1]
    assert (last.backend, last.outcome, last.role) == ("b1", "no_budget", "continuation")


def test_a_target_that_lost_the_race_goes_on_before_the_one_that_was_cut() -> None:
    """It did not fail: it was only slower to begin."""
    slow, quick = Told(5.0, TextDelta("beta ")), told("alpha ")

    async def hedged() -> Exchange:
        running = exchange(slow, quick, timers=TIMERS, on_cut="continue", keeps_request=True, hedge=Hedge(0.5))
        await running.run(Taker())
        return running

    record = run(hedged()).record
    assert [(one.backend, one.role) for one in record.attempts] == [
        ("b0", "hedge_loser"),
        ("b1", "answer"),
        ("b0", "continuation"),
        ("b1", "continuation"),
    ]
