"""The fields that we read of an Anthropic stream event or message, as types; the others are skipped.

https://docs.anthropic.com/en/api/messages-streaming. Anthropic announces that new types of events, blocks and deltas
will come, so an unknown type is not an error, whatever its fields hold. Any field may be null.
"""

from typing import Any

import msgspec

from proxy.request import Usage

DIALECT = "anthropic-messages"


class Citation(msgspec.Struct, gc=False):
    """What a piece of text relies on. Only web pages have a `url`."""

    url: str | None = None
    title: str | None = None


class ContentBlock(msgspec.Struct, gc=False):
    """A content block: empty at its start in a stream, complete in a whole message."""

    type: str | None = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: Any = None
    name: str | None = None
    input: Any = None
    citations: list[Citation] | None = None


class Delta(msgspec.Struct, gc=False):
    """A piece of a block, or the end of the message (in `message_delta`)."""

    type: str | None = ""
    text: str | None = ""
    thinking: str | None = ""
    partial_json: str | None = ""
    signature: str | None = ""
    citation: Citation | None = None
    stop_reason: str | None = None


class MessageObject(msgspec.Struct, gc=False):
    """A whole answer, or the empty one in `message_start`."""

    id: Any = None
    model: Any = None
    content: list[ContentBlock] | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    type: str | None = ""
    error: Any = None


class Event(msgspec.Struct, gc=False):
    """One event's data."""

    type: str
    index: int | None = 0
    delta: Delta | None = None
    content_block: ContentBlock | None = None
    message: MessageObject | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    stop_reason: str | None = None  # beside the delta that it belongs into


decode_event = msgspec.json.Decoder(Event).decode
decode_message = msgspec.json.Decoder(MessageObject).decode

KNOWN_EVENTS = frozenset({
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "error",
})  # fmt: skip
"""The types of events that say something. Others are skipped: keep-alives, and types to come."""

STOP_REASONS: dict[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def read_usage(usage: dict[str, Any] | None) -> Usage | None:
    """Token counts, read leniently. Our `input_tokens` include cached input, read and written, which Anthropic counts separately."""
    if not usage:
        return None
    cached, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(usage, "input_tokens") + cached + written,
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=cached,
        reasoning_tokens=_count(usage.get("output_tokens_details"), "thinking_tokens"),
        cache_write_tokens=written,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Token counts under Anthropic's names."""
    counts: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "output_tokens": usage.output_tokens,
    }
    if usage.cached_tokens:
        counts["cache_read_input_tokens"] = usage.cached_tokens
    if usage.cache_write_tokens:
        counts["cache_creation_input_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return max(0, int(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
