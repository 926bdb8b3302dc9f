"""One answer on a connection, as it comes.

The hot path of the whole product: per socket read one call into llhttp, one list that body pieces are
appended to from C, and at most one wake-up of the task that reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import httptools

from proxy.errors import InternalError, ProxyError, UpstreamMalformed, UpstreamTruncated
from proxy.transport.base import Sink, read_all
from proxy.transport.parser import response_parser

if TYPE_CHECKING:
    from proxy.transport.connection import Connection
    from proxy.transport.pacing import Pacer

READ_UP_TO = 64 * 1024
"""Bytes of one socket read. The loops' own choice is 256 KiB, and four times that is then in memory, read,
decoded, encoded and buffered, for each client that does not keep up."""


class ResponseReader:
    """A request that has been sent and its answer as it comes: the `Response` of `proxy.transport.base`.

    It lives for one answer and has a parser of its own, so nothing of it can reach the next request. The
    parser is given this object and calls the `on_…` attributes; `on_body` is `list.append` itself.
    """

    __slots__ = (
        "_bytes_without_body", "_complete", "_connection", "_delimited", "_error", "_fields", "_has_excess",
        "_head_done", "_head_limit", "_high_water", "_informational", "_is_head_request", "_keep_alive",
        "_keep_alive_for", "_loop", "_paced", "_pacer", "_parser", "_paused", "_pieces", "_pieces_at_end", "_read_at",
        "_read_before", "_read_pieces", "_sent_at", "_sink", "_ticks_held", "_unread_bytes", "_waiter",
        "_waits_for_tick", "headers", "nothing_came", "on_body", "origin", "status",
    )  # fmt: skip

    status: int
    headers: Mapping[str, str]
    on_body: Callable[[bytes], None]

    def __init__(
        self,
        connection: Connection,
        *,
        method: str,
        head_limit: int,
        high_water: int,
        pacer: Pacer | None = None,
    ) -> None:
        self._connection: Connection | None = connection
        self._loop = asyncio.get_running_loop()
        self._head_limit = head_limit
        self._high_water = high_water
        self._is_head_request = method == "HEAD"
        self._sent_at = self._loop.time()
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._unread_bytes = 0  # taken from the socket since the last read()
        self._bytes_without_body = 0  # since then: head, chunk extensions, trailers
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._error: ProxyError | None = None
        self._head_done = self._informational = self._complete = self._has_excess = False
        self._keep_alive = self._delimited = self._paused = False
        self._pieces_at_end = 0
        self._pacer = pacer
        self._paced = self._waits_for_tick = False
        self._ticks_held = 0  # how many ticks in a row it waited for
        self._read_pieces = 0
        self._read_at = self._read_before = float("-inf")
        self.nothing_came = True  # no byte of the answer yet
        self.status = 0
        self.headers = {}
        self._keep_alive_for = ""  # the header `Keep-Alive`
        self.on_body = self._pieces.append
        self._parser = response_parser(self)
        self.origin = str(connection.destination.origin)  # for messages
        connection.reader = self

    # -- what the owner calls --------------------------------------------------------------------------------

    @property
    def age_s(self) -> float:
        """Seconds since the request was sent."""
        return self._loop.time() - self._sent_at

    @property
    def at_end(self) -> bool:
        """See `Response.at_end`."""
        return self._complete and not self._pieces

    async def head(self) -> None:
        """Wait for the status line and headers."""
        while not self._head_done:
            if self._error is not None:
                raise self._error
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None

    async def read(self) -> bytes:
        """See `Response.read`. Returns without suspending when there are bytes already."""
        pieces = self._pieces
        if self._paced and not pieces:
            self._wait_for_tick_if_fast()
        while not pieces:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            if self._paused and not self._waits_for_tick:
                self._resume()  # only now that more is wanted
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        return self._take_pieces()

    async def push(self, sink: Sink) -> None:
        """See `Response.push`."""
        if self._pieces or self._complete or self._error is not None:
            return
        if self._paced:
            self._wait_for_tick_if_fast()
        if self._paused and not self._waits_for_tick:
            self._resume()
        waiter = self._waiter = self._loop.create_future()
        self._sink = sink
        try:
            await waiter
        finally:
            self._waiter = self._sink = None

    async def read_all(self, limit: int) -> bytes:
        """See `Response.read_all`."""
        return await read_all(self, limit)

    def pace(self, on: bool) -> None:
        """See `Response.pace`."""
        pacer = self._pacer
        if pacer is None or on is self._paced or self._connection is None:
            return
        self._paced = on
        pacing = self._connection.pool.pacing
        if on:
            self._read_at = self._loop.time()
            pacing.began(pacer)
        else:
            pacing.ended(pacer)
            self._waits_for_tick = False
            if self._paused:
                self._resume()

    def release(self) -> None:
        """The tick has come: read what there is. A stream with nothing to read at a tick is not fast."""
        connection = self._connection
        if self._waits_for_tick and connection is not None:
            self._waits_for_tick = False
            self._ticks_held += 1
            read_at = self._read_at
            connection.read_now()
            if self._paused and not self._waits_for_tick and not self._pieces:
                if self._read_at == read_at:
                    self._ticks_held = 0
                self._resume()

    def _wait_for_tick_if_fast(self) -> None:
        """Called when all that was read has been relayed: pause until the next tick if more is likely before it.

        After a whole tick of waiting, a stream is fast if more than one piece had gathered; without waiting, if its
        last two pieces came within a tick. The tick in which a stream first waits is not whole, so it decides nothing.
        """
        pacer = self._pacer
        assert pacer is not None
        ticks = self._ticks_held
        fast = self._read_pieces > 1 if ticks > 1 else ticks or self._read_at - self._read_before < pacer.tick_s
        if not fast:
            self._ticks_held = 0
        elif pacer.tick_s and not self._complete and self._error is None:
            if not self._paused:
                self._pause()
            self._waits_for_tick = self._paused
            if self._waits_for_tick:
                pacer.hold(self)

    def close(self) -> None:
        """See `Response.close`."""
        connection = self._connection
        if connection is None:
            return
        self.pace(on=False)
        reusable = (
            self._complete
            and self._keep_alive
            and not self._pieces
            and not self._has_excess
            and not self._paused
            and self._error is None
            and connection.quiet
        )
        self._connection = connection.reader = None
        self._parser = None  # it refers back to this object: the cycle would wait for the garbage collector
        if not self._complete and self._error is None:
            self._error = InternalError("the answer was closed before it was read")
        self._wake()
        if reusable:
            connection.pool.give_back(connection, self._keep_alive_for)
        else:
            connection.abort()

    # -- what the connection calls ---------------------------------------------------------------------------

    def feed(self, data: memoryview) -> None:
        """Take what one socket read brought; it is overwritten by the next."""
        if self._complete or self._error is not None:
            self._has_excess = True
            return
        self.nothing_came = False
        pieces = self._pieces
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail_as_malformed(error)
        if self._has_excess or self._is_head_request:
            del pieces[self._pieces_at_end :]  # what follows the end is no part of the answer
        if not pieces:
            self._bytes_without_body += len(data)
            if self._bytes_without_body > self._head_limit and not self._complete:
                self._fail_as_too_long()
            return  # nothing to read; an end or an error wakes the reader by itself
        sink = self._sink
        if sink is not None:  # then nothing has ended: see `_wake`
            self._push(sink)
            if self._paced and self._sink is not None and len(data) < READ_UP_TO:
                self._wait_for_tick_if_fast()
            return
        self._unread_bytes += len(data)
        if self._unread_bytes > self._high_water and not self._paused and not self._complete:
            self._pause()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def ended(self, exc: Exception | None) -> None:
        """The connection is closed. That ends a body without a length or chunks, unless it was reset."""
        if self._complete or self._error is not None:
            return
        if not self._head_done:
            self._fail(UpstreamTruncated(f"{self.origin} closed the connection before it answered"))
        elif self._delimited or exc is not None:
            self._fail(UpstreamTruncated(f"{self.origin} closed the connection before its answer was complete"))
        else:
            self._complete = True
            self._wake()

    # -- what the parser calls -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._has_excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # later fields are trailers
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_done:
            return
        self.status = status = self._parser.get_status_code()
        self._informational = 100 <= status < 200 and status != 101
        if self._informational:
            self._fields.clear()
            return
        self._take_fields()
        self._keep_alive = self._parser.should_keep_alive() and not self._is_head_request
        encoding = self.headers.get("transfer-encoding")
        self._delimited = encoding is not None or "content-length" in self.headers
        if not 200 <= status < 600 or not self._parser.get_http_version().startswith("1."):
            self._fail(UpstreamMalformed(f"{self.origin} answered with a status line that is not HTTP/1.1"))
        elif encoding is not None and encoding.lower() != "chunked":
            self._fail(UpstreamMalformed(f"{self.origin} sent a transfer encoding other than chunked"))
        elif self._error is None:
            self._head_done = True
            self._complete = self._is_head_request  # the parser does not know the request's method
            self._wake()

    def on_message_complete(self) -> None:
        if not self._informational and not self._complete and self._head_done:
            self._complete = True
            self._pieces_at_end = len(self._pieces)
            self._wake()

    # -- inside ----------------------------------------------------------------------------------------------

    def _take_pieces(self) -> bytes:
        """Remove and return the body bytes that have come."""
        pieces = self._pieces
        count = len(pieces)
        data = pieces[0] if count == 1 else b"".join(pieces)
        pieces.clear()
        self._unread_bytes = self._bytes_without_body = self._pieces_at_end = 0
        if self._paced:
            self._read_pieces, self._read_before, self._read_at = count, self._read_at, self._loop.time()
        return data

    def _push(self, sink: Sink) -> None:
        try:
            wants_more = sink(self._take_pieces())
        except BaseException as error:  # raised in the task that waits
            self._sink = None
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
            return
        if not wants_more:
            self._wake()

    def _take_fields(self) -> None:
        headers: dict[str, str] = {}
        size = 0
        for raw_name, raw_value in self._fields:
            size += len(raw_name) + len(raw_value) + 4
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers, self._keep_alive_for = headers, headers.get("keep-alive", "")
        self._fields.clear()
        if size > self._head_limit:
            self._fail_as_too_long()

    def _fail_as_too_long(self) -> None:
        what = "bytes between the pieces of its answer" if self._head_done else "bytes of headers"
        self._fail(UpstreamMalformed(f"{self.origin} sent more than {self._head_limit} {what}"))

    def _fail_as_malformed(self, error: Exception) -> None:
        if self._complete:
            self._has_excess = True
        else:
            hint = "" if self.status else "; is it an https:// address, or not an HTTP server at all?"
            self._fail(UpstreamMalformed(f"{self.origin} sent something that is not HTTP/1.1: {error}{hint}"))

    def _fail(self, error: ProxyError) -> None:
        if self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        """Wake the task that reads. Nothing is pushed from now on: it would overtake what that task still has to read."""
        self._sink = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pause(self) -> None:
        if self._connection is not None and self._connection.usable:
            cast("asyncio.Transport", self._connection.transport).pause_reading()
            self._paused = True

    def _resume(self) -> None:
        self._paused = False
        if self._connection is not None and self._connection.usable:
            cast("asyncio.Transport", self._connection.transport).resume_reading()
