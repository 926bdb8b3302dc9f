"""Reading JSON that means something although it is not in the form that its dialect asks for.

This is the slow path behind the typed decoders: it is taken only for data that they refuse. It is strict about
meaning: text that has to be there and is neither text, nor a number, nor a boolean is an error.
"""

import json
from typing import Any

from proxy.wire.text import mended


class Number(str):
    """A number as it was written: `0.50` stays `0.50`."""

    __slots__ = ()


def loads(data: bytes) -> Any:
    """The value of a JSON text. Numbers are `Number`s, ready to be text.

    Lone surrogate halves and control characters in strings are accepted. Raises `ValueError` for anything else that is
    not JSON, and `RecursionError` for absurd nesting.
    """
    return json.loads(data.decode(), strict=False, parse_int=Number, parse_float=Number, parse_constant=Number)


def text_in(value: Any) -> str:
    """A text field: null is empty, and a number or a boolean is the text that was written. Else `ValueError`."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError("neither text nor a number")


def string_in(value: Any) -> str | None:
    """A field that is not needed: None where it is not text."""
    return str(value) if isinstance(value, str) else None


def object_in(value: Any) -> dict[str, Any] | None:
    """A field that is not needed: None where it is not an object."""
    return value if isinstance(value, dict) else None


def index_in(value: Any) -> int | None:
    """An index, also as text or as a whole decimal number; None for anything else."""
    text = value.removesuffix(".0") if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


class SurrogateJoiner:
    """Joins surrogate halves that an upstream cut apart: the first half waits for the text that comes next."""

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = ""

    def join(self, text: str) -> str:
        """The text that is complete. A half without its other half becomes U+FFFD."""
        if not self.half and text.isascii():  # as most pieces: mending costs 1 µs
            return text
        text = self.half + text
        self.half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return mended(text[:-1] if self.half else text)

    def flush(self) -> str:
        """What waits, when no text of the same kind comes next."""
        half, self.half = self.half, ""
        return "\ufffd" if half else ""
