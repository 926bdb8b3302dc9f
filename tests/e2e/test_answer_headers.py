"""Headers that say who answered, errors that also cut the connection, and a request behind an `Upgrade`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.server.listener import Connection
from proxy.testing.script import json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream, eventually
from tests.support.app import Process, StartProxy, openai_config
from tests.support.clients import RawClient

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
WHOLE = json_reply(200, {"id": "1", "object": "chat.completion", "model": "s", "choices": [MESSAGE]})
BROKEN = json_reply(503, {"error": {"message": "overloaded"}})


def two_targets(url: str, server: str = "{}") -> str:
    return f"""
        server: {server}
        backends:
          bad: {{kind: openai-compatible, base_url: "{url}"}}
          far: {{kind: openai-compatible, base_url: "{url}"}}
        routes:
          - {{name: default, to: [bad/one, far/two]}}
    """


async def names(port: int, path: str, body: Any) -> tuple[str | None, ...]:
    async with await RawClient.connect(port) as client:
        await client.post(path, body)
        head = await client.read_head()
        await client.read_body()
    return tuple(head.headers.get(f"x-chat-{name}") for name in ("route", "target", "attempts"))


async def test_N6_an_answer_says_in_its_headers_who_gave_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(two_targets(upstream.url))
    upstream.play(*BROKEN)
    upstream.play(*openai_stream(["Hi"]))
    streamed = await names(proxy.port, "/v1/chat/completions", {**ASK, "stream": True})
    assert streamed == ("default", "far/two", "2")
    upstream.play(*WHOLE)
    assert await names(proxy.port, "/v1/chat/completions", ASK) == ("default", "bad/one", "1")
    upstream.play(*BROKEN, times=2)
    assert await names(proxy.port, "/v1/chat/completions", ASK) == ("default", "far/two", "2"), "errors say it too"
    upstream.play(*openai_stream(["Hi"]))
    assert await names(proxy.port, "/chat", ASK) == ("default", None, None), "sent before anybody was asked"
    assert await names(proxy.port, "/v1/chat/completions", {"messages": 5}) == (None, None, None)


@pytest.mark.parametrize("stream", [True, False])
async def test_N6_a_model_with_a_long_name_makes_no_head_that_a_front_proxy_refuses(
    start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool
) -> None:
    """nginx takes a head of 4 KB from its upstream, and answers 502 to more."""
    proxy = await start_proxy(
        f'{{backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}, routes: [{{name: d, to: far}}]}}'
    )
    upstream.play(*(openai_stream(["Hi"]) if stream else WHOLE))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/v1/chat/completions", {**ASK, "model": "m" * 100_000, "stream": stream})
        head = await client.read_head()
        await client.read_body()
    assert head.status == 200
    assert head["x-chat-target"].startswith("far/mmm")
    assert len(head.raw) < 2000
    assert upstream.requests[0].json()["model"] == "m" * 100_000


async def test_N6_the_headers_can_be_switched_off(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(two_targets(upstream.url, "{answer_headers: false}"))
    for body, answer in (({**ASK, "stream": True}, openai_stream(["Hi"])), (ASK, WHOLE)):
        upstream.play(*answer)
        assert await names(proxy.port, "/v1/chat/completions", body) == (None, None, None)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/agui"])
@pytest.mark.parametrize("errors", ["frame", "frame+abort"])
async def test_C7_a_route_may_cut_the_connection_after_an_error_in_any_contract(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, errors: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, errors=errors))
    upstream.play(*openai_stream(["Hello", " world"], finish=None, done=False))
    ask = {**ASK, "stream": True, "max_tokens": 9, "input": "hi", "threadId": "t", "runId": "r", "tools": [],
           "context": [], "state": {}, "forwardedProps": {}}  # fmt: skip
    if path == "/agui":
        ask["messages"] = [{"id": "1", "role": "user", "content": "hi"}]
    if path == "/v1/responses":
        del ask["messages"]
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ask)
        assert (await client.read_head()).status == 200
        body = await client.read_body()
    assert b"Hello" in body
    assert b"cut off" in body, "the error frame comes first"
    assert client.end == ("cut" if errors == "frame+abort" else "final chunk")


UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "websocket": b"upgrade: websocket\r\nconnection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "TLS": b"UPGRADE:TLS/1.2\r\nCONNECTION:UPGRADE\r\n",
}
SAID = b'{"messages":[{"role":"user","content":"pgrade"}]}'
LENGTH = b"Content-Length: %d\r\n" % len(SAID)
CHUNKS = b"Transfer-Encoding: chunked\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SAID), SAID)
NEXT = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
BEHIND: dict[str, Callable[[Callable[[bytes], bytes]], list[bytes]]] = {  # reads, for a head with more headers
    "all in one": lambda head: [head(LENGTH) + SAID + NEXT],
    "its body apart": lambda head: [head(LENGTH), SAID + NEXT],
    "its body in two": lambda head: [head(LENGTH) + SAID[:9], SAID[9:] + NEXT],
    "its head in two": lambda head: [head(LENGTH)[:9], head(LENGTH)[9:] + SAID + NEXT],
    "each apart": lambda head: [head(LENGTH), SAID, NEXT],
    "chunked": lambda head: [head(CHUNKS) + CHUNKED + NEXT],
    "chunked in two": lambda head: [head(CHUNKS) + CHUNKED[:9], CHUNKED[9:] + NEXT],
    "without a body": lambda head: [head(b"Content-Length: 0\r\n") + NEXT],
    "a part of its head": lambda head: [head(LENGTH) + SAID + NEXT[:9], NEXT[9:]],
}


@pytest.mark.parametrize("way", BEHIND)
@pytest.mark.parametrize("protocol", UPGRADES)
async def test_A9_a_request_behind_one_that_asks_for_another_protocol_is_answered_once(
    start_proxy: StartProxy, protocol: str, way: str
) -> None:
    """And nothing comes unasked: a 408 would be taken for the answer to the next request."""
    proxy = await start_proxy("{backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}")

    def head(more: bytes) -> bytes:
        lines = b"Host: x\r\n" + UPGRADES[protocol] + b"Content-Type: application/json\r\n" + more
        return b"POST /chat HTTP/1.1\r\n" + lines + b"\r\n"

    async with await RawClient.connect(proxy.port) as client:
        first, *rest = BEHIND[way](head)
        await client.send(first)
        await eventually(lambda: len(proxy.server.connections) == 1)
        (connection,) = proxy.server.connections
        assert isinstance(connection, Connection)
        for piece in rest:
            await eventually(lambda: connection.heads or connection.reads_head)
            await client.send(piece)
        assert (await client.read_head()).status == (400 if way == "without a body" else 200)
        await client.read_body()
        assert (await client.read_head()).status == 200
        assert await client.read_body() == b'{"status":"ready"}'
        assert not connection.reads_head


async def test_A9_a_web_page_that_may_not_call_is_logged_once(
    serve: Callable[..., Awaitable[Process]], upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url, server="{cors: {origins: [https://good.example]}}"))
    for origin in ("https://bad.example", "https://bad.example", "https://good.example", proxy.url):
        async with await RawClient.connect(proxy.port) as client:
            await client.get("/healthz", {"Origin": origin, "Host": proxy.url.removeprefix("http://")})
            assert (await client.read_head()).status == 200
    async with asyncio.timeout(60):
        while not any("cors_origin_denied" in line for line in proxy.logged):
            await asyncio.sleep(0.01)
    denied = [json.loads(line) for line in proxy.logged if "cors_origin_denied" in line]
    assert [line["origin"] for line in denied] == ["https://bad.example"]
    assert "server.cors.origins" in denied[0]["hint"]
