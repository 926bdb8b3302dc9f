"""A stream through the front proxies of deploy/front: nothing is held back, and a client that leaves is noticed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.testing.script import Script, Sleep, Stall, Wait, openai_stream, script
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, openai_config
from tests.support.clients import RawClient
from tests.support.front import fronted

Serve = Callable[..., Awaitable[Process]]

WORDS = [f"word{number} " for number in range(10)]
ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
PATHS = ["/v1/chat/completions", "/chat", "/api/chat"]


@pytest.fixture(params=["nginx", "haproxy", "caddy", pytest.param("traefik", marks=pytest.mark.deploy)])
async def front(
    request: pytest.FixtureRequest, serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[int]:
    proxy = await serve(openai_config(upstream.url, server="{heartbeat_s: 0.3}"))
    with fronted(request.param, tmp_path, [proxy.port]) as port:
        yield port


async def asking(port: int, path: str = PATHS[0]) -> RawClient:
    client = await RawClient.connect(port)
    await client.post(path, ASK)
    return client


async def test_nothing_is_held_back_and_a_client_that_leaves_is_noticed(front: int, upstream: ScriptedUpstream):
    for path in PATHS:
        await each_token_arrives_before_the_next_is_sent(front, upstream, path)
    await heartbeats_arrive_while_the_upstream_is_silent(front, upstream)
    await who_leaves_before_the_first_token_is_noticed(front, upstream)


async def each_token_arrives_before_the_next_is_sent(front: int, upstream: ScriptedUpstream, path: str):
    arrived = [asyncio.Event() for _ in WORDS]
    upstream.always(in_turn(arrived))
    took = []
    async with await asking(front, path) as client:
        assert (await client.read_head()).status == 200
        for word, event in zip(WORDS, arrived, strict=True):
            began = time.monotonic()
            await client.read_until(word.strip().encode())
            took.append(time.monotonic() - began)
            event.set()
        await client.read_body()
    assert min(took[1:]) < 0.15, "each waits for a timer"


def in_turn(arrived: list[asyncio.Event]) -> Script:
    """An answer of which each word is sent when the one before has arrived."""
    begin, *rest = openai_stream(WORDS)
    steps = [begin]
    events = iter(arrived)
    for step in rest:
        steps.append(step)
        if b"word" in getattr(step, "data", b""):
            steps.append(Wait(next(events)))
    return script(*steps)


async def heartbeats_arrive_while_the_upstream_is_silent(front: int, upstream: ScriptedUpstream):
    """And then the client leaves, which the upstream is told."""
    gone = len(await upstream.peer_gone(0))
    upstream.always(*openai_stream(["Hi"])[:3], Stall())
    async with await asking(front) as client:
        await client.read_until(b"Hi")
        for _ in range(3):
            await client.read_until(b"\n: ")
    await upstream.peer_gone(gone + 1)


async def who_leaves_before_the_first_token_is_noticed(front: int, upstream: ScriptedUpstream):
    gone, asked = len(await upstream.peer_gone(0)), len(upstream.requests)
    upstream.always(Stall())
    async with await asking(front):
        await upstream.received(asked + 1)
    await upstream.peer_gone(gone + 1)


@pytest.mark.heavy
async def test_a_stream_of_90_seconds_keeps_its_pace(front: int, upstream: ScriptedUpstream):
    begin = openai_stream(["Hi"])
    upstream.always(begin[:3], *([Sleep(30), begin[2]] * 3), begin[3:])
    began = time.monotonic()
    async with await asking(front) as client:
        assert (await client.read_head()).status == 200
        body = await client.read_body(within=300)
    assert time.monotonic() - began >= 90
    assert body.count(b'"Hi"') == 4
    assert body.rstrip().endswith(b"data: [DONE]")
