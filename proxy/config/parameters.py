"""The sampling and output parameters that a route may set, by their OpenAI names, and the type of each."""

from typing import Any

# A route may not set these: they are the request's own content, or the proxy decides them.
NOT_PARAMETERS = ("model", "messages", "stream", "stream_options", "tools", "user", "metadata")

_PARAMETERS: dict[str, tuple[tuple[type, ...], tuple[str, ...]]] = {
    # what a value is called: its types, and the parameters that take it
    "a number": (
        (int, float),
        ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    ),
    "a whole number": ((int,), ("top_k", "max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs")),
    "true or false": ((bool,), ("logprobs", "parallel_tool_calls", "store")),
    "text": ((str,), ("reasoning_effort", "service_tier", "verbosity")),
    "text or a list": ((str, list), ("stop",)),
    "text or a mapping": ((str, dict), ("tool_choice",)),
    "a mapping": ((dict,), ("logit_bias", "response_format", "prediction", "thinking")),
    "a list": ((list,), ("modalities",)),
}
KIND_OF_PARAMETER = {name: kind for kind, (_, names) in _PARAMETERS.items() for name in names}


def is_of_kind(value: Any, kind: str) -> bool:
    """Whether `value` has the type that `kind` of `KIND_OF_PARAMETER` stands for. A boolean is not a number."""
    return isinstance(value, _PARAMETERS[kind][0]) and (not isinstance(value, bool) or kind == "true or false")


def check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    for name, value in parameters.items():
        if name in NOT_PARAMETERS:
            hint = "write it into the target: `to: backend/model`" if name == "model" else "it is the request's own"
            raise ValueError(f"`{name}` cannot be set by a route: {hint}")
        kind = KIND_OF_PARAMETER.get(name)
        if kind is None or value is None:
            continue
        if not is_of_kind(value, kind):
            raise ValueError(f"`{name}` takes {kind}")
    return parameters
