"""Three replicas with one Redis behind a front, restarted one after another under streams: no request fails."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support import redis
from tests.support.app import Process, serving
from tests.support.front import fronted

KEY = "cp-web-7Q2k0yXn3mVb8LrTz5WcHs"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


class Replica:
    """A proxy that is started again on the port that it had."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._stack = contextlib.AsyncExitStack()
        self.process: Process
        self.port = 0

    async def start(self) -> None:
        options = ("--port", str(self.port))
        self.process = await self._stack.enter_async_context(serving(self._config, *options))
        await self.process.wait_until_listening()
        self.port = self.process.port

    async def restart(self, within: float) -> None:
        """As an operator or an orchestrator does it: ask it to stop, wait until it has, start it."""
        self.process.signal(signal.SIGTERM)
        assert await self.process.exit_code(within) == 0
        await self._stack.aclose()
        await self.start()

    async def aclose(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def replicas(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    with redis.running() as server:
        config = tmp_path / "config.yaml"
        config.write_text(f"""
server: {{drain_s: 120}}
store: "{server.url}"
auth:
  keys: [{{name: web, sha256: "{hashlib.sha256(KEY.encode()).hexdigest()}"}}]
  limits: {{requests_per_minute: 1000000, parallel: 1000}}
backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
routes: [{{name: default, to: far/scripted-1}}]
""")
        three = [Replica(config) for _ in range(3)]
        try:
            await asyncio.gather(*(replica.start() for replica in three))
            yield three
        finally:
            for replica in three:
                await replica.aclose()


async def keep_asking(
    session: aiohttp.ClientSession, port: int, stop: asyncio.Event, ended: Callable[[str], None]
) -> None:
    """One stream after another, each read to its end."""
    url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"Authorization": f"Bearer {KEY}"}
    while not stop.is_set():
        try:
            async with session.post(url, json=ASK, headers=headers) as answer:
                body = await answer.read()
        except aiohttp.ClientError as error:
            ended(repr(error))
            continue
        whole = answer.status == 200 and body.rstrip().endswith(b"data: [DONE]") and b'"error"' not in body
        ended("" if whole else f"{answer.status}: {body[-500:]!r}")


async def rolled(port: int, replicas: list[Replica], streams: int) -> list[str]:
    """How each request ended that was asked while all replicas were restarted: empty is a whole answer."""
    ends: list[str] = []
    stop = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        asking = [asyncio.create_task(keep_asking(session, port, stop, ends.append)) for _ in range(streams)]
        try:
            await asyncio.sleep(0.5)  # streams are under way on all of them
            for replica in replicas:
                await replica.restart(within=180)
        finally:
            stop.set()
            await asyncio.gather(*asking)
    return ends


async def test_no_request_fails(replicas: list[Replica], upstream: ScriptedUpstream, tmp_path: Path):
    upstream.always(*openai_stream(["word "] * 10, gap_s=0.1))
    with fronted("nginx", tmp_path, [replica.port for replica in replicas]) as port:
        ends = await rolled(port, replicas, streams=20)
    assert len(ends) > 20
    assert set(ends) == {""}


@pytest.mark.heavy
@pytest.mark.parametrize("front", ["nginx", "haproxy", "caddy"])
async def test_no_request_fails_of_200_that_take_a_minute(
    front: str, replicas: list[Replica], upstream: ScriptedUpstream, tmp_path: Path
):
    upstream.always(*openai_stream(["word "] * 60, gap_s=1))
    began = time.monotonic()
    with fronted(front, tmp_path, [replica.port for replica in replicas]) as port:
        ends = await rolled(port, replicas, streams=200)
    assert time.monotonic() - began > 120
    assert len(ends) > 400
    assert set(ends) == {""}
    print(f"{front}: {len(ends)} requests, none failed")
