"""The accept loop: many connections per turn of the event loop, within the limits, whatever the system runs out of."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from proxy.server import accepting
from proxy.server.accepting import Acceptor
from proxy.server.sockets import bind


class Clients:
    def __init__(self, most: int = 1000) -> None:
        self.most, self.open = most, 0
        self.made: list[asyncio.Protocol] = []
        self.peers: list[str] = []
        self.asked_for_room = 0

    def admit(self, peer: str) -> bool:
        self.peers.append(peer)
        self.open += self.open < self.most
        return len(self.made) < self.most

    def forget(self, peer: str) -> None:
        self.open -= 1

    def make_room(self) -> bool:
        self.asked_for_room += 1
        return False

    def connection(self, peer: str, prefix: str) -> asyncio.Protocol:
        assert prefix == "/p"
        self.made.append(asyncio.Protocol())
        return self.made[-1]


Listen = Callable[..., Acceptor]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    acceptors: list[Acceptor] = []

    def started(clients: Clients, wrap: Callable[[socket.socket], Any] = lambda sock: sock) -> Acceptor:
        (sock,) = bind("127.0.0.1", 0)
        acceptors.append(Acceptor(wrap(sock), "/p", clients))
        return acceptors[-1]

    yield started
    for acceptor in acceptors:
        acceptor.close()


async def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def connect(acceptor: Acceptor, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", acceptor.port)) for _ in range(count)]


async def test_A1_many_connections_are_accepted_in_one_turn_of_the_loop(listen: Listen) -> None:
    clients = Clients()
    acceptor = listen(clients)
    sockets = connect(acceptor, 2 * accepting.PER_TURN)  # blocks the loop meanwhile, so all of them wait
    assert acceptor.waiting() == len(sockets)
    turns = 0
    while len(clients.made) < len(sockets):
        await asyncio.sleep(0)
        turns += 1
        assert turns < 10
    assert acceptor.waiting() == 0
    for sock in sockets:
        sock.close()


async def test_A1_a_client_for_whom_there_is_no_room_is_closed_before_anything_is_made_for_it(listen: Listen) -> None:
    clients = Clients(most=0)
    acceptor = listen(clients)
    (sock,) = connect(acceptor, 1)
    sock.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    assert not clients.made
    sock.close()


class Exhausted:
    """A listening socket of a process that has no descriptor left, for as long as `failing`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self.failing, self.tried = sock, True, 0

    def accept(self) -> Any:
        self.tried += 1
        if self.failing:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_A1_without_descriptors_accepting_pauses_and_those_who_wait_have_their_turn_later(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)
    sockets: list[Exhausted] = []

    def wrap(sock: socket.socket) -> Exhausted:
        sockets.append(Exhausted(sock))
        return sockets[0]

    clients = Clients()
    acceptor = listen(clients, wrap)
    (sock,) = connect(acceptor, 1)
    await until(lambda: sockets[0].tried >= 2)
    assert sockets[0].tried < 10, "it pauses instead of trying all the time"
    assert clients.asked_for_room == sockets[0].tried, "idle connections have descriptors too"
    assert not clients.made
    sockets[0].failing = False
    await until(lambda: len(clients.made) == 1)
    sock.close()


class From:
    """A listening socket whose connections come from given addresses."""

    def __init__(self, sock: socket.socket, addresses: list[str]) -> None:
        self._sock, self._addresses = sock, addresses

    def accept(self) -> Any:
        sock, _ = self._sock.accept()
        return sock, (self._addresses.pop(0), 1, 0, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_A1_the_addresses_that_one_host_owns_are_counted_as_one(listen: Listen) -> None:
    clients = Clients()
    seen = ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1", "192.0.2.7"]
    acceptor = listen(clients, lambda sock: From(sock, list(seen)))
    sockets = connect(acceptor, len(seen))
    await until(lambda: len(clients.made) == len(seen))
    assert clients.peers == ["2001:db8::/64", "2001:db8::/64", "2001:db8:0:1::/64", "192.0.2.7"]
    for sock in sockets:
        sock.close()
