"""Reading requests of OpenAI Chat Completions (https://platform.openai.com/docs/api-reference/chat/create).

Fields that we do not model stay in `raw_body` and reach an upstream of the same dialect. Fields that tell a gateway where
to go, which key to use or what to answer do not: the destination comes from the config alone (H08).
"""

from collections.abc import Mapping
from typing import Any

from proxy.contracts.openai.custom_tools import as_custom_function
from proxy.contracts.openai.functions import as_tool_messages, as_tools, nested, speaks_functions
from proxy.contracts.openai.stream import DIALECT
from proxy.errors import BadRequest
from proxy.request import ChatRequest, Message, Tool
from proxy.wire.json_body import (
    PARAMETERS,
    decode_params,
    decode_tools,
    get_array,
    get_boolean,
    get_object,
    get_string,
    need_array,
    parse_object,
)
from proxy.wire.messages import read_messages
from proxy.wire.omissions import unread
from proxy.wire.parts import read_content

_READ = frozenset({
    "model", "messages", "tools", "functions", "function_call", "stream", "stream_options", "user",
    "safety_identifier", "metadata", "web_search_options", *PARAMETERS,
})  # fmt: skip
_READ_WITH_SYSTEM = _READ | {"system"}
_READ_OF_TOOLS = frozenset({"type", "function", "cache_control"})
_READ_OF_FUNCTIONS = frozenset({"name", "description", "parameters", "strict", "cache_control"})


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a request body. Raises `BadRequest` saying what is wrong and where; unknown fields never are."""
    wire = parse_object(body)
    if wire.get("messages") is None and wire.get("input") is not None:
        raise BadRequest("messages: required, a list; `input` is read at /v1/responses", param="messages")
    messages = need_array(wire, "messages")
    if not messages:
        raise BadRequest("messages: expected at least one message, got an empty list", param="messages")
    tools = as_tools(wire) if speaks_functions(wire) else nested(get_array(wire, "tools"))
    stream = get_boolean(wire, "stream") is True
    options = get_object(wire, "stream_options") or {}
    return ChatRequest(
        id=id,
        contract="openai",
        dialect=DIALECT,
        messages=(*_system(wire), *read_messages(as_tool_messages(messages))),
        model=get_string(wire, "model"),
        params=decode_params(wire, choices=True),
        tools=_tools(tools),
        hosted_tools=_hosted(wire, tools),
        unread=_unread(wire, tools),
        stream=stream,
        user=get_string(wire, "user") or get_string(wire, "safety_identifier"),
        metadata=get_object(wire, "metadata") or {},
        wants_usage=stream and get_boolean(options, "include_usage", "stream_options") is True,
        path=path,
        headers=headers or {},
        raw_body=wire,
    )


def _system(wire: Mapping[str, Any]) -> tuple[Message, ...]:
    """System text beside the messages, as Anthropic has it; of another type it is something else's, and not read."""
    if not wire.get("system") or type(wire["system"]) not in {str, list}:
        return ()
    return (Message("system", read_content(wire["system"], "system")),)


def _tools(values: list[Any] | None) -> tuple[Tool, ...]:
    """The functions, and behind them the custom tools as functions."""
    tools = decode_tools(values)
    customs = [(tool, f"tools[{at}]") for at, tool in enumerate(values or ()) if tool["type"] == "custom"]
    return (*tools, *[as_custom_function(tool, path) for tool, path in customs]) if customs else tools


def _unread(wire: Mapping[str, Any], tools: list[Any] | None) -> tuple[str, ...]:
    found = unread(wire, _READ_WITH_SYSTEM if type(wire.get("system")) in {str, list} else _READ)
    for tool in tools or ():
        if tool["type"] == "function" and not (
            _READ_OF_TOOLS.issuperset(tool) and _READ_OF_FUNCTIONS.issuperset(tool["function"])
        ):
            found += unread(tool, _READ_OF_TOOLS, "tools.") + unread(tool["function"], _READ_OF_FUNCTIONS, "tools.")
    return tuple(dict.fromkeys(found)) if found else ()


def _hosted(wire: Mapping[str, Any], tools: list[Any] | None) -> tuple[str, ...]:
    """Tools that the upstream is to run, and the search that is a setting here."""
    kinds = [tool["type"] for tool in tools or () if tool["type"] not in ("function", "custom")]
    return (*kinds, "web_search_options") if isinstance(wire.get("web_search_options"), dict) else tuple(kinds)
