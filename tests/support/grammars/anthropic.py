"""Anthropic Messages, as Anthropic takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Body = Mapping[str, Any]

# docs.anthropic.com, API reference of Messages; any other field is a 400: "Extra inputs are not permitted".
_FIELDS = frozenset(
    [
        "model",
        "messages",
        "max_tokens",
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "metadata",
        "mcp_servers",
        "output_config",
        "output_format",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ]
)
_BLOCKS: Mapping[str, frozenset[str]] = {
    "user": frozenset({"text", "image", "document", "tool_result", "search_result"}),
    "assistant": frozenset({"text", "tool_use", "thinking", "redacted_thinking"}),
    "system": frozenset({"text"}),
}
_IMAGES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_TAKES_LATE_SYSTEM = re.compile(r"claude-opus-4-[89]|claude-(?!sonnet)[a-z]+-[5-9]")
_SINCE_4_6 = re.compile(r"claude-[a-z]+-(4-[6-9]|[5-9])")
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"}


def messages(body: Body) -> list[str]:
    """What Anthropic would answer 400 to; empty for a body that it takes."""
    return [
        *[f"unknown field {name}" for name in body.keys() - _FIELDS],
        *_settings(body),
        *_tools(body),
        *_conversation(body),
        *_marks(body),
    ]


def _settings(body: Body) -> Iterator[str]:
    limit, thinking = body.get("max_tokens"), body.get("thinking") or {}
    if type(limit) is not int or limit < 1:
        yield "max_tokens"
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        yield "temperature is above 1"
    if any(not stop.strip() for stop in body.get("stop_sequences", ())):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
    if thinking.get("type") == "enabled":
        if not 1024 <= thinking["budget_tokens"] < limit:
            yield "thinking.budget_tokens"  # "`max_tokens` must be greater than `thinking.budget_tokens`"
        if temperature not in (None, 1) or "top_k" in body:
            yield "`temperature` may only be set to 1 when thinking is enabled"
    if thinking.get("type") in {"enabled", "adaptive"} and body.get("tool_choice", {}).get("type") in {"any", "tool"}:
        yield "Thinking may not be enabled when tool_choice forces tool use."
    schema = (body.get("output_config") or {}).get("format", {}).get("schema")
    if schema is not None:
        yield from _schema(schema)


def _schema(schema: Any) -> Iterator[str]:
    """docs.anthropic.com, Structured outputs: JSON Schema limitations."""
    if isinstance(schema, list):
        for one in schema:
            yield from _schema(one)
    elif isinstance(schema, dict):
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            yield "For 'object' type, 'additionalProperties' must be explicitly set to false"
        if schema.get("type") in ("integer", "number", "string") and _BOUNDS & schema.keys():
            yield "a bound in a schema"
        for one in schema.values():
            yield from _schema(one)


def _tools(body: Body) -> Iterator[str]:
    names = [tool["name"] for tool in body.get("tools", ())]
    if len(set(names)) < len(names):
        yield "tools: Tool names must be unique."
    for tool in body.get("tools", ()):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            yield f"name of tool {tool['name']!r}"
        if tool["input_schema"].get("type") != "object":
            yield "tools.0.custom.input_schema.type: Field required"
        if tool.get("strict"):
            yield from _schema(tool["input_schema"])
        if {"oneOf", "allOf", "anyOf"} & tool["input_schema"].keys():
            yield "input_schema does not support oneOf, allOf, or anyOf at the top level"
    choice = body.get("tool_choice")
    if choice and not names:
        yield "tool_choice may only be specified while providing tools"
    if choice and choice["type"] == "tool" and choice["name"] not in names:
        yield "Tool not found in provided tools"


def _conversation(body: Body) -> Iterator[str]:
    turns, model = body["messages"], body["model"]
    if not turns:
        yield "messages: at least one message is required"
    seen: set[str] = set()
    used: list[str] = []
    for index, turn in enumerate(turns):
        role, at = turn["role"], f"messages.{index}"
        blocks = _blocks(turn["content"])
        if role not in _BLOCKS:
            yield f"{at}: role {role}"
            continue
        if role == "system":
            yield from _late_system(turns, index, model)
        if not blocks:
            yield f"{at}: all messages must have non-empty content except for the optional final assistant message"
        yield from (f"{at}: {wrong}" for block in blocks for wrong in _block(block, role))
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if role == "user":
            if sorted(results) != sorted(used):
                # "`tool_use` ids were found without `tool_result` blocks immediately after", or the other way round
                yield f"{at}: results {results} for calls {used}"
            kinds = [block["type"] for block in blocks]
            if "tool_result" in kinds[len(results) :]:
                yield f"{at}: tool_result blocks do not stand first"
        elif used:
            yield f"{at}: `tool_use` ids were found without `tool_result` blocks immediately after"
        used = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for id_ in used:
            if id_ in seen:
                yield f"{at}: `tool_use` ids must be unique"
            seen.add(id_)
            if not re.fullmatch(r"[a-zA-Z0-9_-]+", id_):
                yield f"{at}: String should match pattern '^[a-zA-Z0-9_-]+$'"
    if used:
        yield "calls without results at the end"
    if turns and turns[-1]["role"] == "assistant":
        if _SINCE_4_6.search(model):
            yield "This model does not support assistant message prefill. The conversation must end with a user message."
        last = _blocks(turns[-1]["content"])[-1:]
        if last and last[0]["type"] == "text" and last[0]["text"] != last[0]["text"].rstrip():
            yield "final assistant content cannot end with trailing whitespace"


def _late_system(turns: list[Any], index: int, model: str) -> Iterator[str]:
    """platform.claude.com, Mid-conversation system messages: right after a user's turn, then an answer or the end."""
    if not _TAKES_LATE_SYSTEM.search(model):
        yield "role 'system' is not supported on this model"
    if not index or turns[index - 1]["role"] != "user":
        yield f"messages.{index}: system text that does not follow a user's turn"
    if index + 1 < len(turns) and turns[index + 1]["role"] != "assistant":
        yield f"messages.{index}: system text that no answer follows"


def _blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _block(block: Body, role: str) -> Iterator[str]:
    kind = block["type"]
    if kind not in _BLOCKS[role]:
        yield f"a block {kind} of {role}"
    if kind == "text" and not block["text"].strip():
        yield "text content blocks must contain non-whitespace text"
    if kind == "thinking" and not block.get("signature"):
        yield "thinking.signature: Field required"
    if kind == "image" and block["source"]["type"] == "base64" and block["source"]["media_type"] not in _IMAGES:
        yield "image.source.base64.media_type"
    if (
        kind == "document"
        and block["source"]["type"] == "base64"
        and block["source"]["media_type"] != "application/pdf"
    ):
        yield "document.source.base64.media_type"
    if kind == "tool_result":
        for inner in _blocks(block.get("content", [])):
            yield from _block(inner, "user")


def _marks(body: Body) -> Iterator[str]:
    """docs.anthropic.com, Prompt caching: up to four breakpoints, on blocks that can be cached."""
    blocks = [*_blocks(body.get("system", [])), *body.get("tools", ())]
    for turn in body["messages"]:
        for block in _blocks(turn["content"]):
            blocks += [block, *_blocks(block.get("content", []))] if block["type"] == "tool_result" else [block]
    marked = [block for block in blocks if "cache_control" in block]
    if len(marked) > 4:
        yield "A maximum of 4 blocks with cache_control may be provided."
    if any(block.get("type") in {"thinking", "redacted_thinking"} for block in marked):
        yield "cache_control cannot be set for thinking blocks"
