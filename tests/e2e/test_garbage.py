"""What a request leaves behind: nothing that only a search for garbage would find.

Failures are few, and may: an exception holds the frames it passed through, and those hold it.
Such searches are rare by design (`proxy.serving`), so a cycle per request would be tens of kilobytes for each of a
thousand streams, kept for seconds: with one, 1,000 open streams took 36 KB each, without it 28 (measured).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
from collections.abc import Iterator

import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import StartProxy, openai_config

MESSAGES = {"model": "scripted-1", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}


@contextlib.contextmanager
def leaving_no_garbage() -> Iterator[None]:
    """What happens within leaves no cycles of ours; the test's own parts may."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        names = (f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
        found = collections.Counter(name for name in names if name.startswith(("proxy.", "aiohttp.web_")))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not found


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/ollama/api/chat"])
async def test_an_answer_leaves_no_garbage(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, stream: bool
) -> None:
    upstream.decide(lambda _: openai_stream(["Hello", " world"]))
    proxy = await start_proxy(openai_config(upstream.url))
    request = asking(path, {**MESSAGES, "input": "hi", "stream": stream})
    with leaving_no_garbage():
        for number in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(request)
            assert (await reader.read()).startswith(b"HTTP/1.1 ")
            writer.close()
            await writer.wait_closed()
            await proxy.ended(number + 1)
        await asyncio.sleep(0.02)  # the connections' own last steps


async def test_a_client_that_leaves_leaves_no_garbage(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.decide(lambda _: openai_stream([f"{n} " for n in range(500)], gap_s=0.01))
    proxy = await start_proxy(openai_config(upstream.url))
    with leaving_no_garbage():
        for number in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(asking("/chat", MESSAGES))
            assert await reader.readuntil(b"data:")
            writer.close()
            await writer.wait_closed()
            await proxy.ended(number + 1)
        await asyncio.sleep(0.02)


def asking(path: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content
