"""The whole path, once each way: the shapes a client sees when all goes well."""

from __future__ import annotations

import aiohttp

from proxy.testing.script import json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import StartProxy, openai_config

ECHO = """
    backends: {echo: {kind: echo}}
    routes: [{name: default, to: echo}]
"""
HELLO = {"messages": [{"role": "user", "content": "hi\n\nthere"}]}


async def test_the_chat_stream_is_served_on_both_its_paths(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ECHO)
    async with aiohttp.ClientSession(proxy.url) as http:
        for path in ("/chat", "/api/chat"):
            async with http.post(path, json=HELLO) as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                assert answer.headers["Cache-Control"] == "no-cache, no-transform"
                assert await answer.read() == b"data:hi\n\ndata:\n\r\nthere\n\nevent: done\ndata:[DONE]\n\n"
    assert [record.end for record in await proxy.ended(2)] == ["done", "done"]


async def test_openai_clients_stream_and_list_models(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ECHO)
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/chat/completions", json={"model": "m", "stream": True, **HELLO}) as answer:
            text = await answer.text()
        assert text.endswith("data: [DONE]\n\n")
        assert '"finish_reason":"stop"' in text
        async with http.post("/v1/chat/completions", json={"model": "m", **HELLO}) as answer:
            whole = await answer.json()
        assert whole["choices"][0]["message"]["content"] == "hi\n\nthere"
        async with http.get("/v1/models") as answer:
            assert (await answer.json())["object"] == "list"


async def test_bytes_of_the_same_dialect_pass_untouched(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(["Hel", "lo"]))
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post(
            "/v1/chat/completions", json={"model": "m", "stream": True, "odd": [1], **HELLO}
        ) as answer:
            text = await answer.text()
        assert '"id": "chatcmpl-scripted"' in text or '"id":"chatcmpl-scripted"' in text
        assert upstream.requests[0].json()["odd"] == [1]
        whole = b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],  "odd":1}'
        upstream.play(*json_reply(200, whole))
        async with http.post("/v1/chat/completions", json={"model": "m", **HELLO}) as answer:
            assert await answer.read() == whole


async def test_the_chat_contract_reaches_a_wire_backend(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, set="{temperature: 0.7}"))
    upstream.play(*openai_stream(["Hel", "lo"]))
    upstream.play(*openai_stream(["Hel", "lo"]))
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/chat", json=HELLO) as answer:
            assert await answer.read() == b"data:Hel\n\ndata:lo\n\nevent: done\ndata:[DONE]\n\n"
        async with http.post("/chat", json={**HELLO, "stream": False}) as answer:
            assert await answer.json() == {"text": "Hello"}
    sent = upstream.requests[0].json()
    assert (sent["model"], sent["temperature"], sent["stream"]) == ("scripted-1", 0.7, True)
    assert sent["messages"] == HELLO["messages"]
