"""Sockets to listen on: bound here, so that one process and several use the same rules.

With several workers the parent binds the addresses first (`reserve`), which decides the port and keeps it;
only workers listen, each on a socket of its own (`join`). A socket that is bound and does not listen gets no
connections.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from proxy.errors import PortTaken

Address = tuple[int, list[Any]]
"""Family and socket address, as plain values."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind all addresses of `host` to one port, for this process alone. Raises `OSError`."""
    return _bind_all(host, port, shared=False)


def reserve(host: str, port: int) -> list[socket.socket]:
    """The same for several processes (SO_REUSEPORT). Raises `OSError`, also when another program listens there."""
    return _bind_all(host, port, shared=True)


def bind_each(
    bind: Callable[[str, int], list[socket.socket]], host: str, listen: Iterable[tuple[int, str, str]], *, file: str
) -> list[tuple[str, list[socket.socket]]]:
    """Bind each port that the config `file` names: pairs of what is served there and its sockets. Raises `PortTaken`, `OSError`."""
    bound = []
    for port, prefix, key in listen:
        try:
            bound.append((prefix, bind(host, port)))
        except OSError as error:
            if not prefix:
                raise
            raise PortTaken(key, port, error, file=file) from None
    return bound


def addresses(sockets: list[socket.socket]) -> list[Address]:
    return [(int(sock.family), list(sock.getsockname())) for sock in sockets]


def join(address: Address) -> socket.socket:
    """A socket of this process's own at a reserved address."""
    family, place = address
    return _bind(family, tuple(place), shared=True)


def _bind_all(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        found = dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    except socket.gaierror as error:
        why = "an IPv6 address is written without brackets" if "[" in host else (error.strerror or "").lower()
        raise socket.gaierror(error.errno, f"{host}: {why}") from None
    for family, *_, address in found:
        if bound and not port:
            port = bound[0].getsockname()[1]
        place = (address[0], port, *address[2:])
        try:
            if shared and port and not bound:
                # SO_REUSEPORT would let us join another program of the same user without an error.
                _bind(family, place, shared=False).close()
            bound.append(_bind(family, place, shared=shared))
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} and len(found) > 1:
                continue  # `localhost` where IPv6 is off
            for one in bound:
                one.close()
            reason = os.strerror(error.errno or 0).lower()
            shown = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
            raise OSError(error.errno, f"{shown}:{port}: {reason}") from None
    if not bound:
        raise OSError(errno.EADDRNOTAVAIL, f"{host}:{port}: this machine has none of its addresses")
    return bound


def _bind(family: int, place: tuple[Any, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
    except BaseException:
        sock.close()
        raise
    return sock
