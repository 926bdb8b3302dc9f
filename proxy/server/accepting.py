"""Accepting connections: a listening socket of our own, from which many are taken per turn of the event loop.

uvloop accepts one connection per turn. When 400 clients kept one core busy, a new one waited up to 8 s for its
first token and 6.6 s for `/healthz`, because 300 connections were waiting to be accepted (measured).
"""

import asyncio
import errno
import socket
import struct
from typing import Protocol

import structlog

from proxy.policy.peers import one_owner

BACKLOG = 4096
"""How many connections may wait to be accepted; the kernel has its own limit too, `net.core.somaxconn`."""

PER_TURN = 64
"""How many connections are accepted in one turn of the loop, before other work goes on."""

PAUSE_S = 0.2
"""How long accepting pauses when the process has no descriptor or memory left for a connection."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_QUEUE_OFFSET = 24  # of `tcpi_unacked` in Linux's `struct tcp_info`: a listening socket's queue

log = structlog.get_logger("proxy.server")


class Clients(Protocol):
    """Decides who may connect, and makes the protocol of a connection."""

    def admit(self, peer: str) -> bool:
        """Count a connection in; false when there is no room for it."""

    def forget(self, peer: str) -> None:
        """A connection that was counted in is gone."""

    def make_room(self) -> bool:
        """Close connections that do nothing; false if there are none."""

    def connection(self, peer: str, prefix: str) -> asyncio.Protocol: ...


class Acceptor:
    """Accepts the connections of one listening socket, which it owns."""

    def __init__(self, sock: socket.socket, prefix: str, clients: Clients) -> None:
        self.prefix, self._sock, self._clients = prefix, sock, clients
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def port(self) -> int:
        """The port, or 0 for a socket that has none."""
        name = self._sock.getsockname()
        return name[1] if isinstance(name, tuple) else 0

    def close(self) -> None:
        """Stop accepting. Connections that were accepted go on; those that wait are accepted, or the kernel resets them."""
        self._accept()
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def waiting(self) -> int:
        """How many connections wait to be accepted; 0 where the kernel does not say."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE_OFFSET + 4)
            return int(struct.unpack_from("I", info, _QUEUE_OFFSET)[0])
        except (OSError, AttributeError, struct.error):
            return 0

    def _accept(self) -> None:
        for _ in range(PER_TURN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause_accepting(error)
                return
            peer = one_owner(address[0]) if isinstance(address, tuple) else ""
            if not self._clients.admit(peer):
                sock.close()
                continue
            task = self._loop.create_task(self._open(sock, peer))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket, peer: str) -> None:
        made: list[asyncio.Protocol] = []

        def factory() -> asyncio.Protocol:
            made.append(self._clients.connection(peer, self.prefix))
            return made[0]

        try:
            await self._loop.connect_accepted_socket(factory, sock)
        except OSError:  # the client has gone already
            sock.close()
            if not made:
                self._clients.forget(peer)

    def _pause_accepting(self, error: OSError) -> None:
        """Connections that wait stay in the kernel's queue, and are accepted when descriptors are free again."""
        self._clients.make_room()
        log.warning("accept_paused", error=error.strerror, waiting=self.waiting(), retry_s=PAUSE_S)
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)
