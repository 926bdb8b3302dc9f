"""Reading answers of OpenAI Chat Completions: a stream of chunks, or one whole completion, into events.

The upstream is not trusted: a stream counts as finished only if it said so (a finish reason for every choice,
or `[DONE]`), and what is neither a chunk nor an error ends it as malformed. Payloads are kept to the byte for
a client that speaks the same dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.contracts.openai.chunks import (
    BROKEN,
    FINISH_REASONS,
    Choice,
    Chunk,
    ContentPiece,
    Delta,
    Function,
    ToolCallPiece,
    decode_chunk,
    read_usage,
)
from proxy.contracts.openai.template import ChunkTemplate, only_text
from proxy.errors import UpstreamError, UpstreamFailed, UpstreamMalformed
from proxy.events import (
    Batch,
    Finish,
    Media,
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
from proxy.request import Usage
from proxy.wire import sse
from proxy.wire.sse import SSEDecoder
from proxy.wire.stream_end import StreamEnd, error_in, text_of
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean

DIALECT = "openai-chat"
DONE = b"[DONE]"

MANY_BYTES = 256
"""What a read brings at least for it to be worth looking for events that are alike: more than one of them."""

PREAMBLE = 4
"""How many events are parsed at most before those that are alike are expected: a role, perhaps filter results."""


class StreamDecoder(StreamEnd):
    """Bytes of an event stream in, batches out, however the chunks fall.

    `choices` is how many were asked for (`n`); events tell of the first one, payloads of all. Without `keep`
    there are no payloads, for clients that could not read them. `hide_usage` leaves out of the payloads the usage
    chunk that we asked for and the client did not. Errors come as `Fault`, never as exceptions. It has `finished`
    when every choice has its finish reason.
    """

    __slots__ = (
        "_choices",
        "_clean",
        "_deltas",
        "_dialect",
        "_hide_usage",
        "_keep",
        "_max_event_bytes",
        "_reasons",
        "_sse",
        "_started",
        "_template",
        "_usage",
        "done",
        "finished",
    )

    def __init__(
        self,
        max_event_bytes: int,
        *,
        choices: int = 1,
        keep: bool = True,
        hide_usage: bool = False,
        clean: Clean = one_line_of,
    ) -> None:
        super().__init__()
        self._sse = SSEDecoder(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._template = ChunkTemplate()
        self._keep = keep
        self._dialect = DIALECT if keep else ""
        self._choices = choices
        self._hide_usage = hide_usage
        self._clean = clean
        self._deltas = _DeltaReader()
        self._started = False
        self._reasons: dict[int, str | None] = {}  # of every choice seen
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
        """The batch of a chunk in which all is as it was, but for these pieces of text."""
        self._template.fitted = True
        events: list[StreamEvent] = [TextDelta(text) for text in texts if text]
        return Batch(events, self._dialect, [chunk] if self._keep else [], b"", bool(events))

    def _feed(self, chunk: bytes, batch: Batch) -> None:
        try:
            for name, data in self._sse.feed(chunk):
                if data[:1] == b"[" and data.strip() == DONE:
                    self._finish(batch)
                    break
                self._take(name, data, batch)
        except UpstreamError as error:
            self._fault(batch, error)

    def _feed_many(self, chunk: bytes) -> Batch:
        """A read that brought many events, of which most differ from one of the first in their text alone."""
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
        """One event. Its payload is kept unless it is an error or the usage nobody asked for."""
        if not data:
            return  # a keep-alive of some gateways
        try:
            chunk = decode_chunk(data)
        except (ValueError, RecursionError):  # msgspec's errors, bad UTF-8, absurd nesting
            raise self._not_a_chunk(data) from None
        choices = chunk.choices
        if chunk.error or name == b"error" or (choices is None and not chunk.usage):
            raise self._not_a_chunk(data)
        if chunk.usage:
            self._usage = chunk.usage
            if not choices and self._hide_usage:
                return
        if choices:
            if not self._started:
                self._start(chunk, batch)
            for choice in choices:
                self._choice(choice, batch.events)
        if self._keep:
            batch.payloads.append(sse.encode(data))
        if not name and (text := only_text(chunk)) is not None:
            self._template.learn(data, text)

    def _start(self, chunk: Chunk | None, batch: Batch) -> None:
        self._started = True
        id_, model = (text_of(chunk.id), text_of(chunk.model)) if chunk else ("", "")
        self._deltas.id = id_
        batch.events.append(Start(id_, model))

    def _choice(self, choice: Choice, events: list[StreamEvent]) -> None:
        index = choice.index or 0
        delta = choice.delta or choice.message
        if delta is not None and index == 0:
            self._deltas.read(delta, events)
        reason = choice.finish_reason
        if reason in BROKEN:
            raise UpstreamFailed(f"the upstream gave the answer up (finish_reason: {reason})")
        reasons = self._reasons
        if reason:
            reasons[index] = reason
            self.finished = all(reasons.values()) and all(index in reasons for index in range(self._choices))
        elif index not in reasons:
            reasons[index] = None

    def _finish(self, batch: Batch) -> None:
        if not self._started:
            self._start(None, batch)
        reason = self._reasons.get(0)
        batch.events.append(Finish(_finish_reason(reason), read_usage(self._usage), noted=self.finished))
        self.done = True

    def _counted(self) -> Usage | None:
        return read_usage(self._usage)

    def _not_a_chunk(self, data: bytes) -> UpstreamError:
        return error_in(data, self._clean) or UpstreamMalformed(
            "the upstream sent an event that is neither a chunk nor an error"
        )


def decode_whole(body: bytes, *, keep: bool, clean: Clean = one_line_of) -> Batch:
    """A completion that came in one piece, as one batch with all its events.

    `keep` makes the body the batch's `whole`, for a client that asked for just that; without it only the
    events count. Raises the mapped error for an error object, `UpstreamMalformed` for anything else.
    """
    try:
        chunk = decode_chunk(body)
    except (ValueError, RecursionError):
        chunk = Chunk()
    if chunk.error or not chunk.choices:
        raise error_in(body, clean) or UpstreamMalformed("the upstream's answer is no chat completion")
    first = min(chunk.choices, key=lambda choice: choice.index or 0)
    if first.finish_reason in BROKEN:
        raise UpstreamFailed(f"the upstream gave the answer up (finish_reason: {first.finish_reason})")
    events: list[StreamEvent] = [Start(text_of(chunk.id), text_of(chunk.model))]
    _DeltaReader(text_of(chunk.id)).read(first.message or first.delta or Delta(), events)
    noted = first.finish_reason is not None
    events.append(Finish(_finish_reason(first.finish_reason), read_usage(chunk.usage), noted=noted))
    return Batch(events, DIALECT, whole=body) if keep else Batch(events)


class _DeltaReader:
    """Turns the deltas of one choice into events: reasoning, then text, then tool calls.

    Calls are told apart by `index`, which some servers leave out (then a new id or name opens a call), some
    set to 0 for every call, while others repeat id and name with each piece.
    """

    __slots__ = ("_calls", "_count", "_last", "id")

    def __init__(self, id_: str = "") -> None:
        self.id = id_
        self._calls: dict[int, _Call] = {}  # by the upstream's index
        self._last: _Call | None = None
        self._count = 0

    def read(self, delta: Delta, events: list[StreamEvent]) -> None:
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning and isinstance(reasoning, str):
            events.append(ReasoningDelta(reasoning))
        if delta.thinking_blocks:
            events += [ReasoningSignature(block.signature) for block in delta.thinking_blocks if block.signature]
        content = delta.content
        if content:
            if isinstance(content, str):
                events.append(TextDelta(content))
            else:
                _pieces(content, events)
        elif delta.audio is not None and delta.audio.transcript:
            events.append(TextDelta(delta.audio.transcript))
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal))
        if delta.annotations or delta.images or delta.provider_specific_fields:
            _extras(delta, events)
        if delta.tool_calls:
            for piece in delta.tool_calls:
                self._call(piece, events)
        elif delta.function_call is not None:  # the form before tools: one call, without an id
            self._call(ToolCallPiece(index=0, function=delta.function_call), events)

    def _call(self, piece: ToolCallPiece, events: list[StreamEvent]) -> None:
        function = piece.function or piece.custom or Function()
        call = self._calls.get(piece.index) if piece.index is not None else self._continued(piece, function)
        if call is None or (piece.id and function.name and call.id and piece.id != call.id):
            call = self._open(piece.index)
        self._last = call
        call.id = call.id or piece.id or ""
        arguments = function.text
        if not call.started and (function.name or arguments):
            call.started = True
            id_ = call.id or f"call_{self.id.removeprefix('chatcmpl-')}_{call.index}"
            events.append(ToolCallStart(call.index, id_, function.name or ""))
        if arguments:
            events.append(ToolCallDelta(call.index, arguments))

    def _continued(self, piece: ToolCallPiece, function: Function) -> _Call | None:
        """The call that a piece without an index goes on with; `None` if it opens one."""
        if piece.id:
            return next((call for call in self._calls.values() if call.id == piece.id), None)
        return None if function.name else self._last

    def _open(self, wire_index: int | None) -> _Call:
        call = _Call(self._count)
        self._calls[self._count if wire_index is None else wire_index] = call
        self._count += 1
        return call


class _Call(msgspec.Struct):
    index: int
    id: str = ""
    started: bool = False


def _pieces(content: list[ContentPiece], events: list[StreamEvent]) -> None:
    for piece in content:
        thinking = piece.thinking
        if not isinstance(thinking, str):
            thinking = "".join(part.text for part in thinking)
        if thinking:
            events.append(ReasoningDelta(thinking))
        if piece.text:
            events.append(TextDelta(piece.text))


def _extras(delta: Delta, events: list[StreamEvent]) -> None:
    """What an answer may bring besides text: the pages it relies on, and images."""
    citations = [annotation.url_citation for annotation in delta.annotations or ()]
    events += [Source(one.url, one.title or "") for one in citations if one is not None and one.url]
    if isinstance(cited := delta.provider_specific_fields, dict) and isinstance(cited := cited.get("citation"), dict):
        url, title = cited.get("url"), cited.get("title")
        if isinstance(url, str) and url:
            events.append(Source(url, title if isinstance(title, str) else ""))
    images = [image.image_url.url for image in delta.images or () if image.image_url is not None]
    events += [Media(_media_type(url), url) for url in images if url]


def _media_type(url: str) -> str:
    """What a `data:` URL says it is; of an address only that it is an image."""
    head = url[5:105].partition(",")[0].partition(";")[0] if url.startswith("data:") else ""
    return head or "image/png"


def _finish_reason(reason: str | None) -> Any:
    return FINISH_REASONS.get(reason or "stop", "stop")
