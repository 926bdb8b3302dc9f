"""Reading a chunk whose fields have other types than documented: the slow path behind `decode_chunk`.

Strict about meaning, lenient about form. Where a text is expected, a number or a boolean becomes the text that the
upstream wrote (`0.50` stays `0.50`): some gateways write each token that looks like JSON without quotes. A field that
is not needed to understand the answer is skipped when it is broken. A broken field that the answer needs (the list of
choices, a delta, its content, a tool call) is a `ValueError`.
"""

import json
from typing import Any

from proxy.contracts.openai.chunks import Choice, Chunk, Delta, Function, ToolCallPiece, image_address
from proxy.wire import lenient_json
from proxy.wire.lenient_json import Number, index_in, object_in, text_in

# Fields of which any form is taken.
_REST_OF_CHUNK = ("error", "id", "model", "base_resp", "citations", "search_results", "web_search", "x_groq")
_REST_OF_DELTA = (
    "reasoning_text", "thinking", "audio", "annotations", "citations", "context", "images", "extra_content",
    "provider_specific_fields",
)  # fmt: skip


class BrokenField(ValueError):
    """A field that the answer needs has a type that tells nothing."""


def decode_leniently(data: bytes, *, skip_broken: bool = False) -> Chunk:
    """A chunk, or one without any fields for a JSON value that holds nothing, such as `null`.

    Raises `ValueError` for what is no JSON, for another JSON value, and for a broken field that the answer needs;
    with `skip_broken`, for a reader who only looks for the end, such a field counts as missing.
    """
    try:
        value = lenient_json.loads(data)
    except RecursionError:
        raise BrokenField("the JSON nests too deep") from None
    if not value or value is True:
        return Chunk()
    if not isinstance(value, dict):
        raise BrokenField("a chunk must be an object")
    rest = {name: value.get(name) for name in _REST_OF_CHUNK}
    choices = _choices(value.get("choices"), skip_broken=skip_broken)
    return Chunk(choices=choices, usage=object_in(value.get("usage")), **rest)


def _choices(value: Any, *, skip_broken: bool) -> list[Choice] | None:
    if not value:
        return [] if isinstance(value, list) else None
    if not isinstance(value, list):
        raise BrokenField("choices must be a list")
    return [_choice(choice, skip_broken=skip_broken) for choice in value if choice is not None]


def _choice(value: Any, *, skip_broken: bool) -> Choice:
    if not isinstance(value, dict):
        raise BrokenField("a choice must be an object")
    choice = Choice(
        index=index_in(value.get("index")),
        finish_reason=_reason(value.get("finish_reason")),
        native_finish_reason=value.get("native_finish_reason"),
        usage=object_in(value.get("usage")),
        error=value.get("error"),
    )
    try:
        text = value.get("text")  # of a completion without messages
        choice.delta = _delta(value.get("delta") or (None if text in (None, "") else {"content": text}))
        choice.message = _delta(value.get("message"))
    except ValueError:
        if not skip_broken:
            raise
        choice.delta = Delta(content="")
    return choice


def _delta(value: Any) -> Delta | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise BrokenField("a delta must be an object")
    reasoning = value.get("reasoning")
    delta = Delta(
        reasoning_content=_optional_text(value.get("reasoning_content")),
        reasoning=str(reasoning) if isinstance(reasoning, str) else reasoning,
        reasoning_details=_structured(value.get("reasoning_details")),
        thinking_blocks=_structured(value.get("thinking_blocks")),
        refusal=_optional_text(value.get("refusal")) if value.get("refusal") not in (True, False) else None,
        tool_calls=_tool_calls(value.get("tool_calls")),
        function_call=_function(value.get("function_call")) if value.get("function_call") else None,
        **{name: value.get(name) for name in _REST_OF_DELTA},
    )
    if delta.reasoning_content is None and isinstance(value.get("reasoning_content"), (list, dict)):
        delta.reasoning_details = delta.reasoning_details or value["reasoning_content"]
    content = value.get("content")
    if isinstance(content, (list, dict)):
        _parts(content if isinstance(content, list) else [content], delta)
    else:
        delta.content = _text(content)
    return delta


# Parts of content, which Mistral, Databricks, Cohere and others write where OpenAI has a string


def _parts(parts: list[Any], delta: Delta) -> None:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, dict):
            _part(part, delta, texts)
        elif part is not None:
            texts.append(text_in(part))
    delta.content = "".join(texts)


def _part(part: dict[str, Any], delta: Delta, texts: list[str]) -> None:
    kind = part.get("type")
    kind = kind if isinstance(kind, str) else ""
    if "reason" in kind or "think" in kind or (not kind and part.get("thinking")):
        delta.thinking_blocks = [*(delta.thinking_blocks or ()), part]
    elif "image" in kind:
        if (url := image_address(part)).startswith(("https://", "http://", "data:")):
            delta.images = [*(delta.images or ()), url]
    elif kind == "refusal":
        delta.refusal = _optional_text(part.get("refusal"))
    elif "text" in part or kind in ("", "text", "output_text"):
        text = part.get("text", part.get("content"))
        if isinstance(text, dict):  # {"text": {"value": "…"}}, as OpenAI's Assistants write it
            text = text.get("value")
        if text is None and not kind:
            raise BrokenField("a part of content has neither a type nor a text")
        texts.append(_text(text) or "")


# Tool calls


def _tool_calls(value: Any) -> list[ToolCallPiece] | None:
    if not value:
        return None
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise BrokenField("tool_calls must be a list")
    return [_tool_call(call) for call in value if call is not None]


def _tool_call(value: Any) -> ToolCallPiece:
    if not isinstance(value, dict):
        raise BrokenField("a tool call must be an object")
    function, custom = value.get("function"), value.get("custom")
    flat = _function(value) if not function and not custom else Function()
    return ToolCallPiece(
        name=flat.name,
        arguments=flat.arguments,
        input=flat.input,
        parameters=flat.parameters,
        index=index_in(value.get("index")),
        id=_optional_text(value.get("id")),
        function=_function(function) if function else None,
        custom=_function(custom) if custom else None,
        extra_content=value.get("extra_content"),
    )


def _function(value: Any) -> Function:
    if not isinstance(value, dict):
        raise BrokenField("a function must be an object")
    return Function(
        name=_text(value.get("name")),
        arguments=_arguments(value.get("arguments")),
        input=_arguments(value.get("input")),
        parameters=_arguments(value.get("parameters")),
    )


def _arguments(value: Any) -> str | None:
    """Arguments as JSON text. An object or a list there is not OpenAI's form, but seen."""
    return _json(value) if isinstance(value, (dict, list)) else _text(value)


def _json(value: Any) -> str:
    """JSON with its numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str | None:
    """A text that may be missing: nothing else than a text, a number or a boolean may stand in its place."""
    return None if value is None else text_in(value)


def _structured(value: Any) -> Any:
    return value if isinstance(value, (list, dict)) else None


def _optional_text(value: Any) -> str | None:
    """A text that the answer does not need."""
    return text_in(value) if isinstance(value, (str, bool)) else None


def _reason(value: Any) -> str | None:
    if isinstance(value, dict):  # {"type": "stop"}
        value = value.get("type") or value.get("reason")
    return str(value) if isinstance(value, str) else "true" if value is True else None
