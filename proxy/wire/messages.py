"""Messages of a conversation in the forms of Chat Completions and Anthropic, as clients mix them. No I/O.

What one of these contracts writes as a field is a block of the content in the other: calls (`tool_calls`, `tool_use`),
their results (messages of role `tool`, `tool_result`), reasoning (`reasoning_content`, `thinking`). Both are read in both,
and so are the items that Responses has in place of them. Blocks that only Anthropic can read are skipped in an answer.
"""

from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from proxy.errors import BadRequest
from proxy.request import Message, Other, Part, Role, Text, ToolCall
from proxy.wire.custom_tools import custom_arguments
from proxy.wire.json_body import cache_mark, get_array, get_boolean, get_string, need_object, need_string, objects
from proxy.wire.json_text import json_string
from proxy.wire.parts import Object, Parts, read_content, read_part, with_mark

Blocks = list[tuple[Object, str]]
"""A message's blocks, each with its place."""

ROLES: tuple[Role, ...] = get_args(Role)

_THOUGHTS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary")
_SKIPPED = ("redacted_thinking", "reasoning.encrypted", "server_tool_use", "mcp_tool_use")
"""What only the vendor that wrote it can read."""
_BESIDE = frozenset({"thinking_blocks", "reasoning_details", "images", "refusal", "audio"})
"""Fields of an answer that may hold what others have in its content."""


def read_messages(values: list[Any]) -> tuple[Message, ...]:
    """A conversation. Raises `BadRequest` that names the wrong message."""
    found: list[Message] = []
    for value, path in objects(values, "messages"):
        for message in read_message(value, path):
            if message.role == "assistant" and found and _is_thought(found[-1]):
                before = found.pop().reasoning or ""
                message = replace(
                    message, reasoning=f"{before}\n\n{message.reasoning}" if message.reasoning else before
                )
            found.append(message)
    return tuple(found)


def _is_thought(message: Message) -> bool:
    """Whether it is reasoning alone, which belongs to the answer behind it: an item of Responses, mostly."""
    if message.role != "assistant" or message.parts or message.tool_calls:
        return False
    return bool(message.reasoning) and not message.reasoning_signature


def read_message(value: Object, path: str) -> list[Message]:
    """The messages in one: the results of tools before what the user says, and one for each signed thought."""
    if "role" not in value and (item := _item(value, path)):
        return [item]
    role = need_string(value, "role", path)
    if role == "assistant":
        return _answers(value, path)
    if role not in ROLES:
        raise BadRequest(f"{path}.role: {role[:32]!r} is none of {', '.join(ROLES)}", param=f"{path}.role")
    content, name = value.get("content"), get_string(value, "name", path)
    of_call = get_string(value, "tool_call_id", path) if role == "tool" else None
    if type(content) is not list:
        parts = read_content(content, f"{path}.content", required=role != "tool", mark=cache_mark(value))
        return [Message(role, parts, tool_call_id=of_call, name=name)]
    results: list[Message] = []
    rest: list[Part] = []
    for block, place in objects(content, f"{path}.content"):
        if block.get("type") == "tool_result":
            results.append(_result(block, place))
        else:
            rest += read_part(block, place)
    if results and not rest:
        return results
    speaker: Role = "user" if results and role == "tool" else role
    return [*results, Message(speaker, tuple(rest), tool_call_id=of_call, name=name)]


def _result(block: Object, path: str) -> Message:
    parts = read_content(block.get("content"), f"{path}.content", required=False)
    return Message(
        "tool",
        with_mark(parts, cache_mark(block)),
        tool_call_id=need_string(block, "tool_use_id", path),
        failed=get_boolean(block, "is_error", path) is True,
    )


# -- answers ---------------------------------------------------------------------------------------------------


def _answers(value: Object, path: str) -> list[Message]:
    """An earlier answer. Signed thinking after text or a call begins a new message: each has one signature."""
    content, at = value.get("content"), f"{path}.content"
    name = get_string(value, "name", path)
    calls = get_array(value, "tool_calls", path)
    made = read_calls(calls, f"{path}.tool_calls") if calls else ()
    if type(content) is not list and _BESIDE.isdisjoint(value):  # most answers
        parts = read_content(content, at, required=False, mark=cache_mark(value))
        return [Message("assistant", parts, made, name=name, reasoning=_reasoning(value))]
    blocks = _thoughts_beside(value, path)
    if type(content) is list:
        blocks += objects(content, at)
    found = [_Answer()]
    for block, place in blocks:
        if found[-1].ends_before(block):
            found.append(_Answer())
        found[-1].add(block, place)
    last = found[-1]
    if type(content) is not list:
        last.parts += read_content(content, at, required=False, mark=cache_mark(value))
    last.parts += _shown_beside(value, path, last.parts)
    last.calls += made
    if not last.signature:
        last.reasoning = _reasoning(value) or last.reasoning
    return [answer.message(name) for answer in found]


class _Answer:
    """What the blocks of one answer say, up to the next signed thought."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: list[ToolCall] = []
        self.reasoning = ""
        self.signature = ""

    def ends_before(self, block: Object) -> bool:
        """Whether a block begins another answer: a thought that is signed by itself."""
        is_signed = block.get("type") in _THOUGHTS and bool(block.get("signature"))
        return is_signed and bool(self.signature or self.parts or self.calls)

    def add(self, block: Object, path: str) -> None:
        kind = need_string(block, "type", path)
        if kind == "text":
            self.parts.append(Text(need_string(block, "text", path), cache_mark(block)))
        elif kind == "tool_use":
            self.calls.append(
                ToolCall(need_string(block, "id", path), need_string(block, "name", path), _input(block, path))
            )
        elif kind in _THOUGHTS:
            self.reasoning += _thought(block, path)
            self.signature = get_string(block, "signature", path) or self.signature
        elif kind not in _SKIPPED and not kind.endswith("_tool_result"):
            self.parts += read_part(block, path)

    def message(self, name: str | None) -> Message:
        return Message(
            "assistant",
            tuple(self.parts),
            tuple(self.calls),
            name=name,
            reasoning=self.reasoning or None,
            reasoning_signature=self.signature or None,
        )


def _input(block: Object, path: str) -> str:
    """The arguments of a call as JSON text; some clients send that text itself."""
    if type(given := block.get("input")) is str:
        return given
    return msgspec.json.encode(need_object(block, "input", path)).decode()


def _thought(block: Object, path: str) -> str:
    """The text of reasoning: Anthropic's string, or a list of texts, as of Mistral and Responses."""
    name = next((name for name in ("thinking", "text", "summary") if block.get(name)), "thinking")
    if type(pieces := block.get(name)) is not list:
        return get_string(block, name, path) or ""
    return "".join([piece["text"] for piece in pieces if type(piece) is dict and type(piece.get("text")) is str])


def _thoughts_beside(value: Object, path: str) -> Blocks:
    """Reasoning in blocks beside the content: litellm's and OpenRouter's. Others are ignored, as no contract has them."""
    for name in ("thinking_blocks", "reasoning_details"):
        if type(blocks := value.get(name)) is list:
            return [
                (block, f"{path}.{name}") for block in blocks if type(block) is dict and block.get("type") in _THOUGHTS
            ]
    return []


def _shown_beside(value: Object, path: str, parts: list[Part]) -> Parts:
    """What an earlier answer holds outside of its content: images, and a refusal or sounds in place of it."""
    images = value.get("images")  # OpenRouter's field
    given = [one for one in images if type(one) is dict and one.get("image_url")] if type(images) is list else []
    shown: list[Part] = [part for one in given for part in read_part({"type": "image_url", **one}, f"{path}.images")]
    if not parts and (refusal := get_string(value, "refusal", path)):
        shown.insert(0, Text(refusal))  # to the next model it is text
    if not parts and type(value.get("audio")) is dict:
        shown.append(Other("audio", f"{path}.audio"))
    return tuple(shown)


def _reasoning(value: Object) -> str | None:
    """The reasoning that a client sends back. No contract requires it, so a value of another type is ignored."""
    for name in ("reasoning_content", "reasoning"):  # first: DeepSeek and most servers; second: vLLM and OpenRouter
        if type(text := value.get(name)) is str:
            return text
    return None


# -- calls -----------------------------------------------------------------------------------------------------


def read_calls(values: list[Any], at: str) -> tuple[ToolCall, ...]:
    """The calls of the model in an earlier turn."""
    calls = []
    for value, path in objects(values, at):
        if value.get("type") == "custom":  # its input is one text
            custom, custom_path = need_object(value, "custom", path), f"{path}.custom"
            input_ = json_string(get_string(custom, "input", custom_path) or "").decode()
            name = need_string(custom, "name", custom_path)
            calls.append(ToolCall(get_string(value, "id", path) or "", name, f'{{"input":{input_}}}'))
            continue
        if "function" not in value and "name" in value:  # flat, as LangChain keeps it
            calls.append(
                ToolCall(get_string(value, "id", path) or "", need_string(value, "name", path), _arguments(value, path))
            )
            continue
        if value.get("type", "function") != "function":
            continue
        function, function_path = need_object(value, "function", path), f"{path}.function"
        calls.append(
            ToolCall(
                id=get_string(value, "id", path) or "",
                name=need_string(function, "name", function_path),
                arguments=_arguments(function, function_path),
            )
        )
    return tuple(calls)


def _arguments(function: Object, path: str) -> str:
    """The arguments of a call: JSON in a string, or the object itself, which some clients send, also under other names."""
    name = next((name for name in ("arguments", "args", "input") if name in function), "arguments")
    given = function.get(name)
    if type(given) is dict:
        return msgspec.json.encode(given).decode()
    return get_string(function, name, path) or ""


def _item(value: Object, path: str) -> Message | None:
    """An item of Responses as a message; None for what is none."""
    match value.get("type"):
        case "function_call":
            call = ToolCall(
                need_string(value, "call_id", path), need_string(value, "name", path), _arguments(value, path)
            )
            return Message("assistant", tool_calls=(call,))
        case "custom_tool_call":
            arguments = custom_arguments(need_string(value, "input", path))
            call = ToolCall(need_string(value, "call_id", path), need_string(value, "name", path), arguments)
            return Message("assistant", tool_calls=(call,))
        case "function_call_output" | "custom_tool_call_output":
            parts = read_content(value.get("output"), f"{path}.output")
            return Message("tool", parts, tool_call_id=need_string(value, "call_id", path))
        case "reasoning":
            return Message("assistant", reasoning=_thought(value, path) or None)
        case _:
            return None
