"""Reading requests of Anthropic Messages.

https://docs.anthropic.com/en/api/messages. Fields that we do not model stay in `raw_body` and reach an upstream of the same
dialect. Clients send their whole history each time. Parts of it that only Anthropic can read (redacted thinking, tools
that ran there) are skipped, so that another model can continue the conversation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.params import HINTS, SAMPLING, decode_params, is_function
from proxy.errors import BadRequest
from proxy.request import ChatRequest, File, Image, Message, Other, Part, Text, Tool
from proxy.wire.json_body import (
    cache_mark,
    decode_tool,
    get_array,
    get_boolean,
    get_object,
    get_string,
    missing,
    need_array,
    need_string,
    objects,
    parse_object,
    wrong,
)
from proxy.wire.messages import read_message
from proxy.wire.omissions import unread

TOKENS_OF_AN_IMAGE = 1600

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
        if value.get("type") == "function":  # as OpenAI has it
            tools.append(decode_tool(value, path, flat="function" not in value))
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
        if not _READ_OF_TOOLS.issuperset(tool) and is_function(tool) and tool.get("type") != "function":
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
        for message in read_message(value, path):
            match message.role:
                case "user":
                    turns.add(message)
                case "assistant":  # what is not known there only Anthropic reads, from `raw_body`
                    known = tuple(part for part in message.parts if type(part) is not Other)
                    turns.add(_with_joined(message, known, ""))  # a text with citations is in many blocks
                case "tool":
                    turns.add(_with_joined(message, message.parts, "\n\n"))
                case _ if turns.begun:
                    turns.add(Message("system", _joined(message.parts, "\n\n")))
                case _:
                    prompt += message.parts
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


def _with_joined(message: Message, parts: Sequence[Part], between: str) -> Message:
    joined = _joined(parts, between)
    return message if joined == message.parts else replace(message, parts=joined)


def _joined(parts: Sequence[Part], between: str) -> tuple[Part, ...]:
    """The parts, with neighbouring texts joined up to a mark: some servers take text only as one string."""
    if len(parts) < 2:
        return tuple(parts)
    joined: list[Part] = []
    for part in parts:
        before = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(before, Text) and before.cache is None:
            joined[-1] = Text(f"{before.text}{between}{part.text}", part.cache)
        else:
            joined.append(part)
    return tuple(joined)
