"""Reading requests of Anthropic Messages.

https://docs.anthropic.com/en/api/messages. What a client sends beyond what we model stays in `wire` and reaches an
upstream of the same dialect. Clients send their whole history each time, so what only Anthropic can read of it
(sealed thinking, tools that ran there) must not keep another model from going on with the conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import msgspec

from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.params import HINTS, decode_params, is_function
from proxy.errors import BadRequest
from proxy.request import ChatRequest, File, Image, Message, Other, Part, Text, Tool, ToolCall
from proxy.wire.json_body import (
    get_array,
    get_boolean,
    get_object,
    get_string,
    missing,
    need_array,
    need_object,
    need_string,
    objects,
    parse_object,
    wrong,
)

TOKENS_OF_AN_IMAGE = 1600

_ROLES = ("user", "assistant", "system")


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a request body. Raises `BadRequest` saying what is wrong and where; unknown fields never are."""
    wire = parse_object(body)
    _check_max_tokens(wire)
    return _request(wire, id=id, path=path, headers=headers or {})


def decode_count(body: bytes) -> ChatRequest:
    """Read a request to count tokens: like any other, but that no answer is wanted, of whatever length."""
    return _request(parse_object(body), id="", path="", headers={})


def input_tokens(request: ChatRequest) -> int:
    """About how many tokens a request's input has: a quarter of the characters of all that the model reads.

    An image counts for what Anthropic counts for a large one. Linear in the request, and made only where a client
    wants to be told before the upstream has counted.
    """
    characters = sum(len(msgspec.json.encode(tool)) for tool in request.tools)
    pictures = 0
    for message in request.messages:
        characters += len(message.text) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
        characters += len(message.reasoning or "")
        for part in message.parts:
            if isinstance(part, Image):
                pictures += 1
            elif isinstance(part, File):
                characters += len(part.data or "")
    return -(-characters // 4) + pictures * TOKENS_OF_AN_IMAGE


def _request(wire: dict[str, Any], *, id: str, path: str, headers: Mapping[str, str]) -> ChatRequest:
    messages = need_array(wire, "messages")
    if not messages:
        raise BadRequest("messages: expected at least one message, got an empty list", param="messages")
    metadata = get_object(wire, "metadata") or {}
    params = decode_params(wire)
    return ChatRequest(
        id=id,
        contract="anthropic",
        dialect=DIALECT,
        messages=_conversation(wire.get("system"), messages),
        model=get_string(wire, "model"),
        params=params,
        hints=HINTS & params.keys(),
        tools=_tools(get_array(wire, "tools")),
        hosted_tools=_hosted(wire),
        stream=get_boolean(wire, "stream") is True,
        user=get_string(metadata, "user_id", "metadata"),
        metadata=metadata,
        wants_usage=True,
        path=path,
        headers=headers,
        wire=wire,
    )


def _check_max_tokens(wire: Mapping[str, Any]) -> None:
    """The one setting that has no default. 0 is one: it warms the upstream's cache."""
    value = wire.get("max_tokens")
    if value is None:
        raise missing("max_tokens", "a whole number")
    if type(value) is not int:
        raise wrong("max_tokens", "a whole number", value)
    if value < 0:
        raise BadRequest("max_tokens: expected 0 or more", param="max_tokens")


def _system(system: Any) -> list[str]:
    """The texts of the system prompt.

    Claude Code's first says which build of it asks. That is for Anthropic's books, and would make the same prompt
    look like another one to the caches of other servers.
    """
    if system is None:
        return []
    if type(system) is str:
        return [system]
    if type(system) is not list:
        raise wrong("system", "a string or a list of text blocks", system)
    texts = [need_string(block, "text", path) for block, path in objects(system, "system")]
    return [text for text in texts if not text.startswith("x-anthropic-billing-header:")]


def _tools(values: list[Any] | None) -> tuple[Tool, ...]:
    """The functions a model may call. The other tools stay in `wire` alone."""
    tools = []
    for value, path in objects(values or [], "tools"):
        if not is_function(value):
            continue
        tools.append(
            Tool(
                name=need_string(value, "name", path),
                description=get_string(value, "description", path),
                parameters=get_object(value, "input_schema", path),
            )  # not `strict`: OpenAI means more by it, and would refuse most schemas
        )
    return tuple(tools)


def _hosted(wire: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools that Anthropic defines or runs, and those of servers that it would call."""
    kinds = [str(tool["type"]) for tool in wire.get("tools") or () if not is_function(tool)]
    return (*kinds, "mcp_servers") if wire.get("mcp_servers") else tuple(kinds)


def _conversation(system: Any, values: list[Any]) -> tuple[Message, ...]:
    """All messages: one system prompt in one text, then turns, for most chat templates take nothing else.

    What the system says later is told in the user's turn, in the marks that Claude Code has always used there.
    """
    prompt = _system(system)
    told = _Conversation()
    for value, path in objects(values, "messages"):
        blocks = _blocks(value.get("content"), f"{path}.content")
        match need_string(value, "role", path):
            case "user":
                for message in _user(blocks):
                    told.add(message)
            case "assistant":
                for message in _assistant(blocks):
                    told.add(message)
            case "system":
                text = Message("system", _parts(blocks)).text
                if told.begun:
                    told.add(Message("user", (Text(f"<system-reminder>\n{text}\n</system-reminder>"),)))
                else:
                    prompt.append(text)
            case role:
                raise BadRequest(f"{path}.role: {role[:32]!r} is none of {', '.join(_ROLES)}", param=f"{path}.role")
    text = "\n\n".join(text for text in prompt if text)
    return (*([Message("system", (Text(text),))] if text else ()), *told.messages())


class _Conversation:
    """Adds up turns. Anthropic joins what the user says in several messages, so we do."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._saying: list[Part] | None = None

    @property
    def begun(self) -> bool:
        return bool(self._messages) or self._saying is not None

    def add(self, message: Message) -> None:
        if message.role == "user":
            if self._saying is None:
                self._saying = []
            self._saying += message.parts
            return
        self._end_of_turn()
        self._messages.append(message)

    def messages(self) -> list[Message]:
        self._end_of_turn()
        return self._messages

    def _end_of_turn(self) -> None:
        if self._saying is not None:
            self._messages.append(Message("user", _joined(self._saying, "\n\n")))
            self._saying = None


def _blocks(content: Any, path: str) -> list[tuple[dict[str, Any], str]]:
    if type(content) is str:
        return [({"type": "text", "text": content}, path)]
    if type(content) is list:
        return objects(content, path)
    raise wrong(path, "a string or a list of content blocks", content)


def _user(blocks: list[tuple[dict[str, Any], str]]) -> list[Message]:
    """One turn: the results of tools as messages of their own, right after the calls, then what the user says."""
    results = [_tool_result(block, path) for block, path in blocks if block.get("type") == "tool_result"]
    parts = _parts([(block, path) for block, path in blocks if block.get("type") != "tool_result"])
    return [*results, Message("user", parts)] if parts or not results else results


def _tool_result(block: dict[str, Any], path: str) -> Message:
    content = block.get("content")
    return Message(
        "tool",
        parts=_parts(_blocks(content, f"{path}.content")) if content is not None else (),
        tool_call_id=need_string(block, "tool_use_id", path),
        failed=get_boolean(block, "is_error", path) is True,
    )


def _assistant(blocks: list[tuple[dict[str, Any], str]]) -> list[Message]:
    """An earlier answer. Where the model thought again after a call, a message of its own for each sealed thought."""
    turns = [_Turn()]
    for block, path in blocks:
        turn = turns[-1]
        match need_string(block, "type", path):
            case "text":
                turn.parts.append(Text(need_string(block, "text", path)))
            case "tool_use":
                arguments = need_object(block, "input", path)
                turn.calls.append(
                    ToolCall(
                        id=need_string(block, "id", path),
                        name=need_string(block, "name", path),
                        arguments=msgspec.json.encode(arguments).decode(),
                    )
                )
            case "thinking":
                seal = get_string(block, "signature", path) or ""
                if seal and (turn.seal or turn.parts or turn.calls):
                    turn = _Turn()
                    turns.append(turn)
                turn.reasoning += get_string(block, "thinking", path) or ""
                turn.seal = seal or turn.seal
            case _:
                pass  # `redacted_thinking`, tools that ran at Anthropic: for Anthropic alone, in `wire`
    return [turn.message() for turn in turns]


class _Turn:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: list[ToolCall] = []
        self.reasoning = ""
        self.seal = ""

    def message(self) -> Message:
        return Message(
            "assistant",
            parts=_joined(self.parts, ""),  # a text with citations comes in many blocks
            tool_calls=tuple(self.calls),
            reasoning=self.reasoning or None,
            reasoning_signature=self.seal or None,
        )


def _parts(blocks: list[tuple[dict[str, Any], str]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for block, path in blocks:
        match need_string(block, "type", path):
            case "text":
                parts.append(Text(need_string(block, "text", path)))
            case "image":
                parts.append(_image(need_object(block, "source", path), f"{path}.source"))
            case "document":
                parts += _document(block, path)
            case "search_result":
                parts.append(Text(_found(block, path)))
            case other:
                parts.append(Other(other[:64]))
    return _joined(parts, "\n\n")


def _joined(parts: list[Part], between: str) -> tuple[Part, ...]:
    """The parts with texts side by side made one: some servers take a message of nothing but text only as a string."""
    joined: list[Part] = []
    for is_text, run in groupby(parts, key=lambda part: isinstance(part, Text)):
        if is_text:
            joined.append(Text(between.join(part.text for part in run if isinstance(part, Text))))
        else:
            joined += run
    return tuple(joined)


def _image(source: dict[str, Any], path: str) -> Part:
    match need_string(source, "type", path):
        case "base64":
            media_type, data = need_string(source, "media_type", path), need_string(source, "data", path)
            return Image(f"data:{media_type};base64,{data}")
        case "url":
            return Image(need_string(source, "url", path))
        case other:
            return Other(f"image by {other[:32]}")


def _document(block: dict[str, Any], path: str) -> list[Part]:
    """A document: one in plain text is text to every model, others are files."""
    name = get_string(block, "title", path)
    source, path = need_object(block, "source", path), f"{path}.source"
    match need_string(source, "type", path):
        case "text":
            text = need_string(source, "data", path)
            return [Text(f"{name}\n\n{text}" if name else text)]
        case "content":
            return list(_parts(_blocks(source.get("content"), f"{path}.content")))
        case "base64":
            media_type = get_string(source, "media_type", path)
            return [File(data=need_string(source, "data", path), name=name, media_type=media_type)]
        case "url":
            return [File(url=need_string(source, "url", path), name=name)]
        case "file":
            return [File(id=need_string(source, "file_id", path), name=name)]
        case other:
            return [Other(f"document by {other[:32]}")]


def _found(block: dict[str, Any], path: str) -> str:
    """A search result as a text that says where it is from."""
    texts = [
        need_string(inner, "text", inner_path)
        for inner, inner_path in objects(get_array(block, "content", path) or [], f"{path}.content")
    ]
    head = [get_string(block, "title", path) or "", get_string(block, "source", path) or ""]
    return "\n".join(text for text in (*head, *texts) if text)
