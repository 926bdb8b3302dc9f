"""Reading Anthropic events and messages that the typed decoders refuse, because a field has an odd form.

Fields that are not needed are skipped where they are odd. A text may be a number. What is needed and cannot be read
is a `ValueError`.
"""

import json
from typing import Any

from proxy.contracts.anthropic.content import arguments_text
from proxy.contracts.anthropic.events import KNOWN_EVENTS, Citation, ContentBlock, Delta, Event, MessageObject
from proxy.wire.lenient_json import index_in, loads, object_in, string_in, text_in
from proxy.wire.text import mended

_DELTA_TYPES = frozenset({"text_delta", "thinking_delta", "input_json_delta", "signature_delta", "citations_delta", ""})
_BLOCK_TYPES = frozenset({"text", "thinking", "tool_use", ""})


def lenient_event(data: bytes, name: str = "") -> Event | None:
    """The event; None for one that says nothing, or is of an unknown type. `name` is its type where it has none."""
    value = loads(data)
    if value is None or value == []:
        return None
    if not isinstance(value, dict) or value.get("error") or "choices" in value:
        raise ValueError("not an event")  # an error, or a chunk of OpenAI's dialect, which would be lost silently
    type_ = string_in(value.get("type")) or name
    if type_ not in KNOWN_EVENTS:
        return None
    event = Event(type_, index_in(value.get("index")), usage=object_in(value.get("usage")))
    plain = json.loads(data, strict=False)
    match type_:
        case "content_block_delta":
            event.delta = _delta(value.get("delta"), plain.get("delta"))
        case "message_delta":
            delta = object_in(value.get("delta")) or {}
            event.delta = Delta(stop_reason=string_in(delta.get("stop_reason")))
        case "content_block_start":
            event.content_block = _block(value.get("content_block"), plain.get("content_block"))
        case "message_start":
            event.message = _frame(object_in(value.get("message")) or {})
        case _:
            pass
    return event


def lenient_message(body: bytes) -> MessageObject:
    """A whole message; one without content for anything else."""
    value = loads(body)
    if not isinstance(value, dict):
        return MessageObject()
    message = _frame(value)
    content = value.get("content")
    if isinstance(content, list):
        plain = json.loads(body, strict=False)["content"]
        blocks = [_block(block, as_json) for block, as_json in zip(content, plain, strict=True)]
        message.content = [_mended(block) for block in blocks if block is not None]
    elif message.type == "message":
        text = mended(text_in(content))
        message.content = [ContentBlock("text", text)] if text else []
    return message


def _mended(block: ContentBlock) -> ContentBlock:
    block.text, block.thinking = mended(block.text or ""), mended(block.thinking or "")
    return block


def _frame(value: dict[str, Any]) -> MessageObject:
    return MessageObject(
        id=string_in(value.get("id")),
        model=string_in(value.get("model")),
        stop_reason=string_in(value.get("stop_reason")),
        usage=object_in(value.get("usage")),
        type=string_in(value.get("type")),
        error=value.get("error"),
    )


def _delta(value: Any, plain: Any) -> Delta | None:
    """A piece of a block. `plain` is the same with its numbers as numbers."""
    if not isinstance(value, dict):
        if value:  # a list of pieces, or text without its type
            raise ValueError("not a delta")
        return None
    type_ = string_in(value.get("type")) or ""
    delta = Delta(type_)
    if type_ in _DELTA_TYPES:
        delta.text = text_in(value.get("text"))
        delta.thinking = text_in(value.get("thinking"))
        piece = value.get("partial_json")
        delta.partial_json = arguments_text(plain["partial_json"]) if isinstance(piece, dict) else text_in(piece)
        delta.signature = string_in(value.get("signature"))
        delta.citation = _citation(value.get("citation"))
    return delta


def _block(value: Any, plain: Any) -> ContentBlock | None:
    """A block. `plain` is the same with its numbers as numbers."""
    if not isinstance(value, dict):
        if value:
            raise ValueError("not a block")
        return None
    type_ = string_in(value.get("type")) or ""
    block = ContentBlock(type_)
    if type_ in _BLOCK_TYPES:
        block.text = text_in(value.get("text"))
        block.thinking = text_in(value.get("thinking"))
        block.signature = string_in(value.get("signature"))
        block.id = string_in(value.get("id"))
        block.name = string_in(value.get("name"))
        block.input = plain.get("input")
        citations = value.get("citations")
        found = [_citation(one) for one in citations] if isinstance(citations, list) else []
        block.citations = [one for one in found if one is not None]
    return block


def _citation(value: Any) -> Citation | None:
    url = value.get("url") if isinstance(value, dict) else None
    return Citation(url, string_in(value.get("title"))) if isinstance(url, str) else None
