"""Read requests of AG-UI, the Agent-User Interaction protocol: `RunAgentInput` of 1.0 and of 0.0.x.

https://docs.ag-ui.com/concepts/messages. The model gets the messages, the tools, and the context as a system message.
Settings are read from `forwardedProps`. `state` belongs to the application and is ignored.
"""

from collections.abc import Mapping
from typing import Any

from proxy.errors import BadRequest
from proxy.request import ChatRequest, File, Message, Part, Text, Tool, ToolCall
from proxy.wire.attachments import inline, linked
from proxy.wire.json_body import (
    NOT_EVERYWHERE,
    decode_params,
    get_array,
    get_object,
    get_string,
    need_array,
    need_object,
    need_string,
    objects,
    parse_object,
    wrong,
)
from proxy.wire.omissions import unread_settings

DIALECT = "ag-ui"

_ROLES = "developer, system, user, assistant, tool, reasoning, activity"
_MEDIA = {"image": "image/*", "audio": "audio/*", "video": "video/*", "document": ""}
"""The kinds of parts that have a source, each with the media type that applies when the source names none."""


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a run's input. Raises `BadRequest` that says what is wrong and where. Unknown fields are ignored.

    `raw_body` keeps the fields that the answer needs: the ids of thread and run, the client's protocol version, and the
    messages.
    """
    fields = parse_object(body)
    props = fields.get("forwardedProps")
    props = props if type(props) is dict else {}
    if get_array(fields, "resume"):
        raise BadRequest("resume: no run here was interrupted, so there is nothing to resume", param="resume")
    messages = need_array(fields, "messages")
    if not messages:
        raise BadRequest("messages: expected at least one message, got an empty list", param="messages")
    user, metadata = props.get("user"), props.get("metadata")
    params = decode_params(props, at="forwardedProps")
    return ChatRequest(
        id=id,
        contract="ag-ui",
        dialect=DIALECT,
        messages=_with_context(_messages(messages), get_array(fields, "context")),
        model=get_string(props, "model", "forwardedProps") or None,
        params=params,
        hints=NOT_EVERYWHERE & params.keys(),
        tools=_tools(get_array(fields, "tools")),
        unread=unread_settings(props, "forwardedProps."),
        user=user if type(user) is str else None,
        metadata=metadata if type(metadata) is dict else {},
        path=path,
        headers=headers or {},
        raw_body={
            name: value
            for name in ("threadId", "runId", "parentRunId", "protocolVersion")
            if (value := get_string(fields, name)) is not None
        }
        | {"messages": messages},
    )


def _tools(values: list[Any] | None) -> tuple[Tool, ...]:
    return tuple(
        [
            Tool(need_string(tool, "name", at), get_string(tool, "description", at), get_object(tool, "parameters", at))
            for tool, at in objects(values or [], "tools")
        ]
    )


def _with_context(messages: tuple[Message, ...], values: list[Any] | None) -> tuple[Message, ...]:
    """The messages, with the application's context after the first system messages."""
    items = [
        f"{need_string(item, 'description', at)}:\n{need_string(item, 'value', at)}"
        for item, at in objects(values or [], "context")
    ]
    if not items:
        return messages
    first = next(
        (n for n, message in enumerate(messages) if message.role not in ("system", "developer")), len(messages)
    )
    context = Message("system", (Text("Context from the application:\n\n" + "\n\n".join(items)),))
    return (*messages[:first], context, *messages[first:])


def _messages(values: list[Any]) -> tuple[Message, ...]:
    """The conversation. In AG-UI reasoning is a message of its own; it belongs to the assistant message that follows."""
    found: list[Message] = []
    thoughts: list[tuple[str, str]] = []
    for value, path in objects(values, "messages"):
        match need_string(value, "role", path):
            case "developer" | "system" | "user" as role:
                found.append(Message(role, _content(value, path), name=get_string(value, "name", path)))
            case "assistant":
                answer = _assistant(value, path, thoughts)
                if answer.parts or answer.tool_calls:
                    found.append(answer)
            case "tool":
                found.append(_result(value, path))
            case "reasoning":
                text = get_string(value, "content", path) or ""
                thoughts.append((text, get_string(value, "encryptedValue", path) or ""))
                continue
            case "activity":  # progress that the application shows; not part of the conversation
                continue
            case role:
                at = f"{path}.role"
                raise BadRequest(f"{at}: {role[:32]!r} is none of {_ROLES}", param=at)
        thoughts = []
    return tuple(found)


def _assistant(value: dict[str, Any], path: str, thoughts: list[tuple[str, str]]) -> Message:
    """An assistant message. A signature is valid for its own text only, so the last signed reasoning counts."""
    text = get_string(value, "content", path)
    signed = next((thought for thought in reversed(thoughts) if thought[1]), None)
    reasoning, signature = signed or ("".join([text for text, _ in thoughts]), "")
    return Message(
        "assistant",
        (Text(text),) if text else (),
        tool_calls=_tool_calls(get_array(value, "toolCalls", path), f"{path}.toolCalls"),
        name=get_string(value, "name", path),
        reasoning=reasoning or None,
        reasoning_signature=signature or None,
    )


def _tool_calls(values: list[Any] | None, at: str) -> tuple[ToolCall, ...]:
    calls = []
    for value, path in objects(values or [], at):
        function = need_object(value, "function", path)
        name = need_string(function, "name", f"{path}.function")
        arguments = get_string(function, "arguments", f"{path}.function") or ""
        calls.append(ToolCall(need_string(value, "id", path), name, arguments))
    return tuple(calls)


def _result(value: dict[str, Any], path: str) -> Message:
    """A tool's result. `error` marks a failure, and is the result's text if there is no content."""
    error = get_string(value, "error", path)
    parts = _content(value, path)
    if error and not parts:
        parts = (Text(error),)
    return Message("tool", parts, tool_call_id=need_string(value, "toolCallId", path), failed=error is not None)


def _content(value: dict[str, Any], path: str) -> tuple[Part, ...]:
    content = value.get("content")
    if type(content) is str:
        return (Text(content),) if content else ()  # some upstreams refuse empty text
    if type(content) is not list:
        raise wrong(f"{path}.content", "a string or a list of parts", content)
    parts = [_part(part, at) for part, at in objects(content, f"{path}.content")]
    return tuple([part for part in parts if part is not None])


def _part(part: dict[str, Any], path: str) -> Part | None:
    """A part of a message; None for empty text, and for an unknown type, which the protocol says to drop."""
    kind = need_string(part, "type", path)
    if kind == "text":
        text = need_string(part, "text", path)
        return Text(text) if text else None
    if kind == "binary":  # 0.0.x
        return _binary(part, path)
    if kind not in _MEDIA:
        return None
    source, at = need_object(part, "source", path), f"{path}.source"
    value = need_string(source, "value", at)
    media_type = get_string(source, "mimeType", at) or _MEDIA[kind]
    name = _file_name(part)
    match need_string(source, "type", at):
        case "data":
            return inline(need_string(source, "mimeType", at), value, name)
        case "url":
            return linked(media_type, value, name, f"{at}.value")
        case "file":
            return File(id=value, name=name, media_type=media_type or None)
        case _:
            return None


def _binary(part: dict[str, Any], path: str) -> Part:
    media_type = need_string(part, "mimeType", path)
    name = get_string(part, "filename", path)
    if data := get_string(part, "data", path):
        return inline(media_type, data, name)
    if url := get_string(part, "url", path):
        return linked(media_type, url, name, f"{path}.url")
    return File(id=need_string(part, "id", path), name=name, media_type=media_type)


def _file_name(part: dict[str, Any]) -> str | None:
    metadata = part.get("metadata")
    name = metadata.get("filename") if type(metadata) is dict else None
    return name if type(name) is str else None
