"""Compile the templates of declared contracts into bytes with places to fill: a token costs a JSON string and a join.

There are two kinds of frames. A `Line` is JSON, or text in which every value is written as JSON: no value can bring a
line end into it, and the framing's own bytes are part of it. `Text` holds values as they are; the framing makes their
line ends harmless when it is written.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, assert_never

import msgspec

from proxy.config.templates import Fields, Items, Node, Scalar, Slot, Words, is_one_line, is_text, text_pieces
from proxy.wire.json_text import without_separators
from proxy.wire.text import mended, utf8

Values = Mapping[str, Any]
Encode = Callable[[Any], bytes]

_encode = msgspec.json.Encoder().encode


def json(value: Any) -> bytes:
    """`value` as JSON, on one line."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, from a plug-in; JSON cannot carry it
        return _encode(mended(value))


def line_json(value: Any) -> bytes:
    """The same, with escapes for the characters that only some readers take for a line end."""
    return without_separators(json(value))


def as_text(value: Any) -> str:
    """A value as text: a string as it is, nothing for null, JSON for anything else."""
    if type(value) is str:
        return value
    return "" if value is None else json(value).decode()


class Filling(NamedTuple):
    """A place for the value `name`."""

    name: str
    encode: Encode


class Line:
    """A template that is written on one line."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[bytes | Filling, ...]) -> None:
        self.parts = parts

    def bind(self, values: Values) -> "Line":
        """The same line with these values filled in."""
        return Line(tuple(_joined(_bound(self.parts, values))))

    def write(self, values: Values) -> bytes:
        parts = self.parts
        return b"".join([part.encode(values[part.name]) if isinstance(part, Filling) else part for part in parts])


class Text:
    """A template that holds values as they are. `wrap` makes a frame from the text."""

    __slots__ = ("_pieces", "_wrap")

    def __init__(self, pieces: tuple[str | Slot, ...], wrap: Callable[[str], bytes]) -> None:
        self._pieces, self._wrap = pieces, wrap

    @property
    def is_bare(self) -> bool:
        """Whether it is `$text` and nothing else, without a frame."""
        return self._wrap is utf8 and len(self._pieces) == 1 and self._pieces[0] == Slot("text", as_json=False)

    def bind(self, values: Values) -> "Text":
        return Text(tuple([_filled(piece, values) for piece in self._pieces]), self._wrap)

    def write(self, values: Values) -> bytes:
        return self._wrap("".join([str(_filled(piece, values)) for piece in self._pieces]))


Frame = Line | Text


class Framing(Protocol):
    """How a template becomes a frame."""

    def line(self, name: str) -> tuple[bytes, bytes]:
        """The bytes before and after the line of the template `name`."""

    def text(self, name: str) -> Callable[[str], bytes]:
        """The function that makes a frame from the text of the template `name`."""

    @property
    def encode(self) -> Encode: ...


class Events:
    """Server-Sent Events, with the event names that the contract declares."""

    encode: Encode = staticmethod(json)

    def __init__(self, names: Mapping[str, str], prefix: str) -> None:
        self._names, self._prefix = names, prefix

    def head(self, name: str) -> str:
        return f"event: {self._names[name]}\n" if name in self._names else ""

    def line(self, name: str) -> tuple[bytes, bytes]:
        return (self.head(name) + self._prefix).encode(), b"\n\n"

    def text(self, name: str) -> Callable[[str], bytes]:
        head, prefix = self.head(name), self._prefix

        def event(text: str) -> bytes:
            lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            # A reader drops one space after the colon, so a line that begins with a space gets one more.
            data = [("data: " if line[:1] == " " else prefix) + line + "\n" for line in lines]
            return utf8(head + "".join(data) + "\n")

        return event


class Lines:
    """One line per frame."""

    encode: Encode = staticmethod(line_json)

    def line(self, name: str) -> tuple[bytes, bytes]:  # noqa: ARG002 - all frames have the same ends
        return b"", b"\n"

    def text(self, name: str) -> Callable[[str], bytes]:
        raise ValueError(f"`{name}` may hold line ends")  # the config's checks refuse such a template


class Bare:
    """No framing: bare text and whole bodies."""

    encode: Encode = staticmethod(json)

    def line(self, name: str) -> tuple[bytes, bytes]:  # noqa: ARG002
        return b"", b""

    def text(self, name: str) -> Callable[[str], bytes]:  # noqa: ARG002
        return utf8


def compile_frame(node: Node, name: str, framing: Framing) -> Frame:
    """The frame of a template. `name` is the template's key, for which the framing may have an event name."""
    if is_text(node) and not is_one_line(node):
        return Text(text_pieces(node), framing.text(name))
    before, after = framing.line(name)
    inner = _text_parts(node, framing.encode) if is_text(node) else _json_parts(node, framing.encode)
    return Line(tuple(_joined([before, *inner, after])))


def _text_parts(node: Scalar | Words, encode: Encode) -> Iterator[bytes | Filling]:
    for piece in text_pieces(node):
        yield utf8(piece) if isinstance(piece, str) else Filling(piece.name, encode)


def _json_parts(node: Node, encode: Encode) -> Iterator[bytes | Filling]:
    match node:
        case Scalar(value):
            yield encode(value)
        case Words((Slot(name, False),)):
            yield Filling(name, encode)
        case Words(pieces):
            yield b'"'
            for piece in pieces:
                yield encode(piece)[1:-1] if isinstance(piece, str) else Filling(piece.name, _inside(encode, piece))
            yield b'"'
        case Fields(items):
            for number, (key, inner) in enumerate(items):
                yield (b"," if number else b"{") + encode(key) + b":"
                yield from _json_parts(inner, encode)
            yield b"}" if items else b"{}"
        case Items(nodes):
            for number, inner in enumerate(nodes):
                yield b"," if number else b"["
                yield from _json_parts(inner, encode)
            yield b"]" if nodes else b"[]"
        case _:
            assert_never(node)


def _inside(encode: Encode, slot: Slot) -> Encode:
    """Encodes a value for a place inside a JSON string: escaped, without the quotes."""
    if slot.as_json:
        return lambda value: encode(json(value).decode())[1:-1]
    return lambda value: encode(as_text(value))[1:-1]


def _bound(parts: tuple[bytes | Filling, ...], values: Values) -> Iterator[bytes | Filling]:
    for part in parts:
        yield part.encode(values[part.name]) if isinstance(part, Filling) and part.name in values else part


def _joined(parts: Iterator[bytes | Filling] | list[bytes | Filling]) -> Iterator[bytes | Filling]:
    """The parts with neighbouring bytes joined. There are bytes, maybe empty, on both sides of every filling."""
    literal = b""
    for part in parts:
        if isinstance(part, Filling):
            yield literal
            yield part
            literal = b""
        else:
            literal += part
    yield literal


def _filled(piece: str | Slot, values: Values) -> str | Slot:
    if isinstance(piece, str) or piece.name not in values:
        return piece
    value = values[piece.name]
    return json(value).decode() if piece.as_json else as_text(value)
