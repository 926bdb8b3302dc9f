"""How one answer's text is cut into frames that old and new clients read alike.

Two kinds of reader speak the founding contract. The founding hook takes a frame's text as it stands, trims it
and finds only frames that end in two LF. Event readers (the HTML standard) drop one leading space and end a
line at each LF or CR. No frame with a newline, or with a space in front, is right for both, so there are four
ways of framing:

    text   for the founding hook: white space at a frame's end waits for the next frame, where it is safe
    sse    for event readers: cut between two non-space characters, newlines as several `data` lines
    both   both side by side, each kind of frame invisible to the other kind of reader
    json   for new clients: the token as a JSON string, safe for everybody

In all four CRLF and CR become LF, also where a CRLF is cut over two tokens, and no frame says `[DONE]` unless
the answer is done: readers with OpenAI in mind stop there.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from proxy.wire.text import WHITE_SPACE, LineEnds, mended, utf8

MAX_HELD = 256
"""Characters `sse` holds back at most, waiting for a place to cut."""

_SPACES = frozenset(WHITE_SPACE)
_DONE = "[DONE]"
_INSIDE_DONE = re.compile(r"(?<=\[DON)(?=E\])")
# One reader loses a U+FEFF at the beginning of any line, not only of the first: what follows it is a field to that one.
_EVENT_ID_RETRY = re.compile(r"(\n\ufeff?[eir])(?=vent:|d:|etry:)")
_FIELD_INITIAL = re.compile(r"(\n\ufeff?[deir])(?=.)", re.DOTALL)
_json = msgspec.json.Encoder().encode


class Frames(ABC):
    """Frames of one answer. `token` may hold text back; `finish` returns what must still go out."""

    __slots__ = ()

    @abstractmethod
    def token(self, text: str) -> bytes:
        """The frame of a token, which may be empty."""

    def run(self, tokens: Sequence[str]) -> bytes:
        """The frames of tokens that came at once: the same bytes, one token after the other."""
        return b"".join([self.token(text) for text in tokens if text])

    @abstractmethod
    def finish(self) -> bytes:
        """What was held back."""


class TextFrames(Frames):
    """The founding frames, `data:` and the token as it is, made safe for the founding hook.

    A token without newline and without white space at its end goes out byte for byte as it always did.
    """

    __slots__ = ("_held", "_line_ends")

    def __init__(self) -> None:
        self._line_ends = LineEnds()
        self._held: list[str] = []  # white space, or an empty string while a CR waits

    def token(self, text: str) -> bytes:
        # isprintable() is false for every white space but the plain one (and for what UTF-8 cannot hold), so
        # most tokens are done here, in half a microsecond.
        if not self._held and text[-1] != " " and text.isprintable() and _DONE not in text:
            return ("data:" + text + "\n\n").encode()
        return utf8("".join([_plain_frame(payload) for payload in self.payloads(text)]))

    def run(self, tokens: Sequence[str]) -> bytes:
        """All at once where none of them needs a second look: a tenth of the time that one by one takes."""
        frames = "data:" + "\n\ndata:".join(tokens) + "\n\n"
        if (
            tokens
            and not self._held
            and " \n" not in frames
            and "data:\n" not in frames
            and _DONE not in frames
            and "".join(tokens).isprintable()
        ):
            return frames.encode()
        return super().run(tokens)

    def payloads(self, text: str) -> list[str]:
        """What a token lets go out, one string a frame."""
        text = self._line_ends.lf_only(text)
        payload = text.rstrip(WHITE_SPACE)
        if not payload:
            self._held.append(text)
            return []
        payload, held = "".join([*self._held, payload]), text[len(payload) :]
        self._held.clear()
        if held or self._line_ends.held:
            self._held.append(held)
        if "\n\n" in payload:
            # Two LF would end the frame. A CR between them is kept by the hook and drawn as nothing. Twice,
            # because replacements do not overlap.
            payload = payload.replace("\n\n", "\n\r\n").replace("\n\n", "\n\r\n")
        return _INSIDE_DONE.split(payload) if _DONE in payload else [payload]

    def finish(self) -> bytes:
        """Nothing: white space at the very end cannot reach the founding hook, whatever the bytes."""
        return b""


class SseFrames(Frames):
    """Event frames that lose nothing: each part begins and ends with a non-space character.

    So the last character waits for the next token; parts that begin with a space or an empty line, which some
    readers get wrong, hardly ever occur.
    """

    __slots__ = ("_held", "_line_ends")

    def __init__(self) -> None:
        self._line_ends = LineEnds()
        self._held = ""

    def token(self, text: str) -> bytes:
        return utf8("".join([_event(part) for part in self.parts(text)]))

    def parts(self, text: str) -> list[str]:
        """What a token lets go out, one string an event."""
        if self._line_ends.held or "\r" in text:
            text = self._line_ends.lf_only(text)
        known, text = len(self._held), self._held + text
        cut = _last_cut(text, known)
        if not cut and len(text) > MAX_HELD:
            cut = _cut_before_other_than_newline(text)
        part, self._held = text[:cut], text[cut:]
        return (_INSIDE_DONE.split(part) if _DONE in part else [part]) if part else []

    def rest(self) -> list[str]:
        """What was held back: the last part of all."""
        rest, self._held = self._held + self._line_ends.finish(), ""
        return [rest] if rest else []

    def finish(self) -> bytes:
        return utf8("".join([_event(part) for part in self.rest()]))


class BothFrames(Frames):
    """Every text twice: in frames that only the founding hook sees, and in frames that only event readers see.

    A space before `data` makes a line that the hook trims and the standard does not know; a comment as the first
    line makes a frame that the hook passes over.
    """

    __slots__ = ("_sse", "_text")

    def __init__(self) -> None:
        self._text = TextFrames()
        self._sse = SseFrames()

    def token(self, text: str) -> bytes:
        hook = [_hook_frame(payload) for payload in self._text.payloads(text)]
        events = [":\n" + _event(part) for part in self._sse.parts(text)]
        return utf8("".join(hook + events))

    def finish(self) -> bytes:
        return utf8("".join([":\n" + _event(part) for part in self._sse.rest()]))


class JsonFrames(Frames):
    """One JSON object a token: JSON's escapes keep every text on one line."""

    __slots__ = ("_line_ends",)

    def __init__(self) -> None:
        self._line_ends = LineEnds()

    def token(self, text: str) -> bytes:
        if self._line_ends.held or "\r" in text:
            text = self._line_ends.lf_only(text)
        if not text:
            return b""
        try:
            return b'data:{"token":' + _json(text) + b"}\n\n"
        except UnicodeEncodeError:
            return b'data:{"token":' + _json(mended(text)) + b"}\n\n"

    def finish(self) -> bytes:
        rest = self._line_ends.finish()
        return self.token(rest) if rest else b""


FRAMES: dict[str, type[Frames]] = {"text": TextFrames, "sse": SseFrames, "both": BothFrames, "json": JsonFrames}


def _event(part: str) -> str:
    """One event: a `data` line for each line, with a space to lose where the line begins with one."""
    if "\n" not in part and part[0] != " ":
        return "data:" + part + "\n\n"
    lines = [("data: " if line[:1] == " " else "data:") + line + "\n" for line in part.split("\n")]
    return "".join(lines) + "\n"


def _plain_frame(payload: str) -> str:
    """A founding frame.

    An event reader that gets this dialect may lose text by it, but what the model wrote must not name an event:
    a frame ends inside the word `event` (or `id`, `retry`) at the beginning of a line, the next takes up the rest.
    """
    if "\n" in payload:
        payload = _EVENT_ID_RETRY.sub(r"\1\n\ndata:", payload)
    return "data:" + payload + "\n\n"


def _hook_frame(payload: str) -> str:
    """A frame for the founding hook alone.

    A line inside it that began with a field's name would be a field to an event reader. `data`, `event`, `id`
    and `retry` are all there are: after such a first letter the frame ends, and the next takes up the rest.
    """
    if "\n" in payload:
        payload = _FIELD_INITIAL.sub(r"\1\n\n data:", payload)
    return " data:" + payload + "\n\n"


def _last_cut(text: str, known: int) -> int:
    """The last place between two non-space characters, 0 if there is none; none is before `known`."""
    for place in range(len(text) - 1, max(known, 1) - 1, -1):
        if text[place] not in _SPACES and text[place - 1] not in _SPACES:
            return place
    return 0


def _cut_before_other_than_newline(text: str) -> int:
    """For a long run of white space: a part may not begin with a newline, unless there is nothing else."""
    return len(text[1:].rstrip("\n")) or len(text)
