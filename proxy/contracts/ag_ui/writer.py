"""Write answers as runs of AG-UI: `RUN_STARTED`, messages and tool calls, then `RUN_FINISHED` or `RUN_ERROR`.

https://docs.ag-ui.com/concepts/events. Each event is one JSON object without nulls and empty deltas. Nothing follows
the end, not even `[DONE]`, which clients take for broken JSON. A client fails its whole run at an event that it does
not know, and clients of 0.0.x do not name their version: they get the events that all versions since 0.0.37 know, and
a client that names its version gets more.

A client may run the tools of all calls in its messages as soon as a run has ended, also after `RUN_ERROR` and without
`TOOL_CALL_END` (CopilotKit does). So a run that fails with calls sends `MESSAGES_SNAPSHOT` first: the conversation
without these calls. Versions 0.0.37 to 1.0 of the client then drop them (tried: 0.0.37, 0.0.40, 0.0.45, 0.0.52, 0.0.59, 1.0).
"""

import re
from typing import Any, assert_never

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.replies import EVENT_STREAM, TEXT, error_headers
from proxy.errors import BrokenToolCall, InternalError, ProxyError
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
from proxy.request import Answer, Usage
from proxy.wire.json_text import json_line, json_string
from proxy.wire.omissions import notice_json
from proxy.wire.sse import PING
from proxy.wire.text import error_line, mended
from proxy.wire.usage import camel_counts

PROTOCOL_VERSION = "1.0"
"""The version of the protocol that clients of 1.0 and later get."""

_TAIL = b"}\n\n"
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){1,2}")

_encode = msgspec.json.Encoder().encode


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that its answer repeats. `version` is the client's protocol version, if it names one.

    `messages` are the request's messages as a JSON array; empty if they are not known.
    """

    thread_id: str
    run_id: str
    parent_run_id: str | None = None
    version: str | None = None
    messages: bytes = b""


class _Call:
    """A tool call that is being written. `head` is the beginning of each of its `TOOL_CALL_ARGS` events."""

    __slots__ = ("arguments", "head", "id", "name")

    def __init__(self, id: str, name: str) -> None:
        self.id, self.name = id, name
        self.head = b'data: {"type":"TOOL_CALL_ARGS","toolCallId":%b,"delta":' % json_string(id)
        self.arguments: list[str] = []

    def end(self) -> bytes:
        """The event that ends it, after the empty object if it has no arguments."""
        arguments = b"" if self.arguments else b'%b"{}"%b' % (self.head, _TAIL)
        return b'%bdata: {"type":"TOOL_CALL_END","toolCallId":%b}\n\n' % (arguments, json_string(self.id))

    @property
    def broken(self) -> bool:
        """Whether its arguments are no JSON, for example because the answer reached its token limit inside them."""
        return bool(self.arguments) and json_line("".join(self.arguments)) is None


class AGUIWriter:
    """Writes one run.

    The answer's text and tool calls form one message, `message_id`, so the client sends them back as upstreams expect
    them. The id must differ from the ids of all other messages in the thread.
    """

    headers = EVENT_STREAM
    early = False

    def __init__(self, run: Run, *, message_id: str, abort_on_fault: bool = False) -> None:
        self.abort_on_fault, self._run = abort_on_fault, run
        version = _numbers(run.version)
        self._is_v1 = version >= (1, 0)
        self._reasoning = _reasoning_events(version)
        self._id = message_id
        self._message = json_string(message_id)
        self._text_head = b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":' % self._message
        self._model = ""
        self._started = False
        self._ended = False
        self._open = ""  # the kind of the open part: text or reasoning
        self._thoughts = 0
        self._thought = b""  # the id of the open reasoning
        self._thought_head = b""  # the beginning of each of its delta events
        self._signature = ""
        self._written: list[dict[str, Any]] = []  # the messages of this answer, for a snapshot
        self._text: list[str] = []  # the pieces of its text
        self._thought_text: list[str] = []  # and of the open reasoning
        self._calls: dict[int, _Call] = {}
        self._unsent = b""

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch; after a terminal event, the end of the body.

        Raises `BrokenToolCall` for an answer that the protocol cannot carry.
        """
        if self._ended:
            return b""
        events = batch.events
        if events and isinstance(end := events[-1], Finish):
            return self._finished(events, end.reason)
        return b"".join([self._event(event) for event in events])

    def ping(self) -> bytes:
        return PING

    def whole(self, answer: Answer) -> Reply:  # noqa: ARG002 - `decode_request` makes no unstreamed requests
        return self.failure(InternalError("a run is always streamed"))

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text) | RefusalDelta(text):  # the protocol has no refusals, so a refusal is text
                if not text:
                    return b""
                self._text.append(text)
                if self._open == "text":
                    return b"%b%b%b" % (self._text_head, json_string(text), _TAIL)
                return b"%b%b%b%b" % (self._begin_text(), self._text_head, json_string(text), _TAIL)
            case ReasoningDelta(text):
                if not text or not self._reasoning:
                    return b""
                begin = b"" if self._open == "reasoning" and not self._signature else self._begin_reasoning()
                self._thought_text.append(text)
                return b"%b%b%b%b" % (begin, self._thought_head, json_string(text), _TAIL)
            case ToolCallDelta(index, arguments):
                call = self._calls.get(index)
                if call is None or not arguments:
                    return b""
                call.arguments.append(arguments)
                return b"%b%b%b" % (call.head, json_string(arguments), _TAIL)
            case ToolCallStart(index, id_, name):
                return self._close() + self._call(index, id_, name)
            case ReasoningSignature(signature):
                return self._sign(signature)
            case Start(_, model):
                return self._start(model)
            case Source(url, title):
                return _custom(b"source", b'"url":%b,"title":%b' % (json_string(url), json_string(title)))
            case Media(media_type, url):
                return _custom(b"file", b'"mediaType":%b,"url":%b' % (json_string(media_type), json_string(url)))
            case Notice():
                return _custom(b"notice", notice_json(event)[1:-1])
            case Finish(reason, usage):
                return self._end(event.upstream_reason or reason, usage)
            case Fault(error, usage):
                return self._fault(error, usage)
            case _:
                assert_never(event)

    def _start(self, model: str) -> bytes:
        self._model = model or self._model
        if self._started:  # a second upstream continues the answer
            return b""
        self._started = True
        event = {"type": "RUN_STARTED", "threadId": self._run.thread_id, "runId": self._run.run_id}
        if self._run.parent_run_id is not None:
            event["parentRunId"] = self._run.parent_run_id
        if self._is_v1:
            event["protocolVersion"] = PROTOCOL_VERSION
        return _frame(event)

    def _begin_text(self) -> bytes:
        closed = self._close()
        self._open = "text"
        if len(self._text) == 1:
            self._written.append({"id": self._id, "role": "assistant", "content": self._text})
        return b'%bdata: {"type":"TEXT_MESSAGE_START","messageId":%b,"role":"assistant"}\n\n' % (closed, self._message)

    def _begin_reasoning(self) -> bytes:
        closed = self._close()
        self._open = "reasoning"
        self._thoughts += 1
        self._thought_text = []
        id_ = f"{self._id}-reasoning-{self._thoughts}"
        self._thought = json_string(id_)
        if self._reasoning == "THINKING":
            self._thought_head = b'data: {"type":"THINKING_TEXT_MESSAGE_CONTENT","delta":'
            return closed + b'data: {"type":"THINKING_START"}\n\ndata: {"type":"THINKING_TEXT_MESSAGE_START"}\n\n'
        self._written.append({"id": id_, "role": "reasoning", "content": self._thought_text})
        self._thought_head = b'data: {"type":"REASONING_MESSAGE_CONTENT","messageId":%b,"delta":' % self._thought
        return (
            b'%bdata: {"type":"REASONING_START","messageId":%b}\n\n'
            b'data: {"type":"REASONING_MESSAGE_START","messageId":%b,"role":"reasoning"}\n\n'
        ) % (closed, self._thought, self._thought)

    def _sign(self, signature: str) -> bytes:
        """Keep the signature until its reasoning ends. Reasoning without text still gets a message to carry it."""
        if self._reasoning != "REASONING":
            return b""
        begin = b"" if self._open == "reasoning" else self._begin_reasoning()
        self._signature += signature
        return begin

    def _close(self) -> bytes:
        kind, self._open = self._open, ""
        if kind == "text":
            return b'data: {"type":"TEXT_MESSAGE_END","messageId":%b}\n\n' % self._message
        if kind == "reasoning":
            return self._close_reasoning()
        return b""

    def _close_reasoning(self) -> bytes:
        if self._reasoning == "THINKING":
            return b'data: {"type":"THINKING_TEXT_MESSAGE_END"}\n\ndata: {"type":"THINKING_END"}\n\n'
        signature = b""
        if self._signature:
            signature = (
                b'data: {"type":"REASONING_ENCRYPTED_VALUE","subtype":"message","entityId":%b,"encryptedValue":%b}\n\n'
            ) % (self._thought, json_string(self._signature))
            self._written[-1]["encryptedValue"] = self._signature
            self._signature = ""
        return (
            b'data: {"type":"REASONING_MESSAGE_END","messageId":%b}\n\n'
            b'%bdata: {"type":"REASONING_END","messageId":%b}\n\n'
        ) % (self._thought, signature, self._thought)

    def _call(self, index: int, id: str, name: str) -> bytes:
        call = self._calls[index] = _Call(id or f"{self._id}-call-{index}", name)
        return b'data: {"type":"TOOL_CALL_START","toolCallId":%b,"toolCallName":%b,"parentMessageId":%b}\n\n' % (
            json_string(call.id),
            json_string(name),
            self._message,
        )

    def _finished(self, events: list[StreamEvent], reason: str) -> bytes:
        """The end of an answer. Only now the arguments of its calls are known to be complete.

        A call whose arguments are no JSON is never ended: a client would run its tool with empty arguments.
        """
        content = b"".join([self._event(event) for event in events[:-1]])
        for call in self._calls.values():
            if call.broken:
                self._unsent = content  # it goes out before the error
                cut = f": the answer was cut short ({reason})" if reason in ("length", "content_filter") else ""
                raise BrokenToolCall(f"the model called {call.name[:64]!r} with arguments that are no JSON{cut}")
        return content + self._event(events[-1])

    def _end(self, reason: str, usage: Usage | None) -> bytes:
        calls = [call for _, call in sorted(self._calls.items())]
        self._ended = True
        end: dict[str, Any] = {"type": "RUN_FINISHED", "threadId": self._run.thread_id, "runId": self._run.run_id}
        if self._is_v1:
            end["outcome"] = {"type": "success"}
            if calls:
                end["outcome"]["pendingToolCallIds"] = [call.id for call in calls]
            end["metadata"] = {"finishReason": reason}
            end |= self._usage(usage)
        return b"".join([self._close(), *[call.end() for call in calls], _frame(end)])

    def _fault(self, error: ProxyError, usage: Usage | None) -> bytes:
        """The error that ends the run. Open text is closed first; an open call is not, for it is not complete."""
        self._ended = True
        end: dict[str, Any] = {"type": "RUN_ERROR", "message": error_line(error), "code": error.code}
        if self._is_v1:
            end |= self._usage(usage)
        return b"".join([self._unsent, self._close(), self._without_calls(), _frame(end)])

    def _without_calls(self) -> bytes:
        """The conversation and this answer without its calls, so that no client runs them; nothing if it has none."""
        if not self._calls or not self._run.messages:
            return b""
        written = [{**message, "content": mended("".join(message["content"]))} for message in self._written]
        messages = self._run.messages if not written else b"%b,%b" % (self._run.messages[:-1], _encode(written)[1:])
        return b'data: {"type":"MESSAGES_SNAPSHOT","messages":%b}\n\n' % messages

    def _usage(self, usage: Usage | None) -> dict[str, Any]:
        if usage is None:
            return {}
        model = {"model": self._model} if self._model else {}
        return {"usage": [{**model, **camel_counts(usage)}]}


def _numbers(version: str | None) -> tuple[int, ...]:
    """A version as numbers. None is the lowest version; one that is not a version counts as 1.0."""
    if version is None:
        return ()
    return tuple(map(int, version.split("."))) if _VERSION.fullmatch(version) else (1, 0)


def _reasoning_events(version: tuple[int, ...]) -> str:
    """The prefix of the events that carry reasoning; none if the client names no version, for no name fits all."""
    if version >= (0, 0, 45):
        return "REASONING"
    return "THINKING" if version >= (0, 0, 37) else ""


def failure(error: ProxyError) -> Reply:
    """An error instead of a run. Pages show the client's `HTTP <status>: <body>`, so the body is a sentence, not JSON."""
    return Reply(error.status, error_line(error).encode(), error_headers(error, TEXT))


def _custom(name: bytes, fields: bytes) -> bytes:
    return b'data: {"type":"CUSTOM","name":"%b","value":{%b}}\n\n' % (name, fields)


def _frame(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % _encode(event)
