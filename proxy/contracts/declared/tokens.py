"""Write the pieces of one text as frames: one writer per kind of frame, chosen when an answer begins."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import msgspec

from proxy.contracts.declared.frames import Filling, Frame, Line, Text, json
from proxy.wire.text import LineEnds, utf8
from proxy.wire.token_frames import Frames, SseFrames

_encode = msgspec.json.Encoder().encode


class Tokens(ABC):
    """Writes the pieces of one text. `token` may hold text back; `finish` returns the rest."""

    __slots__ = ()

    def rebind(self, frame: Frame) -> None:  # noqa: B027 - some writers have no frame
        """Use this frame from now on: the upstream has named its model."""

    @abstractmethod
    def token(self, text: str) -> bytes:
        """The frame of a token; empty while its text is held back."""

    def run(self, texts: Sequence[str]) -> bytes:
        """The frames of tokens that came together."""
        return b"".join([self.token(text) for text in texts])

    def finish(self) -> bytes:
        """The text that was held back."""
        return b""


class OneValueTokens(Tokens):
    """The usual frame, made cheap: a token between two constant strings of bytes.

    In one run (CPU with the writer around it, medians of 9) a token cost as much as in the `json` dialect of `/chat`
    (0.21 to 0.25 µs), and four fifths of that when a hundred came in one read.
    """

    __slots__ = ("_encode", "_head", "_tail")

    def __init__(self, head: bytes, value: Filling, tail: bytes) -> None:
        self._head, self._tail = head, tail
        self._encode = _encode if value.encode is json else value.encode  # saves one Python call per token

    def rebind(self, frame: Frame) -> None:
        match frame:
            case Line(parts=(bytes() as head, Filling(), bytes() as tail)):
                self._head, self._tail = head, tail
            case _:
                raise TypeError("a frame bound to other values must have the same form")

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
    """The same with `line_ends: lf`. It repeats `token`, which saves one Python call per token."""

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
    """One frame per token, for a frame of any form."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def rebind(self, frame: Frame) -> None:
        self._frame = frame

    def token(self, text: str) -> bytes:
        return self._frame.write({"text": text}) if text else b""


class BareTokens(Tokens):
    """Each token is its text, without a frame."""

    __slots__ = ()

    def token(self, text: str) -> bytes:
        return utf8(text)

    def run(self, texts: Sequence[str]) -> bytes:
        return utf8("".join(texts))


def frame_tokens(frame: Frame, *, lf: bool) -> Tokens:
    """The writer for one frame per token; with `lf`, CRLF and CR in the text become LF."""
    match frame:
        case Line(parts=(bytes() as head, Filling() as value, bytes() as tail)):
            return OneValueLfTokens(head, value, tail) if lf else OneValueTokens(head, value, tail)
        case Text(is_bare=True):
            return LfTokens(BareTokens()) if lf else BareTokens()
        case _:
            return LfTokens(FrameTokens(frame)) if lf else FrameTokens(frame)


class LfTokens(Tokens):
    """Turns CRLF and CR into LF before `inner` gets the text, even if a CRLF is cut over two tokens."""

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
    """Events of bare text, cut where every reader reads them right (see `proxy.wire.token_frames`)."""

    __slots__ = ("_event", "_frames")

    def __init__(self, event: Callable[[str], bytes]) -> None:
        self._event = event
        self._frames = SseFrames()

    def token(self, text: str) -> bytes:
        return b"".join([self._event(part) for part in self._frames.parts(text)])

    def finish(self) -> bytes:
        return b"".join([self._event(part) for part in self._frames.rest()])


class HookTokens(Tokens):
    """Bare text for the chat hook, or for the chat hook and event readers together."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def token(self, text: str) -> bytes:
        return self._frames.token(text) if text else b""

    def run(self, texts: Sequence[str]) -> bytes:
        return self._frames.run(texts)

    def finish(self) -> bytes:
        return self._frames.finish()
