"""The sampling and output parameters that a route may set, by their OpenAI names, and the type of each."""

from typing import Any

# A route may not set these: they are the request's own content, or the proxy decides them.
NOT_PARAMETERS = ("model", "messages", "stream", "stream_options", "tools", "user", "metadata")

KIND_OF_PARAMETER: dict[str, str] = {
    "temperature": "a number",
    "top_p": "a number",
    "top_k": "a whole number",
    "min_p": "a number",
    "frequency_penalty": "a number",
    "presence_penalty": "a number",
    "repetition_penalty": "a number",
    "max_tokens": "a whole number",
    "max_completion_tokens": "a whole number",
    "n": "a whole number",
    "seed": "a whole number",
    "top_logprobs": "a whole number",
    "logprobs": "true or false",
    "parallel_tool_calls": "true or false",
    "store": "true or false",
    "reasoning_effort": "text",
    "service_tier": "text",
    "verbosity": "text",
    "stop": "text or a list",
    "tool_choice": "text or a mapping",
    "logit_bias": "a mapping",
    "response_format": "a mapping",
    "prediction": "a mapping",
    "thinking": "a mapping",
    "modalities": "a list",
}
_TYPES_OF_KIND: dict[str, tuple[type, ...]] = {
    "a number": (int, float),
    "a whole number": (int,),
    "true or false": (bool,),
    "text": (str,),
    "text or a list": (str, list),
    "text or a mapping": (str, dict),
    "a mapping": (dict,),
    "a list": (list,),
}


def is_of_kind(value: Any, kind: str) -> bool:
    """Whether `value` has the type that `kind` of `KIND_OF_PARAMETER` stands for. A boolean is not a number."""
    return isinstance(value, _TYPES_OF_KIND[kind]) and (not isinstance(value, bool) or kind == "true or false")


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
