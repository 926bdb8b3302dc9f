"""Writing answers as Anthropic Messages: the events of a stream, or one whole message.

https://docs.anthropic.com/en/api/messages-streaming: `message_start`, blocks one after the other,
`message_delta` with the stop reason and the usage, `message_stop`. An answer that broke off ends with an `error`
event alone. A `message_stop`, or a `content_block_stop`, would make half a tool call look complete. Every event has
its name: the official SDKs skip events without one.
"""

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from proxy.contracts.anthropic.blocks import PING, BlockWriter
from proxy.contracts.anthropic.errors import error_body, failure
from proxy.contracts.anthropic.events import DIALECT, STOP_REASONS, write_usage
from proxy.contracts.base import Reply
from proxy.contracts.replies import EVENT_STREAM, JSON
from proxy.errors import ProxyError, UntoldAnswer
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
from proxy.request import Answer
from proxy.wire.whole_calls import whole_calls

_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_STOP_NAME = b"event: message_stop\n"


class AnthropicWriter:
    """Writes one answer. See `proxy.contracts.base.Encoder`.

    Batches of this dialect go out as the events they came in; all others are written from our events. `model` is
    sent where the upstream names none. `input_tokens` estimates the input: `message_start` has to tell a number, and
    other upstreams have not counted by then. The true count follows in `message_delta`.
    """

    early = False

    def __init__(
        self, *, id: str, request_id: str, model: str, input_tokens: Callable[[], int], abort_on_fault: bool = False
    ) -> None:
        self.abort_on_fault = abort_on_fault
        self.headers: Mapping[str, str] = {**EVENT_STREAM, "Request-Id": request_id}
        self._id, self._request_id, self._model = id, request_id, model
        self._input_tokens = input_tokens
        self._blocks = BlockWriter()
        self._begun = False
        self._own = False  # a second upstream continues the answer: everything is written from events
        self._refused = False
        self._media = False
        self._passed = b""  # the last block event that was passed on as it came

    def feed(self, batch: Batch) -> bytes:
        """See `Encoder.feed`. Raises `UntoldAnswer` for an answer that is nothing but images."""
        if batch.dialect == DIALECT and not self._own:
            self._own = self._begun and _starts(batch)
            if not self._own:
                if not self._begun and _starts(batch):
                    self._begin()
                return self._pass_on(batch)
        if self._passed:
            self._blocks.resume(self._passed)
            self._passed = b""
        return b"".join([self._event(event) for event in batch.events])

    def ping(self) -> bytes:
        """See `Encoder.ping`."""
        return PING

    def whole(self, answer: Answer) -> Reply:
        """See `Encoder.whole`. Raises `UntoldAnswer` for an answer that is nothing but images."""
        body = whole_body(answer, id=self._id, model=self._model, input_tokens=self._input_tokens)
        return Reply(200, body, {**JSON, "Request-Id": self._request_id})

    def failure(self, error: ProxyError) -> Reply:
        """See `Encoder.failure`."""
        return failure(error, self._request_id)

    def _pass_on(self, batch: Batch) -> bytes:
        payloads = batch.payloads
        frames = b"".join(payloads)
        for payload in reversed(payloads):
            if payload.startswith(b"event: content_block_"):
                self._passed = payload
                break
        end = batch.terminal
        if end is None:
            return frames
        if isinstance(end, Fault):
            return frames + self._failed(end.error)
        return frames if payloads and payloads[-1].startswith(_STOP_NAME) else frames + _STOP

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text):
                return self._blocks.text(text)
            case Start(_, model):
                return self._start(model)
            case ReasoningDelta(text):
                return self._blocks.thinking(text)
            case ReasoningSignature(signature):
                return self._blocks.signature(signature)
            case RefusalDelta(text):
                self._refused = True
                return self._blocks.text(text)
            case ToolCallStart(index, id_, name):
                return self._blocks.call(index, id_, name)
            case ToolCallDelta(index, arguments):
                return self._blocks.arguments(index, arguments)
            case Media():
                self._media = True
                return b""
            case Source() | Notice():
                return b""  # the contract's only place for sources also asks which text each one supports
            case Finish():
                return self._finish(event)
            case Fault(error):
                return self._failed(error)
            case _:
                assert_never(event)

    def _start(self, model: str) -> bytes:
        if self._begun:
            return b""
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._input_tokens(), "output_tokens": 0},
        }
        self._begin()
        return _frame(b"message_start", {"type": "message_start", "message": message})

    def _begin(self) -> None:
        self._begun = True
        self._input_tokens = int  # is not needed again; this frees the request that it holds

    def _finish(self, end: Finish) -> bytes:
        blocks = self._blocks
        frames = blocks.close()
        if self._media and not (blocks.has_text or blocks.has_calls):
            raise UntoldAnswer
        delta = {
            "stop_reason": _stop_reason(end.reason, refused=self._refused),
            "stop_sequence": None,
        }
        # `output_tokens` is required. Where the upstream did not count, the number of pieces is a fair estimate.
        usage = write_usage(end.usage) if end.usage is not None else {"output_tokens": blocks.pieces}
        return frames + _frame(b"message_delta", {"type": "message_delta", "delta": delta, "usage": usage}) + _STOP

    def _failed(self, error: ProxyError) -> bytes:
        return b"event: error\ndata: %b\n\n" % error_body(error, self._request_id)


def whole_body(answer: Answer, *, id: str, model: str, input_tokens: Callable[[], int]) -> bytes:
    """A whole message: the upstream's own body if it is in this dialect, else one built from the answer."""
    if answer.dialect == DIALECT and answer.payload:
        return answer.payload
    if answer.only_media:
        raise UntoldAnswer
    content: list[dict[str, Any]] = []
    if answer.reasoning or answer.reasoning_signature:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": answer.reasoning_signature})
    if text := answer.text + answer.refusal:
        content.append({"type": "text", "text": text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": msgspec.Raw(arguments)}
        for call, arguments in whole_calls(answer.tool_calls, answer.finish_reason)
    ]
    usage = answer.usage
    return msgspec.json.encode(
        {
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": answer.model or model,
            "content": content,
            "stop_reason": _stop_reason(answer.finish_reason, refused=bool(answer.refusal)),
            "stop_sequence": None,
            "usage": write_usage(usage)
            if usage is not None
            else {"input_tokens": input_tokens(), "output_tokens": -(-len(text) // 4)},
        }
    )


def _starts(batch: Batch) -> bool:
    return bool(batch.events) and type(batch.events[0]) is Start


def _stop_reason(reason: str, *, refused: bool) -> str:
    return "refusal" if refused and reason == "stop" else STOP_REASONS.get(reason, "end_turn")


def _frame(name: bytes, value: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, msgspec.json.encode(value))
