"""How many connections a transport has, which nothing but tests asks."""

from __future__ import annotations

from typing import Any, NamedTuple


class Connections(NamedTuple):
    """Connections at this moment."""

    open: int
    idle: int

    @property
    def in_use(self) -> int:
        return self.open - self.idle


def connections(of: Any) -> Connections:
    """Those of a transport (ours, or the bench's over aiohttp) or of a pool."""
    if hasattr(of, "_opened"):
        connector = of._opened.connector if of._opened else None
        if connector is None:
            return Connections(0, 0)
        idle = sum(map(len, connector._conns.values()))
        return Connections(idle + len(connector._acquired), idle)
    pool = getattr(of, "_pool", of)
    return Connections(len(pool._open), sum(map(len, pool._idle.values())))
