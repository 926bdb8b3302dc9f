"""The form before tools in Chat Completions: `functions`, `function_call`, and messages of role `function`.

OpenAI deprecated it in 2023 and still takes it; the SDKs have types for it and older programs send it. An upstream of
the same dialect gets it as it came. For all others it is read as tools: one call at a time, by name, without ids.
"""

from collections.abc import Mapping
from typing import Any

from proxy.wire.json_body import get_array, get_object, need_string, objects, wrong


def speaks_functions(wire: Mapping[str, Any]) -> bool:
    """Whether a request offers functions in the old form, and expects the answer in that form."""
    return bool(wire.get("functions")) and not wire.get("tools")


def as_tools(wire: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The functions as tools, without those that `function_call` excludes."""
    functions = [function for function, _ in objects(get_array(wire, "functions") or [], "functions")]
    choice = wire.get("function_call")
    if isinstance(choice, dict):
        name = need_string(choice, "name", "function_call")
        functions = [function for function in functions if function.get("name") == name]
    elif choice == "none":
        functions = []
    elif choice is not None and not isinstance(choice, str):
        raise wrong("function_call", "a string or an object", choice)
    return [{"type": "function", "function": function} for function in functions]


def nested(tools: list[Any] | None) -> list[Any] | None:
    """The tools in the form of Chat Completions. Cursor and others send some in that of Responses or of Anthropic."""
    if not tools or not any(map(_is_flat, tools)):
        return tools
    return [_nested(tool) if _is_flat(tool) else tool for tool in tools]


def _is_flat(tool: Any) -> bool:
    if type(tool) is not dict or "name" not in tool or "function" in tool:
        return False
    return tool.get("type") == "function" or ("type" not in tool and "input_schema" in tool)


def _nested(tool: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict", "cache_control")
    function = {name: tool[name] for name in names if name in tool}
    if "input_schema" in tool:
        function["parameters"] = tool["input_schema"]
    return {"type": "function", "function": function}


def as_tool_messages(messages: list[Any]) -> list[Any]:
    """The conversation with each old call and its result written as those of a tool; other messages do not change."""
    return _Conversation().read(messages)


class _Conversation:
    """Gives each call an id, and the same id to the result that follows."""

    def __init__(self) -> None:
        self._last = "call_0"

    def read(self, messages: list[Any]) -> list[Any]:
        return [
            self._message(message, f"messages[{index}]", index) if type(message) is dict else message
            for index, message in enumerate(messages)
        ]

    def _message(self, message: dict[str, Any], path: str, index: int) -> dict[str, Any]:
        if message.get("role") == "function":
            return {**message, "role": "tool", "tool_call_id": self._last, "content": message.get("content") or ""}
        if message.get("function_call") is None or message.get("tool_calls"):
            return message
        self._last = f"call_{index}"
        call = get_object(message, "function_call", path)
        return {**message, "tool_calls": [{"id": self._last, "type": "function", "function": call}]}
