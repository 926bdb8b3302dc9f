"""Contracts that the config declares, over real sockets: answers, every kind of end, keys, and reloads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import (
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    Step,
    Wait,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient
from tests.support.readers import ConformantReader, read

TOKENS = ["One", " two\n", "\n three", " four"]
ASK = {"messages": [{"role": "user", "content": "hi"}]}

EVENTS = """
    path: /events
    response:
      start: {type: start, id: $id, model: $model, chat: $request.chat}
      token: {type: token, text: $text}
      tool_call: {type: call, name: $name, arguments: $arguments}
      usage: {type: usage, out: $output_tokens}
      done: {type: done, why: $finish_reason}
      error: {type: error, message: $message, code: $code}
      heartbeat: {type: ping}
      events: {done: end, error: end}
    errors: {status: {upstream_connect: 503}}
"""
LINES = """
    path: /lines
    response:
      framing: ndjson
      token: {text: $text}
      done: {done: true}
      error: {error: $message}
      early: true
"""
RAW = """
    path: /raw
    response: {framing: raw, token: $text}
"""


def config(url: str, *declarations: str, server: str = "{}", auth: str = "", route: str = "") -> str:
    contracts = "\n".join(f"  own{number}:{text.rstrip()}" for number, text in enumerate(declarations))
    return (
        f"server: {server}\n{auth}"
        f'backends:\n  far: {{kind: openai-compatible, base_url: "{url}"}}\n'
        f"routes:\n  - {{name: declared, match: {{contract: own0}}, to: far/own-1{route}}}\n"
        f"  - {{name: default, to: far/scripted-1{route}}}\n"
        + (f"frontends:\n{contracts}\n" if declarations else "")
    )  # fmt: skip


class Told:
    """What a client of one of these contracts concluded."""

    def __init__(self, path: str, status: int, body: bytes, end: str) -> None:
        self.status, self.body, self.end = status, body, end
        if path == "/raw":
            self.frames: list[dict[str, Any]] = []
            self.text = body.decode()
            return
        frames = (
            read(ConformantReader, body)
            if path == "/events"
            else [("", line) for line in body.decode().split("\n") if line]
        )
        self.frames = [json.loads(data) for _, data in frames]
        self.text = "".join(frame["text"] for frame in self.frames if "text" in frame)
        self.ends = [frame for frame in self.frames if {"done", "error"} & {*frame, frame.get("type")}]


async def ask(proxy: Running, path: str, body: Any = ASK, *, within: float = 60) -> Told:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, body)
        answer = await client.read_head(within=within)
        return Told(path, answer.status, await client.read_body(within=within), client.end)


async def test_an_answer_is_written_as_declared(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS))
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    upstream.play(*openai_stream(TOKENS, usage=usage))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/events", {**ASK, "chat": "c-1"}, {"X-Request-Id": "r-1"})
        answer = await client.read_head()
        told = Told("/events", answer.status, await client.read_body(), client.end)
    assert answer["content-type"] == "text/event-stream; charset=utf-8"
    assert told.frames == [
        {"type": "start", "id": "r-1", "model": "scripted-1", "chat": "c-1"},
        *({"type": "token", "text": token} for token in TOKENS),
        {"type": "usage", "out": 4},
        {"type": "done", "why": "stop"},
    ]
    assert (told.text, told.end) == ("".join(TOKENS), "final chunk")
    [record] = await proxy.ended()
    assert (record.contract, record.path, record.route, record.end) == ("own0", "/events", "declared", "done")
    assert upstream.requests[0].json()["model"] == "own-1"
    assert b'contract="own0"' in proxy.app.metrics.exposition()[0]


@pytest.mark.parametrize("path", ["/events", "/lines", "/raw"])
@pytest.mark.parametrize("leave", [Fin(), Rst(), Stall()], ids=["FIN", "RST", "stall"])
async def test_B01_a_cut_or_stalled_answer_delivers_what_came_and_never_says_done(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, leave: Step
) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS, LINES, RAW, route=", timeouts: {token_gap_s: 0.2}"))
    upstream.play(openai_stream(TOKENS)[:4], leave)
    told = await ask(proxy, path)
    assert told.status == 200
    assert told.text == "".join(TOKENS[:2])
    if path == "/raw":
        assert told.end == "cut", "bare text has no word for it but a broken connection"
    else:
        assert told.end == "final chunk"
        assert told.ends == told.frames[-1:]
        assert "error" in {*told.frames[-1], told.frames[-1].get("type")}
    [record] = await proxy.ended()
    assert record.end == ("upstream_idle" if leave == Stall() else "upstream_truncated")


async def test_a_failure_before_the_first_word_has_a_status_and_the_contracts_body(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS, LINES, RAW))
    upstream.always(*json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}))
    told = await ask(proxy, "/events")
    assert told.status == 429
    assert json.loads(told.body)["type"] == "error"
    early = await ask(proxy, "/lines")
    assert (early.status, [*early.frames[0]], early.end) == (200, ["error"], "final chunk")
    raw = await ask(proxy, "/raw")
    assert (raw.status, json.loads(raw.body)["error"]["type"]) == (429, "upstream_error")
    await upstream.stop_listening()
    upstream.drop_connections()
    assert (await ask(proxy, "/events")).status == 503, "as declared, not 502"


async def test_headers_go_out_at_once_where_declared(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS, LINES))
    go = asyncio.Event()
    upstream.play(Wait(go), *openai_stream(TOKENS))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/lines", ASK)
        assert (await client.read_head())["content-type"] == "application/x-ndjson"
        go.set()
        assert (await client.read_body()).endswith(b'{"done":true}\n')


async def test_C02_a_client_that_leaves_ends_the_upstream(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS, RAW))
    for number, path in enumerate(("/events", "/raw"), 1):
        upstream.play(openai_stream(TOKENS)[:3], Stall())
        async with await RawClient.connect(proxy.port) as client:
            await client.post(path, ASK)
            await client.read_head()
            await client.read_until(b"One")
            client.rst()
            await upstream.peer_gone(number)
    assert [record.end for record in await proxy.ended(2)] == ["client_gone", "client_gone"]


async def test_heartbeats_leave_the_answer_as_it_is(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS, RAW, route=", heartbeat_s: 0.05"))
    for path, pings in (("/events", True), ("/raw", False)):
        upstream.play(openai_stream(TOKENS)[:3], Sleep(0.3), openai_stream(TOKENS)[3:])
        told = await ask(proxy, path)
        assert told.text == "".join(TOKENS)
        assert told.end == "final chunk"
        assert ({"type": "ping"} in told.frames) is pings


async def test_calls_go_to_the_upstream_and_come_back(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS))
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
    rest = {"index": 0, "function": {"arguments": "\n1}"}}
    upstream.play(
        Send(sse_head()),
        Send(event(openai_chunk({"tool_calls": [call]}))),
        Send(event(openai_chunk({"tool_calls": [rest]}))),
        Send(event(openai_chunk({}, finish="tool_calls"))),
        Send(event("[DONE]")),
        Fin(),
    )
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    told = await ask(proxy, "/events", {**ASK, "tools": tools})
    assert told.frames[1:] == [
        {"type": "call", "name": "f", "arguments": {"a": 1}},
        {"type": "done", "why": "tool_calls"},
    ]
    assert upstream.requests[0].json()["tools"] == tools


async def test_an_answer_may_be_asked_for_whole(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS))
    message = {"role": "assistant", "content": "Hi there"}
    upstream.play(
        *json_reply(200, {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    )
    told = await ask(proxy, "/events", {**ASK, "stream": False})
    assert (told.status, told.body) == (200, b'{"text":"Hi there"}')


async def test_a_bad_request_is_reported_in_the_contracts_form(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS))
    for body, status in ((b"{", 400), ({"messages": []}, 422)):
        told = await ask(proxy, "/events", body)
        assert (told.status, json.loads(told.body)["type"]) == (status, "error")
    assert upstream.connections == 0


async def test_keys_origins_and_methods_are_asked_for_as_everywhere(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    key = "cp-key-of-ada-0123456789abcdefghijklmnop"
    auth = f"auth: {{keys: [{{name: ada, key: {key}}}]}}\n"
    server = '{cors: {origins: ["http://app.test"]}}'
    proxy = await start_proxy(config(upstream.url, EVENTS, auth=auth, server=server))
    upstream.always(*openai_stream(TOKENS))
    async with aiohttp.ClientSession(proxy.url, headers={"Origin": "http://app.test"}) as http:
        async with http.post("/events", json=ASK) as refused:
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await refused.json())["code"] == "invalid_api_key"
            assert refused.headers["Access-Control-Allow-Origin"] == "http://app.test"
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        async with http.options("/events", headers=asks) as preflight:
            assert (preflight.status, preflight.headers["Access-Control-Allow-Headers"]) == (204, "authorization")
        bearer = {"Authorization": f"Bearer {key}"}
        async with http.post("/events", json=ASK, headers=bearer) as answered:
            assert answered.headers["Access-Control-Allow-Origin"] == "http://app.test"
            assert b'"type":"done"' in await answered.read()
        async with http.get("/events", headers=bearer) as wrong:
            assert (wrong.status, wrong.headers["Allow"]) == (405, "OPTIONS, POST")
        async with http.get("/status", headers=bearer) as status:
            assert (await status.json())["frontends"]["own0"] == ["/events"]


async def test_E03_a_contract_that_changes_does_not_change_under_a_running_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS))
    go = asyncio.Event()
    upstream.play(openai_stream(TOKENS)[:3], Wait(go), openai_stream(TOKENS)[3:])
    upstream.play(*openai_stream(TOKENS))
    async with await RawClient.connect(proxy.port) as running:
        await running.post("/events", ASK)
        await running.read_head()
        before = await running.read_until(b"One")
        proxy.rewrite(config(upstream.url, LINES.replace("/lines", "/events"), RAW))
        assert await proxy.app.reload()
        async with aiohttp.ClientSession(proxy.url) as http, http.post("/events", json=ASK) as changed:
            assert changed.headers["Content-Type"] == "application/x-ndjson"
            assert (await changed.read()).endswith(b'{"done":true}\n')
        proxy.rewrite(config(upstream.url).replace("match: {contract: own0}, ", "match: {model: x}, "))
        assert await proxy.app.reload()
        assert (await ask(proxy, "/events")).status == 404
        go.set()
        told = Told("/events", 200, before + await running.read_body(), running.end)
    assert told.text == "".join(TOKENS)
    assert told.ends == [{"type": "done", "why": "stop"}]
    assert [record.contract for record in await proxy.ended(3)] == ["own0", "", "own0"]


async def test_E02_a_bad_declaration_leaves_the_old_contracts_serving(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, EVENTS))
    upstream.always(*openai_stream(TOKENS))
    proxy.rewrite(config(upstream.url, EVENTS.replace("$text", "$txt")))
    assert not await proxy.app.reload()
    assert (await ask(proxy, "/events")).text == "".join(TOKENS)
    async with aiohttp.ClientSession(proxy.url) as http, http.get("/status") as status:
        [rejected] = (await status.json())["config"]["rejected"]
    assert "frontends.own0.response.token.text" in rejected
    assert "`$text`" in rejected
