"""Two replicas behind nginx or HAProxy, and one Redis: limits hold for both together, to the request."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import Stall, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support import redis
from tests.support.app import Process
from tests.support.front import fronted

pytestmark = pytest.mark.heavy

KEY = "cp-web-7Q2k0yXn3mVb8LrTz5WcHs"
Serve = Callable[..., Awaitable[Process]]


@pytest.fixture(params=["nginx", "haproxy"])
async def front(
    request: pytest.FixtureRequest, serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[tuple[int, redis.RedisServer]]:
    with redis.running() as server:
        config = f"""
            store: "{server.url}"
            auth:
              keys: [{{name: web, sha256: "{hashlib.sha256(KEY.encode()).hexdigest()}"}}]
              limits: {{on_outage: local, local_share: 0.5}}
            backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
            routes:
              - {{name: counted, match: {{model: counted}}, to: far/scripted-1, limits: {{requests_per_minute: 60}}}}
              - {{name: parallel, to: far/scripted-1, limits: {{parallel: 8, on_outage: local, local_share: 0.5}}}}
        """
        replicas = [await serve(config) for _ in range(2)]
        with fronted(request.param, tmp_path, [replica.port for replica in replicas]) as port:
            yield port, server


async def ask(session: aiohttp.ClientSession, port: int, model: str) -> int:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"Authorization": f"Bearer {KEY}"}
    async with session.post(url, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_two_replicas_admit_what_one_would(front, upstream: ScriptedUpstream):
    port, server = front
    upstream.always(*openai_stream(["Hi"]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.monotonic()
        got = await asyncio.gather(*(ask(session, port, "counted") for _ in range(300)))
        most = 60 + math.floor(time.monotonic() - began)
        assert set(got) == {200, 429}
        assert 60 <= got.count(200) <= most, "60 at once, and one more for each second that passed"
        assert len(upstream.requests) == got.count(200)

        upstream.always(*openai_stream(["Hi"])[:3], Stall())
        asking = [asyncio.create_task(ask(session, port, "other")) for _ in range(40)]
        async with asyncio.timeout(60):
            while sum(one.done() for one in asking) < 32:
                await asyncio.sleep(0.01)
        await upstream.received(got.count(200) + 8)
        assert [one.result() for one in asking if one.done()] == [429] * 32, "exactly 8 run, whichever replica has them"
        upstream.drop_connections()
        await asyncio.wait(asking)

        server.stop()  # each replica counts half of it by itself
        upstream.always(*openai_stream(["Hi"])[:3], Stall())
        before = len(upstream.requests)
        asking = [asyncio.create_task(ask(session, port, "other")) for _ in range(40)]
        async with asyncio.timeout(60):
            while sum(one.done() for one in asking) < 32:
                await asyncio.sleep(0.01)
        await upstream.received(before + 8)
        assert [one.result() for one in asking if one.done()] == [429] * 32
        upstream.drop_connections()
        await asyncio.wait(asking)
