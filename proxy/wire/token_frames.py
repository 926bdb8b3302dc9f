"""Cut the text of one answer into frames that old and new clients of the chat contract read exactly.

The contract has two kinds of readers. The chat hook trims a frame's text, takes the rest as it is, and finds only
frames that end in two LF. Event readers (the HTML standard) drop one leading space and end a line at each LF or CR.
No frame with a newline or a leading space is right for both, so there are four dialects:

    text   for the chat hook: white space at the end of a frame waits for the next frame, where it is safe
    sse    for event readers: cut between two non-space characters, newlines as several `data` lines
    both   both kinds of frames in one stream, each invisible to the other kind of reader
    json   for new clients: the token as a JSON string, which every reader reads exactly

In all but `json` CRLF and CR become LF, even if a CRLF is cut over two tokens. No frame holds `[DONE]` before the
answer is done, because readers written for OpenAI stop there.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from proxy.wire.text import WHITE_SPACE, LineEnds, mended, utf8

MAX_HELD = 256
"""The most characters that `sse` holds back while it waits for a place to cut."""

_SPACES = frozenset(WHITE_SPACE)
_DONE = "[DONE]"
_INSIDE_DONE = re.compile(r"(?<=\[DON)(?=E\])")
# One reader drops a U+FEFF at the beginning of every line, and then reads a field name after it as a field.
_EVENT_ID_RETRY = re.compile(r"(\n\ufeff?[eir])(?=vent:|d:|etry:)")
_FIELD_INITIAL = re.compile(r"(\n\ufeff?[deir])(?=.)", re.DOTALL)
_json = msgspec.json.Encoder().encode


class Frames(ABC):
    """The frames of one answer. `token` may hold text back; `finish` returns the rest."""

    __slots__ = ()

    @abstractmethod
    def token(self, text: str) -> bytes:
        """The frame of a token; empty while its text is held back."""

    def run(self, tokens: Sequence[str]) -> bytes:
        """The frames of tokens that came together: the same bytes as one token after the other."""
        return b"".join([self.token(text) for text in tokens if text])

    @abstractmethod
    def finish(self) -> bytes:
        """The text that was held back."""


class TextFrames(Frames):
    """`data:` and the token as it is, made safe for the chat hook.

    A token without newlines and without white space at its end goes out byte for byte.
    """

    __slots__ = ("_held", "_line_ends")

    def __init__(self) -> None:
        self._line_ends = LineEnds()
        self._held: list[str] = []  # white space, or an empty string while a CR waits

    def token(self, text: str) -> bytes:
        # isprintable() is false for all white space except the plain space, and for lone surrogates. Most tokens
        # pass and are done here in half a microsecond.
        if not self._held and text[-1] != " " and text.isprintable() and _DONE not in text:
            return ("data:" + text + "\n\n").encode()
        return utf8("".join([_plain_frame(payload) for payload in self.payloads(text)]))

    def run(self, tokens: Sequence[str]) -> bytes:
        """The frames, built together if no token needs changes: a tenth of the time of one by one."""
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
        """The texts that can go out after a token, one per frame."""
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
            # Two LF would end the frame. The hook keeps a CR between them, and browsers draw nothing for it.
            # Replace twice, because replacements do not overlap.
            payload = payload.replace("\n\n", "\n\r\n").replace("\n\n", "\n\r\n")
        return _INSIDE_DONE.split(payload) if _DONE in payload else [payload]

    def finish(self) -> bytes:
        """Nothing: the chat hook trims white space at the end of an answer, whatever the bytes."""
        return b""


class SseFrames(Frames):
    """Event frames that lose nothing: each part begins and ends with a non-space character.

    The last character therefore waits for the next token. Parts that begin with a space or an empty line, which some
    readers get wrong, are rare.
    """

    __slots__ = ("_held", "_line_ends")

    def __init__(self) -> None:
        self._line_ends = LineEnds()
        self._held = ""

    def token(self, text: str) -> bytes:
        return utf8("".join([_event(part) for part in self.parts(text)]))

    def parts(self, text: str) -> list[str]:
        """The texts that can go out after a token, one per event."""
        if self._line_ends.held or "\r" in text:
            text = self._line_ends.lf_only(text)
        known, text = len(self._held), self._held + text
        cut = _last_cut(text, known)
        if not cut and len(text) > MAX_HELD:
            cut = _cut_before_other_than_newline(text)
        part, self._held = text[:cut], text[cut:]
        return (_INSIDE_DONE.split(part) if _DONE in part else [part]) if part else []

    def rest(self) -> list[str]:
        """The text that was held back, as the last part."""
        rest, self._held = self._held + self._line_ends.finish(), ""
        return [rest] if rest else []

    def finish(self) -> bytes:
        return utf8("".join([_event(part) for part in self.rest()]))


class BothFrames(Frames):
    """Every text twice: in frames that only the chat hook sees, and in frames that only event readers see.

    The hook trims a space before `data`, and event readers ignore such a line. The hook ignores a frame whose first
    line is a comment.
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
    """One JSON object per token: JSON's escapes keep every text on one line, so it passes unchanged."""

    __slots__ = ()

    def token(self, text: str) -> bytes:
        if not text:
            return b""
        try:
            return b'data:{"token":' + _json(text) + b"}\n\n"
        except UnicodeEncodeError:
            return b'data:{"token":' + _json(mended(text)) + b"}\n\n"

    def finish(self) -> bytes:
        """Nothing: no text is held back."""
        return b""


FRAMES: dict[str, type[Frames]] = {"text": TextFrames, "sse": SseFrames, "both": BothFrames, "json": JsonFrames}


def _event(part: str) -> str:
    """One event: a `data` line for each line. A line that begins with a space gets one more for the reader to drop."""
    if "\n" not in part and part[0] != " ":
        return "data:" + part + "\n\n"
    lines = [("data: " if line[:1] == " " else "data:") + line + "\n" for line in part.split("\n")]
    return "".join(lines) + "\n"


def _plain_frame(payload: str) -> str:
    """A frame of `text`.

    An event reader that gets this dialect may lose text, but the model's text must never become an event's name. So
    where a line begins with `event`, `id` or `retry`, the frame ends inside the word and the next one goes on.
    """
    if "\n" in payload:
        payload = _EVENT_ID_RETRY.sub(r"\1\n\ndata:", payload)
    return "data:" + payload + "\n\n"


def _hook_frame(payload: str) -> str:
    """A frame that only the chat hook sees.

    A line inside it that begins with a field name (`data`, `event`, `id`, `retry`) would be a field to an event
    reader. So the frame ends after the first letter of such a line, and the next frame goes on.
    """
    if "\n" in payload:
        payload = _FIELD_INITIAL.sub(r"\1\n\n data:", payload)
    return " data:" + payload + "\n\n"


def _last_cut(text: str, known: int) -> int:
    """The last place between two non-space characters; 0 if there is none. There is none before `known`."""
    for place in range(len(text) - 1, max(known, 1) - 1, -1):
        if text[place] not in _SPACES and text[place - 1] not in _SPACES:
            return place
    return 0


def _cut_before_other_than_newline(text: str) -> int:
    """A place in a long run of white space where the rest begins with no newline, unless all of it is newlines."""
    return len(text[1:].rstrip("\n")) or len(text)
