"""The parts of a request that an upstream of Anthropic Messages is not sent, and why."""

from collections.abc import Mapping
from typing import Any

from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.params import SAMPLING, takes_sampling
from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.wire.omissions import hosted_tools, ignored, lost_reasoning, noticeable

_PLACES = {
    # Where each setting stands in a body. The others keep their names, or have no place.
    "max_completion_tokens": "max_tokens",
    "parallel_tool_calls": "tool_choice",
    "reasoning_effort": "thinking",
    "response_format": "format",
    "stop": "stop_sequences",
}

_UNSIGNED = "it has no signature of this target's"


def omissions(request: ChatRequest, fields: Mapping[str, Any], *, model: str) -> list[Notice]:
    """Notices for what is missing or changed in `fields`, the body as it is sent."""
    if request.dialect == DIALECT and request.raw_body is not None:
        # The client's own body, without what an API version refuses, and without thoughts of other vendors.
        notices = [ignored(name) for name in SAMPLING if name not in fields and noticeable(request, name)]
        if type(budget := (request.raw_body.get("thinking") or {}).get("budget_tokens")) is int:
            too_short = budget >= fields["max_tokens"] and "thinking" not in fields
            notices += [ignored("thinking", "the longest answer here is too short for it")] if too_short else []
        return [*notices, *lost_reasoning(request, _UNSIGNED, signed=True)]
    config = fields.get("output_config")
    sent = {*fields, *config} if isinstance(config, dict) else fields.keys()
    notices = [
        ignored(name, _why(name, fields, model))
        for name in request.params
        if _PLACES.get(name, name) not in sent and noticeable(request, name)
    ]
    if any(getattr(part, "detail", None) not in (None, "auto") for one in request.messages for part in one.parts):
        notices.append(ignored("detail", "this target chooses by itself how closely it looks at an image"))
    return [*notices, *hosted_tools(request), *lost_reasoning(request, _UNSIGNED, signed=True)]


def _why(name: str, fields: Mapping[str, Any], model: str) -> str:
    match name:
        case "temperature" | "top_p" | "top_k" if not takes_sampling(model):
            return "this target's model chooses its sampling itself"
        case "temperature" | "top_p" | "top_k" if "thinking" in fields:
            return "this target does not take it beside thinking"
        case "top_p" if "temperature" in fields:
            return "this target does not take it beside temperature"
        case "reasoning_effort":
            return "this target's model does not think with what else is asked for"
        case "response_format":
            return "this target knows no JSON without a schema; give one, or ask for JSON in the prompt"
        case _:
            return "this target does not take it"
