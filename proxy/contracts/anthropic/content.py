"""Content blocks of an Anthropic answer, into events: what is open, and which call a piece of arguments belongs to."""

import json
from typing import Any, Literal

import msgspec

from proxy.contracts.anthropic.events import Citation, ContentBlock, Delta
from proxy.contracts.anthropic.mending import arguments_event, stop_event
from proxy.errors import UpstreamMalformed
from proxy.events import (
    ReasoningDelta,
    ReasoningSignature,
    Source,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.wire.json_text import several_objects
from proxy.wire.stream_end import text_of

_INFERRED = (("text", "text_delta"), ("thinking", "thinking_delta"), ("partial_json", "input_json_delta"))
"""The type of a delta that names none, by the field that it fills."""

_NAMED_AS_BLOCKS = {"text": "text_delta", "thinking": "thinking_delta"}
"""Types of deltas as some upstreams write them: those of their blocks."""


class OpenBlock(msgspec.Struct):
    """A block that has begun and not ended.

    `call` is its number among the client's calls. `arguments` is what the start of the block brought of them, as JSON;
    `was_text`: the upstream wrote them as a JSON text, not as an object. `pieces` are those that deltas brought.
    """

    kind: Literal["call", "text", "other"]
    call: int = 0
    arguments: str = ""
    was_text: bool = False
    pieces: list[str] = []


class BlockReader:
    """Turns content blocks into events.

    Tools that the upstream runs (`server_tool_use` and their results) become no events: a client would run them
    again. Each page is reported once, however often the text cites it.
    """

    def __init__(self) -> None:
        self.open: dict[int, OpenBlock] = {}
        self._calls = 0
        self._ids: set[str] = set()
        self._cited: set[str] = set()

    @property
    def has_calls(self) -> bool:
        return self._calls > 0

    def start(self, index: int, block: ContentBlock, events: list[StreamEvent]) -> None:
        """A block begins, with all or nothing of its content."""
        if block.type == "tool_use":
            was_text = isinstance(block.input, str)
            call = self.open[index] = OpenBlock("call", self._calls, arguments_text(block.input), was_text)
            self._calls += 1
            if not block.name:
                raise UpstreamMalformed("the upstream called a tool without naming it")
            id_ = text_of(block.id) or f"toolu_{call.call}"
            while id_ in self._ids:  # clients find a call by its id
                id_ += f"_{call.call}"
            self._ids.add(id_)
            events.append(ToolCallStart(call.call, id_, block.name))
            return
        self.open[index] = OpenBlock("text" if block.type in ("text", "thinking", "") else "other")
        if block.thinking:
            events.append(ReasoningDelta(block.thinking))
        if block.signature:
            events.append(ReasoningSignature(block.signature))
        if block.text and block.type in ("text", ""):
            events.append(TextDelta(block.text))
        for citation in block.citations or ():
            self._cite(citation, events)

    def delta(self, index: int, delta: Delta, events: list[StreamEvent]) -> int:
        """A piece of a block. Returns the index of the block that it belongs to, which some upstreams get wrong."""
        type_ = _NAMED_AS_BLOCKS.get(delta.type or "", delta.type)
        match type_ or next((inferred for name, inferred in _INFERRED if getattr(delta, name)), ""):
            case "text_delta":
                if delta.text:
                    events.append(TextDelta(delta.text))
            case "thinking_delta":
                if delta.thinking:
                    events.append(ReasoningDelta(delta.thinking))
            case "input_json_delta":
                if delta.partial_json:
                    return self._arguments(index, delta.partial_json, events)
            case "signature_delta":
                if delta.signature:
                    events.append(ReasoningSignature(delta.signature))
            case "citations_delta":
                if delta.citation is not None:
                    self._cite(delta.citation, events)
            case _:
                pass
        return index

    def stop(self, index: int, events: list[StreamEvent]) -> tuple[int, list[bytes]]:
        """A block ends. Returns its index, which some upstreams get wrong. Raises `UpstreamMalformed` for a broken call.

        The second value is what a client of this dialect needs before the end of the block.
        """
        if index not in self.open and len(self.open) == 1:
            (index,) = self.open
        block = self.open.pop(index, None)
        if block is None or block.kind != "call":
            return index, []
        if block.pieces:
            if several_objects("".join(block.pieces)):
                raise UpstreamMalformed("the upstream sent several inputs for one tool call")
            return index, []
        # A call without deltas has its arguments in the start of the block, or none, which is an empty object.
        events.append(ToolCallDelta(block.call, block.arguments or "{}"))
        return index, [arguments_event(index, block.arguments)] if block.was_text and block.arguments else []

    def close(self, events: list[StreamEvent]) -> list[bytes]:
        """The answer ends: so do the blocks that are open. Returns what a client of this dialect needs for it."""
        frames: list[bytes] = []
        for index in list(self.open):
            frames += self.stop(index, events)[1]
            frames.append(stop_event(index))
        return frames

    def _arguments(self, index: int, piece: str, events: list[StreamEvent]) -> int:
        """Raises `UpstreamMalformed` where it cannot be told to which call the piece belongs."""
        block = self.open.get(index)
        if block is None or block.kind == "text":
            calls = [(at, open_) for at, open_ in self.open.items() if open_.kind != "text"]
            if len(calls) != 1:
                raise UpstreamMalformed("the upstream sent arguments that belong to no tool call that is open")
            index, block = calls[0]
        if block.kind == "call":
            block.pieces.append(piece)
            events.append(ToolCallDelta(block.call, piece))
        return index

    def _cite(self, citation: Citation, events: list[StreamEvent]) -> None:
        if citation.url and citation.url not in self._cited:
            self._cited.add(citation.url)
            events.append(Source(citation.url, citation.title or ""))


def arguments_text(input_: Any) -> str:
    """The arguments in a block's `input`, as JSON text; some upstreams write that text itself. Empty if it has none."""
    if not input_:
        return ""
    if isinstance(input_, str):
        return input_
    try:
        return msgspec.json.encode(input_).decode()
    except (UnicodeEncodeError, OverflowError):  # half a surrogate pair; an integer of more than 64 bits
        return json.dumps(input_, separators=(",", ":"))
