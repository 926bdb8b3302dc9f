"""`return_reasoning: auto` knows models that want their reasoning back also where no preset tells whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.backends.base import Resources, kind
from proxy.backends.returned_reasoning import of_provider
from proxy.request import ChatRequest, Message, Text, ToolCall
from proxy.routing.plan import Target

CALL = Message("assistant", tool_calls=(ToolCall("c1", "f", "{}"),), reasoning="Norway is wet.")
TALK = (Message("user", (Text("hi"),)), CALL, Message("tool", (Text("rain"),), tool_call_id="c1"))
LOCAL = {"base_url": "http://127.0.0.1:1/v1"}


def written(model: str, **row: Any) -> tuple[dict[str, Any], list[str]]:
    """The message with the call as `model` would be sent it, and what the client is told."""
    made = kind("openai-compatible")
    settings = made.settings.model_validate({"kind": "openai-compatible", **row})
    backend = made.build("far", settings, Resources(None))  # type: ignore[arg-type]  # asks nobody
    request = ChatRequest(id="1", contract="ai-sdk", dialect="ai-sdk", messages=TALK)
    fields, notices = backend.written(request, Target("far", model))
    return fields["messages"][1], [notice.message for notice in notices]


@pytest.mark.parametrize(
    "model",
    [
        "deepseek-reasoner",
        "deepseek/deepseek-reasoner",
        "deepseek-ai/DeepSeek-V3.2",
        "moonshotai/Kimi-K2-Thinking",
        "kimi-k2.5",
        "zai-org/GLM-5",
        "MiniMaxAI/MiniMax-M2",
    ],
)
def test_C2_a_known_model_behind_a_plain_row_gets_its_reasoning_back(model: str) -> None:
    assert written(model, **LOCAL)[0]["reasoning_content"] == "Norway is wet."
    assert written(model, **LOCAL)[1] == []
    message, told = written(model, **LOCAL, return_reasoning="never")
    assert "reasoning_content" not in message
    (notice,) = told
    assert "reasoning" in notice


def test_C2_deepseek_behind_openrouter_gets_it_in_the_form_of_openrouter() -> None:
    message, _ = written("deepseek/deepseek-v3.2", preset="openrouter", api_key="k")
    assert message["reasoning"] == "Norway is wet."
    assert "reasoning_content" not in message


@pytest.mark.parametrize("model", ["gpt-4o", "deepseek-chat-v2", "my-deepseek-reasoner-notes/llama-3"])
def test_C2_other_models_do_not(model: str) -> None:
    message, told = written(model, **LOCAL)
    assert "reasoning_content" not in message
    assert told


def test_C2_a_vendor_that_refuses_the_field_is_not_sent_it() -> None:
    """Groq answers "property 'reasoning_content' is unsupported" with a 400."""
    message, _ = written("deepseek-r1-distill-llama-70b", preset="groq", api_key="k")
    assert "reasoning_content" not in message


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("deepseek/deepseek-chat", "reasoning_content"),
        ("hosted_vllm/moonshotai/Kimi-K2-Thinking", "reasoning_content"),
        ("openai/deepseek-reasoner", "reasoning_content"),
        ("openai/gpt-5", None),
        ("hosted_vllm/meta-llama/Llama-4", None),
        ("groq/deepseek-r1-distill-llama-70b", None),
        ("anthropic/claude-sonnet-4-5", "thinking_blocks"),
        ("bedrock/us.anthropic.claude-sonnet-4-5-v1:0", "thinking_blocks"),
        ("bedrock/arn:aws:bedrock:eu-west-1:1:application-inference-profile/x", "thinking_blocks"),
        ("bedrock/us.deepseek.r1-v1:0", None),
        ("vertex_ai/claude-opus-4-1", "thinking_blocks"),
        ("vertex_ai/gemini-3-pro", None),
        ("minimax/MiniMax-M2", "reasoning_details"),
        ("gpt-4o", None),
    ],
)
def test_C2_models_of_litellm_get_it_by_their_name(model: str, form: str | None) -> None:
    found = of_provider(model.partition("/")[0], model)
    assert (found and found.form) == form
