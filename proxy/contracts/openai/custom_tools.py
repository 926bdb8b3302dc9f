"""Custom tools of Chat Completions, whose input is free text, and their calls in answers.

An upstream of the same dialect gets them as they came. All others are offered functions (`wire.custom_tools`), whose
calls become `custom` calls again.
"""

from collections.abc import Mapping
from typing import Any

from proxy.events import Finish
from proxy.request import Tool, ToolCall
from proxy.wire.custom_tools import as_function, custom_input
from proxy.wire.json_body import get_object, get_string, need_object, need_string
from proxy.wire.json_text import json_string


def as_custom_function(tool: dict[str, Any], path: str) -> Tool:
    """The function for a tool of type `custom`. Raises `BadRequest`."""
    custom, path = need_object(tool, "custom", path), f"{path}.custom"
    format_ = get_object(custom, "format", path) or {}
    grammar = get_object(format_, "grammar", f"{path}.format") or {}
    description = get_string(custom, "description", path)
    return as_function(need_string(custom, "name", path), description, grammar, f"{path}.format.grammar")


def custom_names(wire: Mapping[str, Any]) -> frozenset[str]:
    """The names of the custom tools in a request that was read."""
    tools = wire.get("tools") or ()
    return frozenset([tool["custom"]["name"] for tool in tools if tool.get("type") == "custom"])


class CustomCalls:
    """The custom calls of a streamed answer. Their input is known only when the JSON around it is complete."""

    __slots__ = ("_names", "_pieces")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._pieces: dict[int, list[str]] = {}

    def start(self, index: int, id_: str, name: str) -> bytes | None:
        """The delta that begins a custom call; None for a call of a function."""
        if name not in self._names:
            return None
        self._pieces[index] = []
        return b'{"tool_calls":[{"index":%d,"id":%b,"type":"custom","custom":{"name":%b,"input":""}}]}' % (
            index,
            json_string(id_),
            json_string(name),
        )

    def add(self, index: int, arguments: str) -> bool:
        """Keep a piece of a custom call's arguments. False for those of a function."""
        pieces = self._pieces.get(index)
        if pieces is None:
            return False
        pieces.append(arguments)
        return True

    def finish(self, end: Finish) -> list[bytes]:
        """The deltas with the inputs. A call that was cut off gets none: half an input looks like a whole one."""
        cut = end.reason in ("length", "content_filter")
        return [
            b'{"tool_calls":[{"index":%d,"custom":{"input":%b}}]}' % (index, json_string(text))
            for index, pieces in self._pieces.items()
            if (text := custom_input(arguments := "".join(pieces))) != arguments or not cut
        ]


def call_object(call: ToolCall, names: frozenset[str]) -> dict[str, Any]:
    """A call in a whole answer."""
    if call.name in names:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": custom_input(call.arguments)}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
