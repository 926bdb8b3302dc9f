"""One connection to an upstream: a socket, and the reader of the answer that comes over it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from proxy.transport.address import Destination
from proxy.transport.reader import READ_UP_TO, ResponseReader

if TYPE_CHECKING:
    from proxy.transport.pool import Pool

JOIN_UP_TO = 64 * 1024  # bytes of a body that are copied behind its head
_BUFFER = bytearray(READ_UP_TO)
_VIEW = memoryview(_BUFFER)
_BUFFERS = (_BUFFER,)


class Connection(asyncio.BufferedProtocol):
    """A socket, and the reader of its current answer. Bytes without a request close the connection (H10).

    All connections are read into one buffer: each read is parsed before the loop reads from any other socket.
    """

    __slots__ = ("_descriptor", "destination", "expires_at", "lost", "pool", "reader", "transport")

    def __init__(self, destination: Destination, pool: Pool) -> None:
        self.destination = destination
        self.pool = pool
        self.reader: ResponseReader | None = None
        self.transport: asyncio.Transport | None = None
        self._descriptor = -1  # of a socket that `read_now` can read directly; else -1
        self.expires_at = 0.0  # while idle
        self.lost = False

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.lost and not self.transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether all that was written has been sent: else the rest of one request would run into the next."""
        return self.usable and cast("asyncio.Transport", self.transport).get_write_buffer_size() == 0

    def send(self, head: bytes, body: bytes) -> None:
        """Write a request, as one write unless copying a large body behind its head would cost more."""
        if not self.usable:
            if self.lost:  # it closed before it had a reader; otherwise connection_lost() will follow
                self._ended(None)
            return
        assert self.transport is not None
        if len(body) <= JOIN_UP_TO:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def abort(self) -> None:
        """Close at once. For TLS too: a proper shutdown could wait for the peer for long."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("ssl_object") is None and hasattr(os, "readv"):
            self._descriptor = sock.fileno()

    def read_now(self) -> None:
        """Read what the kernel has buffered while the transport is paused, and leave it paused.

        Resuming, waiting for the callback and pausing again costs three system calls and two calls of the loop per
        read. The transport itself finds the end of the connection.
        """
        reader = self.reader
        if reader is None or self._descriptor < 0 or not self.usable:
            return
        try:
            nbytes = os.readv(self._descriptor, _BUFFERS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._ended(error)
            self.abort()
            return
        if nbytes:
            reader.feed(_VIEW[:nbytes])

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - one size does for all
        """Where the loop puts what it reads next."""
        return _VIEW

    def buffer_updated(self, nbytes: int) -> None:
        reader = self.reader
        if reader is None:
            self.pool.forget(self)
            self.abort()
        else:
            reader.feed(_VIEW[:nbytes])

    def eof_received(self) -> None:
        """The upstream has closed its side. HTTP/1.1 has no half-closed connections, so the loop closes ours too."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._ended(exc)
        self.pool.lost(self)

    def _ended(self, exc: Exception | None) -> None:
        if self.reader is not None:
            self.reader.ended(exc)
        self.pool.forget(self)
