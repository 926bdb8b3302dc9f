"""Answers of declared contracts: the bytes each template makes, what no text can break, and ends that are true."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.chat import Usage
from proxy.dialects.plain import AnswerWriter as PlainWriter
from proxy.errors import RateLimited, UpstreamTruncated
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Notice,
    ReasoningDelta,
    RefusalDelta,
    Source,
    Start,
    TextDelta,
)
from tests.dialects.test_plain_frames import GOLDEN, TOKENS
from tests.support.answers import HOSTILE_PIECES
from tests.support.declared import FOUNDING, contract, writer, written

ERROR = UpstreamTruncated("far: the answer broke off")
HI = (Start("1", "far-1"), TextDelta("Hi"), TextDelta(" there"))
EVENTS = st.one_of(
    st.builds(TextDelta, st.sampled_from(HOSTILE_PIECES) | st.text(min_size=1)),
    st.builds(ReasoningDelta, st.text(min_size=1)),
    st.builds(RefusalDelta, st.text(min_size=1)),
    st.builds(Notice, st.just("x"), st.text()),
    st.builds(Source, st.text(), st.text()),
)
ENDS = st.sampled_from([Finish(), Finish("length", Usage(3, 4)), Fault(ERROR), Fault(RateLimited("a\r\n\r\nb"))])


# The founding dialect, declared


def test_the_founding_json_dialect_declared_is_golden():
    wire = written(contract(FOUNDING), *map(TextDelta, TOKENS), Finish())
    assert wire == (GOLDEN / "chat-json.txt").read_bytes()


@given(st.lists(EVENTS), ENDS, st.lists(st.integers(1, 4)))
@settings(deadline=None)
def test_the_founding_json_dialect_declared_is_the_built_in_one_byte_for_byte(events, end, sizes):
    events = [Start("1", "far-1"), *events, end]
    batches, start = [], 0
    for size in sizes:
        batches.append(Batch(events[start : start + size]))
        start += size
    batches.append(Batch(events[start:]))
    declared, built_in = writer(FOUNDING_CONTRACT), PlainWriter("json", request_id="req-1")
    assert [declared.feed(batch) for batch in batches] == [built_in.feed(batch) for batch in batches]


FOUNDING_CONTRACT = contract(FOUNDING)
