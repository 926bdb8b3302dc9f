"""Write answers as Ollama does: one JSON object per line; the last has `"done": true`, counts and times.

https://docs.ollama.com/api/chat. A stream that broke off ends with the line `{"error": "…"}` and never with a `done`
line; then the connection is cut, because Open WebUI 0.12 reads no error line and shows what came as complete. The
heartbeat is a line with empty text, which adds nothing to the answer in any client. Tool calls are written at the end
of the answer, because only then are their arguments known to be complete.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import assert_never

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.replies import LIVE, error_headers, json_reply
from proxy.errors import BrokenToolCall, ProxyError, UntoldAnswer
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, ChatRequest, ToolCall, Usage
from proxy.wire.json_text import json_string, without_separators
from proxy.wire.whole_calls import whole_calls

STREAM_HEADERS: Mapping[str, str] = {"Content-Type": "application/x-ndjson", **LIVE}

QUIET_S = 10
"""Seconds without a line while tool calls are collected. Then a heartbeat follows, for clients give up on silence."""

_SECOND = 10**9  # in nanoseconds
_DONE_REASONS = {"tool_calls": "stop"}

_encode = msgspec.json.Encoder().encode


class Form(msgspec.Struct, frozen=True):
    """How an endpoint writes content: the bytes before a text, before reasoning, and after either."""

    text: bytes
    thinking: bytes
    end: bytes


CHAT = Form(
    text=b'"message":{"role":"assistant","content":',
    thinking=b'"message":{"role":"assistant","content":"","thinking":',
    end=b"}",
)
GENERATE = Form(text=b'"response":', thinking=b'"response":"","thinking":', end=b"")


class OllamaWriter:
    """Writes one answer, streamed or whole.

    The beginning of a line (model and time) is encoded once per second; all lines of one batch carry the same time.
    `now_ns` is the Unix time at the start, `clock` a monotonic clock; both are in nanoseconds.
    """

    headers = STREAM_HEADERS
    early = False

    def __init__(
        self, form: Form, request: ChatRequest, *, now_ns: int, clock: Callable[[], int], abort_on_fault: bool = True
    ) -> None:
        self.abort_on_fault, self._form = abort_on_fault, form
        self._tail = form.end + b',"done":false}\n'
        self._asked = request.estimated_tokens()
        self._model = request.model or ""
        self._clock = clock
        self._began = clock()
        self._to_unix = now_ns - self._began
        self._second = -1
        self._until_second = b""
        self._head = b""
        self._first: int | None = None  # when the first content came
        self._wrote = self._began
        self._pieces = 0  # of text, reasoning and arguments: about one token each
        self._text_pieces = 0
        self._media = False
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._unsent: list[bytes] = []

    def feed(self, batch: Batch) -> bytes:
        """The lines of a batch. Raises `BrokenToolCall` or `UntoldAnswer` for an answer that this contract cannot carry."""
        now = self._clock()
        self._date(now)
        events = batch.events
        if self._first is None:
            self._first = now if batch.has_content else None
        elif len(events) == 1 and type(event := events[0]) is TextDelta:  # most batches are one piece of text
            self._pieces += 1
            self._text_pieces += 1
            self._wrote = now
            return b"%b%b%b%b" % (self._head, self._form.text, _string(event.text), self._tail)
        lines, self._unsent = self._unsent, []
        try:
            for event in events:
                if line := self._event(event, now):
                    lines.append(line)
        except (BrokenToolCall, UntoldAnswer):
            self._unsent = lines  # they go out before the error
            raise
        if lines:
            self._wrote = now
            return b"".join(lines)
        return self.ping() if now - self._wrote > QUIET_S * _SECOND else b""

    def ping(self) -> bytes:
        """A line with empty text."""
        self._wrote = self._clock()
        self._date(self._wrote)
        return b'%b%b""%b' % (self._head, self._form.text, self._tail)

    def whole(self, answer: Answer) -> Reply:
        """A whole answer. Raises as `feed` does. `prompt_eval_duration` is 0: the first token's time is not known."""
        if answer.only_media:
            raise UntoldAnswer
        now = self._clock()
        self._model = answer.model or self._model
        self._date(now)
        text = answer.text + answer.refusal
        pieces = -(-(len(text) + len(answer.reasoning)) // 4)  # about four characters per token
        content = [self._form.text, _string(text)]
        if answer.reasoning:
            content += [b',"thinking":', _string(answer.reasoning)]
        if calls := self._written(answer.tool_calls, answer.finish_reason):
            content += [b',"tool_calls":[', calls, b"]"]
        content.append(self._form.end)
        measured = self._measured(self._began, now, answer.usage, pieces)
        return json_reply(self._done(b"".join(content), answer.upstream_reason or answer.finish_reason, measured))

    def loaded(self, reason: str) -> bytes:
        """The answer to a request that only loads a model (`reason` is `load`), or unloads it (`unload`)."""
        self._date(self._clock())
        return self._done(b'%b""%b' % (self._form.text, self._form.end), reason, {})

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)

    def _event(self, event: StreamEvent, now: int) -> bytes:
        match event:
            case TextDelta(text) | RefusalDelta(text):  # the contract has no refusals, so a refusal is text
                self._pieces += 1
                self._text_pieces += 1
                return b"%b%b%b%b" % (self._head, self._form.text, _string(text), self._tail)
            case ReasoningDelta(text):
                self._pieces += 1
                return b"%b%b%b%b" % (self._head, self._form.thinking, _string(text), self._tail)
            case ToolCallDelta(index, arguments):
                self._pieces += 1
                if call := self._calls.get(index):
                    call[2].append(arguments)
                return b""
            case ToolCallStart(index, id_, name):
                self._calls[index] = (id_, name, [])
                return b""
            case Start(_, model):
                if model and model != self._model:
                    self._model, self._second = model, -1
                    self._date(now)
                return b""
            case Media():
                self._media = True
                return b""
            case Source() | ReasoningSignature() | Notice():
                return b""  # the contract has no place for it
            case Finish(reason, usage):
                return self._finish(reason, event.upstream_reason or reason, usage, now)
            case Fault(error):
                return error_body(error) + b"\n"
            case _:
                assert_never(event)

    def _finish(self, reason: str, told: str, usage: Usage | None, now: int) -> bytes:
        if self._media and not self._calls and not self._text_pieces:
            raise UntoldAnswer
        made = (ToolCall(id_, name, "".join(pieces)) for _, (id_, name, pieces) in sorted(self._calls.items()))
        line = b""
        if calls := self._written(made, reason):
            line = b'%b%b"","tool_calls":[%b]%b' % (self._head, self._form.text, calls, self._tail)
        measured = self._measured(now if self._first is None else self._first, now, usage, self._pieces)
        return line + self._done(b'%b""%b' % (self._form.text, self._form.end), told, measured) + b"\n"

    def _written(self, calls: Iterable[ToolCall], reason: str) -> bytes:
        """The calls of a complete answer. A call that the token limit cut short is left out: clients would run it."""
        if self._form is GENERATE:
            return b""  # /api/generate takes no tools, so it has no place for calls
        written: list[bytes] = []
        for call, arguments in whole_calls(calls, reason):
            function = b'{"index":%d,"name":%b,"arguments":%b}' % (len(written), _string(call.name), arguments)
            id_ = b'"id":%b,' % _string(call.id) if call.id else b""
            written.append(b'{%b"function":%b}' % (id_, function))
        return b",".join(written)

    def _done(self, content: bytes, reason: str, measured: dict[str, int]) -> bytes:
        """The object that ends an answer."""
        end = {"done": True, "done_reason": _DONE_REASONS.get(reason, reason), **measured}
        return b"%b%b,%b" % (self._head, content, _encode(end)[1:])

    def _measured(self, first: int, now: int, usage: Usage | None, pieces: int) -> dict[str, int]:
        """Token counts, the upstream's or else estimates, and times in nanoseconds. No model had to be loaded."""
        return {
            "total_duration": now - self._began,
            "load_duration": 0,
            "prompt_eval_count": self._asked if usage is None else usage.input_tokens,
            "prompt_eval_duration": first - self._began,
            "eval_count": pieces if usage is None else usage.output_tokens,
            "eval_duration": max(now - first, 1),  # clients divide by it
        }

    def _date(self, now: int) -> None:
        """Set the beginning of the lines that are written at `now`."""
        second, rest = divmod(self._to_unix + now, _SECOND)
        if second != self._second:
            self._second = second
            date = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
            self._until_second = b'{"model":%b,"created_at":"%b.' % (_string(self._model), date)
        self._head = b'%b%06dZ",' % (self._until_second, rest // 1000)


def error_body(error: ProxyError) -> bytes:
    """An error, as a body or as the last line of a stream."""
    return b'{"error":%b}' % _string(error.message or error.code)


def failure(error: ProxyError) -> Reply:
    """An error instead of an answer."""
    return Reply(error.status, error_body(error), error_headers(error))


def _string(text: str) -> bytes:
    return without_separators(json_string(text))  # Ollama's Python client splits lines by `str.splitlines`
