"""A request's settings and tools, in a target's vocabulary. No I/O."""

from functools import lru_cache
from operator import is_
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.config.parameters import KIND_OF_PARAMETER
from proxy.errors import BadRequest
from proxy.events import Notice
from proxy.request import ChatRequest, Message, Text, Tool
from proxy.wire.choices import in_openai_form
from proxy.wire.json_body import read_param
from proxy.wire.omissions import changed, does_not_think
from proxy.wire.schemas import inlined, is_closed, of_arguments, openapi
from proxy.wire.vocabulary import EFFORTS, Vocabulary

_OF_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})
_EFFORT = "reasoning_effort"
_KEPT = 16_384
"""The longest schema whose other form is kept, in bytes."""
CONFORM = "Answer with JSON that conforms to this JSON Schema, and with nothing else:\n"


def with_settings(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    """The request with settings and tools that the target takes. Raises `BadRequest` for those that no target could."""
    request = _with_types(request)
    request = _with_choice(request, vocabulary)
    request = _with_tools(request, vocabulary, notices)
    request = _with_fewer_choices(request, vocabulary, notices)
    if request.tools and not vocabulary.effort_with_tools and request.params.get(_EFFORT) != "none":
        request = _without_thinking(request, "this target's models do not think beside tools", notices)
    request = _with_least_thinking(request, vocabulary, notices)
    request = _with_format(request, vocabulary, notices)
    request = _with_stops(request, vocabulary, notices)
    return _with_temperature(request, vocabulary, notices)


def _with(request: ChatRequest, **params: Any) -> ChatRequest:
    """The request with other settings. None takes one out."""
    merged = {**request.params, **params}
    return replace(request, params={name: value for name, value in merged.items() if value is not None})


def _with_types(request: ChatRequest) -> ChatRequest:
    """The settings in their own types. Raises `BadRequest` for a value of another, which some targets ignore."""
    params = {
        name: value if value is None or name not in KIND_OF_PARAMETER else read_param(name, value, name)
        for name, value in request.params.items()
    }
    changed = any(params[name] is not value for name, value in request.params.items())
    return replace(request, params=params) if changed else request


def _with_tools(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
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
    offered = tuple(_with_schema(tool, vocabulary) for tool in tools.values())
    if vocabulary.schemas == "closed" and any(tool.strict and not is_closed(tool.parameters) for tool in offered):
        why = "this target takes it for closed schemas alone, all of whose properties are required"
        notices.append(Notice("ignored_setting", f"strict was left out: {why}", "tools"))
        offered = tuple(
            replace(tool, strict=None) if tool.strict and not is_closed(tool.parameters) else tool for tool in offered
        )
    same = len(offered) == len(request.tools) and all(map(is_, offered, request.tools))
    return request if same else replace(request, tools=offered)


def _with_schema(tool: Tool, vocabulary: Vocabulary) -> Tool:
    if tool.parameters is None:
        return tool
    schema = _schema(of_arguments(tool.parameters), vocabulary)
    return tool if schema is tool.parameters else replace(tool, parameters=schema)


def _schema(schema: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    if vocabulary.schemas not in {"inline", "openapi"}:
        return schema
    data = msgspec.json.encode(schema)
    write = _written if len(data) < _KEPT else _written.__wrapped__
    written: dict[str, Any] = write(data, vocabulary.schemas)
    return written


@lru_cache(maxsize=512)  # agents send the same tools with each request: 25 of them cost 0.9 ms
def _written(schema: bytes, form: str) -> Any:
    plain = inlined(msgspec.json.decode(schema))
    return openapi(plain) if form == "openapi" else plain


def _with_format(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    """The form of the answer in a type that the target takes. A schema may become part of the system prompt."""
    given = request.params.get("response_format")
    match given:
        case {"type": "json_object"} if "json_object" not in vocabulary.formats:
            anything = {"name": "answer", "schema": {"type": "object"}}
            return _with(request, response_format={"type": "json_schema", "json_schema": anything})
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)} as named}:
            pass
        case _:
            return request
    if "json_schema" in vocabulary.formats:
        fitting = _schema(schema, vocabulary)
        if fitting is schema:
            return request
        return _with(request, response_format={"type": "json_schema", "json_schema": {**named, "schema": fitting}})
    notices += changed(
        request,
        "response_format",
        "the schema of the answer was put into the system prompt: this target does not hold its model to one",
    )
    prompt = Message("system", (Text(CONFORM + msgspec.json.encode(schema).decode()),))
    head = next((at for at, one in enumerate(request.messages) if one.role not in {"system", "developer"}), 0)
    messages = (*request.messages[:head], prompt, *request.messages[head:])
    is_object = schema.get("type", "object") == "object"
    return _with(replace(request, messages=messages), response_format={"type": "json_object"} if is_object else None)


def _with_stops(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    """As many stop sequences as the target takes, the first ones."""
    given = request.params.get("stop")
    if isinstance(given, str):
        given = [given]
    if not given:
        return request
    asked, given = given, [stop for stop in given if stop]  # an empty one stops nothing, and many refuse it
    kept = given if vocabulary.blank_stops else [stop for stop in given if stop.strip()]
    if len(kept) < len(given):
        notices += changed(
            request, "stop", "some stop sequences were left out: this target takes none of white space alone"
        )
    if vocabulary.stops and len(kept) > vocabulary.stops:
        fewer = f"some stop sequences were left out: this target takes {vocabulary.stops} of them"
        notices += changed(request, "stop", fewer)
        kept = kept[: vocabulary.stops]
    return request if len(kept) == len(asked) else _with(request, stop=kept or None)


def _with_temperature(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    given = request.params.get("temperature")
    if given is None:
        return request
    if vocabulary.hottest is not None and given > vocabulary.hottest:
        nearest, how = vocabulary.hottest, "lowered to {:g}, the highest"
    elif given < vocabulary.coldest:
        nearest, how = vocabulary.coldest, "raised to {:g}, the lowest"
    else:
        return request
    notices += changed(request, "temperature", f"temperature was {how.format(nearest)} that this target takes")
    return _with(request, temperature=nearest)


def _with_choice(request: ChatRequest, vocabulary: Vocabulary) -> ChatRequest:
    """The choice of tools in the target's words. Raises `BadRequest` for a tool that is not offered."""
    given = request.params.get("tool_choice")
    if (choice := in_openai_form(given)) is not given:
        request = _with(request, tool_choice=choice)
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
            tools = tuple(tool for tool in request.tools if tool.name in names)
            if names and not tools:
                raise BadRequest("tool_choice: allows no tool that this target is offered", param="tool_choice")
            mode = "required" if more.get("mode") == "required" else "auto"
            return replace(request, tools=tools, params={**request.params, "tool_choice": mode})
        case _:
            return request


def _name_in(tool: Any) -> str | None:
    match tool:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            return None


def _with_fewer_choices(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    """The choice of tools in one of the forms that the target takes."""
    choice = request.params.get("tool_choice")
    name = _name_in(choice) if isinstance(choice, dict) and choice.get("type") == "function" else None
    if choice in (None, "auto") or (name is None and choice not in ("none", "required")):
        return request
    match vocabulary.choices:
        case "required" if name is not None:
            return _with(_with_only(request, name), tool_choice="required")
        case "unthinking" if choice != "none" and request.params.get(_EFFORT) != "none":
            why = "this target's models do not think where a tool has to be called"
            return _without_thinking(request, why, notices)
        case "auto" if choice == "none":
            return _with(replace(request, tools=()), **dict.fromkeys(_OF_TOOLS))
        case "auto":
            notices += changed(
                request, "tool_choice", "the call of a tool is not demanded: this target lets its model choose"
            )
            return _with(_with_only(request, name) if name is not None else request, tool_choice=None)
        case _:
            return request


def _with_only(request: ChatRequest, name: str) -> ChatRequest:
    return replace(request, tools=tuple(tool for tool in request.tools if tool.name == name))


def _without_thinking(request: ChatRequest, why: str, notices: list[Notice]) -> ChatRequest:
    notices.append(Notice("changed_setting", f"the model was told not to think: {why}", _EFFORT))
    return _with(replace(request, routed=request.routed - {_EFFORT}), reasoning_effort="none")


def _with_least_thinking(request: ChatRequest, vocabulary: Vocabulary, notices: list[Notice]) -> ChatRequest:
    """The request with the least effort where none is asked of a model that always thinks."""
    if vocabulary.no_thinking is not None or not vocabulary.efforts or not does_not_think(request):
        return request
    least = min(vocabulary.efforts, key=EFFORTS.index)
    why = "this target's models always think"
    notices += changed(request, _EFFORT, f"the model was told to think as little as it can ({least}): {why}")
    return _with(request, reasoning_effort=least)
