"""Reading requests of Anthropic Messages.

https://docs.anthropic.com/en/api/messages. Fields that we do not model stay in `raw_body` and reach an upstream of the same
dialect. Clients send their whole history each time. Parts of it that only Anthropic can read (redacted thinking, tools
that ran there) are skipped, so that another model can continue the conversation.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.params import HINTS, SAMPLING, decode_params, is_function
from proxy.errors import BadRequest
from proxy.request import ChatRequest, File, Image, Message, Other, Part, Text, Tool, ToolCall
from proxy.wire.json_body import (
    cache_mark,
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
from proxy.wire.omissions import unread

TOKENS_OF_AN_IMAGE = 1600

_ROLES = ("user", "assistant", "system")

_READ = frozenset({
    "model", "messages", "system", "max_tokens", "metadata", "stream", "stop_sequences", *SAMPLING, "tools",
    "tool_choice", "thinking", "output_config", "output_format", "mcp_servers",
})  # fmt: skip
_RARE = ("citations", "mcp_tool_use", "server_tool_use")
"""What only Anthropic can read in messages: the setting `citations`, and calls of tools that ran there."""

_READ_OF_OUTPUT = frozenset({"effort", "format"})
_READ_OF_TOOLS = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming"}
)


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a request body. Raises `BadRequest` saying what is wrong and where. Unknown fields are accepted."""
    wire = parse_object(body)
    _check_max_tokens(wire)
    # Looked for in the text first, because most requests are long and have none of them.
    rare = frozenset([name for name in _RARE if b'"%b"' % name.encode() in body])
    return _request(wire, id=id, path=path, headers=headers or {}, rare=rare)


def decode_count(body: bytes) -> ChatRequest:
    """Read a request to count tokens: the same, without `max_tokens`."""
    return _request(parse_object(body), id="", path="", headers={})


def input_tokens(request: ChatRequest) -> int:
    """An estimate of the tokens in a request's input: a quarter of the characters that the model reads.

    An image counts as much as a large one does at Anthropic. The work is linear in the request, and is done only for
    clients that want a number before the upstream has counted.
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


def _request(
    wire: dict[str, Any], *, id: str, path: str, headers: Mapping[str, str], rare: frozenset[str] = frozenset()
) -> ChatRequest:
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
        unread=_unread(wire, rare),
        stream=get_boolean(wire, "stream") is True,
        user=get_string(metadata, "user_id", "metadata"),
        metadata=metadata,
        wants_usage=True,
        path=path,
        headers=headers,
        raw_body=wire,
    )


def _check_max_tokens(wire: Mapping[str, Any]) -> None:
    """The one setting that is required. 0 is allowed: it fills the upstream's cache."""
    value = wire.get("max_tokens")
    if value is None:
        raise missing("max_tokens", "a whole number")
    if type(value) is not int:
        raise wrong("max_tokens", "a whole number", value)
    if value < 0:
        raise BadRequest("max_tokens: expected 0 or more", param="max_tokens")


def _system(system: Any) -> list[Part]:
    """The texts of the system prompt.

    The first text of Claude Code names its build, for Anthropic's billing. It is left out: it changes with each build,
    and the prompt caches of other servers would miss.
    """
    if system is None:
        return []
    if type(system) is str:
        return [Text(system)]
    if type(system) is not list:
        raise wrong("system", "a string or a list of text blocks", system)
    texts = [Text(need_string(block, "text", path), cache_mark(block)) for block, path in objects(system, "system")]
    return [text for text in texts if not text.text.startswith("x-anthropic-billing-header:")]


def _tools(values: list[Any] | None) -> tuple[Tool, ...]:
    """The functions that the model may call. Other tools stay in `raw_body` only."""
    tools = []
    for value, path in objects(values or [], "tools"):
        if not is_function(value):
            continue
        tools.append(
            Tool(
                name=need_string(value, "name", path),
                description=get_string(value, "description", path),
                parameters=get_object(value, "input_schema", path),
                strict=get_boolean(value, "strict", path) or None,
                cache=cache_mark(value),
            )
        )
    return tuple(tools)


def _hosted(wire: Mapping[str, Any]) -> tuple[str, ...]:
    """The types of the tools that Anthropic defines or runs, and `mcp_servers` if it is to call any."""
    kinds = [str(tool["type"]) for tool in wire.get("tools") or () if not is_function(tool)]
    return (*kinds, "mcp_servers") if wire.get("mcp_servers") else tuple(kinds)


def _unread(wire: Mapping[str, Any], rare: frozenset[str]) -> tuple[str, ...]:
    found = unread(wire, _READ) + unread(wire.get("output_config") or {}, _READ_OF_OUTPUT, "output_config.")
    for tool in wire.get("tools") or ():
        if not _READ_OF_TOOLS.issuperset(tool) and is_function(tool):
            found += unread(tool, _READ_OF_TOOLS, "tools.")
    if "citations" in rare and any(_wants_citations(message.get("content")) for message in wire["messages"]):
        found += ("citations",)
    for kind in sorted(rare - {"citations"}):
        if any(_holds(message.get("content"), kind) for message in wire["messages"]):
            found += (f"messages.{kind}",)
    return tuple(dict.fromkeys(found)) if found else ()


def _holds(content: Any, kind: str) -> bool:
    return isinstance(content, list) and any(block.get("type") == kind for block in content)


def _wants_citations(content: Any) -> bool:
    """Whether the answer is to cite a document in this content."""
    settings = [block.get("citations") for block in content] if isinstance(content, list) else []
    return any(isinstance(one, dict) and one.get("enabled") is True for one in settings)


def _conversation(system: Any, values: list[Any]) -> tuple[Message, ...]:
    """All messages: one system prompt with one text, then turns."""
    prompt = _system(system)
    turns = _Turns()
    for value, path in objects(values, "messages"):
        blocks = _blocks(value.get("content"), f"{path}.content")
        match need_string(value, "role", path):
            case "user":
                for message in _user(blocks):
                    turns.add(message)
            case "assistant":
                for message in _assistant(blocks):
                    turns.add(message)
            case "system":
                if turns.begun:
                    turns.add(Message("system", _parts(blocks)))
                else:
                    prompt += _parts(blocks)
            case role:
                raise BadRequest(f"{path}.role: {role[:32]!r} is none of {', '.join(_ROLES)}", param=f"{path}.role")
    text = _joined([part for part in prompt if isinstance(part, Text) and part.text], "\n\n")
    return (*([Message("system", text)] if text else ()), *turns.messages())


class _Turns:
    """Gathers messages. User messages in a row become one, as at Anthropic."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._user: list[Part] | None = None  # the parts of the user's turn that is open

    @property
    def begun(self) -> bool:
        return bool(self._messages) or self._user is not None

    def add(self, message: Message) -> None:
        if message.role == "user":
            if self._user is None:
                self._user = []
            self._user += message.parts
            return
        self._end_of_turn()
        self._messages.append(message)

    def messages(self) -> list[Message]:
        self._end_of_turn()
        return self._messages

    def _end_of_turn(self) -> None:
        if self._user is not None:
            self._messages.append(Message("user", _joined(self._user, "\n\n")))
            self._user = None


def _blocks(content: Any, path: str) -> list[tuple[dict[str, Any], str]]:
    if type(content) is str:
        return [({"type": "text", "text": content}, path)]
    if type(content) is list:
        return objects(content, path)
    raise wrong(path, "a string or a list of content blocks", content)


def _user(blocks: list[tuple[dict[str, Any], str]]) -> list[Message]:
    """One turn: each tool result as its own message, right after the calls, then the rest as the user's message."""
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
    """An earlier answer. Signed thinking after text or a call begins a new message: each has one signature."""
    answers = [_Answer()]
    for block, path in blocks:
        answer = answers[-1]
        match need_string(block, "type", path):
            case "text":
                answer.parts.append(Text(need_string(block, "text", path), cache_mark(block)))
            case "tool_use":
                arguments = need_object(block, "input", path)
                answer.calls.append(
                    ToolCall(
                        id=need_string(block, "id", path),
                        name=need_string(block, "name", path),
                        arguments=msgspec.json.encode(arguments).decode(),
                    )
                )
            case "thinking":
                signature = get_string(block, "signature", path) or ""
                if signature and (answer.signature or answer.parts or answer.calls):
                    answer = _Answer()
                    answers.append(answer)
                answer.reasoning += get_string(block, "thinking", path) or ""
                answer.signature = signature or answer.signature
            case _:
                pass  # `redacted_thinking`, tools that ran at Anthropic: only Anthropic reads them, from `raw_body`
    return [answer.message() for answer in answers]


class _Answer:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: list[ToolCall] = []
        self.reasoning = ""
        self.signature = ""

    def message(self) -> Message:
        return Message(
            "assistant",
            parts=_joined(self.parts, ""),  # a text with citations is split into many blocks
            tool_calls=tuple(self.calls),
            reasoning=self.reasoning or None,
            reasoning_signature=self.signature or None,
        )


def _parts(blocks: list[tuple[dict[str, Any], str]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for block, path in blocks:
        match need_string(block, "type", path):
            case "text":
                parts.append(Text(need_string(block, "text", path), cache_mark(block)))
            case "image":
                parts.append(_image(block, path))
            case "document":
                parts += _document(block, path)
            case "tool_reference":  # a tool that a search of the client found
                parts.append(Text(f"[tool: {need_string(block, 'tool_name', path)}]"))
            case "search_result":
                parts.append(Text(_search_result(block, path)))
            case other:
                parts.append(Other(other[:64]))
    return _joined(parts, "\n\n")


def _joined(parts: list[Part], between: str) -> tuple[Part, ...]:
    """The parts, with neighbouring texts joined up to a mark: some servers take text only as one string."""
    joined: list[Part] = []
    for part in parts:
        before = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(before, Text) and before.cache is None:
            joined[-1] = Text(f"{before.text}{between}{part.text}", part.cache)
        else:
            joined.append(part)
    return tuple(joined)


def _image(block: dict[str, Any], path: str) -> Part:
    source, path = need_object(block, "source", path), f"{path}.source"
    match need_string(source, "type", path):
        case "base64":
            media_type, data = need_string(source, "media_type", path), need_string(source, "data", path)
            return Image(f"data:{media_type};base64,{data}", cache=cache_mark(block))
        case "url":
            return Image(need_string(source, "url", path), cache=cache_mark(block))
        case other:
            return Other(f"image by {other[:32]}")


def _document(block: dict[str, Any], path: str) -> list[Part]:
    """A document: plain text becomes text, which every model reads; anything else becomes a file."""
    context = get_string(block, "context", path)
    return [*([Text(context)] if context else ()), *_document_body(block, path)]


def _document_body(block: dict[str, Any], path: str) -> list[Part]:
    name, mark = get_string(block, "title", path), cache_mark(block)
    source, path = need_object(block, "source", path), f"{path}.source"
    match need_string(source, "type", path):
        case "text":
            text = need_string(source, "data", path)
            return [Text(f"{name}\n\n{text}" if name else text, mark)]
        case "content":
            return list(_parts(_blocks(source.get("content"), f"{path}.content")))
        case "base64":
            media_type = get_string(source, "media_type", path)
            return [File(data=need_string(source, "data", path), name=name, media_type=media_type, cache=mark)]
        case "url":
            return [File(url=need_string(source, "url", path), name=name, cache=mark)]
        case "file":
            return [File(id=need_string(source, "file_id", path), name=name, cache=mark)]
        case other:
            return [Other(f"document by {other[:32]}")]


def _search_result(block: dict[str, Any], path: str) -> str:
    """A search result as text that begins with its title and source."""
    texts = [
        need_string(inner, "text", inner_path)
        for inner, inner_path in objects(get_array(block, "content", path) or [], f"{path}.content")
    ]
    head = [get_string(block, "title", path) or "", get_string(block, "source", path) or ""]
    return "\n".join(text for text in (*head, *texts) if text)
