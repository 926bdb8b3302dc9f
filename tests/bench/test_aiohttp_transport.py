"""The transport that ours is compared with is no straw man: it streams, reuses, and says how an answer ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bench.aiohttp_transport import AiohttpTransport
from proxy.errors import UpstreamConnect, UpstreamTruncated
from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    Step,
    Wait,
    chunked,
    head,
    json_reply,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream, eventually
from proxy.transport import Request
from tests.support.connections import connections
from tests.support.ports import free_port


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    one = AiohttpTransport()
    yield one
    await one.aclose()
    assert connections(one).open == 0


def request(upstream: ScriptedUpstream, **more: float) -> Request:
    url = f"{upstream.url}/chat/completions"
    return Request(method="POST", url=url, headers={"authorization": "Bearer x"}, body=b"{}", **more)


async def test_a_whole_answer_frees_its_connection_for_the_next(
    transport: AiohttpTransport, upstream: ScriptedUpstream
):
    for _ in range(2):
        upstream.play(openai_stream(["Hello", " world"]))
        response = await transport.open(request(upstream))
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        body = await response.read_all(10_000)
        assert b"Hello" in body
        assert body.endswith(b"data: [DONE]\n\n")
        response.close()
    assert upstream.open_connections == 1
    assert connections(transport).in_use == 0


@pytest.mark.parametrize("leave", [Fin(), Rst()], ids=["FIN", "RST"])
async def test_a_cut_answer_is_reported(transport: AiohttpTransport, upstream: ScriptedUpstream, leave: Step):
    upstream.play(openai_stream(["Hello", " world"])[:3], leave)
    response = await transport.open(request(upstream))
    with pytest.raises(UpstreamTruncated):
        await response.read_all(10_000)
    response.close()


async def test_a_dead_pooled_connection_is_replaced(transport: AiohttpTransport, upstream: ScriptedUpstream):
    upstream.play(openai_stream(["one"]))
    first = await transport.open(request(upstream))
    await first.read_all(10_000)
    first.close()
    upstream.play(Fin())
    upstream.play(openai_stream(["two"]))
    second = await transport.open(request(upstream))
    assert b"two" in await second.read_all(10_000)
    second.close()


async def test_an_answer_that_is_left_closes_its_connection(transport: AiohttpTransport, upstream: ScriptedUpstream):
    upstream.play(Send(sse_head() + chunked(b"data: 1\n\n")), Stall())
    response = await transport.open(request(upstream))
    assert await response.read() == b"data: 1\n\n"
    response.close()
    await eventually(lambda: connections(transport).open == 0)


async def test_a_refused_connection_is_named(transport: AiohttpTransport):
    port = free_port()
    with pytest.raises(UpstreamConnect, match=rf"http://127\.0\.0\.1:{port}"):
        await transport.open(Request(method="POST", url=f"http://127.0.0.1:{port}/", headers={}))


async def test_a_paced_answer_is_read_when_the_tick_comes(transport: AiohttpTransport, upstream: ScriptedUpstream):
    """Forty tokens 5 ms apart take 0.2 s: at a tick of 50 ms that is five reads and a first few, not forty."""
    token = chunked(b"data: 1\n\n")
    upstream.play(
        Send(sse_head()), *(step for _ in range(40) for step in (Send(token), Sleep(0.005))), Send(LAST_CHUNK)
    )
    response = await transport.open(request(upstream, tick_s=0.05))
    response.pace(True)
    reads = []
    while data := await response.read():
        reads.append(data)
    response.close()
    assert b"".join(reads) == b"data: 1\n\n" * 40
    assert len(reads) < 15


async def test_why_it_is_not_ours_an_idle_connection_answers_the_next_request(
    transport: AiohttpTransport, upstream: ScriptedUpstream
):
    """The main reason in docs/performance.md. When this fails, aiohttp has mended it, and the page is to be changed."""
    asked = asyncio.Event()
    nobodys = head(200, {"content-length": "6"}) + b"secret"
    upstream.play(json_reply(200, b"first"), Wait(asked), Send(nobodys), Stall())
    first = await transport.open(request(upstream))
    assert await first.read_all(100) == b"first"
    first.close()
    before = upstream.bytes_written
    asked.set()
    await eventually(lambda: upstream.bytes_written >= before + len(nobodys))
    second = await transport.open(request(upstream))
    assert await second.read_all(100) == b"secret"
    second.close()
