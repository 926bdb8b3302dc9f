"""Settings of a request, from Anthropic's names to OpenAI's and back.

`ChatRequest.params` has them under OpenAI's names. A setting that the other side does not have is left out where that
does no harm, and refused where the answer would not be what was asked for.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from proxy.contracts.anthropic.schema import closed
from proxy.errors import Unsupported
from proxy.wire.choices import in_openai_form, is_word
from proxy.wire.json_body import PARAMETERS, get_array, get_object, get_string, read_param

HINTS = frozenset({"top_k", "reasoning_effort"})
"""Settings of a request that OpenAI does not have, or that its models may refuse."""

NO_SAMPLING_SINCE = "2026-10-21"
"""The API version from which any `temperature`, `top_p` or `top_k`, even a default, is a 400."""

SAMPLING = ("temperature", "top_p", "top_k")

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
"""Tokens of thinking by OpenAI's effort, for models that take a budget. Anthropic defines no such table."""

SMALLEST_BUDGET = 1024  # Anthropic refuses less

_GENERATION = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:-(\d{1,2}))?(?!\d)")
_ADAPTIVE_SINCE = (4, 6)  # these models choose the budget of their thinking
_FIXED_SAMPLING_SINCE = (4, 7)
_LATE_SYSTEM_SINCE = {"opus": (4, 8), "sonnet": (5, 1)}
_LATE_SYSTEM_OF_OTHERS_SINCE = (5, 0)
_NO_PREFILL_SINCE = (4, 6)
_NEWEST = (99, 0)
_OF_MAX_TOKENS = ("max_completion_tokens", "max_tokens")


def decode_params(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a Messages request's fields. Raises `BadRequest` naming one of a wrong type."""
    settings = ("max_tokens", *SAMPLING)
    params = {name: read_param(name, wire[name], name) for name in settings if wire.get(name) is not None}
    if stop := get_array(wire, "stop_sequences"):
        params["stop"] = read_param("stop", stop, "stop_sequences")
    if effort := _effort(wire):
        params["reasoning_effort"] = effort
    choice = wire.get("tool_choice")
    choice = {"type": choice} if is_word(choice) else get_object(wire, "tool_choice") or {}
    if any(map(is_function, get_array(wire, "tools") or ())):  # OpenAI refuses a choice without tools
        params |= _decode_choice(choice)
    if schema := _schema(wire):
        params["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return params


def is_function(tool: Any) -> bool:
    """Whether the client defines the tool. Other upstreams do not know the tools that Anthropic defines or runs."""
    return isinstance(tool, dict) and (tool.get("type") or "custom") in ("custom", "function")


def encode_params(params: Mapping[str, Any], *, model: str, tools: bool, hints: Collection[str] = ()) -> dict[str, Any]:
    """OpenAI's settings as fields of a Messages request, without `max_tokens`.

    Raises `Unsupported` for what Messages cannot do. A name that OpenAI does not have comes from a route, which may
    use Anthropic's own settings (`thinking`), and is sent unchanged; this does not apply to names in `hints`.
    """
    if type(n := params.get("n")) is int and n > 1:
        raise Unsupported("this target gives one answer, not several (n)", param="n")
    if params.get("logprobs") is True:
        raise Unsupported("this target tells no log probabilities", param="logprobs")
    fields = {name: value for name, value in params.items() if name not in PARAMETERS and name not in hints}
    if takes_sampling(model):
        fields |= _sampling(params)
    if stop := stop_sequences(params.get("stop")):
        fields["stop_sequences"] = stop
    if tools and (choice := _choice(params)):
        fields["tool_choice"] = choice
    if schema := _json_schema(params.get("response_format")):
        fields["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return fields


def thinking(effort: Any, *, model: str, max_tokens: int) -> dict[str, Any]:
    """The fields that make `model` think with OpenAI's `reasoning_effort`; empty where it should not or cannot."""
    if not isinstance(effort, str) or effort not in _BUDGETS:  # `none`, or not a word of OpenAI's
        return {}
    generation = _generation(model)
    if generation >= _ADAPTIVE_SINCE:
        if effort == "minimal" or (effort in {"xhigh", "max"} and generation == _ADAPTIVE_SINCE):
            effort = "low" if effort == "minimal" else "high"  # the nearest words that these models know
        # `summarized`: by default these models send thinking without its text.
        return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": effort}}
    budget = min(_BUDGETS[effort], max_tokens // 2)  # `max_tokens` includes thinking
    if budget < SMALLEST_BUDGET:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def takes_sampling(model: str) -> bool:
    """Whether `model` takes a temperature. Claude models after 4.6 answer 400 to one; other models do not."""
    return _generation(model) < _FIXED_SAMPLING_SINCE


def takes_late_system(model: str) -> bool:
    """Whether `model` takes system text between the turns: Claude Opus since 4.8, and all since 5 but Sonnet 5."""
    since = (since for family, since in _LATE_SYSTEM_SINCE.items() if family in model)
    return _generation(model) >= next(since, _LATE_SYSTEM_OF_OTHERS_SINCE)


def takes_prefill(model: str) -> bool:
    """Whether `model` continues an answer at the end of the conversation: Claude models since 4.6 refuse to."""
    return _generation(model) < _NO_PREFILL_SINCE


def _generation(model: str) -> tuple[int, int]:
    """The version in a Claude model's name, (4, 5) for `claude-haiku-4-5-20251001`; (0, 0) for other models."""
    if "claude" not in model:
        return (0, 0)
    if found := _GENERATION.search(model):
        return int(found[1]), int(found[2] or 0)
    return _NEWEST  # `claude-mythos-preview`


def _sampling(params: Mapping[str, Any]) -> dict[str, Any]:
    """Claude models since 4.5 refuse `temperature` together with `top_p`. The highest temperature is 1."""
    fields: dict[str, Any] = {}
    temperature = params.get("temperature")
    if isinstance(temperature, (int, float)):
        fields["temperature"] = min(temperature, 1)
    elif params.get("top_p") is not None:
        fields["top_p"] = params["top_p"]
    if params.get("top_k") is not None:
        fields["top_k"] = params["top_k"]
    return fields


def max_tokens_of(params: Mapping[str, Any], default: int) -> int:
    """The longest answer, in tokens. Anthropic requires the field; `default` is for requests without one."""
    for name in _OF_MAX_TOKENS:
        value = params.get(name)
        if type(value) is int:
            return value
    return default


def _effort(wire: Mapping[str, Any]) -> str | None:
    """How much the model is to think, as OpenAI's `low`, `medium` or `high`."""
    asked = get_object(wire, "thinking")
    effort = get_string(get_object(wire, "output_config") or {}, "effort", "output_config")
    known = None if not effort else effort if effort in {"low", "medium"} else "high"
    if asked is None:
        return known
    if asked.get("type") == "disabled":
        return "none"
    budget = asked.get("budget_tokens")
    if asked.get("type") == "enabled" and isinstance(budget, int):
        return "low" if budget <= _BUDGETS["low"] else "medium" if budget <= _BUDGETS["medium"] else "high"
    return known if asked.get("type") == "adaptive" else None


def _schema(wire: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON Schema for the answer, from `output_config.format` or its older name, `output_format`."""
    config = get_object(wire, "output_config")
    if config is not None:
        return get_object(get_object(config, "format", "output_config") or {}, "schema", "output_config.format")
    return get_object(get_object(wire, "output_format") or {}, "schema", "output_format")


def _decode_choice(choice: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    match in_openai_form(choice):
        case str() | {"function": {"name": str()}} as known:
            params["tool_choice"] = known
        case _:
            pass
    if choice.get("disable_parallel_tool_use") is True:
        params["parallel_tool_calls"] = False
    return params


def _choice(params: Mapping[str, Any]) -> dict[str, Any] | None:
    choice: dict[str, Any] | None = None
    match params.get("tool_choice"):
        case "auto" | "none" as same:
            choice = {"type": same}
        case "required":
            choice = {"type": "any"}
        case {"function": {"name": str(name)}}:
            choice = {"type": "tool", "name": name}
        case _:
            pass
    if params.get("parallel_tool_calls") is False and (choice is None or choice["type"] != "none"):
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return choice


def stop_sequences(stop: Any) -> list[str]:
    """Stop sequences. Anthropic refuses those that are only white space."""
    given = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return [one for one in given if isinstance(one, str) and one.strip()]


def _json_schema(format_: Any) -> dict[str, Any] | None:
    """The schema of a `response_format`. `json_object` has none; OpenAI requires that the prompt asks for JSON too."""
    match format_:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return closed(schema)
        case _:
            return None
