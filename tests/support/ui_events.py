"""Answers as events for tests of contracts: the examples, a hypothesis strategy, and what a reader must find of them."""

from __future__ import annotations

import itertools
import json

from hypothesis import strategies as st

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
from proxy.testing.answers import CUT, EXAMPLES

__all__ = ["CUT", "EXAMPLES", "answers", "carried"]

TEXTS = st.text(min_size=1)
ARGUMENTS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-9, 9) | st.text(), max_size=3)


def _usage(fresh, said, cached, thought):
    """Counts that can be: some output, what was thought is part of it, and what was cached part of the input."""
    return Usage(fresh + cached, said + thought + 1, cached, thought)


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
    seen = set()  # a page and a file are told once, however often an upstream names them
    events = [e for e in events if not hasattr(e, "url") or not ((key := (type(e), e.url)) in seen or seen.add(key))]
    usage = draw(st.none() | st.builds(_usage, *[st.integers(0, 10**8)] * 4))
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
