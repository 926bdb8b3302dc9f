"""OpenAI Responses over real sockets: the official SDK, Codex's requests, and truthful ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from proxy.events import Fault, ReasoningDelta, TextDelta, ToolCallDelta
from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    Step,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire, answer
from tests.support.app import Running, StartProxy, openai_config
from tests.support.clients import RawClient
from tests.support.responses_reader import ResponsesReader

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "m", "input": "hi", "stream": True}
TOKENS = ["One", " two", " three", " four"]
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CODEX = (Path(__file__).parents[1] / "contracts/golden/responses-codex-request.json").read_bytes()
SDK_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False},
    "strict": True,
}


def calls(*pieces: dict[str, Any]) -> Step:
    return Send(event(openai_chunk({"tool_calls": list(pieces)})))


def called(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def more(index: int, arguments: str) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments}}


def tool_answer(*middle: Step) -> list[Step]:
    end = [Send(event(openai_chunk({}, finish="tool_calls"))), Send(event("[DONE]")), Send(LAST_CHUNK)]
    return [Send(sse_head()), *middle, *end]


@asynccontextmanager
async def sdk(proxy: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


class Told:
    """What a client read, checked against the contract on the way."""

    def __init__(self, status: int, body: bytes, end: str | None) -> None:
        self.status, self.body, self.end = status, body, end
        self.reader = ResponsesReader()
        self.events = self.reader.feed(body)
        self.text = "".join(one.text for one in self.events if isinstance(one, TextDelta))

    def assert_broken_off(self, text: str) -> None:
        assert self.text == text
        assert isinstance(self.events[-1], Fault)
        assert self.reader.types[-2:] == ["response.failed", "error"]
        assert not {"response.completed", "response.incomplete"} & set(self.reader.types)
        assert self.end == "final chunk", "the body ends cleanly after it"


async def ask(proxy: Running, body: Any = ASK, headers: Any = (), *, path: str = PATH) -> Told:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, body, headers)
        answer = await client.read_head()
        return Told(answer.status, await client.read_body(), client.end)


# the official SDK


async def test_the_sdk_streams_and_every_event_is_one_of_its_types(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.play(openai_stream(TOKENS, usage=USAGE))
    async with sdk(await start_proxy(openai_config(upstream.url))) as client:
        stream = await client.responses.create(model="x", input="hi", stream=True, instructions="Be brief.")
        seen = [one async for one in stream]
    for one in seen:
        SDK_EVENT.validate_python(one.to_dict())
    assert "".join(one.delta for one in seen if one.type == "response.output_text.delta") == "".join(TOKENS)
    assert seen[-1].type == "response.completed"
    assert seen[-1].response.output_text == "".join(TOKENS)
    assert upstream.requests[0].json()["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


class City(pydantic.BaseModel):
    name: str


async def test_the_sdks_helper_parses_a_streamed_schema(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.play(openai_stream(['{"name":', '"Oslo"}'], usage=USAGE))
    async with (
        sdk(await start_proxy(openai_config(upstream.url))) as client,
        client.responses.stream(model="x", input="Which city?", text_format=City) as stream,
    ):
        snapshots = [one.snapshot async for one in stream if one.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots == ['{"name":', '{"name":"Oslo"}']
    assert final.output_parsed == City(name="Oslo")
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 7)
    sent = upstream.requests[0].json()["response_format"]
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "City", True)


async def test_the_sdks_helper_reads_reasoning_and_interleaved_calls(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.play(
        tool_answer(
            Send(event(openai_chunk({"reasoning_content": "Two cities."}))),
            calls(called(0, "weather", '{"city":')),
            calls(called(1, "weather")),
            calls(more(1, '{"city":"Rome"}')),
            calls(more(0, '"Oslo"}')),
        )
    )
    async with (
        sdk(await start_proxy(openai_config(upstream.url))) as client,
        client.responses.stream(model="x", input="hi", tools=[WEATHER], tool_choice="required") as stream,
    ):
        final = await stream.get_final_response()
    reasoning, one, two = final.output
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == "Two cities."
    assert one.type == two.type == "function_call"
    assert (one.parsed_arguments, two.parsed_arguments) == ({"city": "Oslo"}, {"city": "Rome"})
    assert (one.call_id, two.call_id) == ("call_0", "call_1")
    sent = upstream.requests[0].json()
    assert (sent["tool_choice"], sent["tools"][0]["function"]["strict"]) == ("required", True)


async def test_a_conversation_with_a_tool_goes_back_and_forth(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    """The SDK's own way: what came out goes in again, with the tool's result after it."""
    upstream.play(tool_answer(calls(called(0, "weather", '{"city":"Oslo"}'))))
    upstream.play(openai_stream(["Rain."]))
    async with sdk(await start_proxy(openai_config(upstream.url))) as client:
        history: Any = [{"role": "user", "content": "Weather in Oslo?"}]
        async with client.responses.stream(model="x", input=history, tools=[WEATHER]) as stream:
            first = await stream.get_final_response()
        history += [item.model_dump(exclude={"parsed_arguments"}) for item in first.output]
        history.append({"type": "function_call_output", "call_id": "call_0", "output": "rain"})
        async with client.responses.stream(model="x", input=history, tools=[WEATHER]) as stream:
            assert (await stream.get_final_response()).output_text == "Rain."
    assert upstream.requests[1].json()["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_0"},
    ]


async def test_the_sdk_reads_a_whole_response(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    upstream.play(json_reply(200, {"id": "c", "model": "up", "choices": [choice], "usage": USAGE}))
    async with sdk(await start_proxy(openai_config(upstream.url))) as client:
        response = await client.responses.create(model="x", input="hi", max_output_tokens=1)
    Response.model_validate(response.to_dict())
    assert (response.output_text, response.status, response.model) == ("hi", "incomplete", "up")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert upstream.requests[0].json()["max_completion_tokens"] == 1


async def test_the_sdk_raises_what_is_refused(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    async with sdk(await start_proxy(openai_config(upstream.url))) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="x", input="hi", previous_response_id="resp_1")
        assert (refused.value.param, refused.value.code) == ("previous_response_id", "previous_response_not_found")
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.create(model="x", input="hi", background=True)
        for asked in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                await asked("resp_1")
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list("resp_1")
        upstream.play(json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "3"}))
        with pytest.raises(openai.RateLimitError) as limited:
            await client.responses.create(model="x", input="hi", stream=True)
        assert limited.value.response.headers["retry-after"] == "3"
    assert len(upstream.requests) == 1


# Codex


async def test_a_turn_of_codex_is_answered_in_the_order_it_needs(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.play(
        tool_answer(
            Send(event(openai_chunk({"reasoning_content": "Look first."}))),
            Send(event(openai_chunk({"content": "Looking."}))),
            calls(called(0, "exec_command", '{"cmd":"ls"}')),
            calls(called(1, "multi_agent_v1__close_agent", '{"target":"a"}')),
        )
    )
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json", "originator": "codex_exec",
               "session-id": "1", "thread-id": "1"}  # fmt: skip
    told = await ask(await start_proxy(openai_config(upstream.url)), CODEX, headers)
    added = [one["item"]["id"] for one in told.reader.told if one["type"] == "response.output_item.added"]
    done = [one["item"] for one in told.reader.told if one["type"] == "response.output_item.done"]
    assert [item["id"] for item in done] == added
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call", "function_call"]
    assert (done[3]["namespace"], done[3]["name"]) == ("multi_agent_v1", "close_agent")
    assert told.reader.types[-1] == "response.completed"
    sent = upstream.requests[0].json()
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "user", "assistant", "tool", "tool"]
    assert "web_search" not in json.dumps(sent)


# truthful ends


@pytest.mark.parametrize("leave", [Fin(), Rst()], ids=["FIN", "RST"])
@pytest.mark.parametrize("count", range(1, 5))
async def test_B01_a_cut_after_k_tokens_delivers_k_and_fails(
    start_proxy: StartProxy, upstream: ScriptedUpstream, leave: Step, count: int
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[: 2 + count], leave)
    (await ask(proxy)).assert_broken_off("".join(TOKENS[:count]))
    assert await proxy.end_reason() == "upstream_truncated"


async def test_B01_a_cut_tool_call_is_never_done(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(Send(sse_head()), calls(called(0, "rm", '{"path":"/tmp')), Fin())
    told = await ask(proxy)
    told.assert_broken_off("")
    assert ToolCallDelta(0, '{"path":"/tmp') in told.events
    assert "response.output_item.done" not in told.reader.types
    assert told.reader.response["output"] == []


async def test_B04_a_stall_fails_at_the_gap_timer(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{token_gap_s: 0.3}"))
    upstream.play(openai_stream(TOKENS)[:4], Stall())
    (await ask(proxy)).assert_broken_off("One two")
    await upstream.peer_gone(1)
    assert await proxy.end_reason() == "upstream_idle"


async def test_B07_an_error_event_in_the_middle_fails_with_its_message(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    error = {"error": {"message": "overloaded,\nsorry sk-live-abcdefghijklmnopqrstu", "type": "overloaded_error"}}
    upstream.play(openai_stream(TOKENS)[:4], Send(event(error)), openai_stream([])[-2:])
    told = await ask(proxy)
    told.assert_broken_off("One two")
    assert "overloaded, sorry" in told.reader.response["error"]["message"]
    assert b"sk-live" not in told.body
    assert await proxy.end_reason() == "upstream_error"


async def test_B08_what_is_no_chunk_fails_as_malformed(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[:4], Send(event("[1, 2]")), openai_stream(TOKENS)[4:])
    (await ask(proxy)).assert_broken_off("One two")
    assert await proxy.end_reason() == "upstream_malformed"


async def test_the_sdks_helper_never_takes_a_broken_answer_for_a_final_one(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.play(openai_stream(TOKENS)[:4], Rst())
    async with (
        sdk(await start_proxy(openai_config(upstream.url))) as client,
        client.responses.stream(model="x", input="hi") as stream,
    ):
        with pytest.raises(openai.APIError):
            await stream.get_final_response()


async def test_a_failure_before_the_first_word_is_a_status(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[:2], Rst())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(PATH, ASK)
        assert (await client.read_head()).status == 502
        assert json.loads(await client.read_body())["error"]["code"] == "upstream_truncated"


async def test_heartbeats_leave_the_answer_as_it_is(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, heartbeat_s="0.05"))
    upstream.play(openai_stream(TOKENS)[:3], Sleep(0.3), openai_stream(TOKENS)[3:])
    told = await ask(proxy)
    assert told.body.count(b"\n\n: ping\n\n") >= 2
    assert told.reader.response["output"][0]["content"][0]["text"] == "".join(TOKENS)
    assert told.reader.types[-1] == "response.completed"
    upstream.play(openai_stream(TOKENS)[:3], Sleep(0.3), openai_stream(TOKENS)[3:])
    async with sdk(proxy) as client, client.responses.stream(model="x", input="hi") as stream:
        assert (await stream.get_final_response()).output_text == "".join(TOKENS)


async def test_C01_a_client_that_leaves_takes_the_upstream_along(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[:4], Stall())
    async with sdk(proxy) as client:
        stream = await client.responses.create(model="x", input="hi", stream=True)
        async for one in stream:
            if one.type == "response.output_text.delta":
                break
        await stream.close()
        await upstream.peer_gone(1)
    assert await proxy.end_reason() == "client_gone"


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_echo_answers_on_both_paths(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy("backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]")
    told = await ask(proxy, {**ASK, "input": "hi\n\nthere"}, path=path)
    assert (told.status, told.text) == (200, "hi\n\nthere")


@pytest.mark.xdist_group("litellm")
@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning")
async def test_litellm_answers_with_reasoning_text_and_a_call(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    config = f"""
        backends:
          any: {{kind: litellm, api_base: "{upstream.url}", api_key: not-used-at-all}}
        routes: [{{name: default, to: any/openai/scripted-1}}]
    """
    upstream.play(
        tool_answer(
            Send(event(openai_chunk({"reasoning_content": "Hm."}))),
            Send(event(openai_chunk({"content": "Looking."}))),
            calls(called(0, "exec_command", '{"cmd":"ls"}')),
        )
    )
    told = await ask(await start_proxy(config), CODEX, {"Content-Type": "application/json"})
    assert ReasoningDelta("Hm.") in told.events
    assert told.text == "Looking."
    assert told.reader.response["output"][2]["arguments"] == '{"cmd":"ls"}'
    assert told.reader.types[-1] == "response.completed"
    assert upstream.requests[0].json()["tools"][2]["function"]["name"] == "multi_agent_v1__close_agent"


async def test_anthropics_sealed_thought_goes_round_by_way_of_the_client(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    """Upstreams that think between calls refuse the next turn without the thought and its seal."""
    proxy = await start_proxy(f"""
        backends: {{far: {{kind: anthropic, base_url: "{upstream.origin}", api_key: not-used-at-all}}}}
        routes: [{{name: default, to: far/claude-x}}]
    """)
    wire = AnthropicWire()
    call = {"type": "tool_use", "id": "call_a", "name": "weather", "input": {}}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        wire.event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Rain?"}),
        wire.event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2VhbA=="}),
        wire.event("content_block_stop", index=0),
        wire.event("content_block_start", index=1, content_block=call),
        wire.event(
            "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"city":"Oslo"}'}
        ),
        wire.end("tool_use"),
    )
    upstream.play(answer(wire, ["It rains."]))
    async with sdk(proxy) as client:
        history: Any = [{"role": "user", "content": "Weather?"}]
        async with client.responses.stream(model="x", input=history, tools=[WEATHER]) as stream:
            first = await stream.get_final_response()
        history += [item.model_dump(exclude={"parsed_arguments"}) for item in first.output]
        history.append({"type": "function_call_output", "call_id": "call_a", "output": "rain"})
        second = await client.responses.create(model="x", input=history, tools=[WEATHER])
    assert second.output_text == "It rains."
    assert upstream.requests[1].json()["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Rain?", "signature": "c2VhbA=="},
                {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_a", "content": "rain"}]},
    ]
