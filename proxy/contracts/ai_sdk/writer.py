"""Write answers as UI message streams, version 1, of the Vercel AI SDK.

https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol: each event is one JSON object. The message starts, its step starts,
parts with an id begin, grow and end, the step ends, the message ends, then `[DONE]`. A client fails the whole answer
at an event of an unknown type, so only types that versions 5.0.95, 6 and 7 all know are written. A stream that broke
off ends with an `error` event, and nothing follows it.
"""

from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

from proxy.contracts.ai_sdk.request import SIGNATURE_KEY
from proxy.contracts.base import Reply
from proxy.contracts.replies import EVENT_STREAM, JSON, TEXT, error_headers
from proxy.errors import ProxyError
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
from proxy.request import Answer, ToolCall, Usage
from proxy.wire.json_text import json_line, json_string
from proxy.wire.omissions import notice_json
from proxy.wire.text import error_line, mended
from proxy.wire.usage import camel_counts

STREAM_HEADERS: Mapping[str, str] = {**EVENT_STREAM, "X-Vercel-AI-UI-Message-Stream": "v1"}

PING = b": keep-alive\n\n"
"""The heartbeat that the SDK's own server sends."""

NOT_JSON = "The model wrote arguments that are no JSON."

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
    """A tool call that is being written. `head` is the beginning of each of its delta events."""

    __slots__ = ("arguments", "head", "id", "name")

    def __init__(self, id: bytes, name: bytes) -> None:
        self.id, self.name = id, name
        self.head = b'data: {"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":' % id
        self.arguments: list[str] = []


class AISDKWriter:
    """Writes one answer, streamed or whole.

    The streamed message gets no id. The client makes one, or continues the message whose tools it answered; an id of
    ours would split that message in two. With `usage` the token counts go into the message's metadata at its end; they
    could fail an app that checks its metadata, so only a request for them gets them. `id` makes the ids of calls and
    sources unique.
    """

    headers = STREAM_HEADERS
    early = False

    def __init__(self, *, id: str, usage: bool = False, abort_on_fault: bool = False) -> None:
        self.abort_on_fault, self._id, self._usage = abort_on_fault, id, usage
        self._model = ""
        self._started = False
        self._ended = False
        self._open = ""  # the kind of the open part: text or reasoning
        self._parts = 0
        self._sources = 0
        self._part = b""  # the id of the open part
        self._head = b""  # the beginning of each of its delta events
        self._signature = ""
        self._calls: dict[int, _Call] = {}

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch; after a terminal event, the end of the body."""
        if self._ended:
            return b""
        return b"".join([self._event(event) for event in batch.events])

    def ping(self) -> bytes:
        return PING

    def whole(self, answer: Answer) -> Reply:
        return Reply(200, whole_message(answer, id=self._id), JSON)

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text) | RefusalDelta(text):  # the contract has no refusals, so a refusal is text
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
            case Notice():  # transient: the app sees it, the message does not keep it
                return b'data: {"type":"data-notice","data":%b,"transient":true}\n\n' % notice_json(event)
            case Finish(reason, usage):
                return self._finish(event.upstream_reason or reason, usage)
            case Fault(error):
                self._ended = True
                return self._close() + b'data: {"type":"error","errorText":%b}\n\n' % json_string(error_line(error))
            case _:
                assert_never(event)

    def _start(self, model: str) -> bytes:
        self._model = model or self._model
        if self._started:  # a second upstream continues the answer
            return b""
        self._started = True
        return _START

    def _begin(self, kind: str) -> bytes:
        """Close the open part and open one of this kind."""
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
        metadata = b""
        if self._signature:
            metadata = b',"providerMetadata":' + _encode(_signature_metadata(self._signature))
            self._signature = ""
        return b'data: {"type":"%b-end","id":%b%b}\n\n' % (kind, self._part, metadata)

    def _call(self, index: int, id: str, name: str) -> bytes:
        call = self._calls[index] = _Call(json_string(id or f"call-{self._id}-{index}"), json_string(name))
        return b'data: {"type":"tool-input-start","toolCallId":%b,"toolName":%b}\n\n' % (call.id, call.name)

    def _source(self, url: str, title: str) -> bytes:
        self._sources += 1
        titled = b',"title":%b' % json_string(title) if title else b""
        return b'data: {"type":"source-url","sourceId":%b,"url":%b%b}\n\n' % (
            json_string(f"{self._id}-{self._sources}"),
            json_string(url),
            titled,
        )

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        """The end. Calls are completed only here, because an app runs a tool as soon as its input is available."""
        self._ended = True
        end: dict[str, Any] = {"type": "finish", "finishReason": _REASONS.get(reason, "other")}
        if self._usage:
            end["messageMetadata"] = _metadata(self._model, usage)
        calls = [_complete(call) for _, call in sorted(self._calls.items())]
        return b"".join([self._close(), *calls, _STEP_END, b"data: %b\n\n" % _encode(end), _DONE])


def _complete(call: _Call) -> bytes:
    """The event that ends a call: its input, or an error where the model wrote no JSON."""
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
        NOT_JSON.encode(),
    )


def whole_message(answer: Answer, *, id: str) -> bytes:
    """A whole answer as one UI message: the value that `useChat` makes of the stream."""
    parts: list[dict[str, Any]] = [{"type": "step-start"}]
    if answer.reasoning or answer.reasoning_signature:
        signature = answer.reasoning_signature
        signed = {"providerMetadata": _signature_metadata(signature)} if signature else {}
        parts.append({"type": "reasoning", "text": mended(answer.reasoning), "state": "done"} | signed)
    if answer.text or answer.refusal:
        parts.append({"type": "text", "text": mended(answer.text + answer.refusal), "state": "done"})
    for number, (url, title) in enumerate(answer.sources, 1):
        source = {"type": "source-url", "sourceId": f"{id}-{number}", "url": url}
        parts.append(source | ({"title": title} if title else {}))
    parts += [{"type": "file", "mediaType": media_type, "url": url} for media_type, url in answer.media]
    parts += [_whole_call(call) for call in answer.tool_calls]
    metadata = {
        "finishReason": _REASONS.get(answer.upstream_reason or answer.finish_reason, "other"),
        **_metadata(answer.model, answer.usage),
    }
    return _encode({"id": id, "role": "assistant", "metadata": metadata, "parts": parts})


def _whole_call(call: ToolCall) -> dict[str, Any]:
    part: dict[str, Any] = {"type": f"tool-{call.name}", "toolCallId": call.id}
    line = json_line(call.arguments or "{}")
    if line is not None:
        return part | {"state": "input-available", "input": msgspec.Raw(line)}
    return part | {"state": "output-error", "rawInput": call.arguments, "errorText": NOT_JSON}


def _signature_metadata(signature: str) -> dict[str, Any]:
    return {SIGNATURE_KEY: {"signature": signature}}


def _metadata(model: str, usage: Usage | None) -> dict[str, Any]:
    """The model that answered, and its token counts."""
    metadata: dict[str, Any] = {"model": model} if model else {}
    return metadata | ({"usage": camel_counts(usage)} if usage is not None else {})


def failure(error: ProxyError) -> Reply:
    """An error instead of an answer. The hooks show the body as `error.message`, so it is a sentence and not JSON."""
    return Reply(error.status, error_line(error).encode(), error_headers(error, TEXT))
