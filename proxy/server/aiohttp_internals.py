"""The names of aiohttp that are not public, and all code that uses them.

`check` runs at start, so that a version of aiohttp without one of these names is refused before it serves.
"""

import asyncio
from collections import deque
from typing import Any

import aiohttp
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter
from aiohttp.web_protocol import RequestHandler

from proxy.contracts.base import Encoder
from proxy.events import Batch
from proxy.pipeline.client import ClientGone

USED = {
    BaseProtocol: ("_drain_waiter", "_paused"),
    RequestHandler: ("_keepalive_handle", "_messages", "_request_count", "_waiter"),
    StreamReader: ("_buffer",),
    StreamWriter: ("_eof",),
}

LAST_CHUNK = b"0\r\n\r\n"


def check() -> None:
    """Raises `RuntimeError` if this aiohttp lacks a name that is used here."""
    missing = [
        f"{type_.__name__}.{name}" for type_, names in USED.items() for name in names if not hasattr(type_, name)
    ]
    if missing:
        raise RuntimeError(
            f"aiohttp {aiohttp.__version__} lacks {', '.join(missing)}; install the version that requirements.lock names"
        )


_READ: deque[bytes] = deque()  # the buffer of every body that was read to its end


def free_buffer(content: StreamReader) -> None:
    """Free the buffer of a body that was read. An empty deque takes 0.8 KB for as long as the answer takes."""
    content._buffer = _READ  # noqa: SLF001


class HeadQueue(list[Any]):
    """The requests whose heads have come, in place of aiohttp's `deque`, which takes 0.8 KB even when it is empty."""

    __slots__ = ()

    def popleft(self) -> Any:
        return self.pop(0)


class ObservedConnection(RequestHandler):
    """aiohttp's server side of a connection. It also shows the state that aiohttp keeps private."""

    __slots__ = ()

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._messages = HeadQueue()  # type: ignore[assignment]  # has all that aiohttp uses of a deque here

    @property
    def heads(self) -> int:
        """How many heads of requests have come."""
        return self._request_count

    @property
    def last_body(self) -> StreamReader | None:
        """The body of the request whose head came last, if that request is not being answered yet."""
        return self._messages[-1][1] if self._messages else None

    @property
    def idle(self) -> bool:
        """Whether it waits for the head of a request, its first or the next."""
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    def forget_timer(self) -> None:
        """Aiohttp keeps its cancelled keep-alive timer, which refers to the connection: a cycle for the collector."""
        self._keepalive_handle = None


class DirectResponse:
    """The body of a streamed response, written past aiohttp's writer once its head is decided.

    aiohttp's writer would check for each token what is decided once, with the head.
    """

    __slots__ = ("_chunked", "_encoder", "_protocol", "_writer", "bytes_out")

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._writer: StreamWriter | None = None
        self._protocol: BaseProtocol
        self._chunked = False
        self.bytes_out = 0

    def write(self, batch: Batch) -> bool:
        """Write a batch of an answer that has begun and goes on; true if the client is behind: see `caught_up`."""
        data = self._encoder.feed(batch)
        return self.write_encoded(data) if data else False

    def write_encoded(self, data: bytes) -> bool:
        """The same, with bytes, of which there have to be some: a chunk of none ends the body."""
        size = len(data)
        self.bytes_out += size
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(b"%x\r\n%b\r\n" % (size, data) if self._chunked else data)
        return protocol._paused  # noqa: SLF001 - its property costs a call per token

    def _write_with_end(self, data: bytes) -> None:
        """Write the last bytes of a chunked body and its end at once: a second write costs 20 µs (measured)."""
        writer, transport = self._writer, self._protocol.transport
        assert writer is not None
        self.bytes_out += len(data)
        if transport is None or transport.is_closing():
            raise ClientGone
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        transport.write(chunk + LAST_CHUNK)
        writer._eof = True  # noqa: SLF001 - so that aiohttp writes no second end

    @staticmethod
    def _forget_cancelled_drain(protocol: BaseProtocol) -> None:
        """Aiohttp keeps the future of a drain that was cancelled; waiting on it again would end at once."""
        if protocol._drain_waiter is not None and protocol._drain_waiter.cancelled():  # noqa: SLF001
            protocol._drain_waiter = None  # noqa: SLF001
