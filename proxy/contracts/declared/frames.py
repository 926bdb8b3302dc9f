"""Templates of declared contracts, compiled: bytes with places to fill, so that a token costs a JSON string and a join.

Two kinds. A *line* is JSON, or text in which every value stands as JSON: no value can bring a line end into it, and
the framing's own bytes are part of it. *Text* holds values as they are; its line ends are made harmless when it is
written, as the framing has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, assert_never

import msgspec

from proxy.config.templates import Fields, Items, Node, Scalar, Slot, Words, is_one_line, is_text, text_pieces
from proxy.wire.text import LineEnds, mended, utf8
from proxy.wire.token_frames import Frames, SseFrames

Values = Mapping[str, Any]
Encode = Callable[[Any], bytes]

_encode = msgspec.json.Encoder().encode

# To some readers of lines, such as httpx, a line also ends at these. Inside JSON they can be written as escapes.
_LINE_SEPARATORS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def json(value: Any) -> bytes:
    """`value` as JSON, on one line."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, from a plug-in: no JSON can carry it
        return _encode(mended(value))


def line_json(value: Any) -> bytes:
    """The same, without what only some readers take for a line end."""
    data = json(value)
    if not data.isascii():
        for separator, escape in _LINE_SEPARATORS:
            data = data.replace(separator, escape)
    return data


def as_text(value: Any) -> str:
    """What a value is within text: itself if it is text, nothing for null, else its JSON."""
    if type(value) is str:
        return value
    return "" if value is None else json(value).decode()


class Filling(NamedTuple):
    """A place for the value of that name."""

    name: str
    encode: Encode


class Line:
    """A template that is written on one line."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[bytes | Filling, ...]) -> None:
        self.parts = parts

    def bind(self, values: Values) -> Line:
        """With the places filled whose values are known already."""
        return Line(tuple(_joined(_bound(self.parts, values))))

    def write(self, values: Values) -> bytes:
        parts = self.parts
        return b"".join([part.encode(values[part.name]) if isinstance(part, Filling) else part for part in parts])


class Text:
    """A template that holds values as they are. `wrap` makes a frame of the text."""

    __slots__ = ("_pieces", "_wrap")

    def __init__(self, pieces: tuple[str | Slot, ...], wrap: Callable[[str], bytes]) -> None:
        self._pieces = pieces
        self._wrap = wrap

    @property
    def is_bare(self) -> bool:
        """Whether it is a value as it is, and nothing around it."""
        return self._wrap is utf8 and len(self._pieces) == 1 and self._pieces[0] == Slot("text", as_json=False)

    def bind(self, values: Values) -> Text:
        return Text(tuple([_filled(piece, values) for piece in self._pieces]), self._wrap)

    def write(self, values: Values) -> bytes:
        return self._wrap("".join([str(_filled(piece, values)) for piece in self._pieces]))


Frame = Line | Text


class Framing(Protocol):
    """Makes a frame of a template."""

    def line(self, name: str) -> tuple[bytes, bytes]:
        """What stands before and after the line of the template `name`."""

    def text(self, name: str) -> Callable[[str], bytes]:
        """What makes a frame of the template's text."""

    @property
    def encode(self) -> Encode: ...


class Events:
    """Server-Sent Events, named where the contract names them."""

    encode: Encode = staticmethod(json)

    def __init__(self, names: Mapping[str, str], prefix: str) -> None:
        self._names = names
        self._prefix = prefix

    def head(self, name: str) -> str:
        return f"event: {self._names[name]}\n" if name in self._names else ""

    def line(self, name: str) -> tuple[bytes, bytes]:
        return (self.head(name) + self._prefix).encode(), b"\n\n"

    def text(self, name: str) -> Callable[[str], bytes]:
        head, prefix = self.head(name), self._prefix

        def event(text: str) -> bytes:
            lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            # A reader drops one space after the colon: a line that begins with one needs another to lose.
            data = [("data: " if line[:1] == " " else prefix) + line + "\n" for line in lines]
            return utf8(head + "".join(data) + "\n")

        return event


class Lines:
    """A frame is a line."""

    encode: Encode = staticmethod(line_json)

    def line(self, name: str) -> tuple[bytes, bytes]:  # noqa: ARG002 - all are alike
        return b"", b"\n"

    def text(self, name: str) -> Callable[[str], bytes]:
        raise ValueError(f"`{name}` may hold line ends")  # the config's checks do not let it come to this


class Bare:
    """No framing at all: bare text, and whole bodies."""

    encode: Encode = staticmethod(json)

    def line(self, name: str) -> tuple[bytes, bytes]:  # noqa: ARG002
        return b"", b""

    def text(self, name: str) -> Callable[[str], bytes]:  # noqa: ARG002
        return utf8


def compile_frame(node: Node, name: str, framing: Framing) -> Frame:
    """The frame of a template. `name` is its key, which the framing may have an event name for."""
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
    """How a value stands within a JSON string: escaped, without the quotes."""
    if slot.as_json:
        return lambda value: encode(json(value).decode())[1:-1]
    return lambda value: encode(as_text(value))[1:-1]


def _bound(parts: tuple[bytes | Filling, ...], values: Values) -> Iterator[bytes | Filling]:
    for part in parts:
        yield part.encode(values[part.name]) if isinstance(part, Filling) and part.name in values else part


def _joined(parts: Iterator[bytes | Filling] | list[bytes | Filling]) -> Iterator[bytes | Filling]:
    """Neighbouring bytes made one. A filling always has bytes, if only empty ones, on either side."""
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


# -- tokens ----------------------------------------------------------------------------------------------------


class Tokens(ABC):
    """Writes the pieces of one text. `token` may hold something back; `finish` returns what must still go out."""

    __slots__ = ()

    def rebind(self, frame: Frame) -> None:  # noqa: B027 - some hold nothing but the text
        """Go on with this frame: the upstream has said its model's name."""

    @abstractmethod
    def token(self, text: str) -> bytes:
        """The frame of a token; empty where there is nothing to say yet."""

    def run(self, texts: Sequence[str]) -> bytes:
        """The frames of tokens that came at once."""
        return b"".join([self.token(text) for text in texts])

    def finish(self) -> bytes:
        """What was held back."""
        return b""


class OneValueTokens(Tokens):
    """The usual case, made cheap: the token between what is the same in every frame.

    In one run (CPU, with the writer around it, medians of 9) a token cost as much as in the built-in `json` dialect (0.21
    to 0.25 µs), and in a read of a hundred four fifths of it.
    """

    __slots__ = ("_encode", "_head", "_tail")

    def __init__(self, head: bytes, value: Filling, tail: bytes) -> None:
        self._head, self._tail = head, tail
        self._encode = _encode if value.encode is json else value.encode  # one call less

    def rebind(self, frame: Frame) -> None:
        match frame:
            case Line(parts=(bytes() as head, Filling(), bytes() as tail)):
                self._head, self._tail = head, tail
            case _:
                raise TypeError("the same frame, bound to other values, has another form")

    def token(self, text: str) -> bytes:
        if not text:
            return b""
        try:
            return self._head + self._encode(text) + self._tail
        except UnicodeEncodeError:
            return self._head + json(text) + self._tail

    def run(self, texts: Sequence[str]) -> bytes:
        head, encode, tail = self._head, self._encode, self._tail
        try:
            return b"".join([head + encode(text) + tail for text in texts if text])
        except UnicodeEncodeError:
            return b"".join([self.token(text) for text in texts])


class OneValueLfTokens(OneValueTokens):
    """The same with `line_ends: lf`, without a call more for it."""

    __slots__ = ("_line_ends",)

    def __init__(self, head: bytes, value: Filling, tail: bytes) -> None:
        super().__init__(head, value, tail)
        self._line_ends = LineEnds()

    def token(self, text: str) -> bytes:
        if self._line_ends.held or "\r" in text:
            text = self._line_ends.lf_only(text)
        if not text:
            return b""
        try:
            return self._head + self._encode(text) + self._tail
        except UnicodeEncodeError:
            return self._head + json(text) + self._tail

    def run(self, texts: Sequence[str]) -> bytes:
        if self._line_ends.held or "\r" in "".join(texts):
            texts = [self._line_ends.lf_only(text) for text in texts]
        return super().run(texts)

    def finish(self) -> bytes:
        return super().token(self._line_ends.finish())


class FrameTokens(Tokens):
    """A frame a token, whatever it looks like."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def rebind(self, frame: Frame) -> None:
        self._frame = frame

    def token(self, text: str) -> bytes:
        return self._frame.write({"text": text}) if text else b""


class BareTokens(Tokens):
    """A token that is its text and has no frame."""

    __slots__ = ()

    def token(self, text: str) -> bytes:
        return utf8(text)

    def run(self, texts: Sequence[str]) -> bytes:
        return utf8("".join(texts))


def frame_tokens(frame: Frame, *, lf: bool) -> Tokens:
    """A frame a token; with `lf`, line ends are LF."""
    match frame:
        case Line(parts=(bytes() as head, Filling() as value, bytes() as tail)):
            return OneValueLfTokens(head, value, tail) if lf else OneValueTokens(head, value, tail)
        case Text(is_bare=True):
            return LfTokens(BareTokens()) if lf else BareTokens()
        case _:
            return LfTokens(FrameTokens(frame)) if lf else FrameTokens(frame)


class LfTokens(Tokens):
    """Turns CRLF and CR into LF before `inner` sees them, also where a CRLF is cut over two tokens."""

    __slots__ = ("_inner", "_line_ends")

    def __init__(self, inner: Tokens) -> None:
        self._inner = inner
        self._line_ends = LineEnds()

    def rebind(self, frame: Frame) -> None:
        self._inner.rebind(frame)

    def token(self, text: str) -> bytes:
        if self._line_ends.held or "\r" in text:
            text = self._line_ends.lf_only(text)
        return self._inner.token(text)

    def finish(self) -> bytes:
        return self._inner.token(self._line_ends.finish()) + self._inner.finish()


class BareEvents(Tokens):
    """A token that is nothing but its text, in events: cut where no reader goes wrong (see `plain_frames`)."""

    __slots__ = ("_event", "_frames")

    def __init__(self, event: Callable[[str], bytes]) -> None:
        self._event = event
        self._frames = SseFrames()

    def token(self, text: str) -> bytes:
        return b"".join([self._event(part) for part in self._frames.parts(text)])

    def finish(self) -> bytes:
        return b"".join([self._event(part) for part in self._frames.rest()])


class HookTokens(Tokens):
    """The same for the founding hook, or for it and readers of events at once."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def token(self, text: str) -> bytes:
        return self._frames.token(text) if text else b""

    def run(self, texts: Sequence[str]) -> bytes:
        return self._frames.run(texts)

    def finish(self) -> bytes:
        return self._frames.finish()
