"""Answers as events, for the contracts of chat interfaces: examples, a strategy, and what must be left of them."""

from __future__ import annotations

import itertools
import json

from hypothesis import strategies as st

from proxy.errors import UpstreamTruncated
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Usage

CUT = UpstreamTruncated("the answer was cut off")

EXAMPLES = {
    "text": [
        Start("up-1", "m"),
        TextDelta("Hello"),
        TextDelta(" wörld 👩‍💻"),
        TextDelta("\n\n- data: x"),
        Finish("stop", Usage(3, 3)),
    ],
    "reasoning": [
        Start("", "m"),
        ReasoningDelta("Two"),
        ReasoningDelta(" cities."),
        ReasoningSignature("c2VhbA=="),
        TextDelta("Oslo"),
        Source("https://example.test/a", "A page"),
        Source("https://example.test/b"),
        TextDelta(" and Rome"),
        Media("image/png", "data:image/png;base64,iVBORw0KGgo="),
        Notice("switched", "Another model goes on."),
        Finish("length", Usage(9, 7, 2, 4)),
    ],
    "tools": [
        Start("", "m"),
        TextDelta("Let me see."),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallStart(1, "call_b", "weather"),
        ToolCallDelta(1, '{\n  "city": "Rome"\n}'),
        ToolCallDelta(0, '"Oslo"}'),
        ToolCallStart(2, "call_c", "now"),
        Finish("tool_calls"),
    ],
    "cut": [
        Start("", "m"),
        ReasoningDelta("Hm"),
        TextDelta("Half"),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        TextDelta(" an answer"),
        Fault(CUT),
    ],
}

TEXTS = st.text(min_size=1)
ARGUMENTS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-9, 9) | st.text(), max_size=3)


@st.composite
def answers(draw):
    """Events in an order that a backend may bring: parts of all kinds, calls interleaved, and an end."""
    calls = [
        (f"call-{number}", draw(TEXTS), json.dumps(arguments))
        for number, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=3)))
    ]
    events = [Start("up", "m")]
    waiting = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.integers(0, 8))
        if kind <= 1:
            events.append(TextDelta(draw(TEXTS)))
        elif kind == 2:
            events.append(ReasoningDelta(draw(TEXTS)))
        elif kind == 3:
            events.append(draw(st.builds(RefusalDelta, TEXTS) | st.builds(Media, TEXTS, TEXTS)))
        elif kind == 4:
            events.append(draw(st.builds(Source, TEXTS, st.text()) | st.builds(Notice, TEXTS, TEXTS)))
        elif kind == 5 and isinstance(events[-1], ReasoningDelta):
            events.append(ReasoningSignature(draw(TEXTS)))
        elif kind == 6 and calls:
            id_, name, arguments = calls.pop()
            index = len([event for event in events if isinstance(event, ToolCallStart)])
            events.append(ToolCallStart(index, id_, name))
            cut = draw(st.integers(0, len(arguments)))
            waiting += [ToolCallDelta(index, piece) for piece in (arguments[:cut], arguments[cut:]) if piece]
        elif waiting:
            events.append(waiting.pop(0))
    usage = draw(st.none() | st.builds(Usage, *[st.integers(0, 10**9)] * 4))
    if draw(st.booleans()):
        events += [*waiting, Finish(draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"])), usage)]
    else:
        events.append(Fault(CUT))
    return events


def carried(events, *, without=()):
    """What of `events` a reader is to find: refusals as text, in the same order, however the pieces were cut."""
    kept = [event for event in events if type(event) not in without and not isinstance(event, Start)]
    kept = [TextDelta(event.text) if isinstance(event, RefusalDelta) else event for event in kept]
    ordered = [event for event in kept if isinstance(event, (TextDelta, ReasoningDelta, Media))]
    runs = [
        (kind, "".join([event.text for event in run]) if hasattr(kind, "text") else list(run))
        for kind, run in itertools.groupby(ordered, type)
    ]
    aside = [event for event in kept if isinstance(event, (Source, Notice))]
    collector = Collector()
    collector.add(Batch(kept))
    answer = collector.answer()
    calls = [(call.id, call.name, call.arguments or "{}") for call in answer.tool_calls]
    end = kept[-1].error.message if isinstance(kept[-1], Fault) else kept[-1].reason
    return runs, aside, answer.reasoning_signature, calls, end, answer.usage
