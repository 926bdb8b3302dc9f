"""Reading answers of Anthropic Messages: a stream of events, or one whole message, into our events.

The upstream is not trusted. A stream has finished only if it says so (a stop reason, or `message_stop`), and data
that is neither an event nor an error ends it as malformed. What is not needed to understand the answer does it no
harm: unknown events, keep-alives, fields of an odd form. For a client of the same dialect each event is kept byte for
byte, with its name: the official SDKs skip events without one. Only what would mislead them is written anew.
"""

from contextlib import suppress
from typing import Any

import msgspec

from proxy.contracts.anthropic.content import BlockReader
from proxy.contracts.anthropic.events import (
    DIALECT,
    KNOWN_EVENTS,
    Delta,
    Event,
    MessageObject,
    decode_event,
    decode_message,
    read_usage,
)
from proxy.contracts.anthropic.lenient import lenient_event, lenient_message
from proxy.contracts.anthropic.mending import with_empty_input, with_index, with_object_inputs
from proxy.errors import UpstreamError, UpstreamFailed, UpstreamMalformed
from proxy.events import Batch, Fault, Finish, Start, StreamEvent, TextDelta
from proxy.request import Usage
from proxy.wire.finish import is_reason, later, names_failure, verdict
from proxy.wire.lenient_json import SurrogateJoiner
from proxy.wire.sse import SSEDecoder
from proxy.wire.stream_end import StreamEnd, error_in, text_of
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean
from proxy.wire.usage import believable

_EVENT_HEAD = b"event: content_block_delta\ndata: "
_TEXT_HEAD = b'{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":"'
_NO_HEAD = b"\0"  # nothing begins with it
_DELTA = b"content_block_delta"
_TEXT_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}

_decode_string = msgspec.json.Decoder(str).decode


class StreamDecoder(StreamEnd):
    """Turns the bytes of an event stream into batches, however the chunks fall.

    `keep`: batches carry the upstream's own events, framed, for a client of this dialect. Errors come as `Fault`,
    never as exceptions.
    """

    finished_s = 4.0  # servers of this dialect were seen to go on 2.6 s after a stop reason (U2), and all say their end

    def __init__(self, max_event_bytes: int, *, keep: bool = False, clean: Clean = one_line_of) -> None:
        super().__init__()
        self._sse = SSEDecoder(max_event_bytes)
        self._max_event_bytes, self._keep, self._clean = max_event_bytes, keep, clean
        self._blocks = BlockReader()
        self._joiner = SurrogateJoiner()
        self._half_of = ("", 0)  # the type of delta and the index of the block that the joiner's half came in
        self._started = False
        self._reason = ""
        self._stops_early = False  # content has come after a stop reason
        self._usage: dict[str, Any] = {}
        self._characters = 0  # of text, reasoning and arguments: about four to a token
        self._text_head = _NO_HEAD  # how the data of a piece of the open text begins, as Anthropic writes it
        self._event_head = _NO_HEAD  # the same with the event's name before it

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
                self._characters += len(text)
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
            self._characters += len(text)
            batch.events.append(TextDelta(text))
            if self._keep:
                batch.payloads.append(_framed(_DELTA, data))
            return
        if names_failure(name):
            raise self._not_an_event(b"error", data)
        event = self._decoded(name, data)
        payloads: list[bytes] = []
        if event is not None:
            data = self._read(event, data, batch.events, payloads)
            if event.type in KNOWN_EVENTS or not name:
                name = event.type.encode()
        if self._keep:
            batch.payloads += payloads
            batch.payloads.append(_framed(name, data))
        if self.done:
            batch.events.append(self._end())

    def _decoded(self, name: bytes, data: bytes) -> Event | None:
        """The event; None for one that says nothing. Raises the `UpstreamError` for anything else."""
        try:
            event: Event | None = decode_event(data)
        except (ValueError, RecursionError):  # msgspec's errors, bad UTF-8, absurd nesting
            event = self._lenient(name, data)
        if event is not None and (event.type == "error" or event.error):
            raise self._not_an_event(name, data)
        return event

    def _lenient(self, name: bytes, data: bytes) -> Event | None:
        """The same for data that the typed decoder refuses."""
        unknown = name and name.decode("latin-1") not in KNOWN_EVENTS
        try:
            event = lenient_event(data, name.decode("latin-1"))
        except (ValueError, RecursionError):
            if unknown and not error_in(data, self._clean):
                return None  # the official clients skip such events by their name, whatever is in them
            raise self._not_an_event(name, data) from None
        if event is None and not unknown and (error := error_in(data, self._clean)):
            raise error
        return event

    def _read(self, event: Event, data: bytes, events: list[StreamEvent], payloads: list[bytes]) -> bytes:
        """Take an event in. Returns its data for a client of this dialect; what has to come before it goes to `payloads`."""
        index = event.index or 0
        match event.type:
            case "content_block_delta":
                if event.delta is not None:
                    self._continue(events)
                    self._join(event.delta, index, events)
                    place = self._blocks.delta(index, event.delta, events)
                    self._characters += len(event.delta.text or event.delta.thinking or event.delta.partial_json or "")
                    return data if place == index else with_index(data, place)
            case "content_block_start":
                if (block := event.content_block) is not None:
                    self._continue(events)
                    self._flush(events)
                    self._blocks.start(index, block, events)
                    self._learn(index)
                    if block.type == "tool_use" and isinstance(block.input, str):
                        return with_empty_input(data)
            case "content_block_stop":
                self._flush(events)
                place, before = self._blocks.stop(index, events)
                payloads += before
                return data if place == index else with_index(data, place)
            case "message_start":
                if event.message is not None and (event.message.error or event.message.type == "error"):
                    raise self._not_an_event(b"error", msgspec.json.encode(event.message))
                self._begin(events, event.message)
            case "message_delta":
                self._flush(events)
                self._count(event.usage)
                self._stop((event.delta and event.delta.stop_reason) or event.stop_reason)
            case "message_stop":
                self._begin(events)
                self._flush(events)
                self._count(event.usage)
                self._stop(event.stop_reason)
                payloads += self._blocks.close(events)
                self.done = True
            case _:
                pass  # `ping`, and types that are not known yet
        return data

    def _begin(self, events: list[StreamEvent], message: MessageObject | None = None) -> None:
        if not self._started:
            self._started = True
            frame = message or MessageObject()
            self._count({**(frame.usage or {}), "output_tokens": None})  # it has not been counted by then
            events.append(Start(text_of(frame.id), text_of(frame.model)))
            for index, block in enumerate(frame.content or ()):  # empty, but for a few that know it all by then
                self._characters += len(block.text or block.thinking or "")
                self._blocks.start(index, block, events)
                self._blocks.stop(index, events)

    def _continue(self, events: list[StreamEvent]) -> None:
        """Content comes. After a stop reason it shows that such reasons are not the end at this upstream."""
        self._begin(events)
        if self.complete:
            self._stops_early = True
            self.complete = self.finished = False

    def _stop(self, reason: str | None) -> None:
        if reason is None or not is_reason(reason):
            return
        self._reason = later(self._reason, reason) if self.complete else reason
        self.complete = True
        self.finished = not self._stops_early
        self._text_head = self._event_head = _NO_HEAD  # content after it has to be noticed

    def _learn(self, index: int) -> None:
        self._text_head = _TEXT_HEAD % index
        self._event_head = _EVENT_HEAD + self._text_head

    def _join(self, delta: Delta, index: int, events: list[StreamEvent]) -> None:
        """Join surrogate halves that an upstream cut into two deltas."""
        name = _TEXT_FIELDS.get(delta.type or "")
        joiner = self._joiner
        if name is None or (not joiner.half and (getattr(delta, name) or "").isascii()):
            return
        if joiner.half and self._half_of != (delta.type, index):
            self._flush(events)
        setattr(delta, name, joiner.join(getattr(delta, name) or ""))
        self._half_of = (delta.type or "", index)
        self._text_head = self._event_head = _NO_HEAD
        if not joiner.half:
            self._learn(index)

    def _flush(self, events: list[StreamEvent]) -> None:
        """A half that waits has no other half."""
        if self._joiner.half:
            type_, index = self._half_of
            delta = Delta(type_)
            setattr(delta, _TEXT_FIELDS[type_], self._joiner.flush())
            self._blocks.delta(index, delta, events)

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Counts are cumulative: each one replaces the one before."""
        if usage:
            self._usage.update((name, value) for name, value in usage.items() if value is not None)

    def finish(self) -> Batch:
        """The upstream has ended its body. An event without its blank line counts only if it is an error."""
        if not self.done and not self.complete:
            with suppress(UpstreamError):
                for name, data in self._sse.feed(b"\n\n"):
                    if name == b"error" or error_in(data, self._clean):
                        return self.fail(self._not_an_event(name, data))
        return super().finish()

    def _finish(self, batch: Batch) -> None:
        self._begin(batch.events)
        self._flush(batch.events)
        try:
            frames = self._blocks.close(batch.events)
        except UpstreamError as error:
            self._fault(batch, error)
            return
        if self._keep:
            batch.payloads += frames
        batch.events.append(self._end())
        self.done = True

    def _end(self) -> Finish | Fault:
        """What the stop reason makes of the answer, which is an error where the upstream gave up."""
        usage, calls = self._counted(), self._blocks.has_calls
        try:
            said = verdict(self._reason, has_content=self._characters > 0 or calls, has_calls=calls)
        except UpstreamFailed as error:
            return Fault(error, usage)
        return Finish(said.reason, usage, bool(self._reason), said.upstream_reason)

    def _counted(self) -> Usage | None:
        return believable(read_usage(self._usage), -(-self._characters // 4))

    def _not_an_event(self, name: bytes, data: bytes) -> UpstreamError:
        if error := error_in(data, self._clean):
            return error
        if name == b"error" and data[:1] not in b"{[":
            return UpstreamFailed(self._clean(data.decode(errors="replace")), status=502)
        return UpstreamMalformed("the upstream sent data that is neither an event of its dialect nor an error")


def decode_whole(body: bytes, *, keep: bool, clean: Clean = one_line_of) -> Batch:
    """A whole message as one batch with all its events.

    `keep` puts the body into the batch's `whole`, for a client of this dialect that asked for a whole answer.
    Raises the mapped error for an error object, `UpstreamMalformed` for anything else.
    """
    try:
        message = decode_message(body)
    except (ValueError, RecursionError):
        try:
            message = lenient_message(body)
        except (ValueError, RecursionError):
            message = MessageObject()
    if message.content is None and message.type == "message" and message.stop_reason:
        message.content = []
    if message.error or message.content is None:
        raise error_in(body, clean) or UpstreamMalformed("the upstream's answer is not a message of its dialect")
    events: list[StreamEvent] = [Start(text_of(message.id), text_of(message.model))]
    blocks = BlockReader()
    for index, block in enumerate(message.content):
        blocks.start(index, block, events)
        blocks.stop(index, events)
    characters = sum(len(block.text or "") + len(block.thinking or "") for block in message.content)
    calls = blocks.has_calls
    said = verdict(message.stop_reason, has_content=characters > 0 or calls, has_calls=calls)
    usage = believable(read_usage(message.usage), -(-characters // 4))
    events.append(Finish(said.reason, usage, is_reason(message.stop_reason), said.upstream_reason))
    if not keep:
        return Batch(events)
    mislead = any(block.type == "tool_use" and isinstance(block.input, str) for block in message.content)
    return Batch(events, DIALECT, whole=with_object_inputs(body) if mislead else body)


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
    return b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: %b\n\n" % data
