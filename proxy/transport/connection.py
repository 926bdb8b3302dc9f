"""One connection to an upstream, and one answer on it.

The hot path of the whole product: per socket read one call into llhttp, one list that body pieces are
appended to from C, and at most one wake-up of the task that reads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import httptools

from proxy.errors import FrameTooLarge, InternalError, ProxyError, UpstreamMalformed, UpstreamTruncated
from proxy.transport.address import Destination
from proxy.transport.base import Response, Sink

if TYPE_CHECKING:
    from proxy.transport.pacing import Pacer
    from proxy.transport.pool import Pool

JOIN_UP_TO = 64 * 1024
READ_UP_TO = 64 * 1024
"""Bytes of one socket read. Left to themselves the loops read 256 KiB, and four times that is then in hand, read,
decoded, encoded and buffered, for each client that does not keep up."""


_ROOM = bytearray(READ_UP_TO)
_IN = memoryview(_ROOM)
_ROOMS = (_ROOM,)


class Connection(asyncio.BufferedProtocol):
    """A socket, and whose answer its bytes belong to. Bytes nobody asked for close it (H10).

    All connections are read into one buffer: what has come is parsed before the loop reads on, on any socket.
    """

    __slots__ = ("_descriptor", "destination", "exchange", "expires_at", "lost", "pool", "transport")

    def __init__(self, destination: Destination, pool: Pool) -> None:
        self.destination = destination
        self.pool = pool
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self._descriptor = -1  # of a socket that can be read behind the transport's back
        self.expires_at = 0.0  # while idle
        self.lost = False

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.lost and not self.transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether all that we wrote has left: else the rest of a request would run into the next one."""
        return self.usable and cast("asyncio.Transport", self.transport).get_write_buffer_size() == 0

    def send(self, head: bytes, body: bytes) -> None:
        """Write a request, as one write unless copying a large body behind its head would cost more."""
        if not self.usable:
            if self.lost:  # before there was an exchange to tell; else connection_lost() is still to come
                self._ended(None)
            return
        assert self.transport is not None
        if len(body) <= JOIN_UP_TO:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def abort(self) -> None:
        """Close at once. Also right for an idle TLS connection: a polite goodbye could wait for the peer for long."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("ssl_object") is None and hasattr(os, "readv"):
            self._descriptor = sock.fileno()

    def read_now(self) -> None:
        """Take what has gathered in the kernel while the transport is paused, and leave it paused.

        To read on, be called back and pause again costs three calls of the kernel and two of the loop for each read.
        The end of the connection is left for the transport to find.
        """
        exchange = self.exchange
        if exchange is None or self._descriptor < 0 or not self.usable:
            return
        try:
            nbytes = os.readv(self._descriptor, _ROOMS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._ended(error)
            self.abort()
            return
        if nbytes:
            exchange.feed(_IN[:nbytes])

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - one size does for all
        """Where the loop puts what it reads next."""
        return _IN

    def buffer_updated(self, nbytes: int) -> None:
        exchange = self.exchange
        if exchange is None:
            self.pool.forget(self)
            self.abort()
        else:
            exchange.feed(_IN[:nbytes])

    def eof_received(self) -> None:
        """The upstream is done: nobody half-closes in HTTP/1.1, so the loop closes our side too."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._ended(exc)
        self.pool.lost(self)

    def _ended(self, exc: Exception | None) -> None:
        if self.exchange is not None:
            self.exchange.ended(exc)
        self.pool.forget(self)


class Exchange:
    """A request that has been sent and its answer as it comes: the `Response` of `proxy.transport.base`.

    It lives for one answer and has a parser of its own, so nothing of it can reach the next request. The
    parser is given this object and calls the `on_…` attributes; `on_body` is `list.append` itself.
    """

    __slots__ = (
        "_barren",
        "_complete",
        "_connection",
        "_delimited",
        "_error",
        "_fields",
        "_head_done",
        "_head_limit",
        "_held",
        "_high_water",
        "_idle_for",
        "_informational",
        "_keep_alive",
        "_length_at_end",
        "_loop",
        "_no_body",
        "_overrun",
        "_paced",
        "_pacer",
        "_parser",
        "_paused",
        "_pieces",
        "_read_at",
        "_read_before",
        "_read_pieces",
        "_sent_at",
        "_sink",
        "_ticks",
        "_unread",
        "_waiter",
        "headers",
        "on_body",
        "origin",
        "status",
        "untouched",
    )

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
        self._no_body = method == "HEAD"
        self._sent_at = self._loop.time()
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._unread = 0  # bytes taken from the socket since the last read()
        self._barren = 0  # bytes since then that brought no body: head, chunk extensions, trailers
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._error: ProxyError | None = None
        self._head_done = self._informational = self._complete = self._overrun = False
        self._keep_alive = self._delimited = self._paused = False
        self._length_at_end = 0
        self._pacer = pacer
        self._paced = self._held = False
        self._ticks = 0  # in a row that it was held until
        self._read_pieces = 0
        self._read_at = self._read_before = float("-inf")
        self.untouched = True  # not a byte of the answer has come
        self.status = 0
        self.headers = {}
        self._idle_for = ""  # what the upstream says of that, in the header `Keep-Alive`
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self.origin = str(connection.destination.origin)  # for messages
        connection.exchange = self

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
            self._hold_if_fast()
        while not pieces:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            if self._paused and not self._held:
                self._resume()  # only now: what was held back is wanted
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        return self._taken()

    async def push(self, sink: Sink) -> None:
        """See `Response.push`."""
        if self._pieces or self._complete or self._error is not None:
            return
        if self._paced:
            self._hold_if_fast()
        if self._paused and not self._held:
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
            self._held = False
            if self._paused:
                self._resume()

    def release(self) -> None:
        """The tick has come: take what there is. Who still has nothing to read after that is no fast stream."""
        connection = self._connection
        if self._held and connection is not None:
            self._held = False
            self._ticks += 1
            read_at = self._read_at
            connection.read_now()
            if self._paused and not self._held and not self._pieces:
                if self._read_at == read_at:
                    self._ticks = 0
                self._resume()

    def _hold_if_fast(self) -> None:
        """What was read has been relayed. If more is to be expected before the next tick, leave it to gather.

        A stream that was held for a whole tick is fast if more than one piece had gathered; one that was not held, if
        its last two came within a tick. The tick in which a stream is held first is not whole, and tells nothing.
        """
        pacer = self._pacer
        assert pacer is not None
        ticks = self._ticks
        fast = self._read_pieces > 1 if ticks > 1 else ticks or self._read_at - self._read_before < pacer.tick_s
        if not fast:
            self._ticks = 0
        elif pacer.tick_s and not self._complete and self._error is None:
            if not self._paused:
                self._pause()
            self._held = self._paused
            if self._held:
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
            and not self._overrun
            and not self._paused
            and self._error is None
            and connection.quiet
        )
        self._connection = connection.exchange = None
        self._parser = None  # it refers back to us: without this every request would be left to the collector
        if not self._complete and self._error is None:
            self._error = InternalError("the answer was closed before it was read")
        self._wake()
        if reusable:
            connection.pool.give_back(connection, self._idle_for)
        else:
            connection.abort()

    # -- what the connection calls ---------------------------------------------------------------------------

    def feed(self, data: memoryview) -> None:
        """Take what one socket read brought; it is overwritten by the next."""
        if self._complete or self._error is not None:
            self._overrun = True
            return
        self.untouched = False
        pieces = self._pieces
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken(error)
        if self._overrun or self._no_body:
            del pieces[self._length_at_end :]  # whatever follows the end belongs to nobody
        if not pieces:
            self._barren += len(data)
            if self._barren > self._head_limit and not self._complete:
                self._too_long()
            return  # no news for a reader: what ends the wait in another way wakes it itself
        sink = self._sink
        if sink is not None:  # nothing has ended: see `_wake`
            self._push(sink)
            if self._paced and self._sink is not None and len(data) < READ_UP_TO:
                self._hold_if_fast()
            return
        self._unread += len(data)
        if self._unread > self._high_water and not self._paused and not self._complete:
            self._pause()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def ended(self, exc: Exception | None) -> None:
        """The connection is gone. Only a body that nothing delimits may end that way, and not by a reset."""
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
            self._overrun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # later ones are trailers
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
        self._keep_alive = self._parser.should_keep_alive() and not self._no_body
        encoding = self.headers.get("transfer-encoding")
        self._delimited = encoding is not None or "content-length" in self.headers
        if not 200 <= status < 600 or not self._parser.get_http_version().startswith("1."):
            self._fail(UpstreamMalformed(f"{self.origin} answered with a status line that is not HTTP/1.1"))
        elif encoding is not None and encoding.lower() != "chunked":
            self._fail(UpstreamMalformed(f"{self.origin} sent a transfer encoding other than chunked"))
        elif self._error is None:
            self._head_done = True
            self._complete = self._no_body  # the parser does not know what was asked
            self._wake()

    def on_message_complete(self) -> None:
        if not self._informational and not self._complete and self._head_done:
            self._complete = True
            self._length_at_end = len(self._pieces)
            self._wake()

    # -- inside ----------------------------------------------------------------------------------------------

    def _taken(self) -> bytes:
        """The body bytes that are there, which are now the caller's."""
        pieces = self._pieces
        count = len(pieces)
        data = pieces[0] if count == 1 else b"".join(pieces)
        pieces.clear()
        self._unread = self._barren = self._length_at_end = 0
        if self._paced:
            self._read_pieces, self._read_before, self._read_at = count, self._read_at, self._loop.time()
        return data

    def _push(self, sink: Sink) -> None:
        try:
            wants_more = sink(self._taken())
        except BaseException as error:  # it belongs to the task that waits, whatever it is
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
        self.headers, self._idle_for = headers, headers.get("keep-alive", "")
        self._fields.clear()
        if size > self._head_limit:
            self._too_long()

    def _too_long(self) -> None:
        what = "bytes between the pieces of its answer" if self._head_done else "bytes of headers"
        self._fail(UpstreamMalformed(f"{self.origin} sent more than {self._head_limit} {what}"))

    def _broken(self, error: Exception) -> None:
        if self._complete:
            self._overrun = True
        else:
            hint = "" if self.status else "; is it an https:// address, or not an HTTP server at all?"
            self._fail(UpstreamMalformed(f"{self.origin} sent what is not HTTP/1.1: {error}{hint}"))

    def _fail(self, error: ProxyError) -> None:
        if self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        """Have the reader look at what is new. What is pushed meanwhile would come before it in the wrong order."""
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


async def read_all(response: Response, limit: int) -> bytes:
    """What is left of a body, as one piece of at most `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    while piece := await response.read():
        size += len(piece)
        if size > limit:
            raise FrameTooLarge(f"the upstream's answer is larger than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)
