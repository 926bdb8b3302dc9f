"""Read an answer over HTTP: tell an event stream from JSON, and decode a stream to its one end."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from proxy.backends.base import Relay
from proxy.errors import FrameTooLarge, ProxyError, UpstreamError
from proxy.events import Batch, Batches, Fault, Notice, Start
from proxy.transport import Response
from proxy.wire.translation import restored

LAST_BYTES_S = 0.05  # after the end sentinel: how long the end of the body may take

NOTHING = Batch([])

_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BOM = b"\xef\xbb\xbf"
_PARSE_UP_TO = 64 * 1024  # bytes of a JSON body that are tried before its end: enough for any error


class Decoder(Protocol):
    """Decodes one streamed answer: bytes in, batches out, however they are cut. Errors are `Fault` events, never raised.

    `finished`: the upstream has said that the answer is complete, so trouble from here on is not an error; usage and
    an end sentinel may still come. `done`: the terminal event has been returned.
    """

    @property
    def done(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    @property
    def finished_s(self) -> float:
        """How many seconds of silence after that confirm it."""

    def feed(self, chunk: bytes) -> Batch:
        """The events in what one read brought. The batch may be empty."""

    def finish(self) -> Batch:
        """The upstream has ended its body."""

    def fail(self, error: UpstreamError) -> Batch:
        """Nothing more will come, because of `error`."""


async def sniff(response: Response) -> tuple[bool | None, bytes]:
    """Whether the body is an event stream (true) or JSON (false), and the bytes read to tell.

    The body's beginning decides; many upstreams send a wrong content type or none (U7). Where the beginning is
    neither, the content type decides, and it is `None` when that does not help either.
    """
    first = start = b""
    while not start and (data := await response.read()):
        first += data
        start = first.removeprefix(_BOM).lstrip()
    if start.startswith(_SSE_STARTS):
        return True, first
    if start[:1] in {b"{", b"["}:
        return False, first
    if start and any(field.startswith(start) for field in _SSE_STARTS):
        return True, first
    kind = content_type(response)
    if kind == "text/event-stream":
        return True, first
    return (False if kind == "application/json" else None), first


async def read_json(response: Response, first: bytes, limit: int) -> bytes:
    """A JSON body that begins with `first`, or all bytes up to the body's end.

    Where the content type says something else, the body may go on after a whole JSON text, or never end. A body in
    pieces, one on each line, is read no further than it has come.
    """
    body = first
    if content_type(response) != "application/json":
        while len(body) <= _PARSE_UP_TO and not is_json(body):
            data = await response.read()
            if not data:
                return body
            body += data
        if in_pieces(body):
            return body
        if len(body) <= _PARSE_UP_TO:
            await read_last_bytes(response)
            return body
    body += await response.read_all(limit)
    if len(body) > limit:
        raise FrameTooLarge(f"the upstream's answer is larger than {limit} bytes")
    return body


def in_pieces(body: bytes) -> bool:
    """Whether JSON is a stream all the same: its first line is a chunk or an event, and not a whole answer."""
    if b'"delta"' not in body and b'"message_start"' not in body:
        return False
    try:
        first = msgspec.json.decode(body.removeprefix(_BOM).lstrip().partition(b"\n")[0], type=_Piece)
    except (ValueError, RecursionError):
        return False
    return first.type == "message_start" or any(
        isinstance(choice, dict) and "delta" in choice and "message" not in choice for choice in first.choices or ()
    )


class _Piece(msgspec.Struct):
    type: Any = None
    choices: list[Any] | None = None


def content_type(response: Response) -> str:
    """The media type without its parameters, in lower case."""
    kind = response.headers.get("content-type", "")
    return kind if kind == "application/json" else kind.partition(";")[0].strip().lower()


def announcing(notices: Sequence[Notice], batch: Batch) -> Batch:
    """The first batch of an answer, with `notices` right behind its `Start`."""
    if notices and batch.events and type(batch.events[0]) is Start:
        batch.events[1:1] = notices
    return batch


async def read_stream(
    response: Response,
    first: bytes,
    decoder: Decoder,
    *,
    notices: Sequence[Notice],
    relay: Relay | None,
    reported: Callable[[UpstreamError], UpstreamError],
) -> Batches:
    """Decode the body of `response` from `first` on, to its one terminal event.

    From the first content on the reads are paced, and batches go to `relay` inside the callback that reads the
    socket. `reported` words an error of the transport for clients.
    """
    feed, read = decoder.feed, response.read
    pushed = _PushedBytes(decoder, relay) if relay is not None else None
    batch = feed(first) if first else NOTHING
    has_content = complete = False
    ends_at = 0.0  # on the loop's clock: when silence, or nothing but keep-alives, ends a finished answer
    now = asyncio.get_running_loop().time
    try:
        while True:
            if not has_content and batch.events:
                if notices:
                    batch, notices = announcing(notices, batch), ()
                if batch.has_content:
                    has_content = True
                    response.pace(on=True)
            if decoder.done:
                complete = not isinstance(batch.terminal, Fault)
                response.pace(on=False)
                yield batch
                return
            if batch.events or batch.payloads:
                yield batch
            if decoder.finished:
                ends_at = ends_at or now() + decoder.finished_s
                batch = await _read_after_finish(response, decoder, ends_at)
                continue
            ends_at = 0.0
            try:
                if has_content and pushed is not None:
                    await response.push(pushed)
                    batch, pushed.left = pushed.left, NOTHING
                    if batch is not NOTHING:
                        continue
                data = await read()
            except UpstreamError as error:
                batch = decoder.fail(reported(error))
            else:
                batch = feed(data) if data else decoder.finish()
    finally:
        if complete and not response.at_end:
            await read_last_bytes(response)


class _PushedBytes:
    """The sink of `Response.push`: decodes and relays, and keeps the batch that is not relayed in `left`."""

    __slots__ = ("_decoder", "_feed", "_relay", "left")

    def __init__(self, decoder: Decoder, relay: Relay) -> None:
        self._decoder = decoder
        self._feed: Callable[[bytes], Batch] = decoder.feed
        self._relay = relay
        self.left = NOTHING

    def __call__(self, data: bytes) -> bool:
        batch = self._feed(data)
        if not self._decoder.finished and (not (batch.events or batch.payloads) or self._relay(batch)):
            return True
        self.left = batch
        return False


class CallsRestored:
    """A decoder whose calls have the client's names, and ids that are new to it.

    Made only for requests with earlier calls, or with names that were changed.
    """

    __slots__ = ("_decoder", "_names", "_used")

    def __init__(self, decoder: Decoder, names: Mapping[str, str], used: frozenset[str]) -> None:
        self._decoder, self._names = decoder, names
        self._used = {*used}

    @property
    def done(self) -> bool:
        return self._decoder.done

    @property
    def finished(self) -> bool:
        return self._decoder.finished

    @property
    def finished_s(self) -> float:
        return self._decoder.finished_s

    def feed(self, chunk: bytes) -> Batch:
        return restored(self._decoder.feed(chunk), self._names, self._used)

    def finish(self) -> Batch:
        return restored(self._decoder.finish(), self._names, self._used)

    def fail(self, error: UpstreamError) -> Batch:
        return restored(self._decoder.fail(error), self._names, self._used)


async def _read_after_finish(response: Response, decoder: Decoder, ends_at: float) -> Batch:
    """One more read once the answer is complete, when neither an error nor silence changes that (R3)."""
    try:
        async with asyncio.timeout_at(ends_at):
            data = await response.read()
    except TimeoutError:
        data = b""
    except UpstreamError as error:
        return decoder.fail(error)
    return decoder.feed(data) if data else decoder.finish()


async def read_last_bytes(response: Response) -> None:
    """Read the end of a body whose end sentinel has come, so that its connection can be used again."""
    with suppress(TimeoutError, ProxyError):
        async with asyncio.timeout(LAST_BYTES_S):
            await response.read()


def is_json(data: bytes) -> bool:
    """Whether `data` is one whole JSON object or array."""
    data = data.removeprefix(_BOM).strip()
    if data[-1:] not in {b"}", b"]"}:
        return False
    try:
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return False
    return True
