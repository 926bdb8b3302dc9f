"""What an upstream wants back from the model's earlier reasoning, from clients of every contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.contracts.anthropic.request import decode_request as from_anthropic
from proxy.contracts.openai.request import decode_request as from_openai
from proxy.contracts.responses.request import decode_request as from_responses
from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.wire import backend, events

KEY = "k-0123456789abcdef"


def claude_code(*, thinking: str = "It is far.") -> ChatRequest:
    """A second turn as Claude Code sends it: unsigned thinking before the call."""
    thought = [{"type": "thinking", "thinking": thinking, "signature": ""}] if thinking else []
    body = {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "messages": [
            {"role": "user", "content": "How far?"},
            {
                "role": "assistant",
                "content": [*thought, {"type": "tool_use", "id": "call_1", "name": "look", "input": {}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "far"}]},
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {}}}],
    }
    return from_anthropic(json.dumps(body).encode(), id="r1")


def codex() -> ChatRequest:
    """The same as Codex sends it: a reasoning item before the call."""
    body = {
        "model": "m",
        "stream": True,
        "store": False,
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How far?"}]},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "It is far."}],
                "encrypted_content": None,
            },
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "far"},
        ],
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}],
    }
    return from_responses(json.dumps(body).encode(), id="r1")


async def sent(upstream: ScriptedUpstream, request: ChatRequest, **row: Any) -> tuple[dict[str, Any], list[Notice]]:
    """The assistant's message as the upstream gets it, and what its client is told."""
    upstream.play(openai_stream(["ok"]))
    async with backend({"kind": "openai-compatible", "base_url": upstream.url, "api_key": KEY, **row}) as far:
        got = await events(far, request)
    turns = upstream.requests[-1].json()["messages"]
    return next(turn for turn in turns if turn["role"] == "assistant"), [one for one in got if isinstance(one, Notice)]


@pytest.mark.parametrize("ask", [claude_code, codex])
@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("deepseek", {"reasoning_content": "It is far."}),
        ("moonshot", {"reasoning_content": "It is far."}),
        ("zai", {"reasoning_content": "It is far."}),
        ("openrouter", {"reasoning": "It is far."}),
        ("minimax", {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "It is far."}]}),
    ],
)
async def test_C2_reasoning_goes_back_on_the_message_with_the_calls(
    upstream: ScriptedUpstream, ask: Any, preset: str, fields: dict[str, Any]
) -> None:
    turn, notices = await sent(upstream, ask(), preset=preset)
    assert turn["tool_calls"][0]["function"]["name"] == "look"
    assert {name: value for name, value in turn.items() if name.startswith("reasoning")} == fields
    assert notices == []


async def test_C2_deepseek_gets_the_field_even_where_there_was_no_reasoning(upstream: ScriptedUpstream) -> None:
    turn, _ = await sent(upstream, claude_code(thinking=""), preset="deepseek")
    assert turn["reasoning_content"] == ""
    turn, _ = await sent(upstream, claude_code(thinking=""), preset="moonshot")
    assert "reasoning_content" not in turn


@pytest.mark.parametrize("row", [{}, {"preset": "mistral"}, {"preset": "deepseek", "return_reasoning": "never"}])
async def test_C2_elsewhere_it_is_left_out_and_announced(upstream: ScriptedUpstream, row: dict[str, Any]) -> None:
    turn, notices = await sent(upstream, claude_code(), **row)
    assert not any(name.startswith("reasoning") for name in turn)
    assert [(notice.code, notice.param) for notice in notices] == [("ignored_setting", "messages")]


async def test_C2_a_row_can_say_always(upstream: ScriptedUpstream) -> None:
    turn, notices = await sent(upstream, claude_code(), return_reasoning="always")
    assert turn["reasoning_content"] == "It is far."
    assert notices == []


async def test_C2_a_client_of_the_same_contract_says_itself_what_goes_back(upstream: ScriptedUpstream) -> None:
    turns = [
        {"role": "user", "content": "How far?"},
        {"role": "assistant", "content": "Far.", "reasoning_content": "Hm."},
        {"role": "user", "content": "Really?"},
    ]
    body = json.dumps({"model": "m", "stream": True, "messages": turns}).encode()
    turn, notices = await sent(upstream, from_openai(body, id="r1"))
    assert turn == turns[1]
    assert notices == []
