"""Answers that are no good end as failures of their attempt: loops, and those that come too slowly. In virtual time."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from proxy.errors import UpstreamError
from proxy.events import Batch, Fault, Finish, ReasoningDelta, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.targets import TargetStates
from proxy.routing.plan import Target, Timers
from tests.support.told import FOREVER, Relaying, Step, Taker, Told, exchange
from tests.support.virtual_time import run

LOOP = "I will try again. "
TIMERS = Timers(token_gap_s=FOREVER, total_s=FOREVER)
GOOD = (Start("2", "m"), TextDelta("Fine."), Finish())


class Ran:
    """A request that is over."""

    def __init__(self, *backends: Told, client: Taker | None = None, times: int = 1, **keys: Any) -> None:
        self.client = client or Taker()
        run(self._run(backends, times, keys))

    async def _run(self, backends: tuple[Told, ...], times: int, keys: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self.states = TargetStates(loop.time)
        began = loop.time()
        for _ in range(times):
            self.exchange: Exchange = exchange(*backends, states=self.states, timers=TIMERS, **keys)
            await self.exchange.run(self.client)
        self.took = loop.time() - began
        self.held_back = self.states.held_back(Target("b0", "m"))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert all(backend.closed == len(backend.asked) for backend in backends)

    @property
    def code(self) -> str:
        assert isinstance(self.client.end, Fault)
        return self.client.end.error.code


def looping(kind: type[Told] = Told, event: type[TextDelta | ReasoningDelta] = TextDelta) -> Told:
    return kind(Start("1", "m"), *[event(LOOP)] * 1_000, Finish())


@pytest.mark.parametrize("event", [TextDelta, ReasoningDelta])
@pytest.mark.parametrize("kind", [Told, Relaying])
def test_B15_a_loop_ends_as_degenerate_and_its_target_is_well(kind: type[Told], event: type[TextDelta]) -> None:
    ran = Ran(looping(kind, event), repetition_guard=True, times=20)
    assert ran.code == "degenerate"
    assert isinstance(ran.client.end.error, UpstreamError)  # type: ignore[union-attr]
    told = [one.text for one in ran.client.events if isinstance(one, event)]
    assert set(told) == {LOOP}
    assert len("".join(told)) <= 20 * 2_000
    assert not ran.held_back
    assert (ran.exchange.record.end, ran.exchange.record.error_code) == ("upstream_error", "degenerate")


@pytest.mark.parametrize("kind", [Told, Relaying])
def test_without_the_guard_a_loop_is_an_answer(kind: type[Told]) -> None:
    ran = Ran(looping(kind))
    assert ran.client.text == LOOP * 1_000
    assert isinstance(ran.client.end, Finish)


def test_a_client_that_is_behind_does_not_count_twice() -> None:
    """What cannot be relayed is yielded, and looked at once."""
    client = Taker()
    client.behind = True
    words = [TextDelta(f"{number} ") for number in range(2_000)]
    ran = Ran(Relaying(Start("1", "m"), *words, Finish()), client=client, repetition_guard=True)
    assert ran.client.text == "".join(word.text for word in words)
    assert isinstance(ran.client.end, Finish)


def test_before_anything_is_shown_the_next_target_answers() -> None:
    whole = Told(Batch([Start("1", "m"), TextDelta(LOOP * 1_000), Finish()]))
    ran = Ran(whole, Told(*GOOD), client=Taker(streaming=False), stream=False, repetition_guard=True)
    assert ran.client.text == "Fine."
    assert [one.error_code for one in ran.exchange.record.attempts] == ["degenerate", ""]


def test_a_loop_is_a_cut_that_the_next_target_mends() -> None:
    ran = Ran(looping(), Told(*GOOD), repetition_guard=True, on_cut="continue", keeps_request=True)
    assert ran.client.text.endswith("Fine.")
    assert isinstance(ran.client.end, Finish)


BEGINS = "It begins well, and then: "


@pytest.mark.parametrize("piece", ["I will try again. ", "0", "".join(f"item {n}; " for n in range(40))])
def test_a_loop_is_not_handed_on(piece: str) -> None:
    """Another target is sent the text with one piece, in which the client's text and its own meet."""
    first = Told(Start("1", "m"), TextDelta(BEGINS), *[TextDelta(piece)] * 3_000, Finish())
    second = Told(*GOOD)
    ran = Ran(first, second, repetition_guard=True, on_cut="continue", keeps_request=True)
    handed = second.asked[0].messages[-2].text
    assert handed == BEGINS + piece
    shown = ran.client.text.removesuffix("Fine.")
    assert shown == BEGINS + piece * ((len(shown) - len(BEGINS)) // len(piece))
    assert isinstance(ran.client.end, Finish)


def test_of_a_loop_of_words_nothing_is_handed_on() -> None:
    words = Random(1)
    loop = [TextDelta(f"{words.choice(['yes', 'no', 'well', 'so', 'oh', 'and', 'but'])} ") for _ in range(3_000)]
    second = Told(*GOOD)
    ran = Ran(
        Told(Start("1", "m"), *loop, Finish()), second, repetition_guard=True, on_cut="continue", keeps_request=True
    )
    assert (ran.code, second.asked) == ("degenerate", [])


def paced(*gaps: float, kind: type[Told] = Told, text: str = " word") -> Told:
    steps: list[Step] = []
    for gap in gaps:
        steps += [float(gap), TextDelta(text)]
    return kind(Start("1", "m"), *steps, Finish())


@pytest.mark.parametrize("kind", [Told, Relaying])
def test_B16_a_slow_answer_ends_as_upstream_slow_after_ten_seconds(kind: type[Told]) -> None:
    ran = Ran(paced(*[1.0] * 100, kind=kind), min_tokens_per_s=2)
    assert ran.code == "upstream_slow"
    assert ran.took == pytest.approx(1 + 10, abs=0.01), "the first token has its own timer"


@pytest.mark.parametrize("kind", [Told, Relaying])
def test_one_that_is_as_fast_as_asked_is_whole(kind: type[Told]) -> None:
    ran = Ran(paced(20, *[0.4] * 200, kind=kind), min_tokens_per_s=2)
    assert isinstance(ran.client.end, Finish)


def test_one_that_becomes_slow_or_silent_ends_too() -> None:
    ran = Ran(paced(*[0.1] * 300, 1e6), min_tokens_per_s=2)
    assert ran.code == "upstream_slow"
    assert 30 + 8 <= ran.took <= 30 + 12


def test_one_that_sends_many_tokens_at_once_is_not_slow() -> None:
    ran = Ran(paced(*[5.0] * 20, text="word " * 20), min_tokens_per_s=4)
    assert isinstance(ran.client.end, Finish)


def test_arguments_of_a_call_count() -> None:
    pieces = [step for _ in range(60) for step in (0.5, ToolCallDelta(0, '"a"'))]
    ran = Ran(Told(Start("1", "m"), ToolCallStart(0, "c", "f"), *pieces, Finish("tool_calls")), min_tokens_per_s=1.5)
    assert isinstance(ran.client.end, Finish)


def test_a_slow_client_is_not_a_slow_upstream() -> None:
    class Slow(Taker):
        behind = True

        async def caught_up(self) -> None:
            await asyncio.sleep(3)

    client = Slow()
    client.behind = True
    ran = Ran(paced(*[0.01] * 50, kind=Relaying), client=client, min_tokens_per_s=5)
    assert isinstance(ran.client.end, Finish)


def test_a_slow_answer_is_a_cut_that_the_next_target_mends() -> None:
    ran = Ran(paced(*[1.0] * 100), Told(*GOOD), min_tokens_per_s=2, on_cut="continue", keeps_request=True)
    assert ran.client.text.endswith("Fine.")
    assert isinstance(ran.client.end, Finish)
