"""Body bytes given on from the callback that reads them: in order, none twice, and every end is still `read`'s to tell."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from proxy.errors import UpstreamTruncated
from proxy.testing.script import LAST_CHUNK, Fin, Rst, Split, Stall, Wait, chunked, head, sse_head
from proxy.testing.upstream import ScriptedUpstream
from proxy.transport import HttpTransport, Request, Response
from tests.support.certificates import client_context, server_context
from tests.support.connections import connections
from tests.transport.paced import LONG_S, Far, tick


class Sink:
    """Keeps what it is given; says no after `most` pieces."""

    def __init__(self, most: int = 10**6) -> None:
        self.pieces: list[bytes] = []
        self._most = most
        self.more = asyncio.Event()

    def __call__(self, data: bytes) -> bool:
        self.pieces.append(data)
        self.more.set()
        return len(self.pieces) < self._most

    async def has(self, body: bytes) -> None:
        async with asyncio.timeout(60):
            while b"".join(self.pieces) != body:
                self.more.clear()
                await self.more.wait()


async def pushed(response: Response) -> tuple[Sink, asyncio.Task[None]]:
    """A sink that is given what comes from now on."""
    sink = Sink()
    task = asyncio.create_task(response.push(sink))
    await asyncio.sleep(0)
    return sink, task


async def test_what_comes_is_given_at_once_and_the_end_is_left_to_read(upstream, ask):
    more, last = asyncio.Event(), asyncio.Event()
    upstream.play(sse_head(), chunked(b"one"), Wait(more), chunked(b"two"), Wait(last), LAST_CHUNK)
    response = await ask()
    assert await response.read() == b"one"
    sink, pushing = await pushed(response)
    more.set()
    await sink.has(b"two")
    assert not pushing.done()
    last.set()
    await pushing
    assert sink.pieces == [b"two"]
    assert await response.read() == b""
    assert response.at_end


async def test_what_comes_with_the_end_is_read_not_pushed(upstream, ask):
    more = asyncio.Event()
    upstream.play(sse_head(), chunked(b"one"), Wait(more), chunked(b"two") + LAST_CHUNK)
    response = await ask()
    assert await response.read() == b"one"
    sink, pushing = await pushed(response)
    more.set()
    await pushing
    assert sink.pieces == []
    assert await response.read() == b"two"
    assert await response.read() == b""


async def test_a_sink_that_wants_no_more_gets_no_more_and_nothing_is_lost(upstream, ask):
    body = [b"%d;" % n for n in range(200)]
    upstream.play(sse_head(), Split(b"".join(map(chunked, body)), 1), LAST_CHUNK)
    response = await ask()
    got = await response.read()
    while True:
        sink = Sink(most=2)
        await response.push(sink)
        assert len(sink.pieces) <= 2
        got += b"".join(sink.pieces)
        piece = await response.read()
        if not piece:
            break
        got += piece
    assert got == b"".join(body)


async def test_what_has_come_before_is_for_read(upstream, ask):
    upstream.play(sse_head(), chunked(b"one"), Stall())
    response = await ask()
    sink = Sink()
    await response.push(sink)  # returns at once, or there would be no end to it
    assert await response.read() == b"one"
    assert not sink.pieces


@pytest.mark.parametrize("end", [Fin(), Rst()])
async def test_b01_a_cut_is_for_read_to_tell(upstream, ask, end):
    more = asyncio.Event()
    upstream.play(sse_head(), chunked(b"one"), Wait(more), chunked(b"two"), end)
    response = await ask()
    assert await response.read() == b"one"
    sink, pushing = await pushed(response)
    more.set()
    await pushing
    assert b"".join(sink.pieces) in {b"two", b""}
    with pytest.raises(UpstreamTruncated):
        while await response.read():
            pass


async def test_what_a_sink_raises_is_raised_to_who_waits_and_the_connection_is_not_used_again(upstream, ask, transport):
    more = asyncio.Event()
    upstream.play(sse_head(), chunked(b"one"), Wait(more), chunked(b"two"), Stall())
    response = await ask()
    await response.read()

    def sink(_: bytes) -> bool:
        raise ZeroDivisionError

    pushing = asyncio.create_task(response.push(sink))
    await asyncio.sleep(0)
    more.set()
    with pytest.raises(ZeroDivisionError):
        await pushing
    response.close()
    assert connections(transport).idle == 0


async def test_a_push_that_is_cancelled_leaves_what_comes_to_read(upstream, ask):
    more = asyncio.Event()
    upstream.play(sse_head(), chunked(b"one"), Wait(more), chunked(b"two"), LAST_CHUNK)
    response = await ask()
    await response.read()
    sink, pushing = await pushed(response)
    pushing.cancel()
    await asyncio.wait([pushing])
    more.set()
    assert await response.read() == b"two"
    assert not sink.pieces


async def test_compressed_bodies_are_read_the_ordinary_way(upstream, ask):
    packed = gzip.compress(b"one")
    upstream.play(head(200, {"content-encoding": "gzip", "content-length": str(len(packed))}), packed)
    response = await ask()
    await response.push(Sink())
    assert await response.read() == b"one"


# -- paced: what has gathered is taken from the socket at the tick, the transport staying paused


async def paced(far: Far) -> tuple[Sink, asyncio.Task[None]]:
    """A stream of which two pieces came, and that is held as of now."""
    response = await far.open()
    await far.send()
    assert await response.read() == b"0"
    response.pace(on=True)
    sink, task = await pushed(response)
    await far.send()
    await sink.has(b"1")
    return sink, task


async def test_a_fast_stream_is_pushed_once_a_tick(far):
    sink, task = await paced(far)
    for expected in (b"23", b"45", b"67"):
        await far.send()
        await far.send()
        assert expected not in sink.pieces
        far.tick()
        assert sink.pieces[-1] == expected
    task.cancel()
    await asyncio.wait([task])


async def test_a_tick_that_finds_nothing_lets_the_stream_go(far):
    sink, task = await paced(far)
    far.tick()
    await far.send()
    await sink.has(b"12")  # without a tick
    task.cancel()
    await asyncio.wait([task])


async def test_the_end_is_found_at_the_tick_and_the_connection_is_used_again(upstream, ask, transport):
    more, last = asyncio.Event(), asyncio.Event()
    upstream.play(sse_head(), chunked(b"0"), Wait(more), chunked(b"1"), Wait(last), chunked(b"2") + LAST_CHUNK)
    response = await ask(tick_s=LONG_S)
    assert await response.read() == b"0"
    response.pace(on=True)
    sink, task = await pushed(response)
    more.set()
    await sink.has(b"1")
    before = upstream.bytes_written
    last.set()
    while upstream.bytes_written == before:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)
    assert not task.done()
    tick(transport)
    await task
    assert await response.read() == b"2"
    assert response.at_end
    response.close()
    assert connections(transport).idle == 1


@pytest.mark.parametrize("end", [Fin(), Rst()])
async def test_b02_the_loss_of_the_connection_is_found_at_the_tick(upstream, ask, transport, end):
    """Of a body that nothing delimits too, where a reset must not look like the end."""
    more, last = asyncio.Event(), asyncio.Event()
    upstream.play(
        head(200, {"content-type": "text/event-stream", "connection": "close"}), b"0", Wait(more), b"1", Wait(last), end
    )
    response = await ask(tick_s=LONG_S)
    assert await response.read() == b"0"
    response.pace(on=True)
    sink, task = await pushed(response)
    more.set()
    await sink.has(b"1")
    last.set()
    await asyncio.sleep(0.05)
    tick(transport)
    await task
    if isinstance(end, Rst):
        with pytest.raises(UpstreamTruncated):
            await response.read()
    else:
        assert await response.read() == b""


async def test_over_tls_the_transport_itself_reads_on_at_the_tick():
    more, last = asyncio.Event(), asyncio.Event()
    transport = HttpTransport(ssl_context=client_context(), proxies={})
    async with ScriptedUpstream(tls=server_context(), name="localhost") as far:
        far.play(sse_head(), chunked(b"0"), Wait(more), chunked(b"1"), Wait(last), chunked(b"2"), Stall())
        request = Request(method="POST", url=f"{far.url}/v1", headers={}, body=b"{}", tick_s=LONG_S)
        response = await transport.open(request)
        assert await response.read() == b"0"
        response.pace(on=True)
        sink, task = await pushed(response)
        more.set()
        await sink.has(b"1")
        last.set()
        await asyncio.sleep(0.05)
        assert sink.pieces == [b"1"]
        tick(transport)
        await sink.has(b"12")
        task.cancel()
        await asyncio.wait([task])
        response.close()
        await transport.aclose()
