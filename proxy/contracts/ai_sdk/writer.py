"""Writing answers as UI message streams, version 1, of the Vercel AI SDK.

https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol: one JSON object an event: the message's start, its step, parts
with an id that begin, grow and end, the step's end, the message's end, `[DONE]`. An event of an unknown type fails
the whole answer in the client, so only those are written that versions 5.0.95, 6 and 7 all know. A stream that broke
off ends with an `error` event and nothing after it.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from proxy.contracts.ai_sdk.request import SEALED
from proxy.errors import ProxyError
from proxy.events import (
    Batch,
    Fault,
    Finish,
    FinishReason,
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
from proxy.request import Answer, ToolCall, Usage
from proxy.wire.json_text import json_line, json_string
from proxy.wire.omissions import notice_json
from proxy.wire.text import error_line, mended
from proxy.wire.usage import camel_counts

PING = b": keep-alive\n\n"
"""What the SDK's own server sends."""

NO_JSON = "The model wrote arguments that are no JSON."

_START = b'data: {"type":"start"}\n\ndata: {"type":"start-step"}\n\n'
_STEP_END = b'data: {"type":"finish-step"}\n\n'
_DONE = b"data: [DONE]\n\n"
_TAIL = b"}\n\n"

_REASONS: dict[str, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
}

_encode = msgspec.json.Encoder().encode


class _Call:
    """A tool call that is being written. `head` is what all its deltas begin with."""

    __slots__ = ("arguments", "head", "id", "name")

    def __init__(self, id: bytes, name: bytes) -> None:
        self.id, self.name = id, name
        self.head = b'data: {"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":' % id
        self.arguments: list[str] = []


class StreamWriter:
    """Writes one streamed answer.

    The message gets no id: the client gives it one, or goes on with the message whose tools it answered, which an
    id of ours would break in two. `usage` asks for the tokens in the message's metadata, at its end; unasked
    they could fail an app that checks its metadata. `id` tells the answer from others.
    """

    def __init__(self, *, id: str, usage: bool = False) -> None:
        self._id = id
        self._usage = usage
        self._model = ""
        self._started = False
        self._ended = False
        self._open = ""  # the kind of part that is open, text or reasoning
        self._parts = 0
        self._sources = 0
        self._part = b""  # the id of the open part
        self._head = b""  # what all its deltas begin with
        self._signature = ""
        self._calls: dict[int, _Call] = {}

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch; after a terminal event, the end of the body."""
        if self._ended:
            return b""
        return b"".join([self._event(event) for event in batch.events])

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text) | RefusalDelta(text):  # the contract knows no refusals: they are what was said
                if self._open == "text":
                    return b"%b%b%b" % (self._head, json_string(text), _TAIL)
                return b"%b%b%b%b" % (self._begin("text"), self._head, json_string(text), _TAIL)
            case ReasoningDelta(text):
                begin = b"" if self._open == "reasoning" and not self._signature else self._begin("reasoning")
                return b"%b%b%b%b" % (begin, self._head, json_string(text), _TAIL)
            case ToolCallDelta(index, arguments):
                call = self._calls.get(index)
                if call is None:
                    return b""
                call.arguments.append(arguments)
                return b"%b%b%b" % (call.head, json_string(arguments), _TAIL)
            case ToolCallStart(index, id_, name):
                return self._close() + self._call(index, id_, name)
            case ReasoningSignature(signature):
                begin = b"" if self._open == "reasoning" else self._begin("reasoning")
                self._signature += signature
                return begin
            case Start(_, model):
                return self._start(model)
            case Source(url, title):
                return self._source(url, title)
            case Media(media_type, url):
                return b'data: {"type":"file","url":%b,"mediaType":%b}\n\n' % (
                    json_string(url),
                    json_string(media_type),
                )
            case Notice():  # transient: told to the app, and no part of the message
                return b'data: {"type":"data-notice","data":%b,"transient":true}\n\n' % notice_json(event)
            case Finish(reason, usage):
                return self._finish(reason, usage)
            case Fault(error):
                self._ended = True
                return self._close() + b'data: {"type":"error","errorText":%b}\n\n' % json_string(error_line(error))
            case _:
                assert_never(event)

    def _start(self, model: str) -> bytes:
        self._model = model or self._model
        if self._started:  # a second upstream goes on with the answer
            return b""
        self._started = True
        return _START

    def _begin(self, kind: str) -> bytes:
        """Open a part; what was open is closed."""
        closed = self._close()
        self._parts += 1
        self._open = kind
        self._part = b'"%b-%d"' % (kind.encode(), self._parts)
        self._head = b'data: {"type":"%b-delta","id":%b,"delta":' % (kind.encode(), self._part)
        return b'%bdata: {"type":"%b-start","id":%b}\n\n' % (closed, kind.encode(), self._part)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        kind, self._open = self._open.encode(), ""
        seal = b""
        if self._signature:
            seal = b',"providerMetadata":' + _encode(_seal(self._signature))
            self._signature = ""
        return b'data: {"type":"%b-end","id":%b%b}\n\n' % (kind, self._part, seal)

    def _call(self, index: int, id: str, name: str) -> bytes:
        call = self._calls[index] = _Call(json_string(id or f"call-{self._id}-{index}"), json_string(name))
        return b'data: {"type":"tool-input-start","toolCallId":%b,"toolName":%b}\n\n' % (call.id, call.name)

    def _source(self, url: str, title: str) -> bytes:
        self._sources += 1
        called = b',"title":%b' % json_string(title) if title else b""
        return b'data: {"type":"source-url","sourceId":%b,"url":%b%b}\n\n' % (
            json_string(f"{self._id}-{self._sources}"),
            json_string(url),
            called,
        )

    def _finish(self, reason: FinishReason, usage: Usage | None) -> bytes:
        """The end. Only here a call's arguments are known to be complete: an app acts on them at once."""
        self._ended = True
        end: dict[str, Any] = {"type": "finish", "finishReason": _REASONS[reason]}
        if self._usage:
            end["messageMetadata"] = _metadata(self._model, usage)
        calls = [_called(call) for _, call in sorted(self._calls.items())]
        return b"".join([self._close(), *calls, _STEP_END, b"data: %b\n\n" % _encode(end), _DONE])


def _called(call: _Call) -> bytes:
    arguments = "".join(call.arguments)
    line = json_line(arguments or "{}")
    if line is not None:
        return b'data: {"type":"tool-input-available","toolCallId":%b,"toolName":%b,"input":%b}\n\n' % (
            call.id,
            call.name,
            line,
        )
    return b'data: {"type":"tool-input-error","toolCallId":%b,"toolName":%b,"input":%b,"errorText":"%b"}\n\n' % (
        call.id,
        call.name,
        json_string(arguments),
        NO_JSON.encode(),
    )


def whole_message(answer: Answer, *, id: str) -> bytes:
    """A whole answer as one UI message, the value that `useChat` would have made of the stream."""
    parts: list[dict[str, Any]] = [{"type": "step-start"}]
    if answer.reasoning or answer.reasoning_signature:
        seal = {"providerMetadata": _seal(answer.reasoning_signature)} if answer.reasoning_signature else {}
        parts.append({"type": "reasoning", "text": mended(answer.reasoning), "state": "done"} | seal)
    if answer.text or answer.refusal:
        parts.append({"type": "text", "text": mended(answer.text + answer.refusal), "state": "done"})
    for number, (url, title) in enumerate(answer.sources, 1):
        source = {"type": "source-url", "sourceId": f"{id}-{number}", "url": url}
        parts.append(source | ({"title": title} if title else {}))
    parts += [{"type": "file", "mediaType": media_type, "url": url} for media_type, url in answer.media]
    parts += [_whole_call(call) for call in answer.tool_calls]
    metadata = {"finishReason": _REASONS.get(answer.finish_reason, "other"), **_metadata(answer.model, answer.usage)}
    return _encode({"id": id, "role": "assistant", "metadata": metadata, "parts": parts})


def _whole_call(call: ToolCall) -> dict[str, Any]:
    part: dict[str, Any] = {"type": f"tool-{call.name}", "toolCallId": call.id}
    line = json_line(call.arguments or "{}")
    if line is not None:
        return part | {"state": "input-available", "input": msgspec.Raw(line)}
    return part | {"state": "output-error", "rawInput": call.arguments, "errorText": NO_JSON}


def _seal(signature: str) -> dict[str, Any]:
    return {SEALED: {"signature": signature}}


def _metadata(model: str, usage: Usage | None) -> dict[str, Any]:
    """Who answered, and the tokens."""
    metadata: dict[str, Any] = {"model": model} if model else {}
    return metadata | ({"usage": camel_counts(usage)} if usage is not None else {})


def sentence(error: ProxyError) -> bytes:
    """An error before the stream: the client shows the body as it is, so it is a sentence and no JSON."""
    return error_line(error).encode()
