"""Clients that never read: what of them is left when they have been cut."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from pathlib import Path

import pytest

from proxy.pipeline.exchange import Exchange
from proxy.testing.script import LAST_CHUNK, Rst, Send, Step, event, openai_chunk, sse_head
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import StartProxy, openai_config
from tests.support.clients import RawClient

TOKENS = event(openai_chunk({"content": "x" * 2000})) * 30
ENDLESS = (Send(sse_head()), Send(TOKENS, times=200), Send(LAST_CHUNK))
PATHS = ("/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/ollama/api/chat")
MESSAGES = [{"role": "user", "content": "hi"}]
ASK = {"model": "m", "stream": True, "max_tokens": 9, "messages": MESSAGES, "input": MESSAGES}


async def stalled(port: int, upstream: ScriptedUpstream, count: int) -> None:
    """Ask as many times, read nothing, and wait until the proxy has cut them all."""
    before = len(upstream.closed)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            client = await stack.enter_async_context(await RawClient.connect(port, receive_buffer=8192))
            await client.post(PATHS[number % len(PATHS)], ASK)
        await upstream.peer_gone(before + count)


async def test_A9_a_client_that_was_cut_leaves_no_circle_of_objects(start_proxy: StartProxy) -> None:
    """With one, what was to be written would stay until a full collection, which a busy server rarely has."""
    async with ScriptedUpstream(send_buffer=65536) as upstream:
        upstream.always(*ENDLESS)
        limits = "{limits: {write_stall_s: 0.3, answer_mb: 500}}"
        proxy = await start_proxy(openai_config(upstream.url, server=limits))
        gc.collect()
        gc.disable()
        try:
            await stalled(proxy.port, upstream, len(PATHS))
            await proxy.ended(len(PATHS))
            await asyncio.sleep(0)
            left = [one for one in gc.get_objects() if isinstance(one, Exchange)]
            assert left == []
        finally:
            gc.enable()


@pytest.mark.parametrize("end", [Send(LAST_CHUNK), Rst()], ids=["too long", "cut"])
async def test_A9_a_whole_answer_that_failed_is_let_go_at_once(start_proxy: StartProxy, end: Step) -> None:
    """Its error refers to the frames that it passed, which nobody looks for; megabytes of answer must not hang on them."""
    async with ScriptedUpstream() as upstream:
        upstream.always(Send(sse_head()), Send(TOKENS, times=40), end)  # 2.4 MB
        proxy = await start_proxy(openai_config(upstream.url, server="{limits: {answer_mb: 2.3}}"))
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for number in range(6):
                async with await RawClient.connect(proxy.port) as client:
                    await client.post("/v1/chat/completions", {**ASK, "stream": False})
                    assert (await client.read_head()).status in {502, 504}
                    await client.read_body()
                await proxy.ended(number + 1)
            assert tracemalloc.get_traced_memory()[0] < 3_000_000
        finally:
            tracemalloc.stop()
            gc.enable()


@pytest.mark.heavy
async def test_A9_thousands_of_clients_that_never_read_leave_no_memory_behind(start_proxy: StartProxy) -> None:
    """After 3,000 the process is hardly larger than after 1,000."""

    def resident_mb() -> float:
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

    async with ScriptedUpstream(send_buffer=65536) as upstream:
        upstream.always(*ENDLESS)
        limits = "{log: {level: error}, limits: {write_stall_s: 0.3, answer_mb: 500}}"
        proxy = await start_proxy(openai_config(upstream.url, server=limits))
        sizes = []
        for _ in range(30):
            await stalled(proxy.port, upstream, 100)
            sizes.append(resident_mb())
        print("MB after each 100:", *map(round, sizes))
        assert sizes[-1] < sizes[9] * 1.2 + 10, sizes
