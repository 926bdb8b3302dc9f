"""Pieces of JSON for writers that build their frames by hand."""

import json

import msgspec

from proxy.wire.text import mended

_encode = msgspec.json.Encoder().encode


def json_string(text: str) -> bytes:
    """`text` as a JSON string. Half a surrogate pair becomes U+FFFD, for JSON cannot carry it."""
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(mended(text))


def without_separators(data: bytes) -> bytes:
    """JSON with escapes for the characters that some readers (httpx, `str.splitlines`) take for a line end too."""
    if data.isascii():
        return data
    return (
        data.replace(b"\xc2\x85", b"\\u0085").replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    )


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


def several_objects(arguments: str) -> bool:
    """Whether a text is one JSON object after another, and so no JSON."""
    text = arguments.strip()
    if text[:1] != "{":
        return False
    try:
        end = json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip()[:1] == "{"
