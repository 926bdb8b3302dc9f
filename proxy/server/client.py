"""The client's side of one answer: head, body, heartbeats, and a client that stops reading."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion11, StreamWriter

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # no Unix: only our own buffer is seen to shrink
    ioctl = None  # type: ignore[assignment]  # a function, where there is one

from proxy.contracts.base import Encoder, Reply
from proxy.contracts.notices import NOTICE_HEADER, notice_header
from proxy.errors import ProxyError
from proxy.events import Batch, Collector, Fault, Finish, Notice
from proxy.pipeline.client import ClientGone, ClientSlow


class StreamingClient:
    """Writes an answer as it comes: one write per batch, the head with the first of them.

    A client that reads slowly makes `send` wait, and so the upstream: what is in hand for it is one read of the
    upstream, decoded and encoded, and what the transport buffers. One that reads nothing for `stall_s` is given up.
    """

    __slots__ = (
        "_chunked",
        "_encoder",
        "_protocol",
        "_request",
        "_stall_s",
        "_writer",
        "bytes_out",
        "faulted",
        "response",
    )

    streaming = True

    def __init__(
        self, request: web.BaseRequest, encoder: Encoder, headers: Mapping[str, str], *, stall_s: float, close: bool
    ) -> None:
        self._request = request
        self._encoder = encoder
        self._stall_s = stall_s
        self.response = web.StreamResponse(status=200, headers={**headers, **encoder.headers})
        if close or request.version < HttpVersion11:  # HTTP/1.0 knows no chunks: its stream ends with the connection
            self.response.headers["Connection"] = "close"
            self.response.force_close()
        self._writer: StreamWriter | None = None
        self._protocol: BaseProtocol
        self._chunked = False
        self.bytes_out = 0
        self.faulted = False

    @property
    def begun(self) -> bool:
        """Whether the client has had a status: from then on errors are told inside the answer."""
        return self._writer is not None

    async def begin(self, *, flush: bool) -> None:
        """Send the head: at once, or together with the first bytes of the answer."""
        try:
            writer = await self.response.prepare(self._request)
            assert isinstance(writer, StreamWriter)
            self._writer, self._protocol, self._chunked = writer, writer.protocol, writer.chunked
            self.response.headers.clear()  # they are written or in the writer's hands: 1.6 KB of an open stream
            if flush:
                writer.send_headers()
        except ConnectionError:
            raise ClientGone from None

    def announce(self, notices: Sequence[Notice]) -> None:
        """Tell in the head what was left out; a head that has gone already is past that."""
        if self._writer is None:
            self.response.headers[NOTICE_HEADER] = notice_header(notices)

    async def send(self, batch: Batch) -> None:
        """Write a batch, the first one with the head before it, and wait for a client that is behind."""
        if self._writer is None:
            await self.begin(flush=False)
        end = batch.terminal
        self.faulted = self.faulted or isinstance(end, Fault)
        data = self._encoder.feed(batch)
        if end is not None and not (self.faulted and self._encoder.abort_on_fault):
            await self._write_last(data)
        elif data:
            await self._write(data)

    def write(self, batch: Batch) -> bool:
        """Write a batch of an answer that has begun and goes on; true if the client is behind: see `caught_up`.

        It goes past aiohttp's writer, which would ask for each token again what was settled with the head.
        """
        data = self._encoder.feed(batch)
        if not data:
            return False
        size = len(data)
        self.bytes_out += size
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(b"%x\r\n%b\r\n" % (size, data) if self._chunked else data)
        return protocol._paused  # noqa: SLF001 - a property is a call more

    async def caught_up(self) -> None:
        """Wait until the client has read most of what was written. Raises `ClientSlow` when it reads nothing."""
        assert self._writer is not None
        await self._caught_up(self._writer)

    def heartbeat(self) -> None:
        """Say that the answer is still coming; nothing before the head, and nothing to a client that is behind."""
        writer = self._writer
        if writer is None or writer.transport is None or writer.protocol.writing_paused:
            return
        ping = self._encoder.ping()
        if ping:
            write = writer.write(ping, drain=False)
            try:
                write.send(None)  # a write that does not drain never waits
            except (StopIteration, ConnectionError):
                pass
            finally:
                write.close()

    async def end(self) -> None:
        """Close the answer: cleanly, or after a fault without the final chunk where the contract asks for that."""
        if self.faulted and self._encoder.abort_on_fault:
            self.response.force_close()
            transport = self._request.transport
            if transport is not None and not self._chunked:
                await self._taken(transport)
                self.abort()  # over HTTP/1.0 a close is the end of the answer: only a reset tells that it was cut
            elif transport is not None:
                transport.close()  # what is buffered still goes out, but no final chunk
            return
        writer = self._writer
        assert writer is not None
        try:
            writer.set_eof()
        except ConnectionError:
            raise ClientGone from None
        if writer.protocol.writing_paused:
            await self._caught_up(writer)
        await self.response.write_eof()

    async def _taken(self, transport: asyncio.Transport) -> None:
        """Wait, not for long, until the client's side has all that was written, which a reset would throw away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._stall_s, TAKEN_WITHIN_S)):
                while _unread(transport) and not transport.is_closing():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the kernel tells nobody

    def abort(self) -> None:
        """Cut the connection, dropping what is buffered, here and in the kernel."""
        transport = self._request.transport
        if transport is not None:
            with contextlib.suppress(OSError, AttributeError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            transport.abort()

    async def _write_last(self, data: bytes) -> None:
        """Write the answer's last bytes and its end as one: a write of its own for the end costs 20 µs (measured)."""
        writer, transport = self._writer, self._protocol.transport
        assert writer is not None
        if not writer.output_size or not writer.chunked:  # the head is still to be written, or there is no end
            if data:
                await self._write(data)
            return
        self.bytes_out += len(data)
        if transport is None or transport.is_closing():
            raise ClientGone
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        transport.write(chunk + LAST_CHUNK)
        writer._eof = True  # noqa: SLF001 - so that aiohttp writes no second one
        if self._protocol.writing_paused:
            await self._caught_up(writer)

    async def _write(self, data: bytes) -> None:
        writer = self._writer
        assert writer is not None
        self.bytes_out += len(data)
        try:
            await writer.write(data, drain=False)
        except ConnectionError:
            raise ClientGone from None
        if writer.protocol.writing_paused:
            await self._caught_up(writer)

    async def _caught_up(self, writer: StreamWriter) -> None:
        """Wait for the client to read, for as long as it reads anything at all within `stall_s`."""
        while True:
            transport = writer.transport
            behind = _unread(transport)
            protocol = writer.protocol
            if protocol._drain_waiter is not None and protocol._drain_waiter.cancelled():  # noqa: SLF001
                protocol._drain_waiter = None  # noqa: SLF001 - aiohttp keeps it; waiting on it again ends at once
            try:
                async with asyncio.timeout(self._stall_s):
                    await writer.drain()
            except TimeoutError:
                if _unread(transport) >= behind:
                    raise ClientSlow from None
            except ConnectionError:
                raise ClientGone from None
            else:
                return


LAST_CHUNK = b"0\r\n\r\n"
TAKEN_WITHIN_S = 5.0

_AT_ONCE = struct.pack("ii", 1, 0)


def _unread(transport: asyncio.Transport | None) -> int:
    """Bytes the client has yet to take, the kernel's included.

    Our own buffer alone would not do: the kernel asks for more only when a third of its own is free, which
    a client at 1 kB/s, reading all the time, takes minutes for.
    """
    if transport is None:
        return 0
    size = transport.get_write_buffer_size()
    if ioctl is not None:
        with contextlib.suppress(OSError, AttributeError):
            size += struct.unpack("i", ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4)))[0]
    return size


class CollectingClient:
    """Adds up an answer for a client that wants it whole."""

    streaming = False
    bytes_out = 0

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._collector = Collector()
        self.reply: Reply | None = None
        self.error: ProxyError | None = None
        self._notices: Sequence[Notice] = ()

    def announce(self, notices: Sequence[Notice]) -> None:
        self._notices = notices

    async def send(self, batch: Batch) -> None:
        """Take a batch. An answer that the contract cannot carry fails here, before anybody counts it as done."""
        match self._collector.add(batch):
            case Finish():
                reply = self._encoder.whole(self._collector.answer())
                if self._notices:
                    headers = {**reply.headers, NOTICE_HEADER: notice_header(self._notices)}
                    reply = msgspec.structs.replace(reply, headers=headers)
                self.reply = reply
            case Fault(error):
                self.reply, self.error = self._encoder.failure(error), error
            case None:
                pass

    def write(self, batch: Batch) -> bool:
        self._collector.add(batch)
        return False

    async def caught_up(self) -> None:
        """It is always."""

    def heartbeat(self) -> None:
        """Nothing can be said before the answer is whole."""
