"""Read requests of the Vercel AI SDK: those of `useChat`, `useCompletion`, and assistant-ui on top of them.

A conversation is a list of UI messages, and each message a list of parts: text, files, reasoning, and tools with their
results. They are read as the SDK's own `convertToModelMessages` does, but without parts of unknown types, which come
with every release, and without calls whose arguments are not complete. Calls and files of version 4 are read too.

The other fields belong to the app. Settings are read under OpenAI's names, and under those that assistant-ui's
transport sends: `system`, `tools`, `callSettings`, `config.modelName`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy.errors import BadRequest
from proxy.request import ChatRequest, Message, Part, Text, Tool, ToolCall
from proxy.wire.attachments import inline, linked
from proxy.wire.json_body import (
    NOT_EVERYWHERE,
    decode_params,
    decode_tools,
    get_array,
    get_boolean,
    get_object,
    get_string,
    missing,
    need_object,
    need_string,
    objects,
    other_tools,
    parse_object,
    read_param,
    wrong,
)
from proxy.wire.omissions import unread, unread_settings

DIALECT = "ai-sdk"

SIGNATURE_KEY = "chatProxy"
"""The key of a reasoning part's `providerMetadata` that carries the reasoning's signature to the client and back."""

_CALL_SETTINGS = {
    "maxTokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "seed": "seed",
    "stopSequences": "stop",
}

# The last four are settings of the client itself.
_READ = frozenset([*_CALL_SETTINGS, "headers", "maxRetries", "abortSignal", "timeout"])

_TRIGGERS = frozenset({b'"submit-message"', b'"regenerate-message"'})

Parts = list[tuple[dict[str, Any], str]]
"""A message's parts, each with the path to it."""


# Detecting a request of this contract


class _MessageOutline(msgspec.Struct, gc=False):
    parts: msgspec.Raw = msgspec.Raw(b"")


class _Outline(msgspec.Struct, gc=False):
    """The fields by which a body is detected. msgspec skips all others, which keeps this cheap."""

    messages: list[_MessageOutline] | None = None
    trigger: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")


_outline = msgspec.json.Decoder(_Outline).decode

CERTAIN, LIKELY = 20, 10


def detects(body: bytes) -> int:
    """How surely a body belongs to this contract.

    Certain: a message made of parts, or the SDK's `trigger`. Likely: a prompt and no messages (`useCompletion`).
    """
    if b'"parts"' not in body and b'"trigger"' not in body and b'"prompt"' not in body:
        return 0
    try:
        outline = _outline(body)
    except (ValueError, RecursionError):
        return 0  # the contract that gets the body says what is wrong with it
    if bytes(outline.trigger) in _TRIGGERS:
        return CERTAIN
    if outline.messages is None:
        return LIKELY if bytes(outline.prompt).startswith(b'"') else 0
    return CERTAIN if any(bytes(message.parts).startswith(b"[") for message in outline.messages) else 0


# Reading a request


def decode_request(
    body: bytes, *, id: str, contract: str, path: str = "", headers: Mapping[str, str] | None = None
) -> ChatRequest:
    """Read a request body. Raises `BadRequest` that says what is wrong and where. Unknown fields are ignored.

    `user` is read only if it is a string, and `metadata` only if it is an object: an app may use these names for
    something else.
    """
    fields = parse_object(body)
    config = _object_or_empty(fields, "config")
    user = fields.get("user")
    options = _object_or_empty(fields, "stream_options")
    params = {**_call_settings(fields, config), **decode_params(fields)}
    return ChatRequest(
        id=id,
        contract=contract,
        dialect=DIALECT,
        messages=_conversation(fields),
        model=get_string(fields, "model") or get_string(config, "modelName", "config") or None,
        params=params,
        hints=NOT_EVERYWHERE & params.keys(),
        tools=_tools(fields.get("tools")),
        hosted_tools=other_tools(given) if type(given := fields.get("tools")) is list else (),
        unread=unread_settings(fields) + unread(_object_or_empty(fields, "callSettings"), _READ, "callSettings."),
        stream=get_boolean(fields, "stream") is not False,
        user=user if type(user) is str else None,
        conversation=chat if type(chat := fields.get("id")) is str else None,
        metadata=_object_or_empty(fields, "metadata"),
        wants_usage=options.get("include_usage") is True,
        path=path,
        headers=headers or {},
        raw_body={"chat_id": fields["id"]} if type(fields.get("id")) is str else None,  # for `sticky`
    )


def _object_or_empty(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object in a field; empty if the field holds something else, which then is the app's own."""
    value = fields.get(name)
    return value if type(value) is dict else {}


def _call_settings(fields: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    given = _object_or_empty(fields, "callSettings")
    settings = {
        ours: read_param(ours, given[theirs], f"callSettings.{theirs}")
        for theirs, ours in _CALL_SETTINGS.items()
        if given.get(theirs) is not None
    }
    if (effort := config.get("reasoningEffort")) is not None:
        settings["reasoning_effort"] = read_param("reasoning_effort", effort, "config.reasoningEffort")
    return settings


def _tools(value: Any) -> tuple[Tool, ...]:
    """OpenAI's list, or assistant-ui's object of tools by name."""
    if type(value) is not dict:
        return decode_tools(get_array({"tools": value}, "tools"))
    tools = []
    for name, tool in value.items():
        at = f"tools.{name}"
        if type(tool) is not dict:
            raise wrong(at, "an object", tool)
        parameters = get_object(tool, "parameters", at) or get_object(tool, "inputSchema", at)
        tools.append(Tool(name, get_string(tool, "description", at), parameters))
    return tuple(tools)


def _conversation(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    values = get_array(fields, "messages")
    system = fields.get("system")
    messages = [Message("system", (Text(system),))] if type(system) is str and system else []
    if values is None:
        prompt = get_string(fields, "prompt")
        if prompt is None:
            raise missing("messages", "a list")
        return (*messages, Message("user", (Text(prompt),)))
    if not values:
        raise BadRequest("messages: expected at least one message, got an empty list", param="messages")
    for message, path in objects(values, "messages"):
        messages += _message(message, path)
    return tuple(messages)


def _message(message: dict[str, Any], path: str) -> list[Message]:
    """The model's messages for one UI message. An assistant's may become several, with tool results between them."""
    parts = _parts(message, path)
    match need_string(message, "role", path):
        case "system":
            texts = [need_string(part, "text", at) for part, at in parts if part["type"] == "text"]
            return [Message("system", tuple([Text(text) for text in texts if text]))] if any(texts) else []
        case "user":
            return [Message("user", tuple(_user_parts(parts)))]
        case "assistant":
            return list(_assistant_messages(parts))
        case role:
            at = f"{path}.role"
            raise BadRequest(f"{at}: {role[:32]!r} is none of system, user, assistant", param=at)


def _parts(message: dict[str, Any], path: str) -> Parts:
    """The parts of a message. Messages of older SDKs have no parts but plain text as `content`."""
    values = get_array(message, "parts", path)
    if values is None:
        content = message.get("content")
        if type(content) is not str:
            raise missing(f"{path}.parts", "a list")
        calls = objects(get_array(message, "toolInvocations", path) or [], f"{path}.toolInvocations")
        files = objects(get_array(message, "experimental_attachments", path) or [], f"{path}.experimental_attachments")
        return [
            ({"type": "text", "text": content}, f"{path}.content"),
            *[(_of_sdk_4(call, at), at) for call, at in calls],
            *[({"type": "file", "mediaType": file.get("contentType"), **file}, at) for file, at in files],
        ]
    parts = []
    for part, at in objects(values, f"{path}.parts"):
        is_call = need_string(part, "type", at) == "tool-invocation"
        parts.append((_of_sdk_4(need_object(part, "toolInvocation", at), at) if is_call else part, at))
    return parts


def _of_sdk_4(call: dict[str, Any], at: str) -> dict[str, Any]:
    """A call as version 4 of the SDK has it, in the form of later versions."""
    states = {"result": "output-available", "call": "input-available", "partial-call": "input-streaming"}
    return {
        "type": "dynamic-tool",
        "toolName": need_string(call, "toolName", at),
        "toolCallId": need_string(call, "toolCallId", at),
        "state": states.get(get_string(call, "state", at) or ""),
        "input": call.get("args"),
        "output": call.get("result"),
    }


def _user_parts(parts: Parts) -> Iterator[Part]:
    """The text and files of a user's message."""
    for part, at in parts:
        match part["type"]:
            case "text":
                if text := need_string(part, "text", at):  # some upstreams refuse empty text
                    yield Text(text)
            case "file":
                yield _file(part, at)
            case _:
                pass


def _file(part: dict[str, Any], at: str) -> Part:
    media_type = get_string(part, "mediaType", at) or ""
    return linked(media_type, need_string(part, "url", at), get_string(part, "filename", at), f"{at}.url")


def _assistant_messages(parts: Parts) -> Iterator[Message]:
    """The messages for an assistant's UI message: one per step, each followed by its tools' results."""
    step = _Step()
    for part, at in parts:
        match part["type"]:
            case "step-start":
                yield from step.messages()
                step = _Step()
            case "text":
                if text := need_string(part, "text", at):
                    if step.has_calls:  # what is said after a call stays behind it
                        yield from step.messages()
                        step = _Step()
                    step.text.append(Text(text))
            case "file":
                step.text.append(_file(part, at))
            case "reasoning":
                step.think(get_string(part, "text", at) or "", part.get("providerMetadata"))
            case "dynamic-tool":
                step.use(part, need_string(part, "toolName", at), at)
            case kind if kind.startswith("tool-"):
                step.use(part, kind.removeprefix("tool-"), at)
            case _:
                pass
    yield from step.messages()


class _Step:
    """One step of an answer: what the model wrote in one go, and the results of its tools."""

    def __init__(self) -> None:
        self.text: list[Part] = []
        self._thoughts: list[str] = []
        self._signed: tuple[str, str] | None = None  # reasoning and its signature
        self._calls: list[ToolCall] = []
        self._results: list[Message] = []

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

    def think(self, text: str, metadata: Any) -> None:
        """Add reasoning. A signature is valid for its own text only, so the last signed text counts, if there is one."""
        self._thoughts.append(text)
        ours = metadata.get(SIGNATURE_KEY) if type(metadata) is dict else None
        signature = ours.get("signature") if type(ours) is dict else None
        if type(signature) is str and signature:
            self._signed = (text, signature)

    def use(self, part: dict[str, Any], name: str, at: str) -> None:
        """Add a tool call and its result, if there is one. A call whose arguments were not complete is left out."""
        if part.get("state") == "input-streaming":
            return
        call_id = need_string(part, "toolCallId", at)
        self._calls.append(ToolCall(call_id, name, _arguments(part)))
        if (outcome := _outcome(part, at)) is not None:
            shown, failed = outcome
            self._results.append(Message("tool", shown, tool_call_id=call_id, failed=failed))

    def messages(self) -> Iterator[Message]:
        if not (self.text or self._calls):
            return
        reasoning, signature = self._signed or ("".join(self._thoughts), "")
        yield Message(
            "assistant",
            tuple(self.text),
            tool_calls=tuple(self._calls),
            reasoning=reasoning or None,
            reasoning_signature=signature or None,
        )
        yield from self._results


def _outcome(part: dict[str, Any], at: str) -> tuple[tuple[Part, ...], bool] | None:
    """A tool's result and whether the tool failed; None while there is no result."""
    match part.get("state"):
        case "output-available" if part.get("preliminary") is not True:
            output = part.get("output")
            failed = type(output) is dict and output.get("isError") is True
            return _content_of(output) or (Text(_written(output)),), failed
        case "output-error":
            return (Text(get_string(part, "errorText", at) or "The tool failed."),), True
        case "output-denied":
            return (Text(_denial(part)),), True
        case "approval-responded" if _object_or_empty(part, "approval").get("approved") is False:
            return (Text(_denial(part)),), True
        case _:  # waiting for its tool or for an approval
            return None


def _content_of(output: Any) -> tuple[Part, ...]:
    """The parts of an MCP tool's result that shows something besides text; none for any other output."""
    content = output.get("content") if type(output) is dict else None
    if type(content) is not list or not all(map(_is_content, content)) or all(one["type"] == "text" for one in content):
        return ()
    return tuple(
        [Text(one["text"]) if one["type"] == "text" else inline(one["mimeType"], one["data"], None) for one in content]
    )


def _is_content(part: Any) -> bool:
    match part:
        case {"type": "text", "text": str()} | {"type": "image" | "audio", "data": str(), "mimeType": str()}:
            return True
        case _:
            return False


def _written(value: Any) -> str:
    return value if type(value) is str else msgspec.json.encode(value).decode()


def _denial(part: dict[str, Any]) -> str:
    reason = _object_or_empty(part, "approval").get("reason")
    return reason if type(reason) is str and reason else "The user did not allow this call."


def _arguments(part: dict[str, Any]) -> str:
    """The tool's arguments as JSON text. Arguments that were not JSON come back as a string."""
    given = part.get("input")
    if given is None:
        given = part.get("rawInput", {})
    return _written(given)
