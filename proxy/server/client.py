"""The client's side of one answer: head, body, heartbeats, and a client that stops reading."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11, StreamWriter

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # not on Unix: only our own buffer can be seen
    ioctl = None  # type: ignore[assignment]  # a function, where there is one

from proxy.contracts.base import Encoder, Reply
from proxy.contracts.notices import NOTICE_HEADER, notice_header
from proxy.errors import ProxyError
from proxy.events import Batch, Collector, Fault, Finish, Notice
from proxy.pipeline.client import ClientGone, ClientSlow
from proxy.server.aiohttp_internals import DirectResponse
from proxy.server.context import RequestContext

READ_ERROR_S = 0.1
"""The time between an error and the cut: a client that gets both at once may report the cut without the reason."""

RECEIVED_WITHIN_S = 5.0
"""How long a reset waits for the client's host to have the error before it."""

_DISCARD = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing discards what the kernel has not sent


class StreamingClient(DirectResponse):
    """Writes an answer as it comes: one write per batch, the head with the first of them.

    When a client reads slowly, `send` waits, and so the upstream waits too. At most one read of the upstream, decoded
    and encoded, and the transport's buffer are kept for it. A client that reads nothing for `write_stall_s` is cut.
    """

    __slots__ = ("_context", "_request", "_stall_s", "faulted", "response")

    streaming = True

    def __init__(self, context: RequestContext, encoder: Encoder) -> None:
        super().__init__(encoder)
        self._context = context
        self._request = request = context.http
        self._stall_s = context.snapshot.limits.write_stall_s
        self.response = web.StreamResponse(status=200, headers={**context.headers, **encoder.headers})
        # HTTP/1.0 has no chunks: there a stream ends with its connection.
        if context.app.draining or request.version < HttpVersion11:
            self.response.headers["Connection"] = "close"
            self.response.force_close()
        self.faulted = False

    @property
    def begun(self) -> bool:
        """Whether the client has been sent a status. From then on an error is part of the answer."""
        return self._writer is not None

    async def begin(self, *, flush: bool) -> None:
        """Send the head: at once, or together with the first bytes of the answer."""
        self.response.headers.update(self._context.answered_by())
        try:
            writer = await self.response.prepare(self._request)
            assert isinstance(writer, StreamWriter)
            self._writer, self._protocol, self._chunked = writer, writer.protocol, writer.chunked
            self.response.headers.clear()  # aiohttp's writer has them now; a second copy is 1.6 KB of an open stream
            if flush:
                writer.send_headers()
        except ConnectionError:
            raise ClientGone from None

    def announce(self, notices: Sequence[Notice]) -> None:
        """Say in the head what was left out of the request, unless the head is sent already."""
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

    async def caught_up(self) -> None:
        """Wait until the client has read most of what was written. Raises `ClientSlow` if it reads nothing."""
        writer = self._writer
        assert writer is not None
        while True:
            transport = writer.transport
            behind = _unread(transport)
            self._forget_cancelled_drain(writer.protocol)
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

    def heartbeat(self) -> None:
        """Show that the answer is still coming. Does nothing before the head, or for a client that is behind."""
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
        """End the answer: cleanly, or after a fault without the final chunk where `abort_on_fault` says so."""
        if self.faulted and self._encoder.abort_on_fault:
            self.response.force_close()
            await asyncio.sleep(READ_ERROR_S)
            transport = self._request.transport
            if transport is not None and not self._chunked:
                await self._received(transport)
                self.abort()  # in HTTP/1.0 a close is the end of an answer: only a reset shows that it was cut
            elif transport is not None:
                transport.close()  # what is buffered is still sent, without a final chunk
            return
        writer = self._writer
        assert writer is not None
        try:
            writer.set_eof()
        except ConnectionError:
            raise ClientGone from None
        if writer.protocol.writing_paused:
            await self.caught_up()
        await self.response.write_eof()

    async def _received(self, transport: asyncio.Transport) -> None:
        """Wait until the client's host has all that was written, for a time: a reset discards the rest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._stall_s, RECEIVED_WITHIN_S)):
                while _unread(transport) and not transport.is_closing():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the kernel has no event for an empty send buffer

    def abort(self) -> None:
        """Cut the connection, and discard what is buffered here and in the kernel."""
        transport = self._request.transport
        if transport is not None:
            with contextlib.suppress(OSError, AttributeError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
            transport.abort()

    async def _write_last(self, data: bytes) -> None:
        """Write the answer's last bytes, with its end if there is one to write."""
        writer = self._writer
        assert writer is not None
        if writer.output_size and writer.chunked:
            self._write_with_end(data)
            if self._protocol.writing_paused:
                await self.caught_up()
        elif data:  # the head is still to be written, or the end of the connection is the end of the answer
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        writer = self._writer
        assert writer is not None
        self.bytes_out += len(data)
        try:
            await writer.write(data, drain=False)
        except ConnectionError:
            raise ClientGone from None
        if writer.protocol.writing_paused:
            await self.caught_up()


def _unread(transport: asyncio.Transport | None) -> int:
    """Bytes that the client has not received yet, the kernel's included.

    Our own buffer is not enough: the kernel takes more from it only when a third of its own is free. A client that
    reads 1 kB/s without pause takes minutes for that.
    """
    if transport is None:
        return 0
    size = transport.get_write_buffer_size()
    if ioctl is not None:
        with contextlib.suppress(OSError, AttributeError):
            size += struct.unpack("i", ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4)))[0]
    return size


class Encoded:
    """An encoder for frames that are encoded already."""

    early = False

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers, self.abort_on_fault = headers, True

    def feed(self, batch: Batch) -> bytes:
        return batch.whole

    def ping(self) -> bytes:
        return b""

    def whole(self, answer: object) -> Reply:
        raise NotImplementedError  # a log holds streams

    def failure(self, error: ProxyError) -> Reply:
        raise NotImplementedError  # the log has begun


class CollectingClient:
    """Collects an answer for a client that wants it whole."""

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
        """Take a batch. An answer that the contract cannot carry fails here, before it is recorded as done."""
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
        """Nothing is written before the end."""

    def heartbeat(self) -> None:
        """Nothing can be sent before the answer is whole."""
