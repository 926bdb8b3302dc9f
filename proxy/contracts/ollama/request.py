"""Read requests of Ollama's API: `/api/chat`, and `/api/generate` with its single prompt.

https://docs.ollama.com/api: answers are streamed unless the request says otherwise, `options` holds the sampling
settings under Ollama's names, a tool call's arguments are an object, and a request without messages or prompt only
loads the model. What an upstream that runs the model itself cannot do (`num_ctx`, `mirostat`, `template`, `raw`,
`context`, …) is announced as left out, except for what says nothing about the answer (`keep_alive`, `num_gpu`, …).
"""

from collections.abc import Container, Mapping
from typing import Any

import msgspec

from proxy.errors import BadRequest
from proxy.request import COMPLETIONS, ChatRequest, Image, Message, Part, Role, Text, Tool, ToolCall
from proxy.wire.json_body import (
    decode_tools,
    get_array,
    get_boolean,
    get_object,
    get_string,
    need_object,
    need_string,
    objects,
    other_tools,
    parse_object,
    read_param,
    wrong,
)
from proxy.wire.media import image_type
from proxy.wire.omissions import unread

DIALECT = "ollama"

LATEST = ":latest"

_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

_OPTIONS = {
    name: name
    for name in ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "top_k", "min_p")
} | {"repeat_penalty": "repetition_penalty", "num_predict": "max_tokens"}
"""Options and their OpenAI names."""

_HINTS = frozenset({"top_k", "min_p", "repetition_penalty", "reasoning_effort"})
"""Settings that Ollama's clients send by habit, although not every upstream takes them."""

_READ = frozenset({
    "model", "messages", "tools", "format", "options", "think", "stream", "prompt", "system", "images", "suffix",
    "keep_alive",
})  # fmt: skip
_READ_OF_OPTIONS = frozenset(_OPTIONS) | {
    # How the server runs the model says nothing about the answer.
    "num_gpu", "num_thread", "num_batch", "main_gpu", "numa", "low_vram", "use_mmap", "use_mlock", "vocab_only", "f16_kv",
}  # fmt: skip


def decode_chat(
    body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None, models: Container[str] = ()
) -> ChatRequest:
    """The request in a body of `/api/chat`. `models` are the models that the config names: see `model_name`.

    Raises `BadRequest` that says what is wrong and where. Unknown fields are ignored.
    """
    fields = parse_object(body)
    messages = _messages(get_array(fields, "messages") or [])
    request = _request(fields, messages, id=id, path=path, headers=headers, models=models)
    tools = get_array(fields, "tools") or []
    return msgspec.structs.replace(request, tools=_tools(tools), hosted_tools=other_tools(tools))


def decode_generate(
    body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None, models: Container[str] = ()
) -> ChatRequest:
    """The request in a body of `/api/generate`: a prompt is a conversation of one message.

    With a `suffix`, it is a prompt to complete: what is wanted then is the text between the two.
    """
    fields = parse_object(body)
    if suffix := get_string(fields, "suffix"):
        return _completion(fields, suffix, id=id, path=path, headers=headers, models=models)
    prompt, system = get_string(fields, "prompt"), get_string(fields, "system")
    messages: list[Message] = []
    if prompt:
        if system and get_boolean(fields, "raw") is not True:  # a raw prompt holds its own system text
            messages.append(Message("system", (Text(system),)))
        messages.append(Message("user", _parts(fields, prompt, "")))
    return _request(fields, tuple(messages), id=id, path=path, headers=headers, models=models)


def _completion(fields: dict[str, Any], suffix: str, **about: Any) -> ChatRequest:
    prompt = need_string(fields, "prompt")
    request = _request(fields, (Message("user", (Text(prompt),)),), **about)
    wire = {"prompt": prompt, "suffix": suffix, "stream": request.stream}
    return msgspec.structs.replace(
        request, contract="completions", task="completion", dialect=COMPLETIONS, raw_body=wire
    )


def loads(request: ChatRequest) -> str | None:
    """`load` or `unload` for a request that only loads or unloads the model; else None. Unload is `keep_alive: 0`."""
    if request.messages:
        return None
    keep = (request.raw_body or {}).get("keep_alive")
    return "unload" if keep == 0 or (isinstance(keep, str) and keep.rstrip("hmsnuµ") == "0") else "load"


def model_name(name: str, models: Container[str]) -> str:
    """The model that Ollama's clients mean by `name`.

    A name without a tag has the tag `latest` there, and clients may write it or leave it out. Other upstreams do not
    know that tag, so it is removed, unless the config names the model with it.
    """
    return name if name in models else name.removesuffix(LATEST)


def _request(
    fields: dict[str, Any],
    messages: tuple[Message, ...],
    *,
    id: str,
    path: str,
    headers: Mapping[str, str] | None,
    models: Container[str],
) -> ChatRequest:
    model, params = get_string(fields, "model"), _params(fields)
    return ChatRequest(
        id=id,
        contract=DIALECT,
        dialect=DIALECT,
        messages=messages,
        model=model_name(model, models) if model else None,
        params=params,
        hints=_HINTS & params.keys(),
        unread=unread(fields, _READ) + unread(fields.get("options") or {}, _READ_OF_OPTIONS, "options."),
        stream=get_boolean(fields, "stream") is not False,
        wants_usage=True,
        path=path,
        headers=headers or {},
        raw_body=None if messages else fields,  # only `loads` reads it: no upstream has this dialect
    )


# Settings


def _params(fields: dict[str, Any]) -> dict[str, Any]:
    """The settings under their OpenAI names. The upstream checks their values."""
    options = get_object(fields, "options") or {}
    params = {
        ours: read_param(ours, options[theirs], f"options.{theirs}")
        for theirs, ours in _OPTIONS.items()
        if options.get(theirs) is not None
    }
    if params.get("stop") in ("", []):
        del params["stop"]
    if params.get("max_tokens", 1) <= 0:  # -1 and -2 mean no limit
        del params["max_tokens"]
    if (format_ := _format(fields)) is not None:
        params["response_format"] = format_
    if effort := _effort(fields):
        params["reasoning_effort"] = effort
    return params


def _format(fields: dict[str, Any]) -> dict[str, Any] | None:
    match fields.get("format"):
        case None | "":
            return None
        case "json":
            return {"type": "json_object"}
        case dict(schema):
            return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        case other:
            if type(other) is str:
                raise BadRequest(f'format: {other[:32]!r} is neither "json" nor a JSON Schema', param="format")
            raise wrong("format", '"json" or a JSON Schema', other)


def _effort(fields: dict[str, Any]) -> str | None:
    """How much to think. `true` means medium, because clients that know levels name one."""
    match fields.get("think"):
        case None | "":
            return None
        case True:
            return "medium"
        case False:
            return "none"
        case str(level):
            return level
        case other:
            raise wrong("think", "a boolean or a level", other)


# Messages and tools


def _messages(values: list[Any]) -> tuple[Message, ...]:
    """The turns of a conversation. Calls and their results may have no ids; results name their tool."""
    messages = []
    for value, path in objects(values, "messages"):
        role = need_string(value, "role", path)
        if role not in _ROLES:
            raise BadRequest(f"{path}.role: {role[:32]!r} is none of {', '.join(_ROLES)}", param=f"{path}.role")
        content = get_string(value, "content", path)
        name = get_string(value, "tool_name", path) or get_string(value, "name", path)
        messages.append(
            Message(
                role,
                () if content is None and role == "assistant" else _parts(value, content or "", path),
                tool_calls=_tool_calls(value, path),
                tool_call_id=get_string(value, "tool_call_id", path),
                name=name if role == "tool" else None,
                reasoning=get_string(value, "thinking", path),
            )
        )
    return tuple(messages)


def _parts(value: dict[str, Any], text: str, at: str) -> tuple[Part, ...]:
    images = get_array(value, "images", at)
    if not images:
        return (Text(text),)
    path = f"{at}.images" if at else "images"
    pictures = [_image(image, f"{path}[{index}]") for index, image in enumerate(images)]
    return (Text(text), *pictures) if text else tuple(pictures)


def _image(value: Any, path: str) -> Image:
    """An image in plain base64. Its first bytes tell its media type."""
    if type(value) is not str:
        raise wrong(path, "an image in base64", value)
    media_type = image_type(value)
    if media_type is None:
        raise BadRequest(f"{path}: expected a PNG, JPEG, GIF, WebP or BMP image in base64", param=path)
    return Image(f"data:{media_type};base64,{value}")


def _tool_calls(value: dict[str, Any], path: str) -> tuple[ToolCall, ...]:
    calls = []
    for call, at in objects(get_array(value, "tool_calls", path) or [], f"{path}.tool_calls"):
        id_ = get_string(call, "id", at)
        function, at = need_object(call, "function", at), f"{at}.function"
        calls.append(
            ToolCall(
                id=id_ or get_string(function, "id", at) or "",
                name=need_string(function, "name", at),
                arguments=msgspec.json.encode(get_object(function, "arguments", at) or {}).decode(),
            )
        )
    return tuple(calls)


def _tools(values: list[Any]) -> tuple[Tool, ...]:
    """A tool without a type is a function."""
    return decode_tools([value | {"type": value.get("type") or "function"} for value, _ in objects(values, "tools")])
