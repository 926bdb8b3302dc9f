"""The field of a chunk that holds reasoning. OpenAI has none, and other vendors use different ones.

DeepSeek, litellm and Open WebUI use `reasoning_content`, vLLM and OpenRouter `reasoning`. We write the first. Chunks
of an upstream of this dialect pass on as they came, unless the route says which field its clients read.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

Fields = tuple[bytes, ...]

FIELDS: dict[str, Fields] = {
    "reasoning_content": (b"reasoning_content",),
    "reasoning": (b"reasoning",),
    "both": (b"reasoning_content", b"reasoning"),
}
"""What a route may choose, and the fields it means."""

_ANY = b'"reasoning'
_START, _END = b"data: ", b"\n\n"


def delta(fields: Fields, text: bytes) -> bytes:
    """The delta of a chunk with `text`, a JSON string, as reasoning."""
    return b"{" + b",".join([b'"%b":%b' % (field, text) for field in fields]) + b"}"


def renamed_frames(payloads: Sequence[bytes], fields: Fields) -> bytes:
    """An upstream's frames with the reasoning in `fields`. Frames without reasoning keep their bytes."""
    frames: list[bytes] = []
    for payload in payloads:
        if _ANY not in payload:
            frames.append(payload)
            continue
        for frame in payload.split(_END)[:-1]:
            if _ANY in frame and frame.startswith(_START):
                frame = _START + renamed(frame[len(_START) :], fields)
            frames.append(frame + _END)
    return b"".join(frames)


def renamed(body: bytes, fields: Fields) -> bytes:
    """A chunk or a whole completion with the reasoning in `fields`. One without reasoning keeps its bytes."""
    if _ANY not in body:
        return body
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body
    choices = value.get("choices") if isinstance(value, dict) else None
    found = [_rename(choice, fields) for choice in choices if isinstance(choice, dict)] if choices else []
    return msgspec.json.encode(value) if any(found) else body


def _rename(choice: dict[str, Any], fields: Fields) -> bool:
    found = False
    for part in (choice.get("delta"), choice.get("message")):
        if not isinstance(part, dict):
            continue
        text = part.get("reasoning_content") or part.get("reasoning")
        if isinstance(text, str) and text:
            part.pop("reasoning_content", None)
            part.pop("reasoning", None)
            part.update((field.decode(), text) for field in fields)
            found = True
    return found
