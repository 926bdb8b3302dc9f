"""A request in a target's vocabulary, and its answer back in the client's. No I/O.

For requests that change dialect: the conversation gets its one shape (`wire.conversation`), and names of tools that
the target refuses are sent as names that it takes. Answers tell the client its own names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.config.parameters import KIND_OF_PARAMETER
from proxy.errors import BadRequest, Unsupported
from proxy.events import Batch, Notice, ToolCallStart
from proxy.request import ChatRequest, Image, Message, Part, Text, Tool
from proxy.wire.cache_marks import marked
from proxy.wire.conversation import arranged, names_for
from proxy.wire.json_body import read_param
from proxy.wire.omissions import unread_notices
from proxy.wire.vocabulary import GEMINI_SEAL, Vocabulary

_REGISTERED = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Names that clients use for media types, with those that servers know (RFC 2046, IANA)."""


_SPEAKERS = ("user", "assistant")
_SYSTEM_ROLES = ("system", "developer")
_OF_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})
_NOT_IN_NAMES = re.compile(r"[\s<|\\/>]+")
"""What OpenAI refuses in a `name`: "string does not match pattern. Expected a string that matches '^[^\\s<|\\\\/>]+$'"."""


class Translation(msgspec.Struct, frozen=True):
    """A request as its target takes it, what its client should know, and the client's name for each name sent."""

    request: ChatRequest
    notices: tuple[Notice, ...] = ()
    names: Mapping[str, str] = {}


def translated(request: ChatRequest, vocabulary: Vocabulary) -> Translation:
    """The request in `vocabulary`. One that is fine already comes back as it is."""
    notices = unread_notices(request) if request.unread else []
    if not request.tools and not request.params and _is_plain(request.messages):
        return Translation(request, tuple(notices))
    request = _with_tools(_with_choice(_with_settings(request), vocabulary), notices)
    request = _with_stops(request, vocabulary, notices)
    messages = tuple(_with_seal(message, vocabulary) for message in _with_media_types(request.messages, vocabulary))
    request, messages = marked(request, messages, vocabulary.cache_marks, notices)
    conversation = arranged(messages, vocabulary)
    said = any(message.role not in _SYSTEM_ROLES for message in conversation.messages)
    if not conversation.messages or not (said or vocabulary.empty_turns):
        raise Unsupported("this target needs a message that is not empty, besides the system prompt")
    called = [call.name for message in conversation.messages for call in message.tool_calls]
    names = names_for(dict.fromkeys([*(tool.name for tool in request.tools), *called]), vocabulary.tool_names)
    messages = _with_names_of_speakers(conversation.messages, vocabulary, notices)
    if vocabulary.unsigned:
        messages = tuple(
            replace(message, reasoning_signature=vocabulary.unsigned)
            if message.tool_calls and not message.reasoning_signature
            else message
            for message in messages
        )
    if names:
        messages = tuple(_renamed(message, names) for message in messages)
        request = replace(
            request,
            tools=tuple(replace(tool, name=names.get(tool.name, tool.name)) for tool in request.tools),
            params=_renamed_choice(request.params, names),
        )
    if messages != request.messages:
        request = replace(request, messages=messages)
    return Translation(request, (*notices, *conversation.notices), {sent: name for name, sent in names.items()})


def _is_plain(messages: tuple[Message, ...]) -> bool:
    """Whether the conversation is questions and answers of one text each, which every target takes as they are.

    Most chat pages send nothing else, and looking closer costs 40 µs.
    """
    for message in messages:
        parts = message.parts
        if (
            message.role not in _SPEAKERS
            or message.tool_calls
            or message.name
            or message.reasoning_signature
            or len(parts) != 1
            or type(parts[0]) is not Text
            or parts[0].cache is not None
            or not parts[0].text
            or parts[0].text.isspace()
        ):
            return False
    return messages[-1:] != () and messages[-1].role == "user"


def _with_settings(request: ChatRequest) -> ChatRequest:
    """The settings in their own types. Raises `BadRequest` for a value of another, which some targets ignore."""
    params = {
        name: value if value is None or name not in KIND_OF_PARAMETER else read_param(name, value, name)
        for name, value in request.params.items()
    }
    changed = any(params[name] is not value for name, value in request.params.items())
    return replace(request, params=params) if changed else request


def _with_tools(request: ChatRequest, notices: list[Notice]) -> ChatRequest:
    """Each tool once, its parameters as an object. Settings about tools go where there are tools alone.

    Raises `BadRequest` where a tool is required and none can be offered.
    """
    if not request.tools:
        if request.params.get("tool_choice") == "required":
            raise BadRequest("tool_choice: requires a tool, and this target is offered none", param="tool_choice")
        params = {name: value for name, value in request.params.items() if name not in _OF_TOOLS}
        return request if len(params) == len(request.params) else replace(request, params=params)
    tools: dict[str, Tool] = {}
    if [tool for tool in request.tools if tools.setdefault(tool.name, tool) != tool]:
        notices.append(Notice("ignored_tool", "a tool was left out: another one has its name", "tools"))
    tools = {name: _with_object(tool) for name, tool in tools.items()}
    return request if [*tools.values()] == [*request.tools] else replace(request, tools=tuple(tools.values()))


def _with_object(tool: Tool) -> Tool:
    """Vendors answer with an error to parameters of another type, and to those without one."""
    given = tool.parameters
    if given is None or given.get("type") == "object":
        return tool
    return replace(tool, parameters={"properties": {}, **given, "type": "object"})


def _with_stops(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    """As many stop sequences as the target takes, the first ones."""
    given = request.params.get("stop")
    if not vocabulary.stops or not isinstance(given, list) or len(given) <= vocabulary.stops:
        return request
    if "stop" not in request.routed:
        why = f"this target takes {vocabulary.stops} of them"
        notices.append(Notice("changed_setting", f"some stop sequences were left out: {why}", "stop"))
    return replace(request, params={**request.params, "stop": given[: vocabulary.stops]})


def _with_seal(message: Message, vocabulary: Vocabulary) -> Message:
    """The message with the signature of its reasoning where the target's own vendor made it."""
    seal = message.reasoning_signature
    if seal and seal.startswith(GEMINI_SEAL) != (vocabulary.signatures == "gemini"):
        seal = None
    return message if seal == message.reasoning_signature else replace(message, reasoning_signature=seal)


def _with_names_of_speakers(
    messages: tuple[Message, ...], vocabulary: Vocabulary, notices: list[Notice]
) -> tuple[Message, ...]:
    if not vocabulary.names and any(message.name and message.role != "tool" for message in messages):
        notices.append(Notice("ignored_setting", "the names of speakers were left out: this target takes none", "name"))
    return tuple(_with_name(message, vocabulary) for message in messages)


def _with_name(message: Message, vocabulary: Vocabulary) -> Message:
    """The message with a name of its speaker that the target takes, if it takes any."""
    if not message.name or message.role == "tool":
        return message
    name = _NOT_IN_NAMES.sub("_", message.name)[:64] if vocabulary.names else None
    return message if name == message.name else replace(message, name=name)


def _with_choice(request: ChatRequest, vocabulary: Vocabulary) -> ChatRequest:
    """The choice of tools in the target's words. Raises `BadRequest` for a tool that is not offered."""
    choice = request.params.get("tool_choice")
    offered = {tool.name for tool in request.tools}
    match choice:
        case {"type": "custom", "custom": {"name": str(name)}} if name in offered:
            choice = {"type": "function", "function": {"name": name}}
            return replace(request, params={**request.params, "tool_choice": choice})
        case {"type": "custom"}:
            raise BadRequest("tool_choice: names a custom tool that this target is not offered", param="tool_choice")
        case {"type": "function", "function": {"name": str(name)}} if name not in offered:
            raise BadRequest("tool_choice: names a tool that this target is not offered", param="tool_choice")
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(allowed), **more}} if (
            not vocabulary.allowed_tools
        ):
            names = {_name_in(one) for one in allowed}
            mode = "required" if more.get("mode") == "required" else "auto"
            return replace(
                request,
                tools=tuple(tool for tool in request.tools if tool.name in names),
                params={**request.params, "tool_choice": mode},
            )
        case _:
            return request


def _name_in(tool: Any) -> str | None:
    match tool:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            return None


def _with_media_types(messages: tuple[Message, ...], vocabulary: Vocabulary) -> tuple[Message, ...]:
    """The messages with images under their registered media types. Raises `Unsupported` for one that is refused."""
    if not any(isinstance(part, Image) for message in messages for part in message.parts):
        return messages
    return tuple(
        replace(message, parts=tuple(_with_media_type(part, vocabulary.images) for part in message.parts))
        for message in messages
    )


def _with_media_type(part: Part, taken: frozenset[str]) -> Part:
    if not isinstance(part, Image) or not part.url.startswith("data:"):
        return part
    kind, separator, rest = part.url.removeprefix("data:").partition(";")
    kind = _REGISTERED.get(kind.lower(), kind.lower())
    if taken and kind not in taken:
        raise Unsupported(f"this target takes no images of type {kind[:64]}")
    url = f"data:{kind}{separator}{rest}"
    return part if url == part.url else replace(part, url=url)


def _renamed(message: Message, names: Mapping[str, str]) -> Message:
    if message.role == "tool" and message.name:
        message = replace(message, name=names.get(message.name, message.name))
    if not any(call.name in names for call in message.tool_calls):
        return message
    return replace(
        message, tool_calls=tuple(replace(call, name=names.get(call.name, call.name)) for call in message.tool_calls)
    )


def _renamed_choice(params: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """`tool_choice` with the names that are sent, also in the list of `allowed_tools`."""
    if not isinstance(params.get("tool_choice"), dict):
        return params
    return {**params, "tool_choice": _with_names(params["tool_choice"], names)}


def _with_names(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_with_names(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: names.get(one, one) if key == "name" and isinstance(one, str) else _with_names(one, names)
        for key, one in value.items()
    }


def restored(batch: Batch, names: Mapping[str, str]) -> Batch:
    """The batch with the client's names of its tools."""
    events = batch.events
    for index, event in enumerate(events):
        if type(event) is ToolCallStart and event.name in names:
            events[index] = replace(event, name=names[event.name])
    return batch
