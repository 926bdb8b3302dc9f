"""The founding contract: messages in, a stream of bare tokens out.

    POST {"messages": [{"role": "user", "content": "hi"}]}

    data:Hello⏎⏎  data: world⏎⏎  event: done⏎data:[DONE]⏎⏎      or, at any point:  event: error⏎data:<message>⏎⏎

How a token becomes a frame is the business of `plain_frames`; what a request means, and how an answer ends,
is told here. The contract knows text only: reasoning and tool calls are left out, because a client of any dialect
takes whatever comes without an `event:` name for a token. A notice has one, and comes before the first token or after the last.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from proxy.contracts.replies import encode_error
from proxy.errors import ProxyError, UntoldAnswer
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    Notice,
    RefusalDelta,
    TextDelta,
)
from proxy.request import Answer
from proxy.wire.omissions import notice_json
from proxy.wire.text import error_line, mended, on_one_line
from proxy.wire.token_frames import FRAMES

Dialect = Literal["text", "sse", "both", "json"]
ErrorMode = Literal["frame", "frame+text", "frame+abort"]

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
ERROR_MODES: tuple[ErrorMode, ...] = get_args(ErrorMode)

DONE = b"event: done\ndata:[DONE]\n\n"

_LOST_MEDIA = Notice("ignored_media", "an image was left out: this contract has no place for it")


class AnswerWriter:
    """Writes the events of one answer in one dialect: tokens, then exactly one end, then nothing."""

    __slots__ = ("_dialect", "_ended", "_errors", "_flowing", "_frames", "_media", "_request_id")

    def __init__(self, dialect: Dialect, *, request_id: str = "", errors: ErrorMode = "frame") -> None:
        self._frames = FRAMES[dialect]()
        self._dialect = dialect
        self._request_id = request_id
        self._errors = errors
        self._ended = False
        self._flowing = False  # text has come, and more may
        self._media = False

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch. A token is a frame of its own, however many come at once.

        Raises `UntoldAnswer` for an answer that is nothing but images.
        """
        events = batch.events
        if batch.text_only and self._flowing:
            if len(events) == 1:
                return self._frames.token(events[0].text)  # type: ignore[union-attr]  # it is text, as was said
            return self._frames.run([event.text for event in events])  # type: ignore[union-attr]  # they are text too
        if self._ended:
            return b""
        frames: list[bytes] = []
        run: list[str] = []
        for event in events:
            if type(event) is TextDelta:  # ten times as fast as matching, and nearly all of them
                run.append(event.text)
                continue
            match event:
                case RefusalDelta(text):  # it is all the reader would get to see
                    run.append(text)
                case Media():
                    self._media = True
                case Finish():
                    self._flowing = self._flowing or bool(run)
                    frames += [self._frames.run(run), self._finish()]
                    break
                case Fault(error):
                    frames += [self._frames.run(run), self._fault(error)]
                    self._ended, self._flowing = True, False
                    break
                case Notice():
                    frames += [self._frames.run(run), self._notice(event)]
                    self._flowing, run = self._flowing or bool(run), []
                case _:
                    pass  # the contract knows text only
        else:
            self._flowing = self._flowing or bool(run)
            frames.append(self._frames.run(run))
        return b"".join(frames)

    def _finish(self) -> bytes:
        if self._media and not self._flowing:
            raise UntoldAnswer
        self._ended, self._flowing = True, False
        lost = self._notice(_LOST_MEDIA) if self._media else b""
        return self._frames.finish() + lost + DONE

    def _notice(self, notice: Notice) -> bytes:
        """What is no part of the answer: an event of its own where readers know events, else a comment."""
        match self._dialect:
            case "json":
                return b'event: notice\ndata:{"notice":%b}\n\n' % notice_json(notice)
            case "sse":
                return b"event: notice\ndata:%b\n\n" % on_one_line(notice.message).encode()
            case "text" | "both":
                return b": notice: %b\n\n" % on_one_line(notice.message).encode()

    def _fault(self, error: ProxyError) -> bytes:
        """What was held back, the visible token if one is wanted, and the error frame.

        The founding hook shows no error frame: with `frame+text` its user sees at least why the text stops.
        """
        message = error_line(error)
        shown = self._frames.token(f"\n[error: {message}]") if self._errors == "frame+text" else b""
        data = encode_error(error, self._request_id) if self._dialect == "json" else message.encode()
        return shown + self._frames.finish() + b"event: error\ndata:" + data + b"\n\n"


def encode_answer(answer: Answer) -> bytes:
    """A whole answer, for a request with `"stream": false`. Raises `UntoldAnswer` for one of nothing but images."""
    if answer.only_media:
        raise UntoldAnswer
    return msgspec.json.encode({"text": mended(answer.text + answer.refusal)})
