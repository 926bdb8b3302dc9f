"""Custom tools through the official SDK, in front of a model that knows only functions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI

from proxy.testing.script import json_reply
from proxy.testing.upstream import ScriptedUpstream, Seen
from proxy.testing.wires import AnthropicWire
from tests.support.app import StartProxy

PATCH = "*** Begin Patch\n*** Update File: a.py\n-x = 'é'\n+x = \"ü\"\n*** End Patch"
LARK = {"syntax": "lark", "definition": "start: begin_patch"}
USE = {"type": "tool_use", "id": "t1", "name": "apply_patch"}


def reply(seen: Seen) -> Any:
    """A call of the only tool; once it has its result, an answer."""
    asked = seen.json()
    told = [block for message in asked["messages"] for block in message["content"] if type(block) is dict]
    if any(block["type"] == "tool_result" for block in told):
        return AnthropicWire().whole("done")
    if not asked["stream"]:
        content = [{**USE, "input": {"input": PATCH}}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        return json_reply(200, AnthropicWire.message(content=content, stop_reason="tool_use", usage=usage))
    arguments = json.dumps({"input": PATCH})
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in (arguments[:20], arguments[20:])]
    return [
        *AnthropicWire.opened(),
        AnthropicWire.event("content_block_start", index=0, content_block={**USE, "input": {}}),
        *[AnthropicWire.event("content_block_delta", index=0, delta=delta) for delta in deltas],
        AnthropicWire.event("content_block_stop", index=0),
        *AnthropicWire().end("tool_use"),
    ]


@pytest.fixture
async def client(start_proxy: StartProxy, upstream: ScriptedUpstream) -> Any:
    upstream.decide(reply)
    row = {"kind": "anthropic", "base_url": upstream.origin, "api_key": "sk-test"}
    config = {"backends": {"far": row}, "routes": [{"name": "default", "to": "far/claude-sonnet-4-5"}]}
    proxy = await start_proxy(json.dumps(config))
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="any", timeout=60) as sdk:
        yield sdk


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_completions(client: AsyncOpenAI, upstream: ScriptedUpstream, stream: bool) -> None:
    custom = {"name": "apply_patch", "description": "Edits.", "format": {"type": "grammar", "grammar": LARK}}
    tools: Any = [{"type": "custom", "custom": custom}]
    messages: Any = [{"role": "user", "content": "hi"}]
    text = ""
    if stream:
        async for chunk in await client.chat.completions.create(model="m", messages=messages, tools=tools, stream=True):
            for piece in chunk.choices[0].delta.tool_calls or []:
                text += piece.model_dump()["custom"].get("input") or ""
    else:
        answer = await client.chat.completions.create(model="m", messages=messages, tools=tools)
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "custom"
        text = call.custom.input
    assert text == PATCH
    called = {"id": "t1", "type": "custom", "custom": {"name": "apply_patch", "input": text}}
    messages += [{"role": "assistant", "content": None, "tool_calls": [called]}]
    messages += [{"role": "tool", "tool_call_id": "t1", "content": "ok"}]
    answer = await client.chat.completions.create(model="m", messages=messages, tools=tools)
    assert answer.choices[0].message.content == "done"
    _, asked, _ = (await upstream.received(2))[1].json()["messages"]
    assert asked["content"] == [{**USE, "input": {"input": PATCH}}]


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_as_codex_asks(client: AsyncOpenAI, upstream: ScriptedUpstream, stream: bool) -> None:
    format_ = {"type": "grammar", **LARK}
    tools: Any = [{"type": "custom", "name": "apply_patch", "description": "Edits.", "format": format_}]
    items: Any = [{"role": "user", "content": "hi"}]
    if stream:
        async with client.responses.stream(model="m", input=items, tools=tools, store=False) as events:
            async for _ in events:
                pass
            answer: Any = await events.get_final_response()
    else:
        answer = await client.responses.create(model="m", input=items, tools=tools, store=False)
    (call,) = answer.output
    assert (call.type, call.name, call.input) == ("custom_tool_call", "apply_patch", PATCH)
    items += [call.model_dump(exclude_none=True)]
    items += [{"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"}]
    answer = await client.responses.create(model="m", input=items, tools=tools, store=False)
    assert answer.output_text == "done"
    _, asked, _ = (await upstream.received(2))[1].json()["messages"]
    assert asked["content"] == [{**USE, "input": {"input": PATCH}}]
