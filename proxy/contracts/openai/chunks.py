"""What we read of an OpenAI chunk or completion, typed; every other field is stepped over.

msgspec decodes a chunk into these in about a microsecond, half of what a dict costs, and refuses a field of
the wrong type on the way. Upstreams differ, so each field may be missing or null.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.events import FinishReason
from proxy.request import Usage


class Function(msgspec.Struct, gc=False):
    """A function's name and arguments; `input` is what a custom tool has in place of arguments."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # an object: not OpenAI's form, but seen
    input: str | None = None

    @property
    def text(self) -> str:
        arguments = self.arguments if self.arguments is not None else self.input
        if isinstance(arguments, dict):
            return msgspec.json.encode(arguments).decode()
        return arguments or ""


class ToolCallPiece(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Function | None = None


class ContentPiece(msgspec.Struct, gc=False):
    """Mistral writes reasoning as a list of these where others write a string."""

    type: str = ""
    text: str = ""
    thinking: str | list[ContentPiece] = ""


class Audio(msgspec.Struct, gc=False):
    transcript: str | None = None


class Citation(msgspec.Struct, gc=False):
    url: str = ""
    title: str | None = None


class Annotation(msgspec.Struct, gc=False):
    """What the text relies on: `url_citation` of OpenAI's web search, OpenRouter's and litellm's."""

    url_citation: Citation | None = None


class Address(msgspec.Struct, gc=False):
    url: str = ""


class ImagePiece(msgspec.Struct, gc=False):
    """An image the model made, as OpenRouter and litellm write it."""

    image_url: Address | None = None


class ThinkingBlock(msgspec.Struct, gc=False):
    """litellm's form of Anthropic's thinking: its text is in `reasoning_content` too, its signature only here."""

    signature: str | None = None


class Delta(msgspec.Struct, gc=False):
    """A chunk's `delta`, or a completion's `message`: the same fields, only whole."""

    content: str | list[ContentPiece] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None  # a string where it is text (vLLM, OpenRouter); settings echoed back elsewhere
    refusal: str | None = None
    tool_calls: list[ToolCallPiece] | None = None
    function_call: Function | None = None
    audio: Audio | None = None
    annotations: list[Annotation] | None = None
    images: list[ImagePiece] | None = None
    thinking_blocks: list[ThinkingBlock] | None = None
    provider_specific_fields: Any = None  # litellm's place for what has no other, such as a citation of Anthropic's


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event's data. `id` and `model` are read leniently: only text is made of them."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    id: Any = None
    model: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
"""What a finish reason means. One that is not here still says that the model has finished: `stop`."""

BROKEN = frozenset({"error", "abort", "insufficient_system_resource"})
"""Finish reasons that say the upstream gave up (OpenRouter and Mistral, vLLM and SGLang, DeepSeek)."""


def read_usage(usage: dict[str, Any] | None) -> Usage | None:
    """Token counts, read leniently: a count that is missing or no number is 0."""
    if not usage:
        return None
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens"),  # DeepSeek's place for it
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    if type(value) is int and value >= 0:
        return value
    return max(0, int(value)) if isinstance(value, (int, float)) else 0
