"""What an open stream keeps: not the prompt, which may be megabytes and was sent on long ago."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from tests.support.app import StartProxy, openai_config

PROMPT = "a long story " * 80_000  # 1 MB
STREAMS = 8


@pytest.fixture
async def silent_after_a_token() -> AsyncIterator[str]:
    """The address of an upstream that keeps nothing itself."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while left:
            left -= len(await reader.read(left))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        token = {"choices": [{"index": 0, "delta": {"content": "Once"}, "finish_reason": None}]}
        data = b"data: " + json.dumps(token).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await over.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        over.set()


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/ollama/api/chat"])
async def test_a_prompt_is_not_kept_while_the_answer_goes_on(
    start_proxy: StartProxy, silent_after_a_token: str, path: str
) -> None:
    proxy = await start_proxy(openai_config(silent_after_a_token))
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": "scripted-1", "max_tokens": 64, "stream": True, "messages": messages, "input": messages}
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writers = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(STREAMS):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writers.append(writer)
            writer.write(head.encode() + content)
            await writer.drain()
            assert await reader.readuntil(b"Once")
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        for writer in writers:
            writer.close()
    await proxy.ended(STREAMS)
    assert kept / STREAMS < len(PROMPT) / 4
