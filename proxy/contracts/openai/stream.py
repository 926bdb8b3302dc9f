"""Reading streamed answers of OpenAI Chat Completions into events.

The upstream is not trusted: an answer is complete only if it said so (`wire.finish`), and an error is an error
whatever follows it. What is not needed to understand the answer does not break it: chunks with fields of other types
are read by `lenient`, and objects without choices, usage or an error are skipped. For a client of the same dialect
the payloads keep their bytes.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from proxy.contracts.openai.chunks import Choice, Chunk, Delta, decode_chunk, read_usage, usage_in
from proxy.contracts.openai.deltas import DeltaReader
from proxy.contracts.openai.lenient import decode_leniently
from proxy.contracts.openai.payloads import renumbered, without_error
from proxy.contracts.openai.template import ChunkTemplate, only_text
from proxy.errors import UpstreamError, UpstreamMalformed, UpstreamTruncated
from proxy.events import CONTENT, Batch, Finish, ReasoningDelta, Start, StreamEvent, TextDelta
from proxy.request import Usage
from proxy.wire import sse
from proxy.wire.finish import Ending, gave_up, meaning, names_failure, verdict
from proxy.wire.sse import SSEDecoder
from proxy.wire.stream_end import StreamEnd, error_event, error_in, text_of
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean

DIALECT = "openai-chat"
DONE = b"[DONE]"

MANY_BYTES = 256
"""How many bytes a read has at least before several events are looked for in it."""

PREAMBLE = 4
"""How many events are parsed at most before similar ones are expected: a role, perhaps filter results."""

_KEEP_ALIVES = frozenset({b"ping", b"pong", b"keepalive", b"keep-alive", b"heartbeat", b"[ping]", b"[heartbeat]"})
"""Data of events that keep a connection open, where it is no JSON."""

_OTHER_TEXTS = (b'"response"', b'"content"', b'"text"', b'"generated_text"', b'"output"', b'"token"')
"""Where other dialects have their text, in objects without choices."""

_EMPTY = Delta()


class StreamDecoder(StreamEnd):
    """Bytes of an event stream in, batches out, however the chunks fall. Errors come as `Fault`, never raised.

    `choices` is how many were asked for (`n`). One: the events tell all that comes as one answer. Several: the events
    tell the first, the payloads all. `keep` makes payloads, for clients of this dialect. `hide_usage` leaves the usage
    chunk out of them that we asked for and the client did not. `clean` makes the upstream's words fit to be shown.
    `dialect` and `decode` are for completions without messages, whose chunks differ in where their text is.
    """

    __slots__ = (
        "_choices", "_clean", "_decode", "_deltas", "_dialect", "_ending", "_foreign", "_goes_on", "_has_content",
        "_hide_usage", "_keep", "_max_event_bytes", "_sse", "_started", "_template", "_usage", "complete", "done", "finished",
    )  # fmt: skip

    def __init__(
        self,
        max_event_bytes: int,
        *,
        choices: int = 1,
        keep: bool = True,
        hide_usage: bool = False,
        clean: Clean = one_line_of,
        dialect: str = DIALECT,
        decode: Callable[[bytes], Chunk] | None = None,
    ) -> None:
        super().__init__()
        self._decode = decode or decode_chunk
        self._sse = SSEDecoder(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._template = ChunkTemplate()
        self._keep = keep
        self._dialect = dialect if keep else ""
        self._choices, self._hide_usage, self._clean = choices, hide_usage, clean
        self._deltas = DeltaReader()
        self._ending = Ending(choices)
        self._started = self._foreign = False  # a choice has come; an object of another dialect has
        self._goes_on = False  # the first choice has begun, so that a chunk of nothing but text changes no more
        self._has_content = False
        self._usage: dict[str, Any] | None = None

    def feed(self, chunk: bytes) -> Batch:
        """What one read brought. The batch may be empty."""
        if self.done:
            return Batch([])
        if len(chunk) <= self._max_event_bytes:
            decoder = self._sse
            if not decoder.pending and not decoder.special:
                # Most reads bring one event, or a few, with nothing new in them but a piece of text each.
                text = self._template.text(chunk)
                if text is not None:
                    return self._texts([text], chunk)
                if len(chunk) >= MANY_BYTES:
                    texts = self._template.texts(chunk)
                    if texts:
                        return self._texts(texts, chunk)
            if len(chunk) >= MANY_BYTES:
                return self._feed_many(chunk)
        batch = Batch([], self._dialect, [])
        self._feed(chunk, batch)
        return batch

    def _texts(self, texts: list[str], chunk: bytes) -> Batch:
        """The batch of chunks that differ from the template in these pieces of text alone."""
        self._template.fitted = True
        events: list[StreamEvent] = [TextDelta(text) for text in texts if text]
        return Batch(events, self._dialect, [chunk] if self._keep else [], b"", bool(events))

    def finish(self) -> Batch:
        """See `StreamEnd`. The last bytes count where they are a bare JSON value, which needs no blank line."""
        return self._ended(None)

    def fail(self, error: UpstreamError) -> Batch:
        return self._ended(error)

    def _ended(self, error: UpstreamError | None) -> Batch:
        batch = self._batch()
        if self.done:
            return batch
        try:
            self._last_bytes(batch)
        except UpstreamError as told:
            self._fault(batch, told)
        if not self.done:
            batch.events += super().fail(error or UpstreamTruncated()).events
        return batch

    def _last_bytes(self, batch: Batch) -> None:
        """What the stream ended in. A cut event is dropped, but it may say why the stream broke off."""
        for data, whole in self._sse.unfinished():
            if whole:
                self._take(b"", data, batch)
            elif error := error_in(data, self._clean):
                raise error

    def _feed(self, chunk: bytes, batch: Batch) -> None:
        try:
            for name, data in self._sse.feed(chunk):
                if data[:1] == b"[" and data.startswith(DONE):
                    self._finish(batch)
                    break
                self._take(name, data, batch)
                if self.done:
                    break
        except UpstreamError as error:
            self._fault(batch, error)

    def _feed_many(self, chunk: bytes) -> Batch:
        """A read that brought many events. Most of them differ from one of the first in their text alone."""
        batch = Batch([], self._dialect, [])
        for _ in range(PREAMBLE):
            if not self._sse.pending and not self._sse.special:
                texts, size = self._template.run(chunk)
                if size:
                    self._template.fitted = True
                    batch.events += [TextDelta(text) for text in texts if text]
                    if self._keep:
                        batch.payloads.append(chunk[:size])
                    chunk = chunk[size:]
                    break
            size = chunk.find(b"\n\n") + 2
            self._feed(chunk[:size], batch)
            chunk = chunk[size:]
            if self.done or size < 2:
                break
        if chunk and not self.done:
            self._feed(chunk, batch)
        return batch

    def _batch(self) -> Batch:
        return Batch([], self._dialect, [])

    def _take(self, name: bytes, data: bytes, batch: Batch) -> None:
        """One event. Its payload is kept unless it is an error, a keep-alive, or the usage nobody asked for."""
        if not data:
            return  # a keep-alive of some gateways
        if name:
            if names_failure(name):
                raise error_event(data, self._clean)
            if name.lower() in _KEEP_ALIVES:
                return
        chunk: Chunk | None
        try:
            chunk = self._decode(data)
        except (ValueError, RecursionError):  # msgspec's errors, bad UTF-8, absurd nesting
            if (chunk := self._leniently(name, data, batch)) is None:
                return
        else:
            if self._goes_on and not name and (texts := _only_texts(chunk)) is not None:
                self._texts_of(texts, data, batch)
                return
        choices = chunk.choices
        if usage := usage_in(chunk):
            self._usage = usage
        elif self._usage is None:
            self._usage = chunk.usage
        if not choices and self._without_choices(chunk, data):
            return
        if choices:
            if not self._started:
                self._start(chunk, batch)
            self._told(chunk, choices, data, batch)
        if chunk.names_pages:
            if not self._started:
                self._start(chunk, batch)
            self._deltas.cited(chunk, batch.events)
        if self._keep:
            calls = self._deltas.calls
            batch.payloads.append(renumbered(data, calls.indexes) if calls.renumbers else sse.encode(data))
        if not name and not self._deltas.holds:
            self._goes_on = self._ending.goes_on(0)
            if (text := only_text(chunk)) is not None:
                self._template.learn(data, text)

    def _told(self, chunk: Chunk, choices: list[Choice], data: bytes, batch: Batch) -> None:
        """What the choices of a chunk say. Then raises the error that is in the chunk beside them."""
        before = len(batch.events)
        self._deltas.calls.indexes.clear()
        failure: UpstreamError | None = None
        try:
            self._choices_in(choices, batch.events)
        except UpstreamError as error:
            failure = error
        if chunk.failed:
            failure = error_in(data, self._clean) or failure
        if failure is not None:
            if self._keep and len(batch.events) > before:  # the words beside an error are not lost
                batch.payloads.append(without_error(data))
            raise failure

    def _texts_of(self, texts: list[StreamEvent], data: bytes, batch: Batch) -> None:
        """Take a chunk of nothing but text and reasoning, as nearly all are."""
        if texts:
            batch.events += texts
            self._has_content = True
            self._deltas.told_by_delta(texts)
        if self._keep:
            batch.payloads.append(sse.encode(data))
        if len(texts) == 1 and type(text := texts[0]) is TextDelta:
            self._template.learn(data, text.text)

    def _leniently(self, name: bytes, data: bytes, batch: Batch) -> Chunk | None:
        """The chunk in odd data; None for a keep-alive, and for several values that were taken one by one."""
        try:
            return decode_leniently(data, skip_broken=self._keep)
        except ValueError:
            pass
        if b"\n" in data and error_in(data, self._clean) is None:
            lines = [line for line in data.split(b"\n") if line.strip()]
            if all(line == DONE or _is_json(line) for line in lines):
                for line in lines:
                    if not self.done:
                        self._take(name, line, batch)
                return None
        if data.strip(b' \t"').upper() == DONE:
            self._finish(batch)
            return None
        if data.startswith(b"data:"):  # an event in an event
            self._take(name, data[5:].strip(), batch)
            return None
        if name not in (b"", b"message") or data.strip().lower() in _KEEP_ALIVES:
            return None  # an event of an unknown name
        raise self._not_a_chunk(data)

    def _without_choices(self, chunk: Chunk, data: bytes) -> bool:
        """Look at a chunk without choices; true if there is nothing in it to pass on. Raises the error it holds."""
        if error := error_in(data, self._clean):
            raise error
        if chunk.usage:
            if usage_in(chunk):
                self._ending.usage()
                self.finished = self._ending.final
            return self._hide_usage and not chunk.names_pages
        skipped = chunk.choices is None and not chunk.names_pages
        if skipped and not self._started:
            self._foreign = self._foreign or any(name in data for name in _OTHER_TEXTS)
        return skipped

    def _start(self, chunk: Chunk | None, batch: Batch) -> None:
        self._started = True
        id_, model = (text_of(chunk.id), text_of(chunk.model)) if chunk else ("", "")
        self._deltas.calls.id = id_
        batch.events.append(Start(id_, model))

    def _choices_in(self, choices: list[Choice], events: list[StreamEvent]) -> None:
        for choice in choices:
            before = len(events)
            if self._choices == 1 or not choice.index:
                self._deltas.read(choice, events)
            content = not CONTENT.isdisjoint(map(type, events[before:]))
            self._has_content = self._has_content or content
            reason = choice.reason
            if reason is None and self._ending.goes_on(choice.index or 0):
                continue
            if reason is not None and meaning(reason) == "error":
                raise gave_up(reason)
            self._judge(choice, reason, content=content or (self._choices > 1 and self._tells(choice)))
        if self._deltas.holds:  # the next text has to be joined to what is held
            self._template, self._goes_on = ChunkTemplate(), False

    def _tells(self, choice: Choice) -> bool:
        """Whether a choice has content that becomes no event, because it is not the first of several."""
        return bool(choice.index) and choice.delta is not None and bool(choice.delta.content)

    def _judge(self, choice: Choice, reason: str | None, *, content: bool) -> None:
        ending = self._ending
        plain = choice.delta is None or choice.delta == _EMPTY
        ending.add(choice.index or 0, reason, content=content, plain=plain)
        self.complete, self.finished = ending.complete, ending.final
        if reason is not None:  # text that comes now takes back what was said of the end
            self._template, self._goes_on = ChunkTemplate(), False

    def _finish(self, batch: Batch) -> None:
        if not self._started:
            if self._foreign:
                self._fault(batch, UpstreamMalformed("the upstream's stream holds no chat completion"))
                return
            self._start(None, batch)
        reason = self._ending.reason
        try:
            self._deltas.finish(batch.events)
            calls = bool(self._deltas.calls.told)
            told = verdict(reason, has_content=self._has_content or self._keep, has_calls=calls)
        except UpstreamError as error:
            self._fault(batch, error)
            return
        usage = read_usage(self._usage, has_content=self._has_content)
        end = Finish(told.reason, usage, has_finish_reason=self.complete, upstream_reason=told.upstream_reason)
        batch.events.append(end)
        self.done = True

    def _fault(self, batch: Batch, error: UpstreamError) -> None:
        self._deltas.calls.tell_named(batch.events)
        super()._fault(batch, error)

    def _counted(self) -> Usage | None:
        return read_usage(self._usage)

    def _not_a_chunk(self, data: bytes) -> UpstreamError:
        return error_in(data, self._clean) or UpstreamMalformed(
            "the upstream sent an event that is neither a chunk nor an error"
        )


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return False
    return True


def _only_texts(chunk: Chunk) -> list[StreamEvent] | None:
    """The text and the reasoning of a chunk that tells nothing else, as nearly all do; None for any other chunk."""
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.usage:
        return None
    choice = choices[0]
    delta = choice.delta
    if choice.index or choice.finish_reason or choice.message is not None or choice.usage or delta is None:
        return None
    text, reasoning = delta.content, delta.reasoning_content
    if delta != Delta(content=text, reasoning_content=reasoning) or chunk.failed or chunk.names_pages:
        return None
    events: list[StreamEvent] = [ReasoningDelta(reasoning)] if reasoning else []
    return [*events, TextDelta(text)] if text else events
