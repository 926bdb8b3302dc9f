"""Write `/chat` answers: a stream of bare tokens and one end, or one JSON document.

    data:Hello⏎⏎  data: world⏎⏎  event: done⏎data:[DONE]⏎⏎      or, at any point:  event: error⏎data:<message>⏎⏎

`proxy.wire.token_frames` decides how a token becomes a frame; this module decides how an answer ends. The contract
carries text only. Reasoning and tool calls are left out, because a client of any dialect takes every event without
a name for a token. A notice is a named event, or a comment, before the first token or after the last.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.replies import EVENT_STREAM, JSON, encode_error, error_headers
from proxy.errors import ProxyError, UntoldAnswer
from proxy.events import Batch, Fault, Finish, Media, Notice, RefusalDelta, TextDelta
from proxy.request import Answer
from proxy.wire.omissions import notice_json
from proxy.wire.sse import PING
from proxy.wire.text import error_line, mended, on_one_line
from proxy.wire.token_frames import FRAMES

Dialect = Literal["text", "sse", "both", "json"]
ErrorMode = Literal["frame", "frame+text", "frame+abort"]

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
ERROR_MODES: tuple[ErrorMode, ...] = get_args(ErrorMode)

DONE = b"event: done\ndata:[DONE]\n\n"

_HEADERS: Mapping[Dialect, Mapping[str, str]] = {
    dialect: {**EVENT_STREAM, "Connection": "keep-alive", "X-Chat-Dialect": dialect} for dialect in DIALECTS
}
_LOST_MEDIA = Notice("ignored_media", "an image was left out: this contract has no place for it")


class ChatWriter:
    """Writes one answer in one dialect: tokens, then exactly one end, then nothing.

    `shows_errors` repeats an error as a last token, for clients that skip error frames.
    """

    __slots__ = (
        "_dialect", "_ended", "_flowing", "_frames", "_media", "_request_id", "_shows_errors", "abort_on_fault",
        "early", "headers",
    )  # fmt: skip

    def __init__(
        self,
        dialect: Dialect,
        *,
        request_id: str = "",
        early: bool = False,
        shows_errors: bool = False,
        abort_on_fault: bool = False,
    ) -> None:
        self.headers = _HEADERS[dialect]
        self.early, self.abort_on_fault = early, abort_on_fault
        self._frames = FRAMES[dialect]()
        self._dialect, self._request_id, self._shows_errors = dialect, request_id, shows_errors
        self._ended = False
        self._flowing = False  # text has come, and more may come
        self._media = False

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch. Each token is a frame of its own, even when several come at once.

        Raises `UntoldAnswer` for an answer that holds nothing but images.
        """
        events = batch.events
        if batch.text_only and self._flowing:
            if len(events) == 1:
                return self._frames.token(events[0].text)  # type: ignore[union-attr]  # `text_only`: it is a TextDelta
            return self._frames.run([event.text for event in events])  # type: ignore[union-attr]  # they all are
        if self._ended:
            return b""
        frames: list[bytes] = []
        run: list[str] = []
        for event in events:
            if type(event) is TextDelta:  # nearly all events are; this test is ten times as fast as `match`
                run.append(event.text)
                continue
            match event:
                case RefusalDelta(text):  # the contract has no refusals, and the reader must see why there is no answer
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
                    pass  # the contract carries text only
        else:
            self._flowing = self._flowing or bool(run)
            frames.append(self._frames.run(run))
        return b"".join(frames)

    def ping(self) -> bytes:
        """A comment in a frame of its own: in front of a token it would hide the token from the chat hook."""
        return PING

    def whole(self, answer: Answer) -> Reply:
        """The answer for `"stream": false`. Raises `UntoldAnswer` for one that holds nothing but images."""
        if answer.only_media:
            raise UntoldAnswer
        return Reply(200, msgspec.json.encode({"text": mended(answer.text + answer.refusal)}), JSON)

    def failure(self, error: ProxyError) -> Reply:
        return failure(error, self._request_id)

    def _finish(self) -> bytes:
        if self._media and not self._flowing:
            raise UntoldAnswer
        self._ended, self._flowing = True, False
        lost = self._notice(_LOST_MEDIA) if self._media else b""
        return self._frames.finish() + lost + DONE

    def _notice(self, notice: Notice) -> bytes:
        """A named event where readers look at event names, else a comment."""
        match self._dialect:
            case "json":
                return b'event: notice\ndata:{"notice":%b}\n\n' % notice_json(notice)
            case "sse":
                return b"event: notice\ndata:%b\n\n" % on_one_line(notice.message).encode()
            case "text" | "both":
                return b": notice: %b\n\n" % on_one_line(notice.message).encode()

    def _fault(self, error: ProxyError) -> bytes:
        """The text that was held back, the visible token if one is wanted, and the error frame."""
        message = error_line(error)
        shown = self._frames.token(f"\n[error: {message}]") if self._shows_errors else b""
        data = encode_error(error, self._request_id) if self._dialect == "json" else message.encode()
        return shown + self._frames.finish() + b"event: error\ndata:" + data + b"\n\n"


def failure(error: ProxyError, request_id: str) -> Reply:
    """An error instead of an answer."""
    return Reply(error.status, encode_error(error, request_id), error_headers(error))
