"""What kind litellm knows of a provider's models: what is written for them, and what its client is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.backends.base import Resources
from proxy.backends.litellm.backend import LiteLLMBackend
from proxy.backends.litellm.settings import LiteLLMSettings
from proxy.backends.model_vocabularies import of_provider
from proxy.errors import Unsupported
from proxy.events import Notice
from proxy.request import Audio, ChatRequest, File, Message, Text, Tool, ToolCall
from proxy.routing.plan import Target
from proxy.testing.script import json_reply
from proxy.testing.upstream import ScriptedUpstream
from proxy.transport import HttpTransport
from proxy.wire.conversation import CONTINUE

pytestmark = [
    pytest.mark.xdist_group("litellm"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning"),
]

HI = Message("user", (Text("hi"),))
NOT_TO_THINK = {"reasoning_effort": "none"}


@pytest.fixture
async def backend(upstream: ScriptedUpstream) -> AsyncIterator[LiteLLMBackend]:
    upstream.always(json_reply(400, {"error": {"message": "that is enough"}}))
    transport = HttpTransport()
    row = {"kind": "litellm", "api_key": "sk-none", "api_base": upstream.url}
    backend = LiteLLMBackend("any", LiteLLMSettings.model_validate(row), Resources(transport))
    await backend.open()
    yield backend
    await backend.aclose()
    await transport.aclose()


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(id="1", contract="chat", dialect="chat", messages=messages or (HI,), **fields)


def told(backend: LiteLLMBackend, request: ChatRequest, model: str) -> tuple[dict[str, Any], list[Notice]]:
    """What litellm is given, and the notices of the client."""
    target = Target("any", model)
    translation = backend._translation(request, target)
    given = backend._arguments(translation.request, target)
    return given, [*translation.notices, *backend._omissions(translation.request, given, target)]


async def written(upstream: ScriptedUpstream, backend: LiteLLMBackend, request: ChatRequest, model: str) -> Any:
    """What litellm sends."""
    with pytest.raises(Exception, match="that is enough"):
        async for _ in backend.stream(request, Target("any", model)):
            pass
    return upstream.requests[-1].json()


CLAUDE = [
    "anthropic/claude-opus-4-8",
    "bedrock/us.anthropic.claude-opus-4-8-v1:0",
    "vertex_ai/claude-opus-4-8@20260301",
]


@pytest.mark.parametrize("model", CLAUDE)
async def test_R2_claude_is_claude_behind_every_provider(backend: LiteLLMBackend, model: str) -> None:
    calls = (ToolCall("functions.f:0", "page.navigate", "{}"), ToolCall("x" * 70, "f", "{}"))
    asked = (HI, Message("assistant", (Text(" "),), calls), Message("assistant", (Text("So "),)))
    given, notices = told(backend, ask(*asked, tools=(Tool("page.navigate"),), params={"temperature": 2}), model)
    _, answer, *results, going_on, more = given["messages"]
    assert [one["tool_call_id"] for one in results] == [call["id"] for call in answer["tool_calls"]]
    assert all(call["id"].isalnum() and len(call["id"]) <= 64 for call in answer["tool_calls"])
    assert "." not in given["tools"][0]["function"]["name"]
    assert answer["content"] is None
    assert (going_on["role"], more["content"]) == ("assistant", CONTINUE)
    assert [notice.code for notice in notices][:1] == ["changed_setting"]
    for part in (Audio("AAAA", "wav"), File(id="file-1")):
        with pytest.raises(Unsupported):
            told(backend, ask(Message("user", (part,))), model)


async def test_R2_bedrock_takes_names_of_64_characters_and_no_blank_text(backend: LiteLLMBackend) -> None:
    asked = ask(HI, Message("assistant", (Text(" "),)), HI, tools=(Tool("t" * 75),))
    for model in ("bedrock/amazon.nova-pro-v1:0", CLAUDE[1]):
        given, _ = told(backend, asked, model)
        assert len(given["tools"][0]["function"]["name"]) == 64
        assert [one["role"] for one in given["messages"]] == ["user", "user"]


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("gemini/gemini-3-pro-preview", "minimal"),
        ("vertex_ai/gemini-2.5-pro", "minimal"),
        ("groq/openai/gpt-oss-120b", "low"),
        ("moonshot/kimi-k2-thinking", None),
    ],
)
async def test_R4_a_model_that_always_thinks_is_not_told_to_stop(
    backend: LiteLLMBackend, model: str, least: str | None
) -> None:
    given, notices = told(backend, ask(params=NOT_TO_THINK), model)
    assert given.get("reasoning_effort") == least
    assert [notice.param for notice in notices] == ["reasoning_effort"]


async def test_R4_not_to_think_is_announced_where_litellm_leaves_it_out(backend: LiteLLMBackend) -> None:
    given, notices = told(backend, ask(params=NOT_TO_THINK), "groq/qwen/qwen3-32b")
    assert [notice.param for notice in notices] == ["reasoning_effort"], given


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gemini/gemini-2.5-flash", "max", "high"),
        ("gemini/gemini-3-pro-preview", "xhigh", "high"),
        ("groq/openai/gpt-oss-120b", "minimal", "low"),
        ("openai/gpt-5", "max", "high"),
        ("openai/a-server-s-own", "max", "max"),
    ],
)
async def test_R4_an_effort_becomes_the_nearest_that_the_model_takes(
    backend: LiteLLMBackend, model: str, effort: str, sent: str
) -> None:
    given, notices = told(backend, ask(params={"reasoning_effort": effort}), model)
    assert (given["reasoning_effort"], notices) == (sent, [])


@pytest.mark.parametrize(
    "model", ["gemini/gemini-2.5-flash", "deepseek/deepseek-reasoner", "mistral/mistral-small-latest"]
)
async def test_R4_a_model_that_may_think_is_told_not_to(backend: LiteLLMBackend, model: str) -> None:
    given, notices = told(backend, ask(params=NOT_TO_THINK), model)
    assert (given["reasoning_effort"], notices) == ("none", [])


async def test_R2_a_setting_that_the_provider_refuses_is_left_out_and_announced(backend: LiteLLMBackend) -> None:
    given, notices = told(backend, ask(params={"logit_bias": {"1": 2}, "seed": 7}), "groq/qwen/qwen3-32b")
    assert ("logit_bias" in given, given["seed"]) == (False, 7)
    assert [notice.param for notice in notices] == ["logit_bias"]


async def test_R4_what_litellm_counts_as_supported_and_drops_is_announced(backend: LiteLLMBackend) -> None:
    asked = ask(tools=(Tool("f"), Tool("g")), params={"parallel_tool_calls": False})
    for model in ("gemini/gemini-2.5-flash", "vertex_ai/gemini-2.5-flash", "bedrock/amazon.nova-pro-v1:0"):
        assert [notice.param for notice in told(backend, asked, model)[1]] == ["parallel_tool_calls"]
    bare = ask(params={"response_format": {"type": "json_object"}})
    for model in (*CLAUDE, "bedrock/amazon.nova-pro-v1:0"):
        assert [notice.param for notice in told(backend, bare, model)[1]] == ["response_format"]


async def test_R2_all_stop_sequences_that_a_provider_takes_go_out(
    upstream: ScriptedUpstream, backend: LiteLLMBackend
) -> None:
    body = await written(upstream, backend, ask(params={"stop": [*"abcdef"]}), "gemini/gemini-2.5-flash")
    assert body["generationConfig"]["stop_sequences"] == [*"abcde"]


async def test_R2_an_answer_to_be_continued_is_marked(upstream: ScriptedUpstream, backend: LiteLLMBackend) -> None:
    asked = ask(HI, Message("assistant", (Text("The"),)))
    body = await written(upstream, backend, asked, "mistral/mistral-large-latest")
    assert body["messages"][-1]["prefix"] is True
    body = await written(upstream, backend, asked, "hosted_vllm/qwen3")
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_R2_a_gateway_to_openai_has_openai_s_models() -> None:
    assert of_provider("openai", "openai/gpt-4.1") == of_provider("azure", "azure/gpt-4.1")
    assert not of_provider("openai", "openai/gpt-5.6-luna").effort_with_tools
    assert of_provider("openai", "openai/qwen3") == of_provider("unheard_of", "unheard_of/m")


async def test_R4_claude_thinks_behind_litellm_as_it_does_without(backend: LiteLLMBackend) -> None:
    warm = {"temperature": 0.3, "top_p": 0.5, "reasoning_effort": "high"}
    for model in ("anthropic/claude-sonnet-4-5", "bedrock/anthropic.claude-sonnet-4-5-v1:0"):
        given, notices = told(backend, ask(params=warm | {"max_tokens": 3000}), model)
        assert (given["thinking"], "temperature" in given) == ({"type": "enabled", "budget_tokens": 1500}, False)
        assert [notice.param for notice in notices] == ["temperature", "top_p"]
        given, notices = told(backend, ask(params=warm | {"max_tokens": 500}), model)
        assert ("thinking" in given, "reasoning_effort" in given, given["temperature"]) == (False, False, 0.3)
        assert [notice.param for notice in notices] == ["top_p", "reasoning_effort"]
        demanded = ask(tools=(Tool("f"),), params={"reasoning_effort": "high", "tool_choice": "required"})
        given, notices = told(backend, demanded, model)
        assert ("thinking" in given, "reasoning_effort" in given) == (False, False)
        assert [notice.param for notice in notices] == ["reasoning_effort"]


async def test_R4_a_model_that_never_thinks_needs_no_word_for_it(backend: LiteLLMBackend) -> None:
    given, notices = told(backend, ask(params=NOT_TO_THINK), "openai/gpt-4.1")
    assert ("reasoning_effort" in given, notices) == (False, [])
