"""Ollama's API over real sockets: the official client, heartbeats, truthful ends, and the port of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import ollama
import pytest

from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    Step,
    chunked,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, Running, StartProxy, openai_config
from tests.support.clients import RawClient
from tests.support.ollama_reader import OllamaReader, read

CHAT, GENERATE = "/ollama/api/chat", "/ollama/api/generate"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
TOKENS = ["One", " two", " three", " four"]
HARD = [
    "\u2028",
    "\u2029",
    "\x85",
    "\r",
    "\n\n",
    " ",
    "👩‍👩‍👧‍👦",
    '{"done":true}',
    "\x1c\x0b\x0c",
    "x" * 100_000,
    " end",
]
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Told:
    """What a client read, checked against the contract on the way."""

    def __init__(self, path: str, status: int, body: bytes, end: str | None, kind: str) -> None:
        self.status, self.body, self.end, self.kind = status, body, end, kind
        self.reader: OllamaReader = read(
            body if body.endswith(b"\n") else body + b"\n", generate=path.endswith("generate")
        )

    def assert_broken_off(self, text: str) -> None:
        """All of `text` came, then one error, and nothing says done (R2)."""
        assert self.reader.text == text
        assert self.reader.error
        assert self.reader.done is None
        assert b'"done":true' not in self.body
        assert self.end == "cut", "Open WebUI reads no error line, so the connection says it too (C7)"


async def ask(proxy: Running, path: str = CHAT, headers: Any = (), *, port: int = 0, **more: Any) -> Told:
    async with await RawClient.connect(port or proxy.port) as client:
        await client.post(path, {**ASK, **more}, headers)
        answer = await client.read_head()
        body = await client.read_body()
        return Told(path, answer.status, body, client.end, answer["content-type"])


@asynccontextmanager
async def official(url: str, **headers: str) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=url, headers=headers)
    try:
        yield client
    finally:
        await client.close()


def calls(*pieces: dict[str, Any]) -> Step:
    return Send(event(openai_chunk({"tool_calls": list(pieces)})))


def called(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def tool_answer(*middle: Step, finish: str = "tool_calls") -> list[Step]:
    end = [Send(event(openai_chunk({}, finish=finish))), Send(event("[DONE]")), Send(LAST_CHUNK)]
    return [Send(sse_head()), *middle, *end]


# -- the official client


@pytest.mark.parametrize("own_port", [False, True])
async def test_the_official_client_reads_answers_exactly_with_heartbeats_between(
    start_proxy: StartProxy, upstream: ScriptedUpstream, own_port: bool
) -> None:
    """Its Python client cuts lines at U+2028 and the like, and has no idea of heartbeats."""
    proxy = await start_proxy(openai_config(upstream.url, server="{heartbeat_s: 0.02, ollama_port: 0}"))
    upstream.always(*openai_stream(HARD, usage=USAGE, gap_s=0.05))
    url = f"http://127.0.0.1:{proxy.ollama_port}" if own_port else f"{proxy.url}/ollama"
    async with official(url) as client:
        chatted = [part async for part in await client.chat("m", ASK["messages"], stream=True)]
        generated = [part async for part in await client.generate("m", "hi", stream=True)]
    assert "".join(part.message.content or "" for part in chatted) == "".join(HARD)
    assert "".join(part.response or "" for part in generated) == "".join(HARD)
    for parts in (chatted, generated):
        assert len(parts) > len(HARD) + 8, "there were heartbeats"
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        assert (parts[-1].done_reason, parts[-1].prompt_eval_count, parts[-1].eval_count) == ("stop", 11, 7)
        assert (parts[-1].eval_duration or 0) > 0.4 * 10**9
    assert [seen.json()["model"] for seen in upstream.requests] == ["scripted-1"] * 2


async def test_the_official_client_reads_whole_answers(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    message = {"role": "assistant", "content": "hi", "reasoning_content": "hm"}
    completion = {"model": "scripted-1", "choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    upstream.always(json_reply(200, completion | {"usage": USAGE}))
    async with official(f"{proxy.url}/ollama") as client:
        chatted = await client.chat("m", ASK["messages"])
        generated = await client.generate("m", "hi")
    assert (chatted.message.content, chatted.message.thinking, chatted.done_reason) == ("hi", "hm", "length")
    assert (generated.response, generated.thinking, generated.eval_count) == ("hi", "hm", 7)
    assert upstream.requests[0].json()["stream"] is False


async def test_tools_go_there_and_back_with_the_official_client(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    def weather(city: str) -> str:
        """The weather.

        Args:
            city: where
        """
        return city

    proxy = await start_proxy(openai_config(upstream.url))
    pieces = ('{"ci', 'ty":"Ulm 😀"}')
    upstream.play(
        *tool_answer(
            calls(called(0, "weather")), *(calls({"index": 0, "function": {"arguments": piece}}) for piece in pieces)
        )
    )
    async with official(f"{proxy.url}/ollama") as client:
        history: list[Any] = [{"role": "user", "content": "weather?"}]
        parts = [part async for part in await client.chat("m", history, tools=[weather], stream=True)]
        [message] = [part.message for part in parts if part.message.tool_calls]
        assert message.tool_calls is not None
        assert [dict(call.function.arguments) for call in message.tool_calls] == [{"city": "Ulm 😀"}]
        upstream.play(openai_stream(["Fine."]))
        history += [message, {"role": "tool", "content": "11 °C", "tool_name": "weather"}]
        assert [part async for part in await client.chat("m", history, tools=[weather], stream=True)][-1].done
    sent = [seen.json() for seen in upstream.requests]
    assert sent[0]["tools"][0]["function"]["parameters"]["properties"]["city"]["type"] == "string"
    asked, answered = sent[1]["messages"][1:]
    assert asked["tool_calls"][0]["id"] == answered["tool_call_id"]
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"city": "Ulm 😀"}


async def test_the_official_client_sees_models_and_what_is_not_served(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    async with official(f"{proxy.url}/ollama") as client:
        listed = [model.model for model in (await client.list()).models]
        assert listed == ["scripted-1:latest", "far/scripted-1:latest"]
        for model in listed:
            assert model is not None
            assert (await client.show(model)).capabilities == ["completion", "tools", "vision", "thinking"]
        assert (await client.ps()).models == []
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as missing:
            await client.show("nope")
        assert missing.value.status_code == 404
        for refused in (client.pull("x"), client.delete("x"), client.copy("x", "y")):
            with pytest.raises(ollama.ResponseError) as told:
                await refused
            assert told.value.status_code == 501
    assert upstream.requests == []


# -- requests


async def test_a_load_request_asks_nobody(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(
        f"""
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: default, match: {{model: "llama*"}}, to: far}}
        """
    )
    for path, nothing in ((CHAT, {"messages": []}), (GENERATE, {"prompt": None})):
        told = await ask(proxy, path, model="llama3", **nothing)
        assert (told.status, told.kind, told.end) == (200, "application/x-ndjson", "length")
        assert told.reader.lines[0]["done_reason"] == "load"
        assert (await ask(proxy, path, model="llama3", keep_alive=0, **nothing)).reader.lines[0][
            "done_reason"
        ] == "unload"
        refused = await ask(proxy, path, model="nope", **nothing)
        assert refused.status == 404
        assert "`nope`" in str(refused.reader.error)
    assert upstream.connections == 0
    ends = [(record.end, record.route) for record in await proxy.ended(6)]
    assert ends == [("done", "default"), ("done", "default"), ("rejected", "")] * 2


async def test_a_model_is_meant_with_and_without_the_tag_that_goes_without_saying(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(
        f"""
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: tagged, match: {{model: "llama3:latest"}}, to: far}}
          - {{name: default, match: {{model: "gpt-*"}}, to: far}}
        """
    )
    upstream.always(*openai_stream(["hi"]))
    for model in ("gpt-1", "gpt-1:latest", "llama3:latest", "gpt-2:8b"):
        assert (await ask(proxy, model=model)).status == 200
    assert [seen.json()["model"] for seen in upstream.requests] == ["gpt-1", "gpt-1", "llama3:latest", "gpt-2:8b"]
    assert (await ask(proxy, model="llama3")).status == 404


async def test_images_and_settings_reach_a_upstream_of_another_dialect(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
    options = ollama.Options(temperature=0.1, num_predict=-1, num_ctx=8192, top_k=40, stop=["x"])
    async with official(f"{proxy.url}/ollama") as client:
        await client.generate(
            "m", "what?", images=[picture], options=options, format="json", keep_alive="1h", stream=False
        )
    sent = upstream.requests[0].json()
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == f"data:image/png;base64,{picture}"
    assert {name: sent.get(name) for name in ("temperature", "stop", "response_format", "max_tokens", "top_k", "num_ctx")} == {
        "temperature": 0.1, "stop": ["x"], "response_format": {"type": "json_object"},
        "max_tokens": None, "top_k": None, "num_ctx": None,
    }  # fmt: skip


@pytest.mark.parametrize("path", [CHAT, GENERATE])
async def test_what_cannot_be_read_is_refused_in_the_contracts_form(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    for body, headers, status in (
        (b"{", {"Content-Type": "application/json"}, 400),
        (b'{"stream":1}', {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
    ):
        async with await RawClient.connect(proxy.port) as client:
            await client.post(path, body, headers)
            assert (await client.read_head()).status == status
            assert list(json.loads(await client.read_body())) == ["error"]
    assert upstream.connections == 0


# -- the shared path


UI_MESSAGES = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]


@pytest.mark.parametrize(
    ("body", "headers", "contract"),
    [
        ({"messages": ASK["messages"]}, {}, "chat"),
        ({"model": "m", "messages": ASK["messages"]}, {}, "chat"),
        ({"model": "m", "messages": ASK["messages"]}, {"User-Agent": "ollama-python/0.6.3 (x86_64 linux)"}, "ollama"),
        ({"model": "m", "messages": ASK["messages"], "options": {}}, {}, "ollama"),
        ({"model": "m", "messages": [], "keep_alive": 0}, {}, "ollama"),
        ({"model": "m", "messages": UI_MESSAGES, "trigger": "submit-message"}, {}, "ai-sdk"),
        ({"model": "m", "messages": UI_MESSAGES, "stream": True, "tools": {}}, {"User-Agent": "ollama"}, "ai-sdk"),
    ],
)
async def test_a_request_at_the_shared_path_is_recognised_by_its_shape(
    start_proxy: StartProxy, upstream: ScriptedUpstream, body: Any, headers: dict[str, str], contract: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/api/chat", body, headers)
        answer = await client.read_head()
        await client.read_body()
    kind = "application/x-ndjson" if contract == "ollama" else "text/event-stream"
    assert (answer.status, answer["content-type"].partition(";")[0]) == (200, kind)
    assert (await proxy.ended())[0].contract == contract


async def test_the_official_client_needs_no_prefix_for_a_chat(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(TOKENS))
    async with official(proxy.url) as client:
        parts = [part async for part in await client.chat("m", ASK["messages"], stream=True)]
    assert "".join(part.message.content or "" for part in parts) == "".join(TOKENS)


# -- ends


BEGUN = openai_stream(TOKENS)[:4]
BROKEN: dict[str, tuple[list[Step], str, str]] = {
    "cut": ([*BEGUN, Fin()], "upstream_truncated", "complete"),
    "reset": ([*BEGUN, Rst()], "upstream_truncated", "complete"),
    "no end": (openai_stream(TOKENS[:2], finish=None, done=False), "upstream_truncated", "complete"),
    "stalled": ([*BEGUN, Stall()], "upstream_idle", "token_gap_s"),
    "malformed": ([*BEGUN, Send(chunked(b"data: {oops\n\n"))], "upstream_malformed", "event"),
    "error": ([*BEGUN, Send(event({"error": {"message": "GPU on fire"}}))], "upstream_error", "GPU on fire"),
}


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize("name", BROKEN)
async def test_R2_what_breaks_off_ends_in_an_error_and_is_never_done(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, name: str
) -> None:
    steps, end, words = BROKEN[name]
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{token_gap_s: 0.3}"))
    upstream.always(*steps)
    told = await ask(proxy, path)
    told.assert_broken_off("One two")
    assert words in str(told.reader.error)
    assert (await proxy.ended())[0].end == end
    async with official(f"{proxy.url}/ollama") as client:
        asking: Any = client.chat("m", ASK["messages"], stream=True)
        if path == GENERATE:
            asking.close()
            asking = client.generate("m", "hi", stream=True)
        with pytest.raises(ollama.ResponseError, match=words):
            assert [part async for part in await asking]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("steps", "status", "words"),
    [
        (json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}), 429, "slow down"),
        (json_reply(400, {"error": {"message": "no such thing"}}), 400, "no such thing"),
        (json_reply(401, {"error": {"message": "key sk-x"}}), 502, "credentials"),
        ([Send(sse_head()), Stall()], 504, "timeouts."),
    ],
)
async def test_before_the_first_word_there_is_a_real_status(
    start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool, steps: list[Step], status: int, words: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{first_token_s: 0.3, whole_s: 0.3}"))
    upstream.always(*steps)
    told = await ask(proxy, stream=stream)
    assert (told.status, told.kind) == (status, "application/json")
    assert words in str(told.reader.error)
    assert "sk-x" not in str(told.reader.error)


async def test_calls_that_are_no_json_are_an_error_and_their_target_is_well(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{breaker: {failures: 1, open_s: 60, longest_s: 60}}"))
    said = Send(event(openai_chunk({"content": "Looking."})))
    upstream.play(*tool_answer(said, calls(called(0, "look", '{"at": '))))
    told = await ask(proxy)
    told.assert_broken_off("Looking.")
    assert "'look'" in str(told.reader.error)
    upstream.play(*tool_answer(said, calls(called(0, "look", '{"at": ')), finish="length"))
    cut = await ask(proxy)
    assert (cut.reader.text, cut.reader.calls, cut.reader.error) == ("Looking.", [], None)
    assert cut.reader.done is not None
    assert cut.reader.done["done_reason"] == "length"
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "[1]"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream.play(json_reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}))
    whole = await ask(proxy, stream=False)
    assert (whole.status, whole.kind) == (502, "application/json")
    assert list(json.loads(whole.body)) == ["error"]
    ends = [(record.end, record.error_code) for record in await proxy.ended(3)]
    assert ends == [
        ("upstream_malformed", "upstream_malformed"),
        ("done", ""),
        ("upstream_malformed", "upstream_malformed"),
    ]


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize("begun", [True, False])
async def test_C01_C02_a_client_that_leaves_closes_the_upstream(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, begun: bool
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*(BEGUN if begun else [Send(sse_head())]), Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        if begun:
            await client.read_head()
            await client.read_until(b" two")
        else:
            await upstream.received()
        client.rst()
        await upstream.peer_gone()
    assert await proxy.end_reason() == "client_gone"


async def test_breaking_out_of_the_official_clients_loop_closes_the_upstream(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*BEGUN, Stall())
    async with (
        official(f"{proxy.url}/ollama") as client,
        aclosing(await client.chat("m", ASK["messages"], stream=True)) as parts,
    ):
        async for part in parts:
            if part.message.content == " two":
                break
    await upstream.peer_gone()
    assert await proxy.end_reason() == "client_gone"


async def test_a_long_silent_call_shows_signs_of_life(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of a call are content, so no heartbeat is due while they come; but none of them is written."""
    monkeypatch.setattr("proxy.contracts.ollama.writer.QUIET_S", 0)
    proxy = await start_proxy(openai_config(upstream.url))
    pieces = [calls({"index": 0, "function": {"arguments": piece}}) for piece in ('{"a"', ": 1", "}")]
    upstream.play(*tool_answer(calls(called(0, "f")), *(step for piece in pieces for step in (Sleep(0.02), piece))))
    told = await ask(proxy)
    assert [call["function"]["arguments"] for call in told.reader.calls] == [{"a": 1}]
    assert len(told.reader.lines) >= 4


# -- a port of its own


async def get(port: int, path: str, headers: Any = (), method: str = "GET") -> tuple[int, bytes]:
    async with await RawClient.connect(port) as client:
        await client.request(method, path, b"", headers)
        head = await client.read_head()
        return head.status, await client.read_body()


async def test_on_its_own_port_everything_is_at_the_root(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{ollama_port: 0}"))
    upstream.always(*openai_stream(TOKENS))
    port = proxy.ollama_port
    assert await get(port, "/") == (200, b"Ollama is running")
    assert await get(port, "/", method="HEAD") == (200, b"")
    assert json.loads((await get(port, "/api/tags"))[1])["models"][0]["name"] == "scripted-1:latest"
    assert (await get(port, "/api/version"))[0] == (await get(port, "/api/ps"))[0] == 200
    for path in ("/api/chat", "/api/generate", "/ollama/api/chat"):
        assert (await ask(proxy, path, port=port)).reader.text == "".join(TOKENS)
    assert json.loads((await get(port, "/v1/models"))[1])["data"][0]["id"] == "scripted-1"
    async with await RawClient.connect(port) as client:
        await client.post("/v1/chat/completions", {**ASK, "stream": True})
        assert (await client.read_head()).status == 200
        assert (await client.read_body()).endswith(b"data: [DONE]\n\n")
    assert (await get(port, "/healthz"))[0] == 200
    assert (await get(port, "/nothing"))[0] == 404
    assert (await get(proxy.port, "/api/tags"))[0] == 404
    assert {record.path for record in await proxy.ended(4) if record.contract == "ollama"} == {CHAT, GENERATE}


async def test_a_model_and_messages_alone_are_ollamas_on_its_own_port(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{ollama_port: 0}"))
    upstream.always(*openai_stream(TOKENS))
    for port, contract in ((proxy.port, "chat"), (proxy.ollama_port, "ollama")):
        async with await RawClient.connect(port) as client:
            await client.post("/api/chat", {"model": "m", "messages": ASK["messages"]})
            await client.read_head()
            await client.read_body()
        assert (await proxy.ended(1 + (port != proxy.port)))[-1].contract == contract


async def test_a_rule_about_a_path_holds_on_both_ports(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(
        f"""
        server: {{ollama_port: 0}}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: theirs, match: {{path: "/ollama/*"}}, to: far/a}}
          - {{name: default, to: far/b}}
        """
    )
    upstream.always(*openai_stream(["hi"]))
    await ask(proxy, CHAT)
    await ask(proxy, "/api/chat", port=proxy.ollama_port)
    await ask(proxy, "/api/chat", stream=True)
    assert [seen.json()["model"] for seen in upstream.requests] == ["a", "a", "b"]


async def test_both_ports_share_one_limit_of_connections(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{ollama_port: 0, limits: {connections: 2}}"))
    upstream.always(*BEGUN, Stall())
    first, second = await RawClient.connect(proxy.port), await RawClient.connect(proxy.ollama_port)
    for client in (first, second):
        await client.post("/ollama/api/chat", ASK)
        await client.read_head()
    for port in (proxy.port, proxy.ollama_port):
        third = await RawClient.connect(port)
        assert await third.closed() in {"FIN", "RST"}
        third.fin()
    first.fin()
    second.fin()


Serve = Callable[..., Awaitable[Process]]


HOW_MANY = {"one": (), "several": ("--workers", "2")}


@pytest.mark.parametrize("workers", HOW_MANY)
async def test_a_process_listens_on_both_ports_and_drains_both(
    serve: Serve, upstream: ScriptedUpstream, workers: str
) -> None:
    config = openai_config(upstream.url, server="{ollama_port: 0, drain_s: 1.2}")
    proxy = await serve(config, "--port", "0", *HOW_MANY[workers])
    assert proxy.process.stdout is not None
    printed = (await proxy.process.stdout.readline()).decode()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", printed)
    assert found, printed
    port = int(found[1])
    for _ in range(12):  # whichever worker gets a connection
        assert await get(port, "/") == (200, b"Ollama is running")
        assert (await get(proxy.port, "/api/version"))[0] == 404
    upstream.always(*BEGUN, Stall())
    async with await RawClient.connect(port) as client:
        await client.post("/api/chat", ASK)
        assert (await client.read_head()).status == 200
        said = await client.read_until(b" two")
        proxy.signal(signal.SIGTERM)
        told = read(said + await client.read_body())
    assert (told.text, told.done) == ("One two", None)
    assert told.error
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(port)
    assert await proxy.exit_code() == 0


@pytest.mark.parametrize("workers", HOW_MANY)
async def test_a_second_port_that_is_taken_is_reported_by_its_key(
    serve: Serve, upstream: ScriptedUpstream, workers: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = openai_config(upstream.url, server=f"{{ollama_port: {port}}}")
        proxy = await serve(config, "--port", "0", *HOW_MANY[workers], wait=False)
        assert await proxy.exit_code() == 1
    await proxy.read_output()
    line = proxy.logged[-1]
    assert str(port) in line
    assert "`server.ollama_port`" in line
    assert "listening" not in proxy.printed


# -- keys


KEY = "cp-key-of-ada-0123456789abcdefghijklmnop"


async def test_keys_are_asked_for_and_only_their_models_are_shown(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    """`OLLAMA_API_KEY` is what the official client sends as a bearer."""
    proxy = await start_proxy(
        f"""
        server: {{ollama_port: 0}}
        auth: {{keys: [{{name: ada, key: {KEY}, models: ["far/cheap*"]}}]}}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: cheap, match: {{model: "cheap*"}}, to: far/cheap-1}}
          - {{name: default, to: far/dear-1}}
        """
    )
    upstream.always(*openai_stream(["hi"]))
    url = f"http://127.0.0.1:{proxy.ollama_port}"
    async with official(url) as client:
        with pytest.raises(ollama.ResponseError) as refused:
            await client.list()
        assert refused.value.status_code == 401
    async with official(url, authorization=f"Bearer {KEY}") as client:
        assert [model.model for model in (await client.list()).models] == ["cheap-1:latest"]
        assert [part.done async for part in await client.chat("cheap", ASK["messages"], stream=True)][-1]
        for messages in (ASK["messages"], []):
            with pytest.raises(ollama.ResponseError, match="dear-1") as refused:
                await client.chat("dear-1", messages)
            assert refused.value.status_code == 403
    assert [seen.json()["model"] for seen in upstream.requests] == ["cheap-1"]
