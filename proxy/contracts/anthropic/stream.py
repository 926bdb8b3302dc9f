"""Reading answers of Anthropic Messages: a stream of events, or one whole message, into our events.

The upstream is not trusted. A stream has finished only if it says so (a stop reason, or `message_stop`), and data
that is neither an event nor an error ends it as malformed. For a client of the same dialect each event is kept byte
for byte, with its name: the official SDKs skip events without one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.contracts.anthropic.events import (
    DIALECT,
    FINISH_REASONS,
    Citation,
    ContentBlock,
    Delta,
    Event,
    MessageObject,
    decode_event,
    decode_message,
    is_unknown,
    read_usage,
)
from proxy.errors import UpstreamError, UpstreamMalformed
from proxy.events import (
    Batch,
    Finish,
    ReasoningDelta,
    ReasoningSignature,
    Source,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Usage
from proxy.wire.sse import SSEDecoder
from proxy.wire.stream_end import StreamEnd, error_in, text_of
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean

_EVENT_HEAD = b"event: content_block_delta\ndata: "
_TEXT_HEAD = b'{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":"'

_decode_string = msgspec.json.Decoder(str).decode


class StreamDecoder(StreamEnd):
    """Turns the bytes of an event stream into batches, however the chunks fall.

    `keep`: batches carry the upstream's own events, framed, for a client of this dialect. Errors come as `Fault`,
    never as exceptions.
    """

    def __init__(self, max_event_bytes: int, *, keep: bool = False, clean: Clean = one_line_of) -> None:
        super().__init__()
        self._sse = SSEDecoder(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._keep = keep
        self._clean = clean
        self._blocks = _Blocks()
        self._started = False
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._text_head = b"\0"  # how the data of a piece of the open text begins, as Anthropic writes it
        self._event_head = b"\0"  # the same with the event's name before it

    def feed(self, chunk: bytes) -> Batch:
        """What one read brought. The batch may be empty."""
        batch = self._batch()
        if self.done:
            return batch
        sse = self._sse
        if not sse.pending and not sse.special and len(chunk) <= self._max_event_bytes:
            # Most reads bring one event with a piece of text. Reading it here takes a third of the time of `_take`.
            text = _text_after(self._event_head, chunk, b"}\n\n")
            if text:
                batch.events.append(TextDelta(text))
                batch.text_only = True
                if self._keep:
                    batch.payloads.append(chunk)
                return batch
        try:
            for name, data in self._sse.feed(chunk):
                self._take(name, data, batch)
                if self.done:
                    break
        except UpstreamError as error:
            self._fault(batch, error)
        return batch

    def _batch(self) -> Batch:
        return Batch([], DIALECT, []) if self._keep else Batch([])

    def _take(self, name: bytes, data: bytes, batch: Batch) -> None:
        if not data or data == b"[DONE]":
            return  # servers that also speak OpenAI's dialect send it; the official clients skip it
        text = _text_after(self._text_head, data, b"}")
        if text:
            batch.events.append(TextDelta(text))
            if self._keep:
                batch.payloads.append(_framed(name or b"content_block_delta", data))
            return
        try:
            event = decode_event(data)
        except (ValueError, RecursionError):  # msgspec's errors, bad UTF-8, absurd nesting
            if name == b"error" or not is_unknown(data):
                raise self._no_event(data) from None
        else:
            if event.type == "error" or name == b"error":
                raise self._no_event(data)
            self._read(event, batch.events)
            if not name:
                name = event.type.encode()
        if self._keep:
            batch.payloads.append(_framed(name, data))
        if self.done:
            batch.events.append(self._end())

    def _read(self, event: Event, events: list[StreamEvent]) -> None:
        match event.type:
            case "content_block_delta":
                if event.delta is not None:
                    self._begin(events)
                    self._blocks.delta(event.index, event.delta, events)
            case "content_block_start":
                if event.content_block is not None:
                    self._begin(events)
                    self._blocks.start(event.index, event.content_block, events)
                    self._text_head = _TEXT_HEAD % event.index
                    self._event_head = _EVENT_HEAD + self._text_head
            case "content_block_stop":
                self._blocks.stop(event.index, events)
            case "message_start":
                self._begin(events, event.message)
            case "message_delta":
                self._count(event.usage)
                if event.delta is not None and event.delta.stop_reason:
                    self._reason = event.delta.stop_reason
                    self.finished = True
            case "message_stop":
                self._begin(events)
                self.done = True
            case _:
                pass  # `ping`, and types that are not known yet

    def _begin(self, events: list[StreamEvent], message: MessageObject | None = None) -> None:
        if not self._started:
            self._started = True
            frame = message or MessageObject()
            self._count(frame.usage)
            events.append(Start(text_of(frame.id), text_of(frame.model)))

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Counts are cumulative: each one replaces the one before."""
        if usage:
            self._usage.update((name, value) for name, value in usage.items() if value is not None)

    def _finish(self, batch: Batch) -> None:
        self._begin(batch.events)
        batch.events.append(self._end())
        self.done = True

    def _end(self) -> Finish:
        return Finish(_finish_reason(self._reason), read_usage(self._usage), noted=self.finished)

    def _counted(self) -> Usage | None:
        return read_usage(self._usage)

    def _no_event(self, data: bytes) -> UpstreamError:
        return error_in(data, self._clean) or UpstreamMalformed(
            "the upstream sent data that is neither an event of its dialect nor an error"
        )


def decode_whole(body: bytes, *, keep: bool, clean: Clean = one_line_of) -> Batch:
    """A whole message as one batch with all its events.

    `keep` puts the body into the batch's `whole`, for a client of this dialect that asked for a whole answer.
    Raises the mapped error for an error object, `UpstreamMalformed` for anything else.
    """
    try:
        message = decode_message(body)
    except (ValueError, RecursionError):
        message = MessageObject()
    if message.error or message.content is None:
        raise error_in(body, clean) or UpstreamMalformed("the upstream's answer is not a message of its dialect")
    events: list[StreamEvent] = [Start(text_of(message.id), text_of(message.model))]
    blocks = _Blocks()
    for index, block in enumerate(message.content):
        blocks.start(index, block, events)
        blocks.stop(index, events)
    noted = message.stop_reason is not None
    events.append(Finish(_finish_reason(message.stop_reason), read_usage(message.usage), noted=noted))
    return Batch(events, DIALECT, whole=body) if keep else Batch(events)


class _Blocks:
    """Turns content blocks into events.

    Tools that the upstream runs (`server_tool_use` and their results) become no events: a client would run them
    again. Each page is reported once, however often the text cites it.
    """

    def __init__(self) -> None:
        self._calls: dict[int, _ToolUse] = {}  # those that are open, by the index of their block
        self._count = 0
        self._cited: set[str] = set()

    def start(self, index: int, block: ContentBlock, events: list[StreamEvent]) -> None:
        if block.type == "tool_use":
            call = _ToolUse(self._count, block.input)
            self._calls[index] = call
            self._count += 1
            events.append(ToolCallStart(call.index, block.id or f"toolu_{call.index}", block.name or ""))
            return
        if block.thinking:
            events.append(ReasoningDelta(block.thinking))
        if block.signature:
            events.append(ReasoningSignature(block.signature))
        if block.text and block.type == "text":
            events.append(TextDelta(block.text))
        for citation in block.citations or ():
            self._cite(citation, events)

    def delta(self, index: int, delta: Delta, events: list[StreamEvent]) -> None:
        match delta.type:
            case "text_delta":
                if delta.text:
                    events.append(TextDelta(delta.text))
            case "thinking_delta":
                if delta.thinking:
                    events.append(ReasoningDelta(delta.thinking))
            case "input_json_delta":
                call = self._calls.get(index)
                if call is not None and delta.partial_json:
                    call.has_deltas = True
                    events.append(ToolCallDelta(call.index, delta.partial_json))
            case "signature_delta":
                if delta.signature:
                    events.append(ReasoningSignature(delta.signature))
            case "citations_delta":
                if delta.citation is not None:
                    self._cite(delta.citation, events)
            case _:
                pass

    def stop(self, index: int, events: list[StreamEvent]) -> None:
        """A call without deltas has its arguments in the start of the block, or none, which is an empty object."""
        call = self._calls.pop(index, None)
        if call is not None and not call.has_deltas:
            events.append(ToolCallDelta(call.index, msgspec.json.encode(call.input or {}).decode()))

    def _cite(self, citation: Citation, events: list[StreamEvent]) -> None:
        if citation.url and citation.url not in self._cited:
            self._cited.add(citation.url)
            events.append(Source(citation.url, citation.title or ""))


class _ToolUse(msgspec.Struct):
    index: int
    input: Any
    has_deltas: bool = False


def _text_after(head: bytes, data: bytes, tail: bytes) -> str | None:
    """The text of data that is `head`, a JSON string, a brace and `tail`; None if it has to be parsed.

    Anthropic pads events with blanks before the last brace, to hide the length of the text.
    """
    if not data.startswith(head) or not data.endswith(tail):
        return None
    end = data.rfind(b'"')
    if data[end + 1 : -len(tail)].rstrip(b" ") != b"}":
        return None
    try:
        return _decode_string(data[len(head) - 1 : end + 1])
    except ValueError:  # the string ended earlier, or it is not valid
        return None


def _framed(name: bytes, data: bytes) -> bytes:
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"event: %b\ndata: %b\n\n" % (name, data)


def _finish_reason(reason: str | None) -> Any:
    return FINISH_REASONS.get(reason or "end_turn", "stop")
