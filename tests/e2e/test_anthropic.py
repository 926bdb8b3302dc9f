"""Anthropic Messages over real sockets: in front of its own dialect and of OpenAI's, truthful to the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

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
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire, OpenAIWire, Wire, answer
from proxy.wire.sse import SSEDecoder
from tests.support.app import Running, StartProxy, at_rest
from tests.support.clients import Head, RawClient

PATH = "/v1/messages?beta=true"
ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "stream": True,
    "messages": [{"role": "user", "content": "hi"}],
}
VERSION = {"anthropic-version": "2023-06-01"}
TOKENS = ["One", " two", "\n\n", "data: four 👩‍💻"]
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
FOREIGN = (Path(__file__).parents[1] / "contracts/golden/anthropic-foreign.sse").read_bytes()

FAR: dict[str, Wire] = {"anthropic": AnthropicWire(), "openai-compatible": OpenAIWire()}
both = pytest.mark.parametrize("far", FAR)


def config(upstream: ScriptedUpstream, kind: str, *, server: str = "{}", **more: str) -> str:
    """A config with one backend, `far`. `more` are keys of its only route, as YAML."""
    url = upstream.origin if kind == "anthropic" else upstream.url
    extra = "".join(f"\n            {key}: {value}" for key, value in more.items())
    return f"""
        server: {server}
        backends:
          far: {{kind: {kind}, base_url: "{url}"}}
        routes:
          - name: default
            to: far/scripted-1{extra}
    """


class Told:
    """What a client was told, read as the official SDKs read it: an event without a name is none."""

    def __init__(self, head: Head, body: bytes, end: str) -> None:
        self.head, self.status, self.body, self.end = head, head.status, body, end
        self.events = [(name.decode(), json.loads(data)) for name, data in SSEDecoder().feed(body) if name]
        deltas = [value["delta"] for name, value in self.events if name == "content_block_delta"]
        self.text = "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")
        self.errors = [value["error"] for name, value in self.events if name == "error"]
        self.stops = [value["delta"]["stop_reason"] for name, value in self.events if name == "message_delta"]
        self.done = bool(self.events) and self.events[-1][0] == "message_stop"

    def assert_complete(self, text: str) -> None:
        assert (self.status, self.text, self.done, self.errors) == (200, text, True, [])
        assert self.end == "final chunk"

    def assert_broken_off(self, text: str) -> dict[str, Any]:
        """All of `text` came, then one error, and nothing says done (R2)."""
        assert (self.text, self.done, self.stops, len(self.errors)) == (text, False, [], 1)
        assert self.events[-1][0] == "error"
        assert self.end == "final chunk", "the body ends cleanly after its error event"
        return self.errors[0]


async def ask(proxy: Running, body: dict[str, Any] | None = None, headers: dict[str, str] = VERSION) -> Told:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(PATH, body or ASK, headers)
        head = await client.read_head()
        body_ = await client.read_body()
        return Told(head, body_, client.end or "")


async def call(
    proxy: Running, method: str, path: str, body: Any = b"", headers: dict[str, str] = VERSION
) -> tuple[Head, Any]:
    """An answer in one piece, as JSON where it is that."""
    async with await RawClient.connect(proxy.port) as client:
        await client.request(method, path, body, headers)
        head = await client.read_head()
        answered = await client.read_body()
        return head, json.loads(answered) if answered[:1] == b"{" else answered


# what is answered


@both
async def test_a_stream_is_whole_and_in_order(start_proxy: StartProxy, upstream: ScriptedUpstream, far: str) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(answer(FAR[far], TOKENS))
    told = await ask(proxy)
    told.assert_complete("".join(TOKENS))
    names = [name for name, _ in told.events if name not in ("ping", "content_block_delta")]
    assert names == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert told.stops == ["end_turn"]
    assert dict(told.events)["message_delta"]["usage"]["output_tokens"] == 7
    assert told.head["content-type"] == "text/event-stream; charset=utf-8"
    assert told.head["request-id"] == told.head["x-request-id"]
    [record] = await proxy.ended()
    assert (record.contract, record.end) == ("anthropic", "done")
    assert (record.usage.input_tokens, record.usage.output_tokens) == (11, 7)


@both
async def test_a_whole_answer(start_proxy: StartProxy, upstream: ScriptedUpstream, far: str) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(FAR[far].whole("Hello"))
    head, message = await call(proxy, "POST", PATH, {**ASK, "stream": False})
    assert (head.status, message["type"], message["role"], message["stop_reason"]) == (200, "message", "assistant", "end_turn")  # fmt: skip
    assert message["content"] == [{"type": "text", "text": "Hello"}]
    assert message["usage"]["input_tokens"] == 11
    assert upstream.requests[0].json()["stream"] is False


async def test_to_its_own_dialect_and_back_every_byte_passes(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, "anthropic"))
    upstream.play(Send(sse_head()), Send(chunked(FOREIGN[:1500])), Sleep(0.02), Send(chunked(FOREIGN[1500:])), Send(LAST_CHUNK))  # fmt: skip
    body = {
        **ASK,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": []},
        "output_config": {"effort": "high"},
        "unheard_of": [{"a": None}],
    }
    betas = "claude-code-20250219,unheard-of-2027-01-01"
    told = await ask(proxy, body, {**VERSION, "anthropic-beta": betas, "authorization": "Bearer client-key"})
    assert told.body == FOREIGN
    [seen] = upstream.requests
    assert seen.json() == {**body, "model": "scripted-1"}
    assert (seen.path, seen.headers["anthropic-beta"]) == ("/v1/messages", betas)
    assert b"client-key" not in seen.raw_head


async def test_parallel_calls_whose_pieces_come_in_turns_become_blocks_one_after_the_other(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    def piece(index: int, arguments: str, **more: Any) -> Step:
        call = {"index": index, "function": {"arguments": arguments, **more.pop("function", {})}, **more}
        return Send(event(openai_chunk({"tool_calls": [call]})))

    def began(index: int) -> Step:
        return piece(index, "", id=f"call_{index}", function={"name": f"f{index}"})

    proxy = await start_proxy(config(upstream, "openai-compatible"))
    upstream.play(
        Send(sse_head()),
        began(0), began(1), piece(1, '{"b":'), piece(0, '{"a":'), piece(0, "1}"), piece(1, "2}"),
        OpenAIWire().end("tool_calls"),
    )  # fmt: skip
    told = await ask(proxy)
    blocks: list[list[str]] = []
    for name, value in told.events:
        if name == "content_block_start":
            assert value["index"] == len(blocks)
            blocks.append([value["content_block"]["id"], ""])
        elif name == "content_block_delta":
            assert value["index"] == len(blocks) - 1
            blocks[-1][1] += value["delta"]["partial_json"]
    assert blocks == [["call_0", '{"a":1}'], ["call_1", '{"b":2}']]
    assert (told.stops, told.done) == (["tool_use"], True)


async def test_what_claude_code_sends_reaches_a_upstream_of_openais_in_its_own_words(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, "openai-compatible"))
    upstream.play(answer(OpenAIWire(), ["ok"]))
    request = json.loads(
        (Path(__file__).parents[1] / "contracts/golden/anthropic-claude-code-request.json").read_text()
    )
    (await ask(proxy, request)).assert_complete("ok")
    assert upstream.requests[0].json() == {
        "model": "scripted-1",
        "max_tokens": 64000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": hashlib.sha256(request["metadata"]["user_id"].encode()).hexdigest(),
        "messages": [
            {
                "role": "system",
                "content": "You are a Claude agent, built on Anthropic's Claude Agent SDK.\n\nYou help with software.",
            },
            {
                "role": "user",
                "content": "<system-reminder>\nToday's date is 2026-11-24.\n</system-reminder>\n\n\nsay hello\n\n"
                "<system-reminder>\nAvailable agent types for the Agent tool:\n- claude\n</system-reminder>",
            },
            {
                "role": "assistant",
                "content": "Running.",
                "tool_calls": [
                    {
                        "id": "toolu_01",
                        "type": "function",
                        "function": {"name": "Bash", "arguments": '{"command":"echo hello"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_01", "content": "hello"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "Bash",
                    "description": "Runs a command.",
                    "parameters": {
                        "$schema": "https://json-schema.org/draft/2020-12/schema",
                        "type": "object",
                        "properties": {"command": {"type": "string"}},
                        "required": ["command"],
                        "additionalProperties": False,
                    },
                },
            }
        ],
    }


# what goes wrong in the middle


@both
@pytest.mark.parametrize("leave", [Fin(), Rst(), Send(LAST_CHUNK)], ids=["FIN", "RST", "clean end"])
@pytest.mark.parametrize("count", [1, 3])
async def test_B01_B02_a_cut_after_k_tokens_delivers_k_and_says_so(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str, leave: Step, count: int
) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(FAR[far].begun(TOKENS[:count]), leave)
    error = (await ask(proxy)).assert_broken_off("".join(TOKENS[:count]))
    assert error["type"] == "api_error"
    assert await proxy.end_reason() == "upstream_truncated"


@both
async def test_B04_B05_a_stall_behind_pings_ends_at_the_gap_timer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str
) -> None:
    proxy = await start_proxy(config(upstream, far, timeouts="{token_gap_s: 0.4}"))
    ping = Send(chunked(PING if far == "anthropic" else b": ping\n\n"))
    upstream.play(FAR[far].begun(TOKENS[:2]), [step for _ in range(100) for step in (ping, Sleep(0.02))])
    assert (await ask(proxy)).assert_broken_off("One two")["type"] == "timeout_error"
    assert await proxy.end_reason() == "upstream_idle"
    await upstream.peer_gone(1)


async def test_A04_pings_before_the_first_token_commit_to_nothing(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, "anthropic", timeouts="{first_token_s: 0.4}"))
    upstream.play(AnthropicWire().begun([]), [step for _ in range(100) for step in (Send(chunked(PING)), Sleep(0.02))])
    head, told = await call(proxy, "POST", PATH, ASK)
    assert (head.status, told["error"]["type"]) == (504, "timeout_error")
    assert told["request_id"] == head["request-id"]


@both
async def test_B07_an_error_in_the_middle_is_passed_on_once(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str
) -> None:
    proxy = await start_proxy(config(upstream, far))
    wire = FAR[far]
    upstream.play(wire.begun(TOKENS[:2]), wire.error_inside("busy,\nsorry sk-ant-abcdefghijklmnop"), wire.end())
    error = (await ask(proxy)).assert_broken_off("One two")
    assert error["message"].startswith("busy, sorry")
    assert "sk-ant" not in error["message"]
    assert error["type"] == ("overloaded_error" if far == "anthropic" else "api_error")


@both
async def test_B08_garbage_ends_as_malformed(start_proxy: StartProxy, upstream: ScriptedUpstream, far: str) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(FAR[far].begun(TOKENS[:2]), FAR[far].malformed(), FAR[far].end())
    (await ask(proxy)).assert_broken_off("One two")
    assert await proxy.end_reason() == "upstream_malformed"


@both
async def test_a_cut_answer_is_repeated_unstreamed_as_claude_code_does(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str
) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(FAR[far].begun(["Half"]), Fin())
    upstream.play(FAR[far].whole("Whole"))
    (await ask(proxy)).assert_broken_off("Half")
    _, message = await call(proxy, "POST", PATH, {**ASK, "stream": False})
    assert message["content"][0]["text"] == "Whole"


@both
@pytest.mark.parametrize("size", [1, 3, 64])
async def test_B10_the_answer_is_the_same_however_the_bytes_fall(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str, size: int
) -> None:
    proxy = await start_proxy(config(upstream, far))
    steps = answer(FAR[far], TOKENS)
    whole = b"".join(step.data.split(b"\r\n", 1)[1][:-2] for step in steps[1:-1])  # without the chunks' framing
    upstream.play(steps[0], [Send(chunked(whole[at : at + size])) for at in range(0, len(whole), size)], steps[-1])
    (await ask(proxy)).assert_complete("".join(TOKENS))


# what goes wrong before


@both
@pytest.mark.parametrize(
    ("status", "told", "type_"),
    [
        (400, 400, "invalid_request_error"),
        (401, 502, "api_error"),
        (404, 404, "not_found_error"),
        (413, 413, "request_too_large"),
        (429, 429, "rate_limit_error"),
        (500, 500, "api_error"),
        (529, 529, "overloaded_error"),
    ],
)
async def test_statuses_are_reported_in_anthropics_form(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str, status: int, told: int, type_: str
) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(FAR[far].error(status, "the lamp", {"retry-after": "7"}))
    head, error = await call(proxy, "POST", PATH, ASK)
    assert (head.status, error["type"], error["error"]["type"]) == (told, "error", type_)
    assert error["request_id"] == head["request-id"]
    if status >= 429:
        assert head["retry-after"] == "7"


async def test_what_is_wrong_with_a_request_is_reported_in_anthropics_form(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, "anthropic"))
    for body, fact in (({**ASK, "max_tokens": None}, "max_tokens"), (b"{", "JSON")):
        head, told = await call(proxy, "POST", PATH, body, {**VERSION, "content-type": "application/json"})
        assert (head.status, told["error"]["type"]) == (400, "invalid_request_error")
        assert fact in told["error"]["message"]
    assert upstream.connections == 0


# silence and leaving


@both
async def test_heartbeats_leave_the_answer_as_it_is(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str
) -> None:
    proxy = await start_proxy(config(upstream, far, heartbeat_s="0.05"))
    steps = answer(FAR[far], TOKENS)
    upstream.play(steps)
    plain = (await ask(proxy)).body
    upstream.play([step for one in steps for step in (one, Sleep(0.18))])
    told = await ask(proxy)
    told.assert_complete("".join(TOKENS))
    assert told.body.count(PING) >= 6

    def same(body: bytes) -> bytes:
        """Without what differs from request to request."""
        id_ = body[body.index(b'"id":"') :].split(b'"')[3] if far != "anthropic" else b"msg_1"
        return body.replace(PING, b"").replace(id_, b"")

    assert same(told.body) == same(plain)


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_C01_C02_a_client_that_leaves_takes_the_upstream_along(
    start_proxy: StartProxy, upstream: ScriptedUpstream, far: str, stream: bool
) -> None:
    proxy = await start_proxy(config(upstream, far))
    upstream.play(FAR[far].begun(["One"]) if stream else [], Stall())
    client = await RawClient.connect(proxy.port)
    await client.post(PATH, {**ASK, "stream": stream})
    await upstream.received(1)
    if stream:
        await client.read_head()
        await client.read_until(b"One")
    client.rst()
    await upstream.peer_gone(1)
    assert await proxy.end_reason() == "client_gone"
    await at_rest(proxy.app)


# doors


async def test_claude_code_knocks_first_and_needs_no_key_for_it(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(
        """
        auth: {keys: [{name: ada, key: "cp-key-of-ada-0123456789abcdefghij"}]}
        backends: {echo: {kind: echo}}
        routes: [{name: default, to: echo}]
        """
    )
    for method in ("HEAD", "GET"):
        assert (await call(proxy, method, "/", headers={}))[0].status == 200
    head, told = await call(proxy, "GET", "/v1/models")
    assert (head.status, told["error"]["type"]) == (401, "authentication_error")
    refused = await ask(proxy)
    assert (refused.status, json.loads(refused.body)["error"]["type"]) == (401, "authentication_error")
    for key in ({"x-api-key": "cp-key-of-ada-0123456789abcdefghij"}, {"authorization": "Bearer cp-key-of-ada-0123456789abcdefghij"}):  # fmt: skip
        for version in ("2023-06-01", "2026-10-21", "2031-05-05"):
            (await ask(proxy, headers={**key, "anthropic-version": version})).assert_complete("hi")


async def test_models_are_listed_in_the_form_that_the_client_knows(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(
        """
        backends: {echo: {kind: echo}}
        routes:
          - {name: named, match: {model: "acme/large"}, to: echo}
          - {name: default, to: echo}
        """
    )
    _, listed = await call(proxy, "GET", "/v1/models?limit=1000")
    assert {"type", "id", "display_name", "created_at"} == listed["data"][0].keys()
    assert listed["has_more"] is False
    assert (await call(proxy, "GET", "/v1/models/acme/large"))[1]["id"] == "acme/large"
    head, missing = await call(proxy, "GET", "/v1/models/nobody")
    assert (head.status, missing["error"]["type"]) == (404, "not_found_error")
    assert missing["request_id"] == head["request-id"]
    _, openais = await call(proxy, "GET", "/v1/models", headers={})
    assert openais["object"] == "list"
    assert [one["id"] for one in openais["data"]] == [one["id"] for one in listed["data"]]


async def test_tokens_are_counted_without_the_upstream(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream, "anthropic"))
    body = {"model": "claude-x", "system": "s" * 40, "messages": [{"role": "user", "content": "x" * 4000}]}
    head, counted = await call(proxy, "POST", "/v1/messages/count_tokens?beta=true", body)
    assert (head.status, counted) == (200, {"input_tokens": 1010})
    assert upstream.connections == 0


async def test_the_next_target_answers_where_the_first_cannot(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(
        f"""
        backends:
          claude: {{kind: anthropic, base_url: "{upstream.origin}"}}
          other: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes: [{{name: default, to: [claude/m, other/m]}}]
        """
    )
    upstream.play(Send(sse_head()), AnthropicWire().error_inside("busy"))
    upstream.play(answer(OpenAIWire(), ["ok"]))
    (await ask(proxy)).assert_complete("ok")
    assert [seen.path for seen in upstream.requests] == ["/v1/messages", "/v1/chat/completions"]


async def test_an_openai_client_is_answered_by_anthropic(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream, "anthropic", set="{temperature: 0.7}"))
    wire = AnthropicWire()
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        wire.event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        wire.event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "s"}),
        wire.event("content_block_stop", index=0),
        wire.event("content_block_start", index=1, content_block=use),
        wire.end("tool_use"),
    )
    _, body = await call(
        proxy, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    )
    chunks = [json.loads(data) for _, data in SSEDecoder().feed(body) if data != b"[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["hm"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert body.endswith(b"data: [DONE]\n\n")
    assert upstream.requests[0].json() == {
        "model": "scripted-1",
        "max_tokens": 16384,
        "temperature": 0.7,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }


async def test_a_refusal_of_the_proxys_own_is_reported_before_anything_is_sent(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, "anthropic"))
    part = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    head, told = await call(proxy, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]})
    assert head.status == 400
    assert "audio" in told["error"]["message"]
    assert upstream.connections == 0


async def test_many_answers_at_once_do_not_mix(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream, "anthropic"))
    upstream.decide(lambda seen: answer(AnthropicWire(), [seen.json()["messages"][0]["content"]] * 20))
    told = await asyncio.gather(
        *(ask(proxy, {**ASK, "messages": [{"role": "user", "content": f"<{n}>"}]}) for n in range(20))
    )
    for number, one in enumerate(told):
        one.assert_complete(f"<{number}>" * 20)


async def test_json_that_is_no_message_is_malformed(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream, "anthropic"))
    upstream.play(json_reply(200, {"object": "chat.completion", "choices": []}))
    assert (await ask(proxy)).status == 502
