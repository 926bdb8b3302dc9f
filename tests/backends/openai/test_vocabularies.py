"""What single vendors are sent, row by row, where it differs from what most servers take."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.backends.base import Resources, kind
from proxy.backends.openai.compatible import PRESETS
from proxy.request import ChatRequest, Message, Text
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


@pytest.mark.parametrize("preset", ["mistral", "fireworks"])
def test_R5_the_cache_key_goes_where_it_is_known(preset: str) -> None:
    assert written(preset, prompt_cache_key="k") == ({"prompt_cache_key": "k"}, set())
    assert written("groq", prompt_cache_key="k") == ({}, {"prompt_cache_key"})


def test_the_addresses_are_those_of_the_vendors_pages() -> None:
    assert PRESETS["qwen"].base_url == "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
    assert PRESETS["lmstudio"].base_url.endswith(":1234/v1")
