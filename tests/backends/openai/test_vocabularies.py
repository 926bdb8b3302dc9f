"""What single vendors are sent, row by row, where it differs from what most servers take."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.backends.base import Resources, kind
from proxy.backends.openai.compatible import PRESETS
from proxy.errors import Unsupported
from proxy.request import Audio, ChatRequest, File, Image, Message, Part, Text, Tool
from proxy.routing.plan import Target

HINTS = frozenset({"top_k", "min_p", "repetition_penalty", "prompt_cache_key", "reasoning_effort"})


def written(preset: str, model: str = "m", **params: Any) -> tuple[dict[str, Any], set[str]]:
    """The settings as the vendor would be sent them, and the names of those that are announced as left out."""
    made = kind("openai-compatible")
    row = {"kind": "openai-compatible", "preset": preset, "api_key": "k"}
    backend = made.build("far", made.settings.model_validate(row), Resources(None))  # type: ignore[arg-type]  # asks nobody
    messages = (Message("user", (Text("hi"),)),)
    hints = HINTS & params.keys()
    request = ChatRequest(id="1", contract="ollama", dialect="ollama", messages=messages, params=params, hints=hints)
    fields, notices = backend.written(request, Target("far", model))
    plain = {"model", "messages", "stream", "stream_options"}
    return {name: value for name, value in fields.items() if name not in plain}, {one.param for one in notices}


def shown(preset: str, model: str, part: Part) -> Any:
    """A user's message with a part as the vendor would be sent it."""
    made = kind("openai-compatible")
    row = {"kind": "openai-compatible", "preset": preset, "api_key": "k"}
    backend = made.build("far", made.settings.model_validate(row), Resources(None))  # type: ignore[arg-type]  # asks nobody
    request = ChatRequest(id="1", contract="chat", dialect="chat", messages=(Message("user", (Text("see"), part)),))
    return backend.written(request, Target("far", model))[0]["messages"][0]["content"]


EFFORTS = {
    ("cerebras", "zai-glm-4.7", "max"): {"reasoning_effort": "high"},
    ("deepseek", "deepseek-v4-pro", "minimal"): {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
    ("deepseek", "deepseek-v4-pro", "medium"): {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
    ("deepseek", "deepseek-v4-pro", "xhigh"): {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
    ("gemini", "gemini-3-pro-preview", "xhigh"): {"reasoning_effort": "high"},
    ("gemini", "gemini-3.8-flash", "minimal"): {"reasoning_effort": "low"},
    ("groq", "openai/gpt-oss-120b", "minimal"): {"reasoning_effort": "low"},
    ("groq", "qwen/qwen3-32b", "high"): {"reasoning_effort": "default"},
    ("llama.cpp", "m", "low"): {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}},
    ("minimax", "MiniMax-M3", "low"): {"thinking": {"type": "adaptive"}},
    ("mistral", "mistral-medium-3-5", "low"): {"reasoning_effort": "high"},
    ("moonshot", "kimi-k2.6", "low"): {"thinking": {"type": "enabled"}},
    ("moonshot", "kimi-k3", "medium"): {"reasoning_effort": "high"},
    ("ollama", "qwen3", "xhigh"): {"reasoning_effort": "high"},
    ("openrouter", "m", "xhigh"): {"reasoning": {"effort": "xhigh"}},
    ("qwen", "qwen3-max", "low"): {"enable_thinking": True},
    ("together", "m", "low"): {"reasoning": {"enabled": True}},
    ("xai", "grok-4.3", "low"): {"reasoning_effort": "low"},
    ("xai", "grok-4.5", "xhigh"): {"reasoning_effort": "high"},
    ("xai", "grok-4.6", "xhigh"): {"reasoning_effort": "xhigh"},
    ("zai", "glm-4.6", "low"): {"thinking": {"type": "enabled"}},
    ("zai", "glm-5.2", "low"): {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
    ("zai", "glm-5.2", "xhigh"): {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
    ("zai", "glm-5.3", "low"): {"reasoning_effort": "low"},
}


@pytest.mark.parametrize("case", EFFORTS, ids="-".join)
def test_R4_an_effort_is_said_in_the_vendor_s_words(case: tuple[str, str, str]) -> None:
    preset, model, effort = case
    assert written(preset, model, reasoning_effort=effort) == (EFFORTS[case], set())


@pytest.mark.parametrize(
    ("preset", "model"),
    [("xai", "grok-4.20"), ("mistral", "codestral"), ("groq", "llama-3.3"), ("minimax", "MiniMax-M2")],
)
def test_R4_an_effort_that_a_model_refuses_is_announced_as_left_out(preset: str, model: str) -> None:
    assert written(preset, model, reasoning_effort="low") == ({}, {"reasoning_effort"})


def at_openai(model: str, *tools: Tool, azure: bool = False, **params: Any) -> tuple[dict[str, Any], set[str]]:
    made = kind("openai")
    place = {"endpoint": "https://example.openai.azure.com", "api_version": "2025-04-01-preview"}
    row = {"kind": "openai", "api_key": "k"} | ({"azure": place} if azure else {})
    backend = made.build("far", made.settings.model_validate(row), Resources(None))  # type: ignore[arg-type]  # asks nobody
    messages = (Message("user", (Text("hi"),)),)
    request = ChatRequest(id="1", contract="c", dialect="c", messages=messages, params=params, tools=tools)
    fields, notices = backend.written(request, Target("far", model))
    plain = {"model", "messages", "stream", "stream_options", "tools"}
    return {name: value for name, value in fields.items() if name not in plain}, {one.param for one in notices}


SET = {"temperature": 0.5, "stop": ["a"]}


@pytest.mark.parametrize(
    ("model", "asked", "sent", "announced"),
    [
        ("gpt-4o", SET, SET, set()),
        ("gpt-5-chat-latest", SET, SET, set()),
        ("gpt-5", SET, {}, {"temperature", "stop"}),
        ("o3", {"temperature": 1}, {}, set()),
        ("gpt-5.2", SET, {"temperature": 0.5}, {"stop"}),
        ("gpt-5.2", {"temperature": 0.5, "reasoning_effort": "low"}, {"reasoning_effort": "low"}, {"temperature"}),
        ("gpt-4o", {"reasoning_effort": "low"}, {}, {"reasoning_effort"}),
        ("gpt-5", {"reasoning_effort": "xhigh", "max_tokens": 9}, {"reasoning_effort": "high", "max_completion_tokens": 9}, set()),
    ],
)  # fmt: skip
def test_R2_settings_that_a_model_of_openai_refuses_are_left_out(
    model: str, asked: dict[str, Any], sent: dict[str, Any], announced: set[str]
) -> None:
    assert at_openai(model, **asked) == (sent, announced)


def test_R4_models_that_cannot_think_beside_tools_are_told_not_to() -> None:
    assert at_openai("gpt-5.6-luna", Tool("f"), temperature=0.5) == (
        {"reasoning_effort": "none", "temperature": 0.5},
        {"reasoning_effort"},
    )
    assert at_openai("gpt-5.6-luna", reasoning_effort="low") == ({"reasoning_effort": "low"}, set())


def test_R2_azure_gets_the_newer_name_of_the_limit_but_for_older_models() -> None:
    assert at_openai("my-deployment", azure=True, max_tokens=9) == ({"max_completion_tokens": 9}, set())
    assert at_openai("gpt-35-turbo", azure=True, max_tokens=9) == ({"max_tokens": 9}, set())


NO_THINKING = {
    "deepseek": {"thinking": {"type": "disabled"}},
    "fireworks": {"reasoning_effort": "none"},
    "minimax": {"thinking": {"type": "disabled"}},
    "qwen": {"enable_thinking": False},
    "together": {"reasoning": {"enabled": False}},
}


@pytest.mark.parametrize("preset", NO_THINKING)
def test_R4_not_to_think_is_said_in_the_vendor_s_words(preset: str) -> None:
    assert written(preset, reasoning_effort="none") == (NO_THINKING[preset], set())


THINKS_ANYWAY = [
    ("cerebras", "gpt-oss-120b", "low"),
    ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "low"),
    ("gemini", "gemini-2.5-pro", "minimal"),
    ("gemini", "gemini-3-pro-preview", "minimal"),
    ("minimax", "MiniMax-M2.5", None),
    ("moonshot", "kimi-k3", "low"),
    ("xai", "grok-4.5", "low"),
    ("zai", "glm-5.3", "low"),
]


@pytest.mark.parametrize(("preset", "model", "least"), THINKS_ANYWAY)
def test_R4_not_to_think_is_announced_where_a_model_cannot_be_told(preset: str, model: str, least: str | None) -> None:
    sent = {"reasoning_effort": least} if least else {}
    assert written(preset, model, reasoning_effort="none") == (sent, {"reasoning_effort"})


@pytest.mark.parametrize(
    ("preset", "model"), [("cerebras", "zai-glm-4.7"), ("gemini", "gemini-2.5-flash"), ("xai", "grok-4.3")]
)
def test_R4_not_to_think_is_an_effort_of_some_models(preset: str, model: str) -> None:
    assert written(preset, model, reasoning_effort="none") == ({"reasoning_effort": "none"}, set())


SAMPLING = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2}
LEFT_OUT = {
    "fireworks": set(),
    "lmstudio": {"min_p"},
    "qwen": {"min_p"},
    "together": {"min_p"},
    "minimax": {"top_k", "min_p", "repetition_penalty"},
}


@pytest.mark.parametrize("preset", LEFT_OUT)
def test_R4_sampling_settings_go_where_they_are_known(preset: str) -> None:
    fields, told = written(preset, **SAMPLING)
    assert told == LEFT_OUT[preset]
    names = {"repetition_penalty": "repeat_penalty"} if preset == "lmstudio" else {}
    sent = {names.get(name, name): value for name, value in SAMPLING.items() if name not in told}
    assert fields == sent


def test_R4_what_minimax_ignores_is_announced() -> None:
    fields, told = written("minimax", presence_penalty=1.0, frequency_penalty=1.0, logit_bias={"1": 1}, top_p=0.5)
    assert fields == {"top_p": 0.5}
    assert told == {"presence_penalty", "frequency_penalty", "logit_bias"}


def test_R4_what_deepseek_ignores_is_announced() -> None:
    fields, told = written("deepseek", presence_penalty=1.0, frequency_penalty=1.0, top_p=0.5)
    assert fields == {"top_p": 0.5}
    assert told == {"presence_penalty", "frequency_penalty"}


@pytest.mark.parametrize("preset", ["cerebras", "minimax"])
def test_R4_a_temperature_up_to_2_goes_to_vendors_that_take_it(preset: str) -> None:
    asked = {"temperature": 1.8, "service_tier": "flex"}
    assert written(preset, **asked) == (asked, set())


def test_R4_a_temperature_above_1_is_lowered_for_models_that_refuse_it() -> None:
    assert written("minimax", "MiniMax-M2.7", temperature=1.8) == ({"temperature": 1}, {"temperature"})
    assert written("minimax", "MiniMax-M3", temperature=0) == ({"temperature": 0.01}, {"temperature"})


PDF = File(data="JVBE", name="a.pdf", media_type="application/pdf")
NOTES = File(data="aGk=", name="n.md", media_type="text/markdown; charset=utf-8")


@pytest.mark.parametrize(
    ("preset", "model", "part", "sent"),
    [
        (
            "mistral",
            "mistral-small-latest",
            PDF,
            {"type": "document_url", "document_url": "data:application/pdf;base64,JVBE", "document_name": "a.pdf"},
        ),
        (
            "mistral",
            "mistral-small-latest",
            File(url="https://a.test/d.pdf"),
            {"type": "document_url", "document_url": "https://a.test/d.pdf"},
        ),
        ("mistral", "voxtral-small-latest", Audio("SUQz", "mp3"), {"type": "input_audio", "input_audio": "SUQz"}),
        ("mistral", "mistral-small-latest", NOTES, {"type": "text", "text": "n.md\n\nhi"}),
        ("deepseek", "deepseek-v4-pro", NOTES, {"type": "text", "text": "n.md\n\nhi"}),
        ("gemini", "gemini-3-pro", Audio("SUQz", "mp3"), {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}}),
    ],
)  # fmt: skip
def test_R2_documents_and_sounds_are_written_as_the_vendor_takes_them(
    preset: str, model: str, part: Part, sent: dict[str, Any]
) -> None:
    assert shown(preset, model, part) == [{"type": "text", "text": "see"}, sent]


@pytest.mark.parametrize(
    ("preset", "model", "part", "what"),
    [
        ("mistral", "mistral-small-latest", Audio("SUQz", "mp3"), "takes no audio"),
        ("mistral", "voxtral-small-latest", Image("data:image/png;base64,AA"), "takes no images"),
        ("mistral", "mistral-small-latest", File(id="file-1"), "takes no files by this id"),
        (
            "mistral",
            "mistral-small-latest",
            File(data="AA", media_type="application/zip"),
            "takes no files of type application/zip",
        ),
        ("deepseek", "deepseek-v4-pro", PDF, "takes no files"),
        ("gemini", "gemini-3-pro", Image("data:image/gif;base64,R0lG"), "takes no images of type image/gif"),
    ],
)
def test_R2_what_a_vendor_does_not_take_is_refused(preset: str, model: str, part: Part, what: str) -> None:
    with pytest.raises(Unsupported, match=what):
        shown(preset, model, part)


@pytest.mark.parametrize("preset", ["mistral", "fireworks"])
def test_R5_the_cache_key_goes_where_it_is_known(preset: str) -> None:
    assert written(preset, prompt_cache_key="k") == ({"prompt_cache_key": "k"}, set())
    assert written("groq", prompt_cache_key="k") == ({}, {"prompt_cache_key"})


def test_the_addresses_are_those_of_the_vendors_pages() -> None:
    assert PRESETS["qwen"].base_url == "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
    assert PRESETS["lmstudio"].base_url.endswith(":1234/v1")
