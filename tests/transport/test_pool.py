"""How long idle connections are kept, and how many."""

from __future__ import annotations

import asyncio

import pytest

from proxy.testing.script import LAST_CHUNK, Wait, chunked, json_reply, sse_head
from proxy.testing.upstream import eventually
from proxy.transport import HttpTransport, Request
from tests.support.connections import connections


async def ask(transport, upstream):
    response = await transport.open(Request(method="POST", url=upstream.url, headers={}))
    await response.read_all(1000)
    response.close()


@pytest.fixture
async def short():
    transport = HttpTransport(proxies={}, idle_s=0.05)
    yield transport
    await transport.aclose()


async def test_idle_connections_are_closed_by_us_in_time(upstream, short):
    upstream.always(json_reply(200, {}))
    await ask(short, upstream)
    assert connections(short).idle == 1
    await upstream.peer_gone()
    assert connections(short).open == 0
    await ask(short, upstream)
    await upstream.peer_gone(2)


async def test_an_expired_connection_is_not_used_even_before_it_is_swept(upstream, short):
    upstream.always(json_reply(200, {}))
    await ask(short, upstream)
    (waiting,) = short._pool._idle.values()
    waiting[0].expires_at = 0
    await ask(short, upstream)
    assert upstream.connections == 2


async def test_no_more_than_so_many_idle_ones_are_kept(upstream):
    go = asyncio.Event()
    upstream.play(sse_head(), Wait(go), chunked(b"x"), LAST_CHUNK, times=5)
    few = HttpTransport(proxies={}, max_idle_per_origin=2)
    asking = [asyncio.create_task(ask(few, upstream)) for _ in range(5)]
    await upstream.received(5)
    go.set()
    await asyncio.gather(*asking)
    assert connections(few).idle == 2
    await upstream.peer_gone(3)
    await few.aclose()


async def test_the_connection_used_last_goes_first(upstream, transport):
    go = asyncio.Event()
    upstream.play(sse_head(), Wait(go), LAST_CHUNK)
    slow = asyncio.create_task(ask(transport, upstream))
    await upstream.received()
    upstream.always(json_reply(200, {}))
    await ask(transport, upstream)
    go.set()
    await slow
    for _ in range(3):
        await ask(transport, upstream)
    assert [seen.connection_number for seen in upstream.requests] == [1, 2, 1, 1, 1]


@pytest.mark.parametrize(("value", "kept"), [("timeout=1", 0), ("timeout=0", 0), ("max=5, timeout=60", 1), ("x", 1)])
async def test_the_upstreams_own_keep_alive_is_respected(upstream, transport, value, kept):
    upstream.play(json_reply(200, {}, {"keep-alive": value}))
    await ask(transport, upstream)
    assert connections(transport).idle == kept


async def test_other_origins_do_not_share_connections(upstream, transport):
    upstream.always(json_reply(200, {}))
    await ask(transport, upstream)
    response = await transport.open(Request(method="POST", url=f"http://localhost:{upstream.port}/v1", headers={}))
    await response.read_all(1000)
    response.close()
    assert upstream.connections == 2


async def test_the_last_connection_lost_leaves_nothing_scheduled(upstream, short):
    upstream.always(json_reply(200, {}))
    await ask(short, upstream)
    await eventually(lambda: short._pool._sweep is None)
    assert short._pool._idle == {}
