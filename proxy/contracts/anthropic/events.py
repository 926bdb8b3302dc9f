"""What we read of an Anthropic stream event or message, typed; every other field is stepped over.

https://docs.anthropic.com/en/api/messages-streaming. New types of events, blocks and deltas are announced as
something to expect, so what has an unknown type is no error, whatever its fields hold.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.events import FinishReason
from proxy.request import Usage

DIALECT = "anthropic-messages"


class Citation(msgspec.Struct, gc=False):
    """What a piece of text relies on; only a page has an address."""

    url: str | None = None
    title: str | None = None


class Block(msgspec.Struct, gc=False):
    """A content block: empty at its start in a stream, complete in a whole message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    citations: list[Citation] | None = None


class Delta(msgspec.Struct, gc=False):
    """A piece of a block, or what `message_delta` says of the end."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Citation | None = None
    stop_reason: str | None = None


class Message(msgspec.Struct, gc=False):
    """A whole answer, or the frame of one that is to come."""

    id: Any = None
    model: Any = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    type: str = ""
    error: Any = None


class Event(msgspec.Struct, gc=False):
    """One event's data."""

    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: dict[str, Any] | None = None


decode_event = msgspec.json.Decoder(Event).decode
decode_message = msgspec.json.Decoder(Message).decode


class _Typed(msgspec.Struct, frozen=True):
    type: str = ""


class _Parts(msgspec.Struct, frozen=True):
    delta: _Typed = _Typed()
    content_block: _Typed = _Typed()


_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_parts = msgspec.json.Decoder(_Parts).decode
_KNOWN_EVENTS = frozenset({"message_start", "content_block_start", "content_block_delta", "message_delta", "error"})
_KNOWN_PARTS = frozenset(
    {
        "",
        "text",
        "thinking",
        "tool_use",
        "text_delta",
        "thinking_delta",
        "input_json_delta",
        "signature_delta",
        "citations_delta",
    }
)


def is_unknown(data: bytes) -> bool:
    """Whether an event that could not be decoded is merely of a type, or about a type, that we do not know."""
    try:
        type_ = _decode_type(data).type
        if type_ and type_ not in _KNOWN_EVENTS:
            return True
        parts = _decode_parts(data)
    except (ValueError, RecursionError):
        return False
    return not {parts.delta.type, parts.content_block.type} <= _KNOWN_PARTS


FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""What a stop reason means. One that is not here still says that the model has stopped: `stop`."""

STOP_REASONS: dict[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def read_usage(usage: dict[str, Any] | None) -> Usage | None:
    """Token counts, read leniently. Anthropic counts cached input beside `input_tokens`, we count it in."""
    if not usage:
        return None
    cached = _count(usage, "cache_read_input_tokens")
    return Usage(
        input_tokens=_count(usage, "input_tokens") + cached + _count(usage, "cache_creation_input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=cached,
        reasoning_tokens=_count(usage.get("output_tokens_details"), "thinking_tokens"),
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Token counts in Anthropic's words."""
    counts: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens),
        "output_tokens": usage.output_tokens,
    }
    if usage.cached_tokens:
        counts["cache_read_input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return max(0, int(value)) if isinstance(value, (int, float)) else 0
