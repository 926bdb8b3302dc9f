"""Requests that change dialect keep their meaning: what clients of one contract send, and what each target gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.testing.script import Send, event, openai_chunk, sse_head
from proxy.testing.upstream import ScriptedUpstream, Seen
from proxy.testing.wires import AnthropicWire, OpenAIWire, answer
from proxy.wire.conversation import INTERRUPTED, ORPHAN
from tests.support.app import StartProxy
from tests.support.clients import RawClient

CHAT, MESSAGES, RESPONSES, OLLAMA, AGUI = (
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/ollama/api/chat",
    "/agui",
)
NO_PARAMETERS = {"type": "object", "properties": {}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": NO_PARAMETERS}}
TOOL = {"name": "f", "description": "d", "input_schema": NO_PARAMETERS}
HI = {"role": "user", "content": "hi"}
MARK = {"type": "ephemeral"}
SHOWN = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
LONG = "mcp__plugin_" + "x" * 70


def called(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def turn(*calls: str) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [called(id_) for id_ in calls]}


def use(id_: str, name: str = "f") -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": {}}


def outcome(*ids: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id_, "content": "r"} for id_ in ids]}


def agui(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    run = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": []}
    named = [{"id": str(number), **message} for number, message in enumerate(messages)]
    return run | {"messages": named} | more


def _messages_turn(seals: list[str]) -> dict[str, Any]:
    thoughts = [{"type": "thinking", "thinking": "", "signature": seal} for seal in seals]
    return {"model": "any", "max_tokens": 100, "stream": not seals, "tools": [TOOL]} | {
        "messages": [HI, *([{"role": "assistant", "content": [*thoughts, use("g1")]}, outcome("g1")] if seals else [])]
    }


def _responses_turn(seals: list[str]) -> dict[str, Any]:
    items = [
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": f"chat-proxy:{seal}"} for seal in seals
    ]
    called_ = {"type": "function_call", "call_id": "g1", "name": "f", "arguments": "{}"}
    items += [called_, {"type": "function_call_output", "call_id": "g1", "output": "r"}] if seals else []
    tool = {"type": "function", "name": "f", "parameters": NO_PARAMETERS}
    return {"model": "any", "stream": not seals, "input": [HI, *items], "tools": [tool]}


def _ai_sdk_turn(seals: list[str]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"type": "reasoning", "text": "", "providerMetadata": {"chatProxy": {"signature": seal}}} for seal in seals
    ]
    parts += [{"type": "tool-f", "toolCallId": "g1", "input": {}, "state": "output-available", "output": "r"}]
    messages = [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]
    messages += [{"role": "assistant", "parts": parts}] if seals else []
    return {"trigger": "submit-message", "stream": not seals, "messages": messages, "tools": {"f": {}}}


def _agui_turn(seals: list[str]) -> dict[str, Any]:
    thoughts = [{"role": "reasoning", "content": "", "encryptedValue": seal} for seal in seals]
    later = [{"role": "assistant", "toolCalls": [called("g1")]}, {"role": "tool", "toolCallId": "g1", "content": "r"}]
    return agui(
        HI,
        *thoughts,
        *(later if seals else []),
        protocolVersion="1.0",
        tools=[{"name": "f", "parameters": NO_PARAMETERS}],
    )


TURNS = {MESSAGES: _messages_turn, RESPONSES: _responses_turn, "/ai-sdk/chat": _ai_sdk_turn, AGUI: _agui_turn}
"""A conversation before a call, or after it with the signatures that its client kept."""


def at(body: Any, path: str) -> Any:
    """What stands at `messages.1.tool_calls.0.id`."""
    for step in path.split("."):
        body = body[int(step)] if step.isdigit() or step.startswith("-") else body[step]
    return body


CASES = {
    # R1: calls and their results
    "R1 an id that repeats over turns": (
        AGUI,
        "compatible/m",
        agui(
            {"role": "user", "content": "q"},
            {"role": "assistant", "toolCalls": [called("call_0")]},
            {"role": "tool", "toolCallId": "call_0", "content": "R1"},
            {"role": "assistant", "toolCalls": [called("call_0")]},
            {"role": "tool", "toolCallId": "call_0", "content": "R2"},
        ),
        {"messages.2.content": "R1", "messages.4.content": "R2", "messages.1.tool_calls.0.id": "call_0"},
    ),
    "R1 a note between a call and its output": (
        RESPONSES,
        "compatible/m",
        {
            "input": [
                HI,
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                {"role": "user", "content": "note"},
                {"type": "function_call_output", "call_id": "a", "output": "r"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": NO_PARAMETERS}],
        },
        {"messages.2": {"role": "tool", "content": "r", "tool_call_id": "a"}, "messages.3.content": "note"},
    ),
    "R1 thinking between two calls of one answer": (
        MESSAGES,
        "compatible/m",
        {
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "A", "signature": "s1"},
                        use("t1"),
                        {"type": "thinking", "thinking": "B", "signature": "s2"},
                        use("t2"),
                    ],
                },
                outcome("t1", "t2"),
            ],
            "tools": [TOOL],
        },
        {"messages.1.tool_calls": [called("t1"), called("t2")], "messages.2.role": "tool", "messages.3.role": "tool"},
    ),
    "R1 a result that comes after the user's interruption": (
        CHAT,
        "anthropic/claude-sonnet-4-6",
        {
            "messages": [HI, turn("a"), HI, {"role": "tool", "tool_call_id": "a", "content": "late"}],
            "tools": [FUNCTION],
        },
        {"messages.2.content.0.type": "tool_result", "messages.2.content.1.text": "hi"},
    ),
    "R1 a call without a result": (
        RESPONSES,
        "anthropic/claude-sonnet-4-6",
        {
            "input": [HI, {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}, HI],
            "tools": [{"type": "function", "name": "f", "parameters": NO_PARAMETERS}],
        },
        {"messages.2.content.0.content": INTERRUPTED, "messages.2.content.0.is_error": True},
    ),
    "R1 a result without a call": (
        AGUI,
        "compatible/m",
        agui(HI, {"role": "tool", "toolCallId": "x", "content": "R"}, HI),
        {"messages.1": {"role": "user", "content": [{"type": "text", "text": ORPHAN}, {"type": "text", "text": "R"}]}},
    ),
    "R1 a call of a custom tool keeps its result": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "c", "input": "text"}}],
                },
                {"role": "tool", "tool_call_id": "a", "content": "r"},
            ]
        },
        {"messages.1.content.0.input": {"input": "text"}, "messages.2.content.0.tool_use_id": "a"},
    ),
    # R2: the target's vocabulary
    "R2 ids that a client did not give, to Mistral": (
        OLLAMA,
        "mistral/devstral",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
                {"role": "tool", "tool_name": "f", "content": "r"},
            ],
            "tools": [FUNCTION],
        },
        {"messages.1.tool_calls.0.id": lambda id_: len(id_) == 9 and id_.isalnum()},
    ),
    "R2 ids of another vendor, to Anthropic from its own client": (
        MESSAGES,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [HI, {"role": "assistant", "content": [use("functions.f:0")]}, outcome("functions.f:0")],
            "tools": [TOOL],
        },
        {
            "messages.1.content.0.id": lambda id_: id_.isalnum(),
            "messages.2.content.0.tool_use_id": lambda id_: id_.isalnum(),
        },
    ),
    "R2 a seed for Mistral": (
        OLLAMA,
        "mistral/devstral",
        {"messages": [HI], "options": {"seed": 7}},
        {"random_seed": 7, "seed": None},
    ),
    "R2 the penalty of llama.cpp": (
        OLLAMA,
        "llama/qwen3",
        {"messages": [HI], "options": {"repeat_penalty": 1.3}},
        {"repeat_penalty": 1.3, "repetition_penalty": None},
    ),
    "R2 a media type that is not registered": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}}]}
            ]
        },
        {"messages.0.content.0.source.media_type": "image/jpeg"},
    ),
    "R2 a schema with open objects and bounds": (
        OLLAMA,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [HI],
            "format": {
                "type": "object",
                "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"type": "object", "properties": {}}},
            },
        },
        {
            "output_config.format.schema.additionalProperties": False,
            "output_config.format.schema.properties.b.additionalProperties": False,
            "output_config.format.schema.properties.a": {"type": "integer", "description": "minimum: 1"},
        },
    ),
    "R2 a PDF without a name": (
        MESSAGES,
        "openai/gpt-5",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                        }
                    ],
                }
            ]
        },
        {"messages.0.content.0.file.filename": "document.pdf"},
    ),
    "R2 an empty answer, to Moonshot": (
        OLLAMA,
        "moonshot/kimi-k2",
        {"messages": [HI, {"role": "assistant", "content": ""}, HI]},
        {"messages": [HI, HI]},
    ),
    # R3: what an upstream wants back
    "R3 reasoning that DeepSeek wants back": (
        MESSAGES,
        "deepseek/deepseek-reasoner",
        {
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "I must", "signature": ""}, use("t1")],
                },
                outcome("t1"),
            ],
            "tools": [TOOL],
        },
        {"messages.1.reasoning_content": "I must"},
    ),
    "R3 thinking with a budget, whose thoughts are another vendor's": (
        MESSAGES,
        "anthropic/claude-sonnet-4-5",
        {
            "max_tokens": 4000,
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "messages": [
                HI,
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": ""}, use("t1")]},
                outcome("t1"),
            ],
            "tools": [TOOL],
        },
        {"thinking": None, "messages.1.content": [use("t1")]},
    ),
    # R4: settings by meaning
    "R4 think false, to vLLM": (
        OLLAMA,
        "vllm/qwen3",
        {"messages": [HI], "think": False},
        {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}},
    ),
    "R4 thinking disabled, to Ollama": (
        MESSAGES,
        "ollama/qwen3",
        {"messages": [HI], "thinking": {"type": "disabled"}},
        {"reasoning_effort": "none"},
    ),
    "R4 an effort without thinking": (
        MESSAGES,
        "openai/gpt-5",
        {"messages": [HI], "output_config": {"effort": "low"}},
        {"reasoning_effort": "low"},
    ),
    "R4 a list of allowed tools": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [HI],
            "tools": [FUNCTION, {"type": "function", "function": {"name": "g"}}],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        },
        {"tools": lambda tools: [tool["name"] for tool in tools] == ["f"], "tool_choice.type": "any"},
    ),
    # R5: one rule for all contracts
    "R5 system text of two sources": (
        AGUI,
        "compatible/m",
        agui({"role": "system", "content": "S"}, HI, context=[{"description": "p", "value": "v"}]),
        {"messages.0.role": "system", "messages.1.role": "user"},
    ),
    "R5 parts of the system text": (
        CHAT,
        "anthropic/claude-sonnet-4-6",
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
                HI,
            ]
        },
        {"system": "One.\n\nTwo."},
    ),
    "R5 later system text, to a model that takes none": (
        RESPONSES,
        "compatible/m",
        {"instructions": "I", "input": [HI, {"role": "developer", "content": "D2"}, HI]},
        {"messages.1": {"role": "user", "content": "hi\n\n<system-reminder>\nD2\n</system-reminder>\n\nhi"}},
    ),
    "R5 later system text, to a model that takes it": (
        CHAT,
        "anthropic/claude-opus-4-8",
        {"messages": [HI, {"role": "assistant", "content": "x"}, {"role": "system", "content": "French"}, HI]},
        {"messages.2.role": "user", "messages.3": {"role": "system", "content": "French"}},
    ),
    "R5 strict tools": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [HI],
            "tools": [{"type": "function", "function": {"name": "k", "strict": True, "parameters": NO_PARAMETERS}}],
        },
        {"tools.0.strict": True},
    ),
    "R5 a key for the prompt cache": (
        RESPONSES,
        "openai/gpt-5",
        {"input": "q", "prompt_cache_key": "K"},
        {"prompt_cache_key": "K"},
    ),
    "R5 who asks": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {"messages": [HI], "safety_identifier": "sid"},
        {"metadata": {"user_id": "sid"}},
    ),
    "R5 marks for the prompt cache": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [
                {
                    "role": "system",
                    "content": [{"type": "text", "text": "S", "cache_control": MARK}, {"type": "text", "text": "now"}],
                },
                {"role": "user", "content": "hi", "cache_control": MARK},
            ],
            "tools": [FUNCTION | {"cache_control": MARK}],
        },
        {
            "system": [{"type": "text", "text": "S", "cache_control": MARK}, {"type": "text", "text": "now"}],
            "messages.0.content.0.cache_control": MARK,
            "tools.0.cache_control": MARK,
        },
    ),
    "R5 more marks than the target takes": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "messages": [
                {"role": "system", "content": "S", "cache_control": MARK},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": str(n), "cache_control": MARK} for n in range(5)],
                },
            ]
        },
        {
            "system.0.cache_control": MARK,
            "messages.0.content": lambda blocks: (
                ["cache_control" in one for one in blocks] == [False, False, *[True] * 3]
            ),
        },
    ),
    "R5 marks of Claude Code, to OpenRouter": (
        MESSAGES,
        "openrouter/anthropic/claude-sonnet-4.5",
        {
            "system": [{"type": "text", "text": "S", "cache_control": MARK}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": MARK}]}],
        },
        {
            "messages.0.content": [{"type": "text", "text": "S", "cache_control": MARK}],
            "messages.1.content.0.cache_control": MARK,
        },
    ),
    "R5 marks of Claude Code, to a server that takes none": (
        MESSAGES,
        "compatible/m",
        {
            "system": [{"type": "text", "text": "S", "cache_control": MARK}, {"type": "text", "text": "now"}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": MARK}]}],
        },
        {"messages.0.content": "S\n\nnow", "messages.1.content": "hi"},
    ),
    # R6: what could be carried
    "R6 a reference to a tool": (
        MESSAGES,
        "compatible/m",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [use("t1", "ToolSearch")]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t1",
                            "content": [{"type": "tool_reference", "tool_name": "f"}],
                        }
                    ],
                },
            ],
            "tools": [TOOL],
        },
        {"messages.2.content": "[tool: f]"},
    ),
    "R6 the context of a document": (
        MESSAGES,
        "compatible/m",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "title": "T",
                            "context": "CTX",
                            "source": {"type": "text", "media_type": "text/plain", "data": "DATA"},
                        }
                    ],
                }
            ]
        },
        {"messages.0.content": "CTX\n\nT\n\nDATA"},
    ),
    "R6 a refusal in the history": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {"messages": [HI, {"role": "assistant", "content": None, "refusal": "I cannot"}, HI]},
        {"messages.1": {"role": "assistant", "content": "I cannot"}},
    ),
    "R6 an image that was made": (
        RESPONSES,
        "compatible/m",
        {"input": [HI, {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "AAAA"}, HI]},
        {"messages.1.content.0.image_url.url": "data:image/png;base64,AAAA"},
    ),
    "R6 Anthropic's messages in a chat": (
        CHAT,
        "anthropic/claude-sonnet-4-5",
        {
            "system": "S",
            "messages": [
                {"role": "user", "content": [SHOWN]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, use("t1")]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [SHOWN]}]},
            ],
            "tools": [TOOL],
            "tool_choice": {"type": "tool", "name": "f"},
        },
        {
            "system": "S",
            "messages.0.content": [SHOWN],
            "messages.1.content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, use("t1")],
            "messages.2.content": [{"type": "tool_result", "tool_use_id": "t1", "content": [SHOWN]}],
            "tool_choice": {"type": "tool", "name": "f"},
        },
    ),
    "R6 Anthropic's messages in a chat, to a server of its dialect": (
        CHAT,
        "compatible/m",
        {"messages": [{"role": "user", "content": [SHOWN]}], "tool_choice": {"type": "any"}, "tools": [TOOL]},
        {"messages.0.content": [SHOWN], "tool_choice": {"type": "any"}, "tools": [TOOL]},
    ),
    "R6 messages of Chat Completions in a request of Anthropic's": (
        MESSAGES,
        "compatible/m",
        {
            "messages": [HI, turn("a"), {"role": "tool", "tool_call_id": "a", "content": "r"}],
            "tools": [FUNCTION],
            "tool_choice": "required",
        },
        {
            "messages.1": turn("a"),
            "messages.2": {"role": "tool", "tool_call_id": "a", "content": "r"},
            "tools": [FUNCTION],
            "tool_choice": "required",
        },
    ),
    "R6 messages and tools of Chat Completions in Responses": (
        RESPONSES,
        "anthropic/claude-sonnet-4-5",
        {"input": [HI, turn("a"), {"role": "tool", "tool_call_id": "a", "content": "r"}], "tools": [FUNCTION]},
        {"messages.1.content": [use("a")], "messages.2": outcome("a"), "tools.0.name": "f"},
    ),
    "R2 a PDF, to Mistral": (
        MESSAGES,
        "mistral/mistral-small-latest",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                        }
                    ],
                }
            ]
        },
        {"messages.0.content": [{"type": "document_url", "document_url": "data:application/pdf;base64,JVBE"}]},
    ),
    "R5 the mark of a result, to OpenRouter": (
        MESSAGES,
        "openrouter/anthropic/claude-sonnet-4.5",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [use("t1")]},
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r", "cache_control": MARK}],
                },
            ],
            "tools": [TOOL],
        },
        {"messages.2.content": [{"type": "text", "text": "r", "cache_control": MARK}]},
    ),
}


def config(upstream: ScriptedUpstream, target: str) -> str:
    presets = {
        "mistral": "mistral",
        "llama": "llama.cpp",
        "moonshot": "moonshot",
        "deepseek": "deepseek",
        "vllm": "vllm",
        "gemini": "gemini",
        "openrouter": "openrouter",
    }
    rows = {
        name: {"kind": "openai-compatible", "preset": preset}
        for name, preset in (presets | {"ollama": "ollama"}).items()
    }
    rows |= {"compatible": {"kind": "openai-compatible"}, "openai": {"kind": "openai"}}
    backends = {name: row | {"base_url": upstream.url, "api_key": "sk-test"} for name, row in rows.items()}
    backends["anthropic"] = {"kind": "anthropic", "base_url": upstream.origin, "api_key": "sk-test"}
    name = target.partition("/")[0]
    return json.dumps({"backends": {name: backends[name]}, "routes": [{"name": "default", "to": target}]})


def reply(seen: Seen) -> Any:
    wire = AnthropicWire() if "/messages" in seen.path else OpenAIWire()
    return answer(wire, ["ok"]) if seen.json().get("stream") else wire.whole("ok")


async def sent(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, target: str, body: Any
) -> tuple[Any, Any]:
    upstream.decide(reply)
    proxy = await start_proxy(config(upstream, target))
    if path == MESSAGES:
        body = {"max_tokens": 100} | body
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {"model": "any", "stream": False} | body)
        head = await client.read_head()
        answered = await client.read_body()
    assert head.status == 200, answered
    (seen,) = await upstream.received()
    return head, seen.json()


@pytest.mark.parametrize("case", CASES)
async def test_R1_R2_R3_R4_R5_R6_what_the_target_gets(
    start_proxy: StartProxy, upstream: ScriptedUpstream, case: str
) -> None:
    path, target, body, wanted = CASES[case]
    _, got = await sent(start_proxy, upstream, path, target, body)
    for place, value in wanted.items():
        if value is None:
            assert place not in got, place
        elif callable(value):
            assert value(at(got, place)), place
        else:
            assert at(got, place) == value, place


async def test_R4_a_stop_sequence_that_is_left_out_is_announced(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    asked = {"messages": [HI], "stop": ["\n\n", "END"]}
    head, got = await sent(start_proxy, upstream, CHAT, "anthropic/claude-sonnet-4-5", asked)
    assert got["stop_sequences"] == ["END"]
    assert "stop" in head["x-chat-notice"]


async def test_R4_a_choice_of_a_tool_that_is_left_out_is_refused(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    body = {
        "model": "any",
        "max_tokens": 100,
        "messages": [HI],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}, TOOL],
        "tool_choice": {"type": "tool", "name": "web_search"},
    }
    proxy = await start_proxy(config(upstream, "compatible/m"))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(MESSAGES, body)
        assert (await client.read_head()).status == 400


@pytest.mark.parametrize(
    ("path", "target", "name"),
    [(AGUI, "anthropic/claude-sonnet-4-6", "page.navigate"), (MESSAGES, "openai/gpt-5", LONG)],
)
async def test_R2_a_tool_is_called_by_the_name_that_its_client_gave(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, target: str, name: str
) -> None:
    asked: list[str] = []

    def call_it(seen: Seen) -> Any:
        tool = seen.json()["tools"][0]
        asked.append(tool.get("name") or tool["function"]["name"])
        if "/messages" in seen.path:
            begun = AnthropicWire.event("content_block_start", index=0, content_block=use("t1", asked[-1]))
            return [*AnthropicWire.opened(), begun, *AnthropicWire().end("tool_use")]
        call = {"index": 0, "id": "t1", "type": "function", "function": {"name": asked[-1], "arguments": "{}"}}
        chunk = Send(event(openai_chunk({"tool_calls": [call]})))
        return [Send(sse_head()), chunk, *OpenAIWire().end("tool_calls")]

    upstream.decide(call_it)
    proxy = await start_proxy(config(upstream, target))
    tools = [{"name": name, "description": "d", "parameters": NO_PARAMETERS, "input_schema": NO_PARAMETERS}]
    body = (
        agui(HI, tools=tools) if path == AGUI else {"max_tokens": 9, "messages": [HI], "tools": tools, "stream": True}
    )
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {"model": "any"} | body)
        await client.read_head()
        answered = await client.read_body()
    assert asked[0] != name
    assert len(asked[0]) <= 64
    assert f'"{name}"'.encode() in answered
    assert asked[0].encode() not in answered


@pytest.mark.parametrize(
    "path", [MESSAGES, RESPONSES, "/ai-sdk/chat", AGUI], ids=["anthropic", "responses", "ai-sdk", "ag-ui"]
)
async def test_R3_gemini_gets_its_signature_back_and_nobody_else_does(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    call = {"index": 0, "id": "g1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    call["extra_content"] = {"google": {"thought_signature": "SIG=="}}
    chunk = Send(event(openai_chunk({"tool_calls": [call]})))
    upstream.decide(lambda seen: [Send(sse_head()), chunk, *OpenAIWire().end("tool_calls")])
    proxy = await start_proxy(config(upstream, "gemini/gemini-3-pro-preview"))
    first = TURNS[path]([])
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, first)
        await client.read_head()
        answered = (await client.read_body()).decode()
    assert "gemini:SIG==" in answered
    upstream.requests.clear()
    _, got = await sent(start_proxy, upstream, path, "gemini/gemini-3-pro-preview", TURNS[path](["gemini:SIG=="]))
    assert got["messages"][1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "SIG=="}}
    upstream.requests.clear()
    _, got = await sent(start_proxy, upstream, path, "gemini/gemini-3-pro-preview", TURNS[path](["another's"]))
    (seal,) = got["messages"][1]["tool_calls"][0]["extra_content"]["google"].values()
    assert seal == "skip_thought_signature_validator"
    for target in ("anthropic/claude-sonnet-4-5", "compatible/m"):
        upstream.requests.clear()
        _, got = await sent(start_proxy, upstream, path, target, TURNS[path](["gemini:SIG=="]))
        assert "SIG==" not in json.dumps(got)


async def test_R2_a_row_says_what_its_server_takes(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    quirks = {
        "call_ids": {"characters": "0123456789", "longest": 12},
        "system": "anywhere",
        "parameters": {"seed": "s"},
    }
    row = {"kind": "openai-compatible", "base_url": upstream.url, "quirks": quirks}
    upstream.decide(reply)
    proxy = await start_proxy(json.dumps({"backends": {"own": row}, "routes": [{"name": "all", "to": "own/m"}]}))
    body = {"messages": [HI, turn("call_1"), {"role": "system", "content": "S"}], "options": {"seed": 3}}
    body["messages"][1] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
    }
    async with await RawClient.connect(proxy.port) as client:
        await client.post(OLLAMA, {"model": "m", "stream": False} | body)
        assert (await client.read_head()).status == 200
        await client.read_body()
    (seen,) = await upstream.received()
    got = seen.json()
    assert got["messages"][1]["tool_calls"][0]["id"].isdigit()
    assert got["messages"][3] == {"role": "system", "content": "S"}
    assert got["s"] == 3
