"""Answers as events, for tests of contracts: named examples, and texts that break careless framings."""

from collections.abc import Mapping, Sequence

from proxy.errors import UpstreamTruncated
from proxy.events import (
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    Source,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Usage

CUT = UpstreamTruncated("the answer was cut off")

EXAMPLES: Mapping[str, Sequence[StreamEvent]] = {
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
"""One answer of each kind. `cut` ends in an error with a tool call half made."""

HOSTILE_TEXTS: Sequence[Sequence[str]] = (
    ("\n", "\n\n", "a", "\n\n\n", "b"),
    ("data: [DONE]\n\n", "event: done", "\n", "data: x\n\n"),
    ("[DONE]", "[DON", "E]", '{"error":', '"x"}'),
    ('"', "\\", "\\n", "</script>", "`", "$text", "${HOME}", "{}", "%s"),
    ("\u2028", "x\u2029", "\u0085", "\ufeff", "é\u0301", "👩‍👩‍👧‍👦", "\0", "\x1b[31m"),
    ("  two  ", "   ", "\t", " x"),
    ("x" * 70_000, "y"),
)
"""Tokens of answers that look like frames, ends, escapes and templates. They are text, and must arrive as text."""


def text_answer(tokens: Sequence[str]) -> list[StreamEvent]:
    """A complete answer of these tokens."""
    return [Start("", "m"), *(TextDelta(token) for token in tokens if token), Finish("stop", Usage(1, len(tokens)))]
