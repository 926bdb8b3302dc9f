"""The hedged first token: who answers, what becomes of the loser, and that the client sees one answer. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import BadRequest, Draining, ProxyError, UpstreamConnect, UpstreamFailed, UpstreamTimeout
from proxy.events import Batch, Fault, Finish, Start, TextDelta
from proxy.pipeline.budget import ExtraWork
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.targets import FEWEST_SAMPLES, TargetStates
from proxy.request import Usage
from proxy.routing.plan import Hedge, Limit, Target, Timers
from tests.support.told import FOREVER, Step, Taker, Told, exchange
from tests.support.virtual_time import run

AFTER = Hedge(0.5)
DRAIN = Hedge(0.5, drain=True)


def answer(text: str, *, after: float, gap: float = 0.1, usage: Usage | None = None) -> Told:
    """A backend whose first content comes `after` seconds, and each further word a `gap` later."""
    first, *words = text.split()
    rest = [step for word in words for step in (float(gap), TextDelta(" " + word))]
    return Told(float(after), Start("1", "m"), TextDelta(first), *rest, float(gap), Finish("stop", usage))


class Ran:
    """A hedged request that is over, and its loser too."""

    def __init__(
        self,
        *backends: Told,
        hedge: Hedge = AFTER,
        leaves_after: float | None = None,
        busy: dict[str, float] | None = None,
        **keys: Any,
    ) -> None:
        self.backends, self.client = backends, Taker()
        self.error: ProxyError | None = None
        self.left = False
        run(self._run(hedge, leaves_after, busy, keys))

    async def _run(
        self, hedge: Hedge, leaves_after: float | None, busy: dict[str, float] | None, keys: dict[str, Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.states = TargetStates(loop.time)
        self.exchange = running = exchange(*self.backends, states=self.states, hedge=hedge, **keys)
        began = loop.time()
        for name, seconds in (busy or {}).items():
            slots = self.states.slots(next(one.limit for one in running.plan.targets if one.backend == name))
            await slots.take()
            loop.call_later(seconds, slots.give)
        task = asyncio.create_task(running.run(self.client))
        if leaves_after is not None:
            loop.call_later(leaves_after, task.cancel)
        await asyncio.wait([task])
        self.took = loop.time() - began
        if task.cancelled():
            self.left = True
        elif (error := task.exception()) is not None:
            assert isinstance(error, ProxyError), error
            self.error = error
        if running.record.loser is not None:
            await asyncio.wait([running.record.loser])
        self.until = loop.time() - began
        await asyncio.sleep(0)  # for tasks that ended in this turn
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(10)  # what was busy is not any more

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        return [(one.backend, one.role, one.outcome) for one in self.exchange.record.attempts]


def test_a_slow_target_is_overtaken_by_the_second() -> None:
    ran = Ran(answer("from the first", after=3), answer("from the second", after=0.2))
    assert ran.client.text == "from the second"
    assert ran.outcomes == [("b0", "hedge_loser", "hedge_lost"), ("b1", "answer", "ok")]
    record = ran.exchange.record
    assert (record.hedge, record.target, record.end) == ("won", "b1/m", "done")
    assert record.first_content_s == pytest.approx(0.7)
    assert [one.closed for one in ran.backends] == [1, 1]
    assert record.attempts[0].duration_s == pytest.approx(0.7), "the loser is closed at once"
    assert [one.usage_source for one in record.attempts] == ["estimated", "estimated"]
    assert record.content_events == 3, "the loser's are not counted"


def test_a_target_that_is_quick_enough_is_alone() -> None:
    ran = Ran(answer("from the first", after=0.4), answer("from the second", after=0))
    assert ran.client.text == "from the first"
    assert ran.outcomes == [("b0", "answer", "ok")]
    assert ran.exchange.record.hedge == ""
    assert ran.backends[1].asked == []


def test_the_first_may_still_win() -> None:
    ran = Ran(answer("from the first", after=0.6), answer("from the second", after=5))
    assert ran.client.text == "from the first"
    assert ran.outcomes == [("b0", "answer", "ok"), ("b1", "hedge_loser", "hedge_lost")]
    assert (ran.exchange.record.hedge, ran.exchange.record.target) == ("lost", "b0/m")


@pytest.mark.parametrize("error", [UpstreamConnect("refused"), BadRequest("no"), Fault(UpstreamFailed("busy"))])
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_cannot_win(error: Step, failing: int) -> None:
    backends = [answer("a whole answer", after=1.5), answer("a whole answer", after=1.5)]
    backends[failing] = Told(0.6, error)
    ran = Ran(*backends)
    assert ran.client.text == "a whole answer"
    assert ran.exchange.record.target == f"b{1 - failing}/m"
    assert ran.exchange.record.hedge == ("won" if failing == 0 else "lost")


def test_when_both_fail_the_next_is_asked_and_else_the_client_is_told() -> None:
    ran = Ran(Told(0.6, UpstreamConnect("a")), Told(0.6, UpstreamConnect("b")), answer("a third", after=0.1))
    assert (ran.client.text, ran.exchange.record.hedge) == ("a third", "both_failed")
    ran = Ran(Told(0.6, UpstreamFailed("a", status=429, retry_after=9)), Told(0.6, UpstreamConnect("b")))
    assert isinstance(ran.error, UpstreamFailed)
    assert ran.error.retryable
    assert ran.client.events == []


def test_a_hedge_shares_first_token_s() -> None:
    ran = Ran(Told(FOREVER), Told(FOREVER), timers=Timers(first_token_s=4.0))
    assert isinstance(ran.error, UpstreamTimeout)
    assert ran.took == pytest.approx(4.0)
    assert {outcome for _, _, outcome in ran.outcomes} == {"upstream_timeout"}
    ran = Ran(Told(FOREVER), Told(FOREVER), answer("a third", after=0.1), timers=Timers(first_token_s=4.0))
    assert ran.client.text == "a third"
    assert ran.took < 4.0


def test_the_loser_is_read_to_its_end_where_the_route_says_so() -> None:
    slow = answer("a slow answer", after=2, gap=1, usage=Usage(5, 3))
    ran = Ran(slow, answer("a quick answer", after=0.1, usage=Usage(5, 7)), hedge=DRAIN)
    assert ran.client.text == "a quick answer"
    loser = ran.exchange.record.attempts[0]
    assert (loser.role, loser.usage, loser.usage_source, loser.outcome) == (
        "hedge_loser",
        Usage(5, 3),
        "reported",
        "hedge_lost",
    )
    assert (ran.took < 1.0, ran.until) == (True, pytest.approx(5.0)), "the client does not wait for it"
    assert ran.exchange.record.usage == Usage(5, 7)


def test_a_loser_that_never_ends_is_closed_after_a_while() -> None:
    ran = Ran(Told(2.0, TextDelta("on"), *[1.0, TextDelta("and on")] * 99), answer("quick", after=0.1), hedge=DRAIN)
    loser = ran.exchange.record.attempts[0]
    assert (loser.outcome, loser.usage_source) == ("hedge_lost", "estimated")
    assert ran.until < 32
    assert ran.backends[0].closed == 1


def test_a_client_that_leaves_during_the_race_closes_both() -> None:
    ran = Ran(Told(FOREVER), Told(FOREVER), leaves_after=2.0)
    assert ran.left
    assert [outcome for _, _, outcome in ran.outcomes] == ["client_gone", "client_gone"]
    assert (ran.exchange.record.hedge, ran.exchange.record.end) == ("cancelled", "client_gone")
    assert [one.closed for one in ran.backends] == [1, 1]
    assert ran.took == pytest.approx(2.0)


def test_a_drain_ends_both() -> None:
    async def stopped() -> Exchange:
        running = exchange(Told(FOREVER), Told(FOREVER), hedge=AFTER)
        asyncio.get_running_loop().call_later(1.0, running.interrupt, Draining("stopping"))
        with pytest.raises(Draining):
            await running.run(Taker())
        return running

    assert [one.error_code for one in run(stopped()).record.attempts] == ["draining", "draining"]


@pytest.mark.parametrize(
    "asked",
    [{"hosted_tools": ("web_search",)}, {"params": {"store": True}}, {"raw_body": {"store": True}}],
    ids=["server-side tools", "store", "store in the body"],
)
def test_what_would_happen_twice_is_not_hedged(asked: dict[str, Any]) -> None:
    ran = Ran(answer("alone", after=2), answer("never", after=0), asked=asked)
    assert ran.client.text == "alone"
    assert ran.backends[1].asked == []


def test_extra_work_is_a_fifth_of_the_requests_and_three_at_first() -> None:
    extra = ExtraWork()
    assert [extra.draw("b") for _ in range(4)] == [True, True, True, False]
    allowed = 0
    for _ in range(1000):
        extra.first_attempt("b")
        allowed += extra.draw("b")
    assert allowed == pytest.approx(200, abs=1)
    assert extra.draw("other")
    for _ in range(1000):
        extra.first_attempt("b")
    assert sum(extra.draw("b") for _ in range(100)) == 10, "more is not saved up"


def test_without_budget_nobody_is_asked_twice_and_clients_are_told_not_to_try_again() -> None:
    async def asked(*seconds: float) -> list[Exchange]:
        states = TargetStates(asyncio.get_running_loop().time, failures=0)
        slow = [exchange(answer("slow", after=one), Told(FOREVER), states=states, hedge=AFTER) for one in seconds]
        for running in slow[:-1]:
            await running.run(Taker())
        with pytest.raises(UpstreamTimeout) as told:
            await slow[-1].run(Taker())
        assert not told.value.retryable, "`x-should-retry: false`"
        return slow

    slow = run(asked(2, 2, 2, FOREVER))
    assert [one.record.hedge for one in slow] == ["lost", "lost", "lost", "no_budget"]
    assert [(one.backend, one.outcome) for one in slow[-1].record.attempts] == [
        ("b0", "upstream_timeout"),
        ("b1", "upstream_timeout"),
    ]


def test_the_percentile_of_a_target_is_known_after_some_answers() -> None:
    async def asked() -> list[str]:
        states = TargetStates(asyncio.get_running_loop().time)
        told = []
        for number in range(FEWEST_SAMPLES + 10):
            seconds = 5.0 if number in {3, FEWEST_SAMPLES + 5} else 1.0
            running = exchange(
                answer("one", after=seconds), answer("two", after=0.1), states=states, hedge=Hedge(after_percentile=90)
            )
            client = Taker()
            await running.run(client)
            told.append(client.text)
            if running.record.loser:
                await asyncio.wait([running.record.loser])
        assert states.percentile(Target("b0", "m"), 50) == pytest.approx(1.0)
        return told

    told = run(asked())
    assert told[3] == "one", "too little was known"
    assert told[FEWEST_SAMPLES + 5] == "two"
    assert told.count("two") == 1


def test_a_target_that_loses_is_known_to_be_slow() -> None:
    ran = Ran(answer("slow", after=9), answer("quick", after=0.1))
    assert ran.states.stats(Target("b0", "m")).first_token_s == pytest.approx(0.6)


@pytest.mark.parametrize("hedge", [AFTER, DRAIN], ids=["cancel", "drain"])
@pytest.mark.parametrize("first", [1.0, 1.5, 9.0])
def test_a_loser_that_is_cut_short_by_a_stop_leaves_nothing(hedge: Hedge, first: float) -> None:
    async def stopped() -> None:
        states = TargetStates(asyncio.get_running_loop().time)
        slow, quick = answer("a slow answer", after=first, gap=2), answer("a quick answer", after=0.5)
        running = exchange(slow, quick, states=states, hedge=hedge, limit=Limit("", 1, 1))

        class Stopping(Taker):
            def write(self, batch: Batch) -> bool:
                if running.record.loser is not None:
                    asyncio.get_running_loop().call_soon(running.record.loser.cancel)
                return super().write(batch)

        await running.run(Stopping())
        assert running.record.loser is not None
        await asyncio.wait([running.record.loser])
        assert [states.stats(Target(name, "m")).open for name in ("b0", "b1")] == [0, 0]
        assert [row["taken"] for row in states.queues().values()] == [0, 0]
        assert (slow.closed, quick.closed) == (1, 1)
        assert [one.outcome for one in running.record.attempts].count("hedge_lost") == 1

    run(stopped())


# -- any interleaving ------------------------------------------------------------------------------------------

TICKS = st.integers(0, 12).map(lambda tick: tick * 0.25)


@st.composite
def backends(draw: st.DrawFn, name: str) -> Told:
    steps: list[Step] = [draw(TICKS)]
    if draw(st.booleans()):
        steps.append(Start("1", "m"))
    for number in range(draw(st.integers(0, 4))):
        steps += [TextDelta(f"{name}{number} "), draw(TICKS)]
    end = draw(st.sampled_from(["finish", "finish", "raise", "fault", "cut", "refuse", "bug", "hang"]))
    match end:
        case "finish":
            steps.append(Finish("stop", draw(st.sampled_from([None, Usage(3, 4)]))))
        case "raise":
            steps.append(UpstreamConnect("refused"))
        case "fault":
            steps.append(Fault(UpstreamFailed("busy")))
        case "refuse":
            steps.append(BadRequest("no"))
        case "bug":
            steps.append(RuntimeError("bug"))
        case "hang":
            steps.append(FOREVER)
    return Told(*steps)


def whole(backend: Told) -> str:
    return "".join(step.text for step in backend.steps if isinstance(step, TextDelta))


@settings(max_examples=80, deadline=None)
@given(
    one=backends("a"),
    two=backends("b"),
    third=st.none() | backends("c"),
    drain=st.booleans(),
    leaves_after=st.none() | TICKS.map(lambda tick: tick * 2),
    busy=st.none() | st.dictionaries(st.sampled_from(["b0", "b1"]), TICKS),
)
def test_any_interleaving_of_two_attempts_is_one_coherent_answer(
    one: Told, two: Told, third: Told | None, drain: bool, leaves_after: float | None, busy: dict[str, float] | None
) -> None:
    asked = [one, two, *([third] if third else [])]
    timers = Timers(first_token_s=5.0, token_gap_s=10.0, total_s=60.0)
    limit = None if busy is None else Limit("", 1, 1, queue=1, wait_s=1.0)
    ran = Ran(*asked, hedge=DRAIN if drain else AFTER, leaves_after=leaves_after, busy=busy, limit=limit, timers=timers)
    record, client = ran.exchange.record, ran.client
    answers = {f"b{number}": backend for number, backend in enumerate(asked)}
    ends = [event for event in client.events if isinstance(event, Finish | Fault)]
    if ran.error is not None:
        assert client.events == []
        assert record.end == ran.error.end
    elif ran.left:
        assert ends == []
        assert record.end == "client_gone"
    else:
        assert client.events[-1:] == ends, "one end, and it is the last"
        assert len(ends) == 1
        text = whole(answers[record.backend])
        assert client.text == text if isinstance(ends[0], Finish) else text.startswith(client.text)
        assert (record.end == "done") == isinstance(ends[0], Finish)
        assert record.content_events == sum(isinstance(event, TextDelta) for event in client.events)
        answering = [tried for tried in record.attempts if tried.backend == record.backend and tried.started_at]
        assert [tried.role in {"answer", "retry"} for tried in answering] == [True]
        assert (record.hedge == "won") <= (record.backend != "b0")
    for backend in asked:
        assert backend.closed == len(backend.asked) <= 1
    for name in answers:
        assert ran.states.stats(Target(name, "m")).open == 0, "every attempt is over"
    assert all(row["taken"] == row["waiting"] == 0 for row in ran.states.queues().values())
    for tried in record.attempts:
        assert not tried.started_at or tried.ended_at is not None
    losers = [tried for tried in record.attempts if tried.role == "hedge_loser"]
    assert len(losers) <= 1
    for tried in losers:
        assert tried.usage_source != "none" or tried.error_code not in {"", "hedge_lost"} or not tried.started_at
    if leaves_after is not None:
        assert ran.took <= leaves_after + 60.0
