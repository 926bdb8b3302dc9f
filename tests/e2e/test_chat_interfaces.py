"""The contracts of chat interfaces over real sockets: the AI SDK, its text streams, AG-UI."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.errors import ProxyError
from proxy.events import Fault, Finish, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart
from proxy.testing.script import (
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    Steps,
    chunked,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Running, StartProxy, openai_config
from tests.support.clients import Head, RawClient
from tests.support.ui_readers import RunReader, UiMessageReader

UI = {
    "id": "chat-1",
    "trigger": "submit-message",
    "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}],
}
RUN = {
    "threadId": "thread-1",
    "runId": "run-1",
    "protocolVersion": "1.0",
    "state": {},
    "messages": [{"id": "u1", "role": "user", "content": "hi"}],
    "tools": [],
    "context": [],
    "forwardedProps": {},
}
TOKENS = ["Two", "\n\n", "  lines,", " 😀", "[DONE]", "\ndata: x\n\nevent: done\n\n", "\u2028", " end "]


class Contract(msgspec.Struct, frozen=True):
    path: str
    body: dict[str, Any]
    reader: type | None
    beat: bytes
    content_type: str = "text/event-stream; charset=utf-8"


CONTRACTS = {
    "ai-sdk": Contract("/api/chat", UI, UiMessageReader, b": keep-alive\n\n"),
    "ai-text": Contract("/api/chat?contract=ai-text", UI, None, b"", "text/plain; charset=utf-8"),
    "ag-ui": Contract("/agui", RUN, lambda: RunReader("1.0"), b": ping\n\n"),
}
each = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
with_frames = pytest.mark.parametrize("contract", [CONTRACTS["ai-sdk"], CONTRACTS["ag-ui"]], ids=["ai-sdk", "ag-ui"])


class Told:
    """What a client of one of the contracts concluded from an answer."""

    def __init__(self, contract: Contract, answer: Head, body: bytes, end: str) -> None:
        self.answer, self.body, self.end = answer, body, end
        if contract.reader is None:
            self.events: list[Any] = [TextDelta(body.decode())]
            self.done = end == "final chunk"
        else:
            reader = contract.reader().read(body)
            assert not reader.unfinished
            self.events = reader.events
            self.done = isinstance(self.events[-1], Finish)

    @property
    def text(self) -> str:
        return "".join([one.text for one in self.events if isinstance(one, TextDelta)])

    @property
    def error(self) -> ProxyError | None:
        return next((one.error for one in self.events if isinstance(one, Fault)), None)


async def ask(proxy: Running, contract: Contract, **more: Any) -> Told:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(contract.path, {**contract.body, **more})
        answer = await client.read_head()
        body = await client.read_body()
        return Told(contract, answer, body, client.end)


@each
async def test_an_answer_arrives_as_the_model_wrote_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, set="{temperature: 0.7}"))
    upstream.play(*openai_stream(TOKENS, usage={"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}))
    told = await ask(proxy, contract)
    assert (told.text, told.done, told.end) == ("".join(TOKENS), True, "final chunk")
    assert told.answer.status == 200
    assert told.answer["content-type"] == contract.content_type
    assert told.answer["cache-control"] == "no-cache, no-transform"
    assert told.answer["x-accel-buffering"] == "no"
    assert told.answer.headers.get("x-vercel-ai-ui-message-stream") == (
        "v1" if contract.body is UI and contract.reader else None
    )
    sent = upstream.requests[0].json()
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    assert (sent["model"], sent["temperature"], sent["stream"]) == ("scripted-1", 0.7, True)
    [record] = await proxy.ended()
    assert (record.contract, record.end, record.usage.output_tokens) == (
        next(name for name, one in CONTRACTS.items() if one is contract), "done", 8,
    )  # fmt: skip


@each
async def test_silence_is_filled_with_heartbeats_that_leave_the_answer_as_it_is(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, heartbeat_s="0.05"))
    upstream.play(*openai_stream(["a", "b"], gap_s=0.18))
    told = await ask(proxy, contract)
    assert (told.text, told.done) == ("ab", True)
    if contract.beat:
        between = told.body.split(contract.beat)
        assert len(between) > 4
        assert all(not piece or piece.endswith(b"\n\n") for piece in between[:-1]), "each is a frame of its own"
        assert b"\n:" not in b"".join(between)


CUTS: dict[str, tuple[Steps, str]] = {
    "FIN": (Fin(), "upstream_truncated"),
    "RST": (Rst(), "upstream_truncated"),
    "an end without one": (openai_stream([])[-1], "upstream_truncated"),
    "stall": (Stall(), "upstream_idle"),
    "rubbish": (Send(event('{"choices": [{"delta"')), "upstream_malformed"),
    "its own error": (Send(event({"error": {"message": "too busy\nto go on", "code": 503}})), "upstream_error"),
}


@each
@pytest.mark.parametrize("cut", CUTS)
async def test_an_answer_that_breaks_off_is_reported_and_never_finished(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract, cut: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{token_gap_s: 0.3}"))
    steps, reason = CUTS[cut]
    upstream.play(openai_stream(["One", " two"])[:4], Sleep(0.02), steps)
    told = await ask(proxy, contract)
    assert told.text == "One two"
    assert not told.done
    if contract.reader is None:
        assert told.end == "cut", "the only way there is to tell"
    else:
        assert told.end == "final chunk"
        assert told.error is not None
        assert "\n" not in told.error.message
        if cut == "its own error":
            assert told.error.message == "too busy to go on"
    assert await proxy.end_reason() == reason


@each
async def test_a_cut_inside_a_tool_call_never_finishes_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    upstream.play(Send(sse_head()), Send(event(openai_chunk({"tool_calls": [call]}))), Fin())
    told = await ask(proxy, contract)
    assert not told.done
    assert b"tool-input-available" not in told.body
    assert b"TOOL_CALL_END" not in told.body


@each
async def test_a_client_that_leaves_closes_the_upstream(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(["One", " two"])[:4], Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(contract.path, contract.body)
        await client.read_head()
        await client.read_until(b" two")
        client.rst()
        await upstream.peer_gone(1)
    [record] = await proxy.ended()
    assert (record.end, record.final_status) == ("client_gone", 499)


@each
@pytest.mark.parametrize(("status", "shown"), [(429, 429), (503, 503), (401, 502)])
async def test_C5_a_failure_before_the_first_word_has_its_status_and_a_sentence(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract, status: int, shown: int
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*json_reply(status, {"error": {"message": "slow down"}}, {"retry-after": "7"}))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(contract.path, contract.body)
        answer = await client.read_head()
        body = await client.read_body()
    assert answer.status == shown
    assert answer["content-type"] == "text/plain; charset=utf-8", "pages show the body as it is"
    assert body == b"slow down" or (shown == 502 and not body.startswith(b"{"))
    if status == 429:
        assert answer["retry-after"] == "7"


@each
async def test_a_bad_request_is_told_what_is_wrong_with_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(contract.path, {**contract.body, "messages": []})
        answer = await client.read_head()
        body = await client.read_body()
    assert answer.status == 400
    assert b"messages: expected at least one message" in body
    assert upstream.connections == 0


@each
async def test_browsers_may_read_the_header_that_names_the_stream(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server='{cors: {origins: ["http://localhost:3000"]}}'))
    upstream.always(*openai_stream(["a"]))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(
            contract.path, contract.body, {"Origin": "http://localhost:3000", "Content-Type": "application/json"}
        )
        answer = await client.read_head()
        await client.read_body()
        assert answer["access-control-allow-origin"] == "http://localhost:3000"
        assert "x-vercel-ai-ui-message-stream" in answer["access-control-expose-headers"]
        asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
        await client.request("OPTIONS", contract.path, b"", {**asked, "Access-Control-Request-Headers": "content-type"})
        answer = await client.read_head()
        assert (answer.status, answer["access-control-allow-headers"]) == (204, "content-type")


@pytest.mark.parametrize(
    ("body", "content_type", "contract"),
    [
        (UI, "text/event-stream; charset=utf-8", "ai-sdk"),
        ({"prompt": "hi"}, "text/event-stream; charset=utf-8", "ai-sdk"),
        ({"messages": RUN["messages"]}, "text/event-stream; charset=utf-8", "chat"),
        ({"model": "m", "messages": RUN["messages"], "stream": True}, "application/x-ndjson", "ollama"),
        ({**UI, "model": "m", "stream": True, "tools": []}, "text/event-stream; charset=utf-8", "ai-sdk"),
    ],
)
async def test_at_the_shared_path_the_body_tells_whose_it_is(
    start_proxy: StartProxy, upstream: ScriptedUpstream, body: dict[str, Any], content_type: str, contract: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(["a"]))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/api/chat", body)
        assert (await client.read_head())["content-type"] == content_type
        await client.read_body()
    [record] = await proxy.ended()
    assert record.contract == contract


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/api/completion", "text/event-stream; charset=utf-8"),
        ("/api/completion?contract=ai-text", "text/plain; charset=utf-8"),
        ("/ai-text", "text/plain; charset=utf-8"),
        ("/ai-sdk/chat", "text/event-stream; charset=utf-8"),
    ],
)
async def test_completions_are_served(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, content_type: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(["Once"]))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {"prompt": "Tell", "model": "m"})
        assert (await client.read_head())["content-type"] == content_type
        assert b"Once" in await client.read_body()
    assert upstream.requests[0].json()["messages"] == [{"role": "user", "content": "Tell"}]


async def test_there_is_nothing_to_resume_for_who_has_a_key(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    key = "a-key-that-is-long-enough-7f3b"
    auth = f"\n        auth: {{keys: [{{name: web, key: {key}}}]}}"
    proxy = await start_proxy(openai_config(upstream.url) + auth)
    async with await RawClient.connect(proxy.port) as client:
        for path in ("/api/chat/chat%2F1/stream", "/ai-sdk/chat/chat-1/stream"):
            await client.get(path)
            answer = await client.read_head()
            assert answer.status == 401
            await client.read_body()
            await client.get(path, {"Authorization": f"Bearer {key}"})
            assert (await client.read_head()).status == 204


async def test_unstreamed_answers_are_a_message_and_a_text(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    whole = {
        "id": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    }
    upstream.always(*json_reply(200, whole))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/api/chat", {**UI, "stream": False})
        assert (await client.read_head())["content-type"] == "application/json"
        message = json.loads(await client.read_body())
        assert message["parts"][-1] == {"type": "text", "text": "hi", "state": "done"}
        assert message["metadata"]["finishReason"] == "stop"
        await client.post("/api/chat?contract=ai-text", {**UI, "stream": False})
        assert (await client.read_head())["content-type"] == "text/plain; charset=utf-8"
        assert await client.read_body() == b"hi"


def called(*pieces: dict[str, Any], finish: str = "tool_calls") -> list[Steps]:
    chunks = [Send(event(openai_chunk({"tool_calls": [piece]}))) for piece in pieces]
    return [Send(sse_head()), *chunks, Send(event(openai_chunk({}, finish=finish))), openai_stream([])[-2:]]


PIECES = [
    {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 1, "id": "call_b", "type": "function", "function": {"name": "now", "arguments": "{"}},
    {"index": 0, "function": {"arguments": '{"city":"Oslo"}'}},
    {"index": 1, "function": {"arguments": "}"}},
]
TOOLS = [
    {"role": "tool", "content": "7 degrees", "tool_call_id": "call_a"},
    {"role": "tool", "content": "No clock", "tool_call_id": "call_b"},
]
ASSISTANT = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ],
}


@with_frames
async def test_a_turn_with_tools_goes_there_and_back(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    """The model calls, interleaved; the client runs the tools and sends back what it kept of the answer."""
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*called(*PIECES))
    told = await ask(proxy, contract)
    assert [(one.id, one.name) for one in told.events if isinstance(one, ToolCallStart)] == [
        ("call_a", "weather"),
        ("call_b", "now"),
    ]
    assert [one.arguments for one in told.events if isinstance(one, ToolCallDelta) and one.index == 0][
        -1
    ] == '{"city":"Oslo"}'
    assert told.events[-1].reason == "tool_calls"
    if contract.body is UI:
        parts = [
            {"type": "step-start"},
            {"type": "tool-weather", "toolCallId": "call_a", "state": "output-available", "input": {"city": "Oslo"}, "output": "7 degrees"},
            {"type": "tool-now", "toolCallId": "call_b", "state": "output-error", "input": {}, "errorText": "No clock"},
        ]  # fmt: skip
        kept = [{"id": "a1", "role": "assistant", "parts": parts}]
    else:
        function = [
            {"id": call["id"], "type": "function", "function": call["function"]} for call in ASSISTANT["tool_calls"]
        ]
        kept = [
            {"id": "m1", "role": "assistant", "toolCalls": function},
            {"id": "t1", "role": "tool", "toolCallId": "call_a", "content": "7 degrees"},
            {"id": "t2", "role": "tool", "toolCallId": "call_b", "content": "", "error": "No clock"},
        ]
    upstream.play(*openai_stream(["7 degrees."]))
    told = await ask(proxy, contract, messages=[*contract.body["messages"], *kept])
    assert told.text == "7 degrees."
    assert upstream.requests[1].json()["messages"] == [{"role": "user", "content": "hi"}, ASSISTANT, *TOOLS]


async def test_a_call_with_broken_arguments_fails_the_run_but_not_the_target(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*called(*PIECES[:2], finish="length"))
    told = await ask(proxy, CONTRACTS["ag-ui"])
    assert told.error is not None
    assert told.error.code == "upstream_malformed"
    assert await proxy.end_reason() == "upstream_malformed"
    told = await ask(proxy, CONTRACTS["ai-sdk"])
    assert told.done
    assert b"tool-input-error" in told.body


@with_frames
async def test_reasoning_is_distinguished_from_the_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    thoughts = [Send(event(openai_chunk({"reasoning_content": piece}))) for piece in ("Hm,", " well.\n")]
    upstream.play(Send(sse_head()), thoughts, openai_stream(["So."])[2:])
    told = await ask(proxy, contract)
    assert [one.text for one in told.events if isinstance(one, ReasoningDelta)] == ["Hm,", " well.\n"]
    assert told.text == "So."


@each
async def test_every_byte_may_come_alone(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: Contract
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    stream = (
        b"data: %b\n\ndata: [DONE]\n\n"
        % json.dumps(openai_chunk({"content": "Grüße 👩‍👩‍👧"}), ensure_ascii=False).encode()
    )
    upstream.play(Send(sse_head()), [Send(chunked(bytes([byte]))) for byte in stream], openai_stream([])[-1])
    told = await ask(proxy, contract)
    assert (told.text, told.done) == ("Grüße 👩‍👩‍👧", True)
