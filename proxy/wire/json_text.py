"""Pieces of JSON for writers that put their frames together by hand."""

from __future__ import annotations

import msgspec

from proxy.wire.text import mended

_encode = msgspec.json.Encoder().encode


def json_string(text: str) -> bytes:
    """`text` as a JSON string. Half a surrogate pair, which no JSON can carry, becomes U+FFFD."""
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(mended(text))


def json_line(text: str) -> bytes | None:
    """A JSON text that somebody else wrote, on one line and otherwise as it stands; None when it is no JSON."""
    try:
        data = text.encode()
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return _encode(value) if b"\n" in data or b"\r" in data else data
