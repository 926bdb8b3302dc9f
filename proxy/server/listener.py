"""The listening side: connections with limits on their number, headers and idle time, which aiohttp does not have.

Measured on aiohttp 3.14: 200 connections sending their headers slowly were all still open after 18 s, and
idle ones stay for an hour. Here a request's head has `header_s`, an idle connection `idle_s`, and the number
of connections is bounded, in all and per address (C06).
"""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, cast

import msgspec
import structlog
from aiohttp import StreamReader, web

from proxy.config.models import LimitSettings
from proxy.server import aiohttp_internals
from proxy.server.accepting import Acceptor
from proxy.server.aiohttp_internals import ObservedConnection
from proxy.server.context import SERVER

TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
TOO_SLOW_BODY = b'{"error":{"message":"The request headers took too long.","type":"invalid_request_error","code":"request_timeout"}}'

SEND_BUFFER = 256 * 1024
"""Kernel send buffer of a client connection, in bytes. By default Linux takes about 4 MB of an answer for a client
that reads nothing, before our own buffer begins to fill (measured)."""

LATE_MS = 10_000
"""How much later than the proxy the kernel may cut a client that reads nothing."""

_UPGRADE = re.compile(rb"(\r\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
"""The header that asks for another protocol, of which none is spoken here. aiohttp's parser stops after a request that has
it, and loses what came in the same read: the next request. No JSON has such a line in its body."""

FULL_S = 1.0
"""How long no idle connection is looked for after there was none."""

SHUTDOWN_S = 0.2
"""How long answers that are still running may take to end when the server closes; a drain comes before."""


log = structlog.get_logger("proxy.server")


class Connection(ObservedConnection):
    """One client connection."""

    __slots__ = ("_body", "_head_timer", "_limits", "_peer", "_server", "prefix")

    def __init__(self, server: "Server", peer: str, prefix: str, *, limits: LimitSettings, **options: Any) -> None:
        super().__init__(server, **options)
        self.prefix = prefix  # of the paths that are served at the root of this connection's port
        self._server = server
        self._limits = limits
        self._peer: str | None = peer
        self._head_timer: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None  # of the request whose head came last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from it
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # a host that is gone and closed nothing
                # The kernel's time also runs for a client that reads nothing. The proxy itself has to cut that one, so that
                # the record says why; it takes up to twice the stall limit, and longer when the machine is busy.
                lost_ms = int(self._limits.write_stall_s * 2000) + LATE_MS
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, lost_ms)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        self._forget()
        self._body = None  # it refers back to the connection: a cycle for the collector, as a timer is
        super().connection_lost(exc)
        self.forget_timer()

    def data_received(self, data: bytes) -> None:
        if b"pgrade" in data or b"PGRADE" in data:
            data = _UPGRADE.sub(rb"\1Ignored", data)
        heads = self.heads
        complete = self._body is None or self._body.is_eof()  # the last request is: this begins the next one
        super().data_received(data)
        if self.heads != heads:
            self._stop_head_timer()
            self._body = self.last_body
        elif data and self._head_timer is None and (self.idle or complete):  # aiohttp calls this with b"" to go on
            self._head_timer = asyncio.get_running_loop().call_later(self._limits.header_s, self._head_too_slow)

    def make_way(self, peer: str) -> bool:
        """Close it for another, if it is `peer`'s and waits for a request."""
        if self._peer != peer or not self.idle:
            return False
        self._forget()
        self.force_close()
        return True

    def _forget(self) -> None:
        if self._peer is not None:
            self._server.forget(self._peer)
            self._peer = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what aiohttp itself refuses, such as a malformed head, in our form, and end the connection.

        Its message quotes the bytes it could not read, so it is not passed on. A client that left is no error,
        and an answer that has begun is cut: a second one inside it would be read as part of it.
        """
        del message
        if isinstance(exc, ConnectionError):
            try:
                raise exc
            finally:
                exc = None  # its traceback refers to this frame: without a reference back there is no cycle
        if request.writer.output_size > 0:
            self.log_exception("answer_failed", exc_info=exc)
            raise ConnectionResetError("the answer had begun")
        if status >= 500:
            self.log_exception("request_failed", exc_info=exc)
        text = "The request is not valid HTTP." if status < 500 else "The proxy failed; its log says why."
        kind = "invalid_request_error" if status < 500 else "server_error"
        code = "invalid_http" if status < 500 else "internal_error"
        body = msgspec.json.encode({"error": {"message": text, "type": kind, "code": code}})
        response = web.Response(status=status, body=body, content_type="application/json", headers={"Server": SERVER})
        response.force_close()
        return response

    @property
    def reads_head(self) -> bool:
        """Whether the head of a request has begun to come."""
        return self._head_timer is not None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if not self.idle:  # the answer before it is still under way: its own limits apply
            self._head_timer = asyncio.get_running_loop().call_later(self._limits.header_s, self._head_too_slow)
        elif self.transport is not None:
            self.transport.write(TOO_SLOW % (len(TOO_SLOW_BODY), TOO_SLOW_BODY))
            self.force_close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Server(web.Server):
    """Accepts connections on any number of sockets, counts them, and closes them in the end.

    `limits` is asked for each new connection, so that those of a new config are used at once.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        limits: Callable[[], LimitSettings],
    ) -> None:
        aiohttp_internals.check()
        # A client that leaves cancels its handler, and with it the request to the upstream, at once (R4). Without
        # this aiohttp lets the handler run until its next write fails, and the upstream goes on generating.
        super().__init__(handler, handler_cancellation=True)
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._count = 0
        self._full_until = 0.0
        self.acceptors: list[Acceptor] = []

    def listen(self, sock: socket.socket, prefix: str = "") -> Acceptor:
        """Accept connections from a bound socket, which is closed with the server.

        What is served under `prefix` is also at the root there.
        """
        acceptor = Acceptor(sock, prefix, self)
        self.acceptors.append(acceptor)
        return acceptor

    def connection(self, peer: str, prefix: str) -> Connection:
        limits = self._limits()
        return Connection(
            self,
            peer,
            prefix,
            loop=asyncio.get_running_loop(),
            limits=limits,
            keepalive_timeout=limits.idle_s,
            lingering_time=2.0,  # after an early answer, how long the rest of a body is read and discarded
            auto_decompress=False,  # compressed bodies are refused (H07), so they are never decompressed
            access_log=None,
        )

    def waiting(self) -> int:
        """How many connections wait to be accepted."""
        return sum(acceptor.waiting() for acceptor in self.acceptors)

    @property
    def open_connections(self) -> int:
        return self._count

    def admit(self, peer: str) -> bool:
        """Count a connection in; false when there is no room for it."""
        limits = self._limits()
        if limits.connections_per_peer and self._open[peer] >= limits.connections_per_peer:
            return False
        if self._count >= limits.connections and not self.make_room():
            return False
        self._open[peer] += 1
        self._count += 1
        return True

    def forget(self, peer: str) -> None:
        self._count -= 1
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]

    def make_room(self) -> bool:
        """Close idle connections of the address that has the most, so that it cannot shut out the others.

        Those whose heads are slow count as idle. A hundredth is closed at once, because the search takes milliseconds
        among thousands. A search in vain is not repeated for a while.
        """
        now = asyncio.get_running_loop().time()
        if now < self._full_until:
            return False
        peer = max(self._open, key=self._open.__getitem__, default="")
        idle = (one for one in self.connections if isinstance(one, Connection) and one.make_way(peer))
        closed = len([*islice(idle, 1 + self._open[peer] // 100)])
        if not closed:
            self._full_until = now + FULL_S
            log.warning("connections_full", open=self._count, of_one_address=self._open[peer])
        return closed > 0

    def close_idle(self) -> None:
        """Close connections that wait for a request. One in the middle of sending a request is left alone."""
        for connection in self.connections:
            if isinstance(connection, Connection) and connection.idle and not connection.reads_head:
                connection.force_close()  # aiohttp's `close` would leave the socket open and stop reading

    def stop_accepting(self) -> None:
        while self.acceptors:
            self.acceptors.pop().close()

    async def aclose(self) -> None:
        """Stop accepting, and close all connections."""
        self.stop_accepting()
        await asyncio.sleep(0)  # connections that were just accepted are made
        self.pre_shutdown()
        await self.shutdown(SHUTDOWN_S)
