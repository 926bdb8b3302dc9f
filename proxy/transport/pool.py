"""Idle connections by destination; the one used last is taken first."""

import asyncio
import re
from contextlib import suppress

from proxy.transport.address import Destination
from proxy.transport.connection import Connection
from proxy.transport.pacing import Pacing

CLOSE_WITHIN_S = 2.0  # aborted connections close in the loop's next round; this only bounds a shutdown
_KEEP_ALIVE_TIMEOUT = re.compile(r"(?:^|[,\s])timeout=(\d{1,6})")


class Pool:
    """All open connections. Their number has no limit: a stream never waits for another stream's connection.

    Idle ones are closed after `idle_s`, or one second before the upstream's own `Keep-Alive: timeout` where it
    sends one; so most of a busy hour's connections are closed a minute after it.
    """

    def __init__(self, *, idle_s: float, max_idle_per_origin: int) -> None:
        self._idle_s = idle_s
        self._max_idle = max_idle_per_origin
        self._open: set[Connection] = set()
        self._idle: dict[Destination, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False
        self.pacing = Pacing()

    def take(self, destination: Destination) -> Connection | None:
        """An idle connection that still looks alive."""
        waiting = self._idle.get(destination)
        now = asyncio.get_running_loop().time()
        while waiting:
            connection = waiting.pop()
            if connection.usable and connection.expires_at > now:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection, keep_alive: str) -> None:
        """Keep a connection for the next request. `keep_alive` is the header of that name, or empty."""
        loop = asyncio.get_running_loop()
        idle_s = self._idle_s
        if keep_alive and (match := _KEEP_ALIVE_TIMEOUT.search(keep_alive)):
            idle_s = min(idle_s, int(match[1]) - 1)
        waiting = self._idle.setdefault(connection.destination, [])
        if self.closed or idle_s <= 0 or len(waiting) >= self._max_idle:
            connection.abort()
            return
        connection.expires_at = loop.time() + idle_s
        waiting.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(idle_s, self._close_expired)

    def add(self, connection: Connection) -> None:
        """A connection has been made.

        Not to be called from `connection_made`: when a connect is cancelled in that very moment, uvloop closes
        the socket and never calls `connection_lost`.
        """
        if not connection.lost:
            self._open.add(connection)
            self._empty.clear()

    def forget(self, connection: Connection) -> None:
        """Remove a connection from the idle ones."""
        waiting = self._idle.get(connection.destination)
        if waiting and connection in waiting:
            waiting.remove(connection)

    def lost(self, connection: Connection) -> None:
        """A connection has closed."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    async def aclose(self) -> None:
        """Close every connection and wait until all are gone."""
        self.closed = True
        self.pacing.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for connection in list(self._open):
            if connection.reader is not None:
                connection.reader.close()
            connection.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._empty.wait()

    def _close_expired(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        soonest = float("inf")
        for destination, waiting in list(self._idle.items()):
            for connection in [connection for connection in waiting if connection.expires_at <= now]:
                waiting.remove(connection)
                connection.abort()
            if waiting:
                soonest = min(soonest, *(connection.expires_at for connection in waiting))
            else:
                del self._idle[destination]
        self._sweep = loop.call_at(soonest, self._close_expired) if self._idle else None
