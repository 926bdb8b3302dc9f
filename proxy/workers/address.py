"""One address for all workers. Its parent binds it first, which settles the port and keeps it; only workers listen."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

Address = tuple[int, list[Any]]
"""Family and socket address, as they go through JSON."""


def reserve(host: str, port: int) -> list[socket.socket]:
    """Bind all addresses of `host`, to one port. Raises `OSError`, also when another program listens there.

    What is bound but does not listen gets no connections.
    """
    reserved: list[socket.socket] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, *_, address in dict.fromkeys(found):
        if reserved and not port:
            port = reserved[0].getsockname()[1]
        place = (address[0], port, *address[2:])
        try:
            if port and not reserved:
                _bound(family, place, shared=False).close()  # with a share of another's, we would not notice it
            reserved.append(_bound(family, place, shared=True))
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} and len(found) > 1:
                continue  # `localhost` where IPv6 is off
            for one in reserved:
                one.close()
            reason = os.strerror(error.errno or 0).lower()
            raise OSError(error.errno, f"error while attempting to bind on address {place!r}: {reason}") from None
    if not reserved:
        raise OSError(errno.EADDRNOTAVAIL, f"could not bind on any address of {host!r}")
    return reserved


def addresses(reserved: list[socket.socket]) -> list[Address]:
    return [(one.family, list(one.getsockname())) for one in reserved]


def join(address: Address) -> socket.socket:
    """A socket of one's own on an address that the parent holds."""
    family, place = address
    return _bound(family, tuple(place), shared=True)


def _bound(family: int, place: tuple[Any, ...], *, shared: bool) -> socket.socket:
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
