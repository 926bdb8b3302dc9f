"""Answers whose ticks come when the test says so."""

from __future__ import annotations

import asyncio

from proxy.testing.script import Wait, chunked, sse_head
from proxy.testing.upstream import eventually
from proxy.transport import HttpTransport
from proxy.transport.reader import ResponseReader

LONG_S = 3600.0


def tick(transport: HttpTransport) -> None:
    """Let the tick of `LONG_S` come now."""
    pacer = transport._pool.pacing.pacer(LONG_S)
    timer = pacer._timer
    assert timer is not None
    timer.cancel()
    pacer._tick()


class Far:
    """An upstream that sends a numbered piece each time it is told to."""

    def __init__(self, upstream, ask, transport, count: int) -> None:
        self._upstream, self._ask, self._transport = upstream, ask, transport
        self._go = [asyncio.Event() for _ in range(count)]
        upstream.play(sse_head(), *(step for n, go in enumerate(self._go) for step in (Wait(go), chunked(b"%d" % n))))
        self._sent = 0

    async def open(self) -> ResponseReader:
        return await self._ask(tick_s=LONG_S)

    async def send(self) -> None:
        """One piece, which is in the kernel when this returns."""
        before = self._upstream.bytes_written
        self._go[self._sent].set()
        self._sent += 1
        await eventually(lambda: self._upstream.bytes_written > before)
        await asyncio.sleep(0.01)

    def tick(self) -> None:
        tick(self._transport)
