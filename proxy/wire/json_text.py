"""Pieces of JSON for writers that build their frames by hand."""

from __future__ import annotations

import msgspec

from proxy.wire.text import mended

_encode = msgspec.json.Encoder().encode


def json_string(text: str) -> bytes:
    """`text` as a JSON string. Half a surrogate pair becomes U+FFFD, for JSON cannot carry it."""
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(mended(text))


def json_line(text: str) -> bytes | None:
    """A JSON text from a model on one line, otherwise unchanged; None if it is not JSON."""
    try:
        data = text.encode()
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return _encode(value) if b"\n" in data or b"\r" in data else data


def object_text(text: str) -> str:
    """The text where it is a JSON object; else an object whose `arguments` are what it says. Empty: an empty object."""
    if not text.strip():
        return "{}"
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return f'{{"arguments":{json_string(text).decode()}}}'
    return text if isinstance(value, dict) else f'{{"arguments":{text}}}'
