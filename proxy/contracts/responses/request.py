"""Reading requests of OpenAI Responses.

https://platform.openai.com/docs/api-reference/responses/create. The contract lets a server keep conversations. The
proxy keeps nothing, so a request has to hold the whole conversation, and one that refers to something kept is refused.
Settings of OpenAI's own service (`include`, `max_tool_calls`, `truncation`, …) are announced as left out.
"""

from collections.abc import Mapping
from typing import Any

from proxy.contracts.responses.items import read_input, records
from proxy.contracts.responses.tools import read_choice, read_tools
from proxy.errors import BadRequest
from proxy.request import ChatRequest, Message
from proxy.wire.json_body import get_boolean, get_object, get_string, need_string, parse_object, read_param
from proxy.wire.omissions import unread

DIALECT = "openai-responses"

_UNCHANGED = ("temperature", "top_p", "service_tier")
_HINTS = frozenset({"prompt_cache_key"})
_READ = frozenset({
    "model", "input", "instructions", "messages", "tools", "tool_choice", "parallel_tool_calls", "metadata",
    "max_output_tokens", "reasoning", "text", "prompt_cache_key", "safety_identifier", "user", *_UNCHANGED,
    # They say nothing about the answer: how it is sent and kept, and what Codex tells of itself.
    "stream", "stream_options", "store", "background", "client_metadata",
})  # fmt: skip
_READ_OF_REASONING = frozenset({"effort", "summary", "generate_summary"})  # a summary is told in any case
_READ_OF_TEXT = frozenset({"format", "verbosity"})
_KEPT_ELSEWHERE = {
    "previous_response_id": (
        "previous_response_not_found",  # after it the official agents SDK, among others, sends everything again
        "this server keeps no responses (store is false); send the whole conversation as input",
    ),
    "conversation": (
        "unsupported_parameter",
        "this server keeps no conversations; send the whole conversation as input",
    ),
    "prompt": (
        "unsupported_parameter",
        "this server keeps no prompt templates; send the prompt itself as instructions and input",
    ),
}


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a request body. Raises `BadRequest` saying what is wrong and where. Unknown fields are accepted."""
    wire = parse_object(body)
    _refuse_what_is_kept_elsewhere(wire)
    tools = read_tools(wire)
    choice, functions = read_choice(wire.get("tool_choice"), tools)
    return ChatRequest(
        id=id,
        contract="responses",
        dialect=DIALECT,
        messages=_messages(wire),
        model=get_string(wire, "model"),
        params=_params(wire, choice if functions else None, tools=bool(functions)),
        hints=_HINTS,
        tools=functions,
        hosted_tools=tools.omissions,
        unread=_unread(wire),
        stream=get_boolean(wire, "stream") is True,
        user=get_string(wire, "safety_identifier") or get_string(wire, "user"),
        metadata=get_object(wire, "metadata") or {},
        wants_usage=True,
        path=path,
        headers=headers or {},
        raw_body=wire,
    )


def _unread(wire: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *unread(wire, _READ),
        *unread(wire.get("reasoning") or {}, _READ_OF_REASONING, "reasoning."),
        *unread(wire.get("text") or {}, _READ_OF_TEXT, "text."),
        *[f"input.{kind}" for kind in records(wire.get("input"))],
    )


def _refuse_what_is_kept_elsewhere(wire: Mapping[str, Any]) -> None:
    for name, (code, reason) in _KEPT_ELSEWHERE.items():
        if wire.get(name) is not None:
            raise BadRequest(f"{name}: {reason}", param=name, code=code)
    if get_boolean(wire, "background"):
        raise BadRequest(
            "background: this server answers while the client waits; leave it out, and use stream for long answers",
            param="background",
            code="unsupported_parameter",
        )


def _messages(wire: Mapping[str, Any]) -> tuple[Message, ...]:
    if wire.get("input") is None and isinstance(wire.get("messages"), list):
        raise BadRequest(
            "input: required, a string or a list of items; `messages` is read at /v1/chat/completions", param="input"
        )
    messages = read_input(wire.get("input"), get_string(wire, "instructions"))
    if not messages:
        raise BadRequest("input: expected at least one item, got an empty list", param="input")
    return messages


def _params(wire: Mapping[str, Any], choice: Any, *, tools: bool) -> dict[str, Any]:
    """The settings under their names in Chat Completions. Raises `BadRequest` naming one of a wrong type."""
    text = get_object(wire, "text") or {}
    reasoning = get_object(wire, "reasoning") or {}
    given = [(name, wire.get(name), name) for name in _UNCHANGED]
    # OpenAI's reasoning models refuse `max_tokens`. A backend that knows only that name sets `max_tokens_name`.
    given.append(("max_completion_tokens", wire.get("max_output_tokens"), "max_output_tokens"))
    given.append(("reasoning_effort", reasoning.get("effort"), "reasoning.effort"))
    given.append(("verbosity", text.get("verbosity"), "text.verbosity"))
    parallel = ("parallel_tool_calls", wire.get("parallel_tool_calls"), "parallel_tool_calls")
    params = {name: read_param(name, value, at) for name, value, at in (*given, parallel) if value is not None}
    if not tools:  # OpenAI refuses these settings without tools
        params.pop("parallel_tool_calls", None)
    elif choice is not None:
        params["tool_choice"] = choice
    if key := get_string(wire, "prompt_cache_key"):
        params["prompt_cache_key"] = key
    if format_ := _response_format(get_object(text, "format", "text")):
        params["response_format"] = format_
    return params


def _response_format(format_: dict[str, Any] | None) -> dict[str, Any] | None:
    """`text.format` in the form of Chat Completions, which has one level more. Plain text is the default."""
    if format_ is None:
        return None
    kind = need_string(format_, "type", "text.format")
    if kind == "text":
        return None
    if kind != "json_schema":
        return format_
    schema = {name: format_[name] for name in ("name", "description", "schema", "strict") if name in format_}
    return {"type": kind, "json_schema": schema}
