"""Resolve host names. Answers are cached for a short time; concurrent look-ups of one name are one."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

AddressInfo = tuple[int, int, int, str, Any]  # as getaddrinfo() gives them

MOST_NAMES = 256


class Resolver:
    """Looks names up off the event loop.

    Successful answers are cached for `ttl_s`. When a caller is cancelled, the look-up continues for the others:
    the system's resolver cannot be interrupted.
    """

    def __init__(self, *, ttl_s: float = 20.0) -> None:
        self._ttl_s = ttl_s
        self._known: dict[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[Sequence[AddressInfo]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[AddressInfo]:
        """All addresses of `host`; raises `socket.gaierror` when there are none."""
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        name = (host, port)
        known = self._known.get(name)
        if known is not None and known[0] > asyncio.get_running_loop().time():
            return known[1]
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name))
        return await asyncio.shield(task)

    def forget(self, host: str, port: int) -> None:
        """Drop the cached addresses of a host where no connection was made."""
        self._known.pop((host, port), None)

    async def aclose(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask(self, name: tuple[str, int]) -> Sequence[AddressInfo]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(*name, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            if len(self._known) >= MOST_NAMES:
                self._known.clear()
            self._known[name] = (loop.time() + self._ttl_s, found)
            return found
        finally:
            del self._asking[name]


def _literal(host: str, port: int) -> AddressInfo | None:
    """`host` as an address if it is one, without a thread; the system resolves scoped IPv6 addresses."""
    if not host[-1:].isdigit() and ":" not in host:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    if "%" in host:
        return None
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0)
