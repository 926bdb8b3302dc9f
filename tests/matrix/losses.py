"""What a request can say in each contract, beside the features of the matrix, and what becomes of it at each vendor.

Each thing is a change of a small body. Its verdict comes from two runs, with it and without: another body means that
it is sent, another notice that its loss is announced, an error that it is refused. Nothing of these is a silent loss.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from proxy.errors import BadRequest, Unsupported
from tests.matrix.table import ANNOUNCED, CARRIED, LEFT_OUT, REFUSED, UNSAID
from tests.matrix.vendors import VENDORS, Asker

Body = dict[str, Any]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: Body = {"name": "weather", "description": "d", "parameters": SCHEMA}
TOOL: Body = {"type": "function", "function": FUNCTION}
MARK = {"cache_control": {"type": "ephemeral"}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def _user(content: Any, **more: Any) -> Body:
    return {"messages": [{"role": "user", "content": content, **more}]}


def _tooled(**more: Any) -> Body:
    return {"tools": [TOOL], **more}


_SETTINGS: Mapping[str, Body] = {
    "`temperature`": {"temperature": 0.5},
    "`top_p`": {"top_p": 0.5},
    "`top_k`": {"top_k": 5},
    "`min_p`": {"min_p": 0.1},
    "`max_tokens`": {"max_tokens": 77},
    "`stop`": {"stop": ["END"]},
    "`seed`": {"seed": 7},
    "`presence_penalty`": {"presence_penalty": 0.5},
    "`frequency_penalty`": {"frequency_penalty": 0.5},
    "`repetition_penalty`": {"repetition_penalty": 1.2},
    "`logit_bias`": {"logit_bias": {"50256": -100}},
    "`logprobs`": {"logprobs": True},
    "`n`": {"n": 2},
    "reasoning effort": {"reasoning_effort": "low"},
    "not to think": {"reasoning_effort": "none"},
    "verbosity": {"verbosity": "low"},
    "service tier": {"service_tier": "flex"},
    "JSON Schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
    "JSON, no schema": {"response_format": {"type": "json_object"}},
    "who asks": {"user": "ada"},
    "cache key": {"prompt_cache_key": "k"},
    "cache retention": {"prompt_cache_retention": "24h"},
    "predicted output": {"prediction": {"type": "content", "content": "a"}},
    "spoken answer": {"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "wav"}},
    "to be stored": {"store": True},
}
"""Under OpenAI's names, which all but three contracts read."""

_OF_TOOLS: Mapping[str, Body] = {
    "tools": _tooled(),
    "`strict`": {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]},
    "`tool_choice`": _tooled(tool_choice="required"),
    "one call at a time": _tooled(parallel_tool_calls=False),
    "tool of the upstream": {"tools": [{"type": "web_search"}]},
}

_PARTS: Mapping[str, Body] = {
    "speaker's name": _user("hi", name="ada"),
    "cache mark": _user([{"type": "text", "text": "hi", **MARK}]),
    "image, how closely": _user(
        [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}]
    ),
    "sound": _user([{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}]),
    "file": _user([{"type": "file", "file": {"filename": "n.pdf", "file_data": "data:application/pdf;base64,aGk="}}]),
    "unknown part": _user([{"type": "text", "text": "hi"}, {"type": "hologram", "hologram": "x"}]),
}

_OPENAI: Mapping[str, Body] = {
    **_SETTINGS,
    **_OF_TOOLS,
    **_PARTS,
    "search": {"web_search_options": {"search_context_size": "low"}},
    "custom tool": {"tools": [{"type": "custom", "custom": {"name": "patch"}}]},
    "allowed tools": _tooled(
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
        }
    ),
    "`safety_identifier`": {"safety_identifier": "ada"},
    "a field of tomorrow": {"brand_new": 1},
}

_RESPONSES: Mapping[str, Body] = {
    "`temperature`": {"temperature": 0.5},
    "`top_p`": {"top_p": 0.5},
    "`max_tokens`": {"max_output_tokens": 77},
    "`logprobs`": {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    "reasoning effort": {"reasoning": {"effort": "low"}},
    "not to think": {"reasoning": {"effort": "none"}},
    "verbosity": {"text": {"verbosity": "low"}},
    "service tier": {"service_tier": "flex"},
    "JSON Schema": {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
    "JSON, no schema": {"text": {"format": {"type": "json_object"}}},
    "who asks": {"user": "ada"},
    "`safety_identifier`": {"safety_identifier": "ada"},
    "cache key": {"prompt_cache_key": "k"},
    "cache retention": {"prompt_cache_retention": "24h"},
    "truncation": {"truncation": "auto"},
    "most calls": {"max_tool_calls": 3},
    "tools": {"tools": [{"type": "function", **FUNCTION}]},
    "`strict`": {"tools": [{"type": "function", **FUNCTION, "strict": True}]},
    "`tool_choice`": {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"},
    "one call at a time": {"tools": [{"type": "function", **FUNCTION}], "parallel_tool_calls": False},
    "tool of the upstream": {"tools": [{"type": "web_search"}]},
    "custom tool": {"tools": [{"type": "custom", "name": "patch"}]},
    "image, how closely": {
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"}],
            }
        ]
    },
    "a field of tomorrow": {"brand_new": 1},
}

_ANTHROPIC: Mapping[str, Body] = {
    "`temperature`": {"temperature": 0.5},
    "`top_p`": {"top_p": 0.5},
    "`top_k`": {"top_k": 5},
    "`max_tokens`": {"max_tokens": 77},
    "`stop`": {"stop_sequences": ["END"]},
    "reasoning effort": {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2048}},
    "not to think": {"thinking": {"type": "disabled"}},
    "service tier": {"service_tier": "standard_only"},
    "JSON Schema": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "who asks": {"metadata": {"user_id": "ada"}},
    "tools": {"tools": [{"name": "weather", "input_schema": SCHEMA}]},
    "`strict`": {"tools": [{"name": "weather", "input_schema": SCHEMA, "strict": True}]},
    "examples of a tool": {"tools": [{"name": "weather", "input_schema": SCHEMA, "input_examples": [{"city": "a"}]}]},
    "`tool_choice`": {"tools": [{"name": "weather", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
    "one call at a time": {
        "tools": [{"name": "weather", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    "tool of the upstream": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "MCP servers": {"mcp_servers": [{"type": "url", "url": "https://a.test", "name": "a"}]},
    "cache mark of the whole": MARK,
    "container": {"container": {"id": "c"}},
    "context management": {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    "cache mark": _user([{"type": "text", "text": "hi", **MARK}]),
    "context of a document": _user(
        [{"type": "document", "context": "c", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}}]
    ),
    "citations": _user(
        [
            {
                "type": "document",
                "citations": {"enabled": True},
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
            }
        ]
    ),
    "unknown part": _user([{"type": "text", "text": "hi"}, {"type": "hologram", "hologram": "x"}]),
    "a field of tomorrow": {"brand_new": 1},
}

_OLLAMA: Mapping[str, Body] = {
    **{
        f"`{ours}`": {"options": {theirs: value}}
        for ours, theirs, value in (
            ("temperature", "temperature", 0.5),
            ("top_p", "top_p", 0.5),
            ("top_k", "top_k", 5),
            ("min_p", "min_p", 0.1),
            ("max_tokens", "num_predict", 77),
            ("stop", "stop", ["END"]),
            ("seed", "seed", 7),
            ("presence_penalty", "presence_penalty", 0.5),
            ("frequency_penalty", "frequency_penalty", 0.5),
            ("repetition_penalty", "repeat_penalty", 1.2),
            ("logit_bias", "logit_bias", {"5": 1}),
            ("mirostat", "mirostat", 1),
            ("num_ctx", "num_ctx", 4096),
            ("tfs_z", "tfs_z", 0.5),
            ("typical_p", "typical_p", 0.5),
        )
    },
    "`logprobs`": {"logprobs": True},
    "reasoning effort": {"think": "low"},
    "not to think": {"think": False},
    "JSON Schema": {"format": SCHEMA},
    "JSON, no schema": {"format": "json"},
    "tools": {"tools": [TOOL]},
    "tool of the upstream": {"tools": [{"type": "web_search"}]},
    "a field of tomorrow": {"brand_new": 1},
}

_HI = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]

THINGS: Mapping[str, tuple[Body, Mapping[str, Body]]] = {
    "chat": (_user("hi"), _SETTINGS | _PARTS | {"tool of the upstream": _OF_TOOLS["tool of the upstream"]}),
    "openai": ({"model": "m", **_user("hi")}, _OPENAI),
    "responses": ({"model": "m", "input": "hi"}, _RESPONSES),
    "anthropic": ({"model": "m", "max_tokens": 500, **_user("hi")}, _ANTHROPIC),
    "ollama": ({"model": "m", **_user("hi")}, _OLLAMA),
    "ai-sdk": (
        {"messages": _HI},
        {
            **_SETTINGS,
            "`top_k`, of the app": {"callSettings": {"topK": 5}},
            "tools": {"tools": {"weather": {"parameters": SCHEMA}}},
            "tool of the upstream": _OF_TOOLS["tool of the upstream"],
            "a setting of tomorrow": {"callSettings": {"brandNew": 1}},
        },
    ),
    "ai-text": ({"messages": _HI}, _SETTINGS),
    "ag-ui": (
        {
            "threadId": "t",
            "runId": "r",
            "messages": [{"id": "1", "role": "user", "content": "hi"}],
            "tools": [],
            "context": [],
        },
        {name: {"forwardedProps": body} for name, body in _SETTINGS.items()}
        | {"speaker's name": {"messages": [{"id": "1", "role": "user", "content": "hi", "name": "ada"}]}},
    ),
    "declared": (_user("hi"), _SETTINGS | _OF_TOOLS | _PARTS),
}
"""By contract: its smallest body, and what changes in it for each thing."""

NOTHING_TO_SAY = {"not to think": ("claude", "gpt-4")}
"""What models do anyway, by a part of their name: Claude thinks only where it is asked to, and GPT-4 never does."""

_BESIDE = ("`tool_choice`", "one call at a time", "allowed tools")
"""What is said of tools: it is compared with the same tools alone."""


def verdict(asker: Asker, contract: str, name: str) -> str:
    """The sign for one thing; `LEFT_OUT` is a silent loss. What is sent in part is announced."""
    base, things = THINGS[contract]
    if name not in things:
        return UNSAID
    needed = {"tools": things[name]["tools"]} if name in _BESIDE else {}
    before = asker.written(contract, json.dumps(base | needed).encode())
    try:
        fields, notices = asker.written(contract, json.dumps(base | things[name]).encode())
    except (BadRequest, Unsupported):
        return REFUSED
    if notices != before[1]:
        return ANNOUNCED
    anyway = any(part in asker.model for part in NOTHING_TO_SAY.get(name, ()))
    return CARRIED if fields != before[0] or anyway else LEFT_OUT


def verdicts_of(contract: str) -> dict[str, str]:
    """Signs by thing, one for each of `VENDORS`."""
    return {
        name: "".join(verdict(Asker.of(vendor), contract, name) for vendor in VENDORS) for name in THINGS[contract][1]
    }
