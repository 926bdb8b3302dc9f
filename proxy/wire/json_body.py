"""Read request bodies: strict JSON, typed access that names the place, and settings and tools as OpenAI has them.

Every contract with JSON requests uses this. Each error is a `BadRequest` that says where and what, in the words of
JSON, and carries the place as `param`:

    messages[2].content: expected a string or a list of parts, got a number

`get_*` return None for a field that is absent or null; `need_*` refuse it. `at` is the path of the object that holds
the field. Unknown fields are ignored, because clients add new ones every month.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from proxy.config.parameters import KIND_OF_PARAMETER, is_of_kind
from proxy.errors import BadRequest, Unsupported
from proxy.request import Tool
from proxy.wire.strict_json import parse

PARAMETERS = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "presence_penalty", "frequency_penalty",
    "seed", "n", "logprobs", "top_logprobs", "logit_bias", "response_format", "tool_choice", "parallel_tool_calls",
    "reasoning_effort", "verbosity", "service_tier", "top_k", "min_p", "repetition_penalty",
)  # fmt: skip
"""The settings that become `ChatRequest.params`, under their OpenAI names."""

NOT_EVERYWHERE = frozenset({"top_k", "min_p", "repetition_penalty"})
"""The settings that OpenAI does not have. Outside OpenAI's own contract they are hints (`ChatRequest.hints`)."""

_ANY_PARAMETER = frozenset(PARAMETERS)
_PROBABILITIES = ("logprobs", "top_logprobs")
_NUMBERS = ("a number", "a whole number")
_INTEGERS = 2**63  # no upstream reads a larger one
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?")
_EXPECTED = {  # in the words of JSON
    "text": "a string",
    "true or false": "a boolean",
    "text or a list": "a string or a list of strings",
    "text or a mapping": "a string or an object",
    "a mapping": "an object",
}

_T = TypeVar("_T")
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `BadRequest` that says what is wrong and at which byte."""
    value = parse(body)
    if type(value) is not dict:
        raise BadRequest(f"the request body: expected an object, got {_KINDS[type(value)]}")
    return value


# Access by type


def wrong(path: str, expected: str, value: Any) -> BadRequest:
    """The error for a field of another type than `expected`. It never shows the value."""
    return BadRequest(f"{path}: expected {expected}, got {_KINDS[type(value)]}", param=path)


def missing(path: str, expected: str) -> BadRequest:
    """The error for a required field that is absent."""
    return BadRequest(f"{path}: required, {expected}", param=path)


def get_string(fields: Mapping[str, Any], name: str, at: str = "") -> str | None:
    return _get(fields, name, at, str)


def get_boolean(fields: Mapping[str, Any], name: str, at: str = "") -> bool | None:
    return _get(fields, name, at, bool)


def get_array(fields: Mapping[str, Any], name: str, at: str = "") -> list[Any] | None:
    return _get(fields, name, at, list)


def get_object(fields: Mapping[str, Any], name: str, at: str = "") -> dict[str, Any] | None:
    return _get(fields, name, at, dict)


def need_string(fields: Mapping[str, Any], name: str, at: str = "") -> str:
    return _need(fields, name, at, str)


def need_array(fields: Mapping[str, Any], name: str, at: str = "") -> list[Any]:
    return _need(fields, name, at, list)


def need_object(fields: Mapping[str, Any], name: str, at: str = "") -> dict[str, Any]:
    return _need(fields, name, at, dict)


def objects(values: list[Any], at: str) -> list[tuple[dict[str, Any], str]]:
    """The objects of a list with their paths. Raises `BadRequest` for an item of another type."""
    pairs = []
    for index, value in enumerate(values):
        path = f"{at}[{index}]"
        if type(value) is not dict:
            raise wrong(path, "an object", value)
        pairs.append((value, path))
    return pairs


def _get(fields: Mapping[str, Any], name: str, at: str, kind: type[_T]) -> _T | None:
    value = fields.get(name)
    if value is None or type(value) is kind:
        return value
    raise wrong(_path(at, name), _KINDS[kind], value)


def _need(fields: Mapping[str, Any], name: str, at: str, kind: type[_T]) -> _T:
    value = _get(fields, name, at, kind)
    if value is None:
        raise missing(_path(at, name), _KINDS[kind])
    return value


def _path(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


# Settings and tools in the form of OpenAI Chat Completions


def decode_params(body: Mapping[str, Any], *, choices: bool = False, at: str = "") -> dict[str, Any]:
    """The settings among a body's fields. The upstream checks their values.

    With `choices` they stay as they are, for OpenAI's own contract, whose upstreams check their types too. Without,
    `one_choice` checks them.
    """
    if _ANY_PARAMETER.isdisjoint(body):  # most chat pages send messages and nothing else
        return {}
    params = {name: body[name] for name in PARAMETERS if body.get(name) is not None}
    return params if choices else one_choice(params, {name: _path(at, name) for name in params})


def one_choice(params: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """The settings for a contract that carries one answer, without token probabilities, each in its own type.

    `places` are the paths of the settings, for errors. Raises `BadRequest` for a value of a wrong type, and
    `Unsupported` for `n` above 1, because the client would pay for all answers and get one. Settings for
    probabilities are dropped.
    """
    read = {name: read_param(name, value, places[name]) for name, value in params.items() if name not in _PROBABILITIES}
    if read.pop("n", 1) > 1:
        path = places["n"]
        raise Unsupported(f"{path}: this contract carries one answer, not several; leave n out", param=path)
    return read


def read_param(name: str, value: Any, path: str) -> Any:
    """A setting in its own type; raises `BadRequest` for a value of another, which some upstreams silently ignore.

    A number in a string is read, because forms send `"100"`; so is a whole number with a fraction of zero.
    """
    kind = KIND_OF_PARAMETER[name]
    if type(value) is str and kind in _NUMBERS:
        value = _number(value)
    if type(value) is float and kind == "a whole number" and value.is_integer() and abs(value) < _INTEGERS:
        value = int(value)
    if not is_of_kind(value, kind) or (name == "stop" and not _are_strings(value)):
        raise BadRequest(f"{path}: expected {_EXPECTED.get(kind, kind)}", param=path)
    return value


def _number(text: str) -> int | float | str:
    """The number that a text is; the text itself if it is none."""
    if not _NUMBER.fullmatch(text) or abs(float(text)) >= _INTEGERS:
        return text
    return float(text) if "." in text else int(text)


def _are_strings(stop: str | list[Any]) -> bool:
    return type(stop) is str or all(type(item) is str for item in stop)


def no_calls(contract: str, instead: str) -> Unsupported:
    """The error for tools in a contract without tool calls: its client would wait for a call that never comes."""
    return Unsupported(
        f"tools: the contract {contract} cannot carry tool calls; leave tools out, or {instead}", param="tools"
    )


def decode_tools(values: list[Any] | None, at: str = "tools") -> tuple[Tool, ...]:
    """The functions that a model may call. Tools of other types stay in the request's raw body only."""
    return tuple(
        [
            decode_tool(value, path, flat="name" in value and "function" not in value)
            for value, path in objects(values or [], at)
            if need_string(value, "type", path) == "function"
        ]
    )


def decode_tool(value: dict[str, Any], path: str, *, flat: bool) -> Tool:
    """A function. `flat`: its fields stand in the tool itself, as in Responses."""
    function = value if flat else need_object(value, "function", path)
    path = path if flat else f"{path}.function"
    return Tool(
        name=need_string(function, "name", path),
        description=get_string(function, "description", path),
        parameters=get_object(function, "parameters", path),
        strict=get_boolean(function, "strict", path),
        cache=cache_mark(value) or cache_mark(function),
    )


def other_tools(values: list[Any] | None) -> tuple[str, ...]:
    """The types of the tools in a list that are no functions: the upstream is to run them."""
    kinds = [tool.get("type") for tool in values or () if type(tool) is dict]
    return tuple([kind for kind in kinds if kind and kind != "function" and type(kind) is str])


def cache_mark(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """Anthropic's mark for its prompt cache. It changes no answer, so a value of another type is ignored."""
    mark = value.get("cache_control")
    return mark if mark and type(mark) is dict else None
