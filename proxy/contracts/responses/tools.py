"""Tools of the Responses contract, for upstreams that know only functions.

A `function` stays one. A `custom` tool takes free text: it becomes a function with one string, `input`, and its calls
are translated back. The tools in a `namespace` become functions whose names begin with the namespace. Tools that
OpenAI runs (`web_search`, `file_search`, `code_interpreter`, `mcp`, `image_generation`, …) are not offered to the
model, and the answer's `tools` does not list them. Codex sends `web_search` with every request, so such a request is
refused only if its `tool_choice` requires the tool.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.errors import BadRequest
from proxy.request import Tool
from proxy.wire.choices import in_openai_form
from proxy.wire.custom_tools import as_function
from proxy.wire.json_body import (
    decode_tool,
    get_array,
    get_object,
    get_string,
    need_array,
    need_object,
    need_string,
    objects,
    wrong,
)

NAME_LENGTH = 64  # the longest name of a function at OpenAI and most others


class Origin(msgspec.Struct, frozen=True):
    """A tool as the client knows it, where the upstream knows it under another name or in another form."""

    name: str
    namespace: str | None = None
    custom: bool = False


class Tools(msgspec.Struct, frozen=True):
    """A request's tools: for the upstream, for translating calls back, and as the answer repeats them.

    `omissions`: the types of the tools that the upstream is not sent.
    """

    functions: tuple[Tool, ...] = ()
    origins: Mapping[str, Origin] = {}
    echo: tuple[dict[str, Any], ...] = ()
    omissions: tuple[str, ...] = ()


def function_name(name: str, namespace: str | None) -> str:
    """The name of a function for upstreams. It is the same in every turn."""
    if not namespace:
        return name
    full = f"{namespace}__{name}"
    if len(full) <= NAME_LENGTH:
        return full
    return f"{full[: NAME_LENGTH - 9]}_{blake2b(full.encode(), digest_size=4).hexdigest()}"


def read_tools(wire: Mapping[str, Any]) -> Tools:
    """All tools of a request, with those that were added in the middle of the conversation."""
    reader = _ToolReader()
    for value, path in objects(get_array(wire, "tools") or [], "tools"):
        echoed = reader.read(value, path)
        if echoed is not None:
            reader.echo.append(echoed)
    for values, path in _added_later(wire.get("input")):
        for value, at in objects(values, path):
            reader.read(value, at)
    return Tools(tuple(reader.functions), reader.origins, tuple(reader.echo), tuple(reader.omissions))


def _added_later(items: Any) -> Iterable[tuple[list[Any], str]]:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if type(item) is dict and item.get("type") == "additional_tools":
            path = f"input[{index}]"
            yield need_array(item, "tools", path), f"{path}.tools"


class _ToolReader:
    def __init__(self) -> None:
        self.functions: list[Tool] = []
        self.origins: dict[str, Origin] = {}
        self.echo: list[dict[str, Any]] = []
        self.omissions: list[str] = []

    def read(self, value: dict[str, Any], path: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Read a tool. Returns it as the answer repeats it; None if the upstream is not sent it."""
        match need_string(value, "type", path):
            case "function":
                self._function(value, path, namespace)
                flat = {name: one for name, one in value.items() if name != "function"} | value.get("function", {})
                return {"description": None, "parameters": None, "strict": False, **flat}
            case "custom":
                self._custom(value, path, namespace)
                return value
            case "namespace" if namespace is None:
                name = need_string(value, "name", path)
                members = objects(need_array(value, "tools", path), f"{path}.tools")
                echoed = [self.read(member, at, name) for member, at in members]
                return {"description": "", **value, "tools": [one for one in echoed if one is not None]}
            case hosted:
                self.omissions.append(hosted[:64])
                return None

    def _function(self, value: dict[str, Any], path: str, namespace: str | None) -> None:
        tool = decode_tool(value, path, flat="function" not in value)
        self._add(replace(tool, name=function_name(tool.name, namespace), cache=None), Origin(tool.name, namespace))

    def _custom(self, value: dict[str, Any], path: str, namespace: str | None) -> None:
        name = need_string(value, "name", path)
        description, grammar = get_string(value, "description", path), get_object(value, "format", path) or {}
        self._add(
            as_function(function_name(name, namespace), description, grammar, f"{path}.format"),
            Origin(name, namespace, custom=True),
        )

    def _add(self, tool: Tool, origin: Origin) -> None:
        self.functions.append(tool)
        if origin.custom or origin.namespace:
            self.origins[tool.name] = origin


def read_choice(value: Any, tools: Tools) -> tuple[Any, tuple[Tool, ...]]:
    """The tool that the model is to use, in the form of Chat Completions, and the tools that it may use.

    Few upstreams know `allowed_tools`: only those tools are sent.
    """
    value = in_openai_form(value)
    if value is None or value == "none":
        return value, tools.functions
    if isinstance(value, str):
        if value not in {"auto", "required"}:
            raise BadRequest(f"tool_choice: {value[:32]!r} is none of none, auto, required", param="tool_choice")
        if value == "required" and not tools.functions:
            raise _nothing_to_choose(tools)
        return value, tools.functions
    if not isinstance(value, dict):
        raise wrong("tool_choice", "a string or an object", value)
    if value.get("type") == "allowed_tools":
        allowed = need_array(value, "tools", "tool_choice")
        names = {_chosen(one, path, tools) for one, path in objects(allowed, "tool_choice.tools")}
        mode = get_string(value, "mode", "tool_choice") or "auto"
        chosen = tuple([tool for tool in tools.functions if tool.name in names])
        if mode == "required" and not chosen:
            raise _nothing_to_choose(tools)
        return mode, chosen
    name = _chosen(value, "tool_choice", tools)
    if name is None:
        raise _nothing_to_choose(tools)
    return {"type": "function", "function": {"name": name}}, tools.functions


def _chosen(value: dict[str, Any], path: str, tools: Tools) -> str | None:
    """The function that a choice names; None for a tool that the upstream is not sent."""
    kind = need_string(value, "type", path)
    if kind not in {"function", "custom"}:
        return None
    if "name" not in value and "function" in value:  # the form of Chat Completions
        value, path = need_object(value, "function", path), f"{path}.function"
    name = need_string(value, "name", path)
    namespace = get_string(value, "namespace", path)
    if namespace:
        return function_name(name, namespace)
    # A choice may name a tool in a namespace by its own name alone.
    if any(tool.name == name for tool in tools.functions):
        return name
    return next((flat for flat, origin in tools.origins.items() if origin.name == name), name)


def _nothing_to_choose(tools: Tools) -> BadRequest:
    omissions = f" ({', '.join(sorted(set(tools.omissions)))})" if tools.omissions else ""
    return BadRequest(
        f"tool_choice: it asks for a tool that this server does not run{omissions}; "
        "tools of type function and custom are passed on",
        param="tool_choice",
        code="unsupported_value",
    )
