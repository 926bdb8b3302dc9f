"""The reading side of the Durable Streams protocol: what its clients send and read, over real sockets."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from proxy.testing.script import Fin, Sleep, Wait, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.e2e.test_resume import TOKENS, ask, config, frames, halves, http, until
from tests.support.app import StartProxy
from tests.support.readers import ConformantReader, read

__all__ = ["http"]

NEXT, UP_TO_DATE, CLOSED = "Stream-Next-Offset", "Stream-Up-To-Date", "Stream-Closed"


def controls(stream: bytes) -> tuple[str, list[dict[str, object]]]:
    """The data and the control events of a stream."""
    events = read(ConformantReader, [stream])
    text = "".join(data for name, data in events if name == "data")
    return text, [json.loads(data) for name, data in events if name == "control"]


@pytest.mark.parametrize("path", ["/chat?dialect=json", "/v1/chat/completions", "/ollama/api/chat"])
async def test_an_answer_is_read_piece_by_piece(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession, path: str
) -> None:
    gate = asyncio.Event()
    upstream.play(*halves(gate))
    proxy = await start_proxy(config(upstream))
    first = await ask(http, proxy, path)
    address = f"{proxy.url}/streams/{first.headers['X-Stream-Id']}"
    half = await until(first, b"w4")
    head = await http.head(address)
    assert (head.status, await head.read()) == (200, b"")
    assert CLOSED not in head.headers
    begun = await http.get(address, params={"offset": "-1"})
    assert (begun.headers[UP_TO_DATE], frames(await begun.read(), path)) == ("true", frames(half, path))
    assert begun.headers[NEXT] == head.headers[NEXT]
    assert begun.headers["Content-Type"] == first.headers["Content-Type"]
    now = await http.get(address, params={"offset": "now"})
    assert (await now.read(), now.headers[NEXT]) == (b"", begun.headers[NEXT])
    polling = asyncio.create_task(http.get(address, params={"offset": begun.headers[NEXT], "live": "long-poll"}))
    await asyncio.sleep(0.05)
    assert not polling.done(), "nothing new"
    gate.set()
    rest = b""
    reply = await polling
    while True:
        rest += await reply.read()
        assert int(reply.headers["Stream-Cursor"])
        if CLOSED in reply.headers:
            break
        reply = await http.get(address, params={"offset": reply.headers[NEXT], "live": "long-poll"})
    whole = await (await http.get(address, params={"offset": "-1"})).read()
    assert begun.headers[NEXT] < reply.headers[NEXT], "they sort as text"
    assert await begun.read() + rest == whole
    end = await http.get(address, params={"offset": reply.headers[NEXT], "live": "long-poll"})
    assert (end.status, end.headers[CLOSED], end.headers[UP_TO_DATE]) == (204, "true", "true")
    assert len(upstream.requests) == 1


async def test_an_answer_is_read_as_events(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()
    upstream.play(*halves(gate))
    proxy = await start_proxy(config(upstream))
    first = await ask(http, proxy, "/chat?dialect=json")
    address = f"{proxy.url}/streams/{first.headers['X-Stream-Id']}"
    await until(first, b"w4")
    live = await http.get(address, params={"offset": "-1", "live": "sse"})
    begun = await until(live, b"upToDate")
    gate.set()
    text, told = controls(begun + await live.read())
    whole = await (await http.get(address, params={"offset": "-1"})).read()
    assert text.encode() == whole
    assert [one.get("streamClosed", False) for one in told] == [False] * (len(told) - 1) + [True]
    again = await http.get(address, params={"offset": str(told[0]["streamNextOffset"]), "live": "sse"})
    rest, _ = controls(await again.read())
    assert controls(begun)[0] + rest == text


async def test_an_answer_longer_than_its_log_is_read_as_events_to_its_end(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()
    events = openai_stream([f"{number:04}" * 1000 for number in range(100)])
    upstream.play(events[:4], Wait(gate), events[4:])
    proxy = await start_proxy(config(upstream, "{grace_s: 20, bytes: 20000}"))
    first = await ask(http, proxy, "/chat?dialect=json")
    address = f"{proxy.url}/streams/{first.headers['X-Stream-Id']}"
    live = await http.get(address, params={"offset": "-1", "live": "sse"})
    begun = await until(live, b"upToDate")
    gate.set()
    async with asyncio.timeout(60):
        whole, (text, _) = await first.read(), controls(begun + await live.read())
    assert frames(text.encode()) == frames(whole), "but for heartbeats"


async def test_an_answer_that_was_cut_is_never_closed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.always(openai_stream(TOKENS)[:6], Sleep(0.05), Fin())
    proxy = await start_proxy(config(upstream))
    first = await ask(http, proxy, "/ollama/api/chat")  # which ends with a cut after its error
    address = f"{proxy.url}/streams/{first.headers['X-Stream-Id']}"
    await proxy.ended()
    part = await http.get(address, params={"offset": "-1"})
    assert CLOSED not in part.headers
    assert (await http.get(address, params={"offset": part.headers[NEXT], "live": "long-poll"})).status == 410
    live = await http.get(address, params={"offset": "-1", "live": "sse"})
    assert live.headers["Stream-SSE-Data-Encoding"] == "base64"
    with pytest.raises(aiohttp.ClientPayloadError):
        await live.read()


@pytest.mark.parametrize(
    "query",
    ["offset=", "offset=1,2", "offset=a%20b", "offset=-1&offset=now", "live=sse", "live=long-poll", "offset=-1&live=x"],
)
async def test_a_query_that_says_nothing_is_refused(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession, query: str
) -> None:
    upstream.always(*openai_stream(TOKENS))
    proxy = await start_proxy(config(upstream))
    first = await ask(http, proxy, "/chat")
    await first.read()
    assert (await http.get(f"{proxy.url}/streams/{first.headers['X-Stream-Id']}?{query}")).status == 400
    assert (await http.get(f"{proxy.url}/streams/unknown?{query}")).status == 404
