"""Custom tools, whose input is free text, as functions for upstreams that know only those. No I/O.

Such a tool becomes a function with one string, `input`; its description says which grammar the input has to match.
Calls of that function are told to the client as calls of its custom tool.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.request import Tool
from proxy.wire.json_body import get_string

_PARAMETERS = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}


def as_function(name: str, description: str | None, grammar: Mapping[str, Any], path: str) -> Tool:
    """The function for a custom tool. `grammar` holds `syntax` and `definition`, or is empty; `path` is its place."""
    text = description or ""
    if definition := get_string(grammar, "definition", path):
        text += f"\n\nThe input has to match this {get_string(grammar, 'syntax', path) or 'grammar'}:\n{definition}"
    return Tool(name, text.strip() or None, _PARAMETERS)


def custom_arguments(text: str) -> str:
    """The arguments for a call of the function that a custom tool has become."""
    return msgspec.json.encode({"input": text}).decode()


def custom_input(arguments: str) -> str:
    """A custom tool's input in a call's arguments; all of them if the model ignored the form."""
    try:
        value = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments
