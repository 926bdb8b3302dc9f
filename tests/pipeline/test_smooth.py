"""Even text: every word in time, no word lost, the first one at once. In virtual time."""

from __future__ import annotations

import asyncio
import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamFailed
from proxy.events import (
    Batch,
    Fault,
    Finish,
    ReasoningDelta,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.pipeline.client import ClientGone
from proxy.pipeline.smooth import SmoothClient, _parts
from tests.support.told import Relaying, Step, Taker, Told, exchange
from tests.support.virtual_time import run

LAG = 0.2
SENTENCE = "The quick brown fox jumps over the lazy dog. "


class Timed(Taker):
    """Keeps when it got what."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.got: list[tuple[float, StreamEvent]] = []

    def write(self, batch: Batch) -> bool:
        now = asyncio.get_running_loop().time()
        behind = super().write(batch)
        self.got += [(now, event) for event in batch.events]
        return behind

    @property
    def words(self) -> list[tuple[float, str]]:
        return [(at, event.text) for at, event in self.got if isinstance(event, TextDelta)]

    def at(self, kind: type) -> float:
        return next(at for at, event in self.got if isinstance(event, kind))


def streamed(*steps: Step, kind: type[Told] = Told, client: Timed | None = None, **keys: Any) -> tuple[Timed, float]:
    """What a client got of an answer, and when it was asked for."""
    client = client or Timed()

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        await exchange(kind(*steps), smooth_s=LAG, **keys).run(client)
        await asyncio.sleep(10)  # nothing comes behind the end
        return began

    began = run(main())
    assert isinstance(client.end, Finish | Fault)
    return client, began


bursts = st.lists(
    st.tuples(st.floats(0, 1), st.text("ab \n文🙂", min_size=1, max_size=60) | st.text(min_size=1, max_size=200)),
    min_size=1,
)


@given(bursts, st.booleans(), st.sampled_from([Told, Relaying]))
def test_text_is_exact_and_in_time(sent: list[tuple[float, str]], whole: bool, kind: type[Told]) -> None:
    steps: list[Step] = [Start("1", "m")]
    arrivals: list[float] = []  # of each character
    at = 0.0
    for gap, text in sent:
        steps += [gap, TextDelta(text)]
        at += gap
        arrivals += [at] * len(text)
    if whole:  # the end comes in the same read
        steps[-1] = Batch([steps[-1], Finish()])  # type: ignore[list-item]
    else:
        steps.append(Finish())
    client, began = streamed(*steps, kind=kind)
    assert client.text == "".join(text for _, text in sent)
    told = [at - began for at, text in client.words for _ in text]
    assert told[0] == pytest.approx(arrivals[0]), "the first token waits for nothing"
    assert all(late - early <= LAG + 1e-6 for early, late in zip(arrivals, told, strict=True))
    assert all(late >= early - 1e-6 for early, late in zip(arrivals, told, strict=True))
    assert client.got[-1][0] - began <= at + LAG + 1e-6


def test_an_upstream_that_cannot_stream_is_streamed() -> None:
    client, began = streamed(1.0, Batch([Start("1", "m"), TextDelta(SENTENCE), Finish()]))
    assert [text for _, text in client.words] == [
        "The",
        " quick",
        " brown",
        " fox",
        " jumps",
        " over",
        " the",
        " lazy",
        " dog.",
        " ",
    ]
    times = [at - began for at, _ in client.words]
    assert times[0] == pytest.approx(1.0)
    assert times[-1] == pytest.approx(1.0 + LAG)
    gaps = [late - early for early, late in pairwise(times)]
    assert max(gaps) - min(gaps) < 1e-6, "evenly"
    assert client.at(Finish) - began == pytest.approx(1.0 + LAG)


def test_bursts_are_spread_until_the_next_one() -> None:
    """Ten words each 100 ms are a word each 10 ms, once that is known."""
    client, _ = streamed(
        Start("1", "m"), *[step for _ in range(40) for step in (0.1, TextDelta(SENTENCE + "x"))], Finish()
    )
    gaps = [late - early for (early, _), (late, _) in pairwise(client.words[-250:])]
    assert max(gaps) < 0.03
    assert sum(gap > 0.005 for gap in gaps) > 0.8 * len(gaps)


@pytest.mark.parametrize("kind", [Told, Relaying])
def test_an_even_upstream_is_not_held_up(kind: type[Told]) -> None:
    steps = [step for word in SENTENCE.split() * 10 for step in (0.02, TextDelta(" " + word))]
    client, began = streamed(Start("1", "m"), *steps, Finish(), kind=kind)
    assert [at - began for at, _ in client.words] == pytest.approx([0.02 * number for number in range(1, 91)])


@pytest.mark.parametrize("kind", [Told, Relaying])
@pytest.mark.parametrize("event", [ReasoningDelta("hm"), ToolCallStart(0, "c", "f")])
def test_what_is_no_text_comes_at_once_with_the_text_before_it(kind: type[Told], event: StreamEvent) -> None:
    client, began = streamed(
        Start("1", "m"), TextDelta(SENTENCE), 0.05, event, 1.0, TextDelta("and"), Finish(), kind=kind
    )
    assert client.at(type(event)) - began == pytest.approx(0.05)
    before = client.events[: client.events.index(event)]
    assert "".join(one.text for one in before if isinstance(one, TextDelta)) == SENTENCE
    assert client.text == SENTENCE + "and"


def test_text_and_a_call_in_one_read_keep_their_order() -> None:
    events: list[StreamEvent] = [TextDelta("a b c"), ToolCallStart(0, "c", "f"), ToolCallDelta(0, "{}")]
    client, _ = streamed(Batch([Start("1", "m"), *events, Finish("tool_calls")]))
    assert client.events[1:-1] == events


@pytest.mark.parametrize(
    "text", ["👨\u200d👩\u200d👧\u200d👦" * 20, "👍🏽" * 30, "e\u0301" * 40, "ที่นี่" * 20, "✔\ufe0f" * 30]
)
@pytest.mark.parametrize("before", range(4))
def test_no_character_is_cut_from_its_accents_and_joined_parts(text: str, before: int) -> None:
    pieces = _parts([TextDelta("x" * before + text)])[1]
    assert "".join(pieces) == "x" * before + text
    assert len(pieces) > 1
    for one, other in pairwise(pieces):
        assert unicodedata.category(other[0]) not in {"Mn", "Me", "Sk", "Cf"}
        assert one[-1] != "\u200d"


def test_an_error_comes_at_once_behind_all_text() -> None:
    client, began = streamed(Start("1", "m"), TextDelta(SENTENCE * 3), 0.05, Fault(UpstreamFailed("gone")))
    assert client.text == SENTENCE * 3
    assert client.at(Fault) - began == pytest.approx(0.05)


def test_a_client_that_is_behind_is_waited_for() -> None:
    client = Timed()
    client.behind = True
    steps = [step for _ in range(20) for step in (0.1, TextDelta(SENTENCE))]
    streamed(Start("1", "m"), *steps, Finish(), kind=Relaying, client=client)
    assert client.waits >= 10, "it reads nothing between two bursts"
    assert client.text == SENTENCE * 20


def test_a_client_that_left_is_told_by_the_next_batch() -> None:
    async def main() -> None:
        client = Timed(fails=ClientGone(), fails_at=3)
        smooth = SmoothClient(client, LAG)
        await smooth.send(Batch([Start("1", "m"), TextDelta("one two three four")]))
        await asyncio.sleep(1)
        with pytest.raises(ClientGone):
            smooth.write(Batch([TextDelta("five")]))
        with pytest.raises(ClientGone):
            await smooth.send(Batch([Finish()]))

    run(main())


def test_answers_that_events_do_not_hold_keep_their_bytes() -> None:
    for asked in ({"params": {"n": 2}}, {"params": {"logprobs": True}}, {"hosted_tools": ("web_search",)}):
        client, _ = streamed(Start("1", "m"), TextDelta(SENTENCE), Finish(), asked=asked)
        assert [text for _, text in client.words] == [SENTENCE]


def test_who_leaves_in_the_middle_leaves_no_timer() -> None:
    async def main() -> None:
        client = Timed()
        running = asyncio.create_task(
            exchange(Told(Start("1", "m"), TextDelta(SENTENCE * 9), 9.0), smooth_s=LAG).run(client)
        )
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait([running])
        told = len(client.events)
        await asyncio.sleep(5)
        assert len(client.events) == told

    run(main())
