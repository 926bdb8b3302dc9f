"""Writing answers as OpenAI Chat Completions: chunks of a stream, or one whole completion.

A stream is a role chunk, deltas, a chunk with the finish reason, a usage chunk if it was asked for, and `[DONE]`
(https://platform.openai.com/docs/api-reference/chat-streaming). A stream that broke off ends with an error object
and never with `[DONE]`. There are no `id:` or `retry:` lines, because the official SDK fails on a comment after one.
"""

from typing import Any, assert_never

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.openai.custom_tools import CustomCalls, call_object
from proxy.contracts.openai.reasoning import FIELDS, Fields, delta, renamed, renamed_frames
from proxy.contracts.openai.stream import DIALECT
from proxy.contracts.replies import JSON, OpenAIStream
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
from proxy.request import Answer, Usage
from proxy.wire import sse
from proxy.wire.json_text import json_string
from proxy.wire.upstream_errors import error_body

END = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class OpenAIWriter(OpenAIStream):
    """Writes one answer, streamed or whole. See `Encoder`.

    Batches of this dialect go out as the payloads they came in; all others are written from their events. What
    chunks have in common is encoded once per answer, so a token costs one JSON string and a join.

    `id` is the completion's id, `created` its time in Unix seconds. `model` is told until the upstream names its own.
    `usage`: the client asked for a usage chunk. `functions`: the client asked in the form before tools, which knows
    one call. `customs`: the names of its custom tools. `reasoning`: the route's choice among `FIELDS`.
    """

    __slots__ = (
        "_created", "_custom_calls", "_customs", "_functions", "_head", "_id", "_model", "_no_usage", "_preamble",
        "_reasoning", "_renames", "_role_sent", "_tail", "_text_head", "_text_tail", "_usage", "abort_on_fault",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,
        model: str,
        created: int,
        usage: bool = False,
        functions: bool = False,
        customs: frozenset[str] = frozenset(),
        reasoning: str | None = None,
        abort_on_fault: bool = False,
    ) -> None:
        self.abort_on_fault = abort_on_fault
        self._reasoning = FIELDS[reasoning or "reasoning_content"]
        self._renames = reasoning is not None
        self._id, self._created, self._usage, self._functions = id, created, usage, functions
        self._customs = customs
        self._custom_calls = CustomCalls(customs) if customs else None
        self._role_sent = False
        self._model = model
        self._frame(model)

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch; after a terminal event, the end of the body."""
        if batch.dialect != DIALECT:
            return b"".join([self._event(event) for event in batch.events])
        if batch.text_only and not self._renames:  # as nearly all: the upstream's own chunks
            payloads = batch.payloads
            return payloads[0] if len(payloads) == 1 else b"".join(payloads)
        self._role_sent = True  # the upstream's own chunks bring it
        end = batch.terminal
        frames = renamed_frames(batch.payloads, self._reasoning) if self._renames else b"".join(batch.payloads)
        if end is None:
            return frames
        return frames + (END if isinstance(end, Finish) else _failed(end.error))

    def whole(self, answer: Answer) -> Reply:
        return Reply(200, self._body(answer), JSON)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text):
                return b"%b%b%b" % (self._text_head, json_string(text), self._text_tail)
            case Start(_, model):
                return self._start(model)
            case ReasoningDelta(text):
                return self._delta(delta(self._reasoning, json_string(text)))
            case RefusalDelta(text):
                return self._delta(b'{"refusal":%b}' % json_string(text))
            case ToolCallStart(index, _, name) if self._functions:
                return (
                    b"" if index else self._delta(b'{"function_call":{"name":%b,"arguments":""}}' % json_string(name))
                )
            case ToolCallDelta(index, arguments) if self._functions:
                return b"" if index else self._delta(b'{"function_call":{"arguments":%b}}' % json_string(arguments))
            case ToolCallStart(index, id_, name):
                if self._custom_calls and (custom := self._custom_calls.start(index, id_, name)):
                    return self._delta(custom)
                return self._delta(
                    b'{"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]}'
                    % (index, json_string(id_), json_string(name))
                )
            case ToolCallDelta(index, arguments):
                if self._custom_calls and self._custom_calls.add(index, arguments):
                    return b""
                return self._delta(
                    b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, json_string(arguments))
                )
            case Source(url, title):
                return self._delta(
                    b'{"annotations":[{"type":"url_citation","url_citation":{"url":%b,"title":%b}}]}'
                    % (json_string(url), json_string(title))
                )
            case Media(_, url):  # OpenRouter's form, the only one there is
                return self._delta(b'{"images":[{"type":"image_url","image_url":{"url":%b}}]}' % json_string(url))
            case ReasoningSignature() | Notice():
                return b""  # the contract has no place for it
            case Finish(reason, usage):
                inputs = self._custom_calls.finish(event) if self._custom_calls else ()
                return b"".join(map(self._delta, inputs)) + self._finish(event.upstream_reason or reason, usage)
            case Fault(error):
                return _failed(error)
            case _:
                assert_never(event)

    def _start(self, model: str) -> bytes:
        if model:
            self._frame(model)
        if self._role_sent:  # a second upstream goes on with the answer
            return b""
        self._role_sent = True
        return self._delta(b'{"role":"assistant","content":""}')

    def _delta(self, delta: bytes) -> bytes:
        return b"%b%b%b" % (self._head, delta, self._tail)

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        if self._functions and reason == "tool_calls":
            reason = "function_call"
        last = b'%b{},"logprobs":null,"finish_reason":%b}]%b}\n\n' % (self._head, json_string(reason), self._no_usage)
        if not self._usage or usage is None:  # unknown is not zero
            return last + END
        return b'%b%b"choices":[],"usage":%b}\n\n%b' % (last, self._preamble, _encode(counts(usage)), END)

    def _frame(self, model: str) -> None:
        """Encode what is the same in every chunk."""
        common = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": model}
        self._preamble = b"data: " + _encode(common)[:-1] + b","
        self._no_usage = b',"usage":null' if self._usage else b""
        self._head = self._preamble + b'"choices":[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null}]' + self._no_usage + b"}\n\n"
        self._text_head = self._head + b'{"content":'
        self._text_tail = b"}" + self._tail

    def _body(self, answer: Answer) -> bytes:
        """A whole completion: the upstream's own body where it spoke this dialect, else one built from the answer."""
        if answer.dialect == DIALECT and answer.payload:
            return renamed(answer.payload, self._reasoning) if self._renames else answer.payload
        message = _message(answer, self._reasoning)
        reason = answer.upstream_reason or answer.finish_reason
        if answer.tool_calls and self._functions:
            call = answer.tool_calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
            reason = "function_call" if reason == "tool_calls" else reason
        elif answer.tool_calls:
            message["tool_calls"] = [call_object(call, self._customs) for call in answer.tool_calls]
        completion: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": answer.model or self._model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        }
        if answer.usage is not None:  # unknown is not zero
            completion["usage"] = counts(answer.usage)
        return _encode(completion)


def _message(answer: Answer, reasoning: Fields) -> dict[str, Any]:
    """A completion's message, without its tool calls."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not (answer.tool_calls or answer.refusal) else None,
        "refusal": answer.refusal or None,
    }
    if answer.reasoning:
        message.update((field.decode(), answer.reasoning) for field in reasoning)
    if answer.sources:
        message["annotations"] = [
            {"type": "url_citation", "url_citation": {"url": url, "title": title}} for url, title in answer.sources
        ]
    if answer.media:
        message["images"] = [{"type": "image_url", "image_url": {"url": url}} for _, url in answer.media]
    return message


def counts(usage: Usage) -> dict[str, Any]:
    """Token counts in OpenAI's words."""
    told: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told


def _failed(error: ProxyError) -> bytes:
    return sse.encode(error_body(error))
