"""Input items of the Responses contract as the messages of a conversation.

The model's reasoning, text and calls of one turn are separate items here and one message elsewhere. Upstreams that
take messages expect the result of each call right after the message with the call. Items that record what OpenAI's
own tools did are skipped. An item whose content would be missing from the conversation is refused by its type.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.contracts.responses.objects import signature_in
from proxy.contracts.responses.tools import function_name
from proxy.errors import BadRequest
from proxy.request import Image, Message, Part, Text, ToolCall
from proxy.wire.custom_tools import custom_arguments
from proxy.wire.json_body import get_array, get_string, missing, need_object, need_string, objects, wrong
from proxy.wire.messages import read_message
from proxy.wire.parts import read_content, read_part

_RECORDS = frozenset({
    # What a hosted tool did in an earlier turn. The answer after it has the outcome.
    "web_search_call", "file_search_call", "code_interpreter_call", "mcp_list_tools", "mcp_call",
    # Read by `read_tools`.
    "additional_tools",
})  # fmt: skip

_SAY_NOTHING = frozenset({"additional_tools", "mcp_list_tools"})

_CALLS_OF_OTHER_TOOLS = {
    # Calls of tools that run at the client and have item types of their own: the tool's name, and the field with its
    # arguments.
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
    "computer_call": ("computer", "action"),
}


def read_input(value: Any, instructions: str | None) -> tuple[Message, ...]:
    """The conversation: `instructions`, then the items of `input`. Raises `BadRequest` naming an item that is wrong."""
    conversation = _Conversation()
    if instructions:
        conversation.add(Message("system", (Text(instructions),)))
    if isinstance(value, str):
        conversation.add(Message("user", (Text(value),)))
    elif isinstance(value, list):
        for item, path in objects(value, "input"):
            _item(item, path, conversation)
    elif value is None:
        raise missing("input", "a string or a list of items")
    else:
        raise wrong("input", "a string or a list of items", value)
    return conversation.messages()


class _Turn:
    """The model's items up to the next item of another role."""

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.signature: str | None = None
        self.parts: list[Part] = []
        self.calls: list[ToolCall] = []

    def message(self) -> Message:
        return Message(
            "assistant",
            tuple(self.parts),
            tuple(self.calls),
            reasoning="\n\n".join(self.reasoning) or None,
            reasoning_signature=self.signature,
        )


class _Conversation:
    """Gathers the model's items into turns. A turn ends at an item of another role."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._turn: _Turn | None = None

    def add(self, message: Message) -> None:
        """Add a message that is no answer."""
        self._end_turn()
        self._messages.append(message)

    def add_result(self, call_id: str, parts: tuple[Part, ...]) -> None:
        self.add(Message("tool", parts, tool_call_id=call_id))

    def add_answer(self, parts: tuple[Part, ...]) -> None:
        turn = self._turn
        if turn is not None and (turn.parts or turn.calls):
            self._end_turn()  # two answers in a row stay two messages, and one after a call stays behind it
        self._open_turn().parts.extend(parts)

    def add_message(self, message: Message) -> None:
        """Add an answer that has reasoning and calls in itself."""
        if message.reasoning or message.reasoning_signature:
            self.add_reasoning(message.reasoning or "", message.reasoning_signature)
        if message.parts or not message.tool_calls:
            self.add_answer(message.parts)
        for call in message.tool_calls:
            self.add_call(call)

    def add_call(self, call: ToolCall) -> None:
        self._open_turn().calls.append(call)

    def add_reasoning(self, text: str, signature: str | None) -> None:
        if not text and not signature:  # it holds only what another server encrypted
            return
        turn = self._turn
        if turn is not None and not turn.calls and (turn.parts or turn.signature):
            self._end_turn()
        turn = self._open_turn()
        # A signature is valid for its own reasoning item; there is none for several items together.
        turn.signature = signature if not turn.reasoning else None
        if text:
            turn.reasoning.append(text)

    def messages(self) -> tuple[Message, ...]:
        self._end_turn()
        return tuple(self._messages)

    def _open_turn(self) -> _Turn:
        if self._turn is None:
            self._turn = _Turn()
        return self._turn

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._messages.append(self._turn.message())
            self._turn = None


def _item(item: dict[str, Any], path: str, conversation: _Conversation) -> None:
    kind = get_string(item, "type", path) or ("message" if "role" in item else "item_reference")
    match kind:
        case "message":
            _message(item, path, conversation)
        case "reasoning":
            conversation.add_reasoning(
                _reasoning(item, path), signature_in(get_string(item, "encrypted_content", path))
            )
        case "function_call":
            arguments = get_string(item, "arguments", path) or ""
            conversation.add_call(ToolCall(need_string(item, "call_id", path), _function(item, path), arguments))
        case "custom_tool_call":
            arguments = custom_arguments(need_string(item, "input", path))
            conversation.add_call(ToolCall(need_string(item, "call_id", path), _function(item, path), arguments))
        case "function_call_output" | "custom_tool_call_output":
            conversation.add_result(need_string(item, "call_id", path), _output(item, path))
        case _ if kind in _CALLS_OF_OTHER_TOOLS:
            name, place = _CALLS_OF_OTHER_TOOLS[kind]
            arguments = msgspec.json.encode(need_object(item, place, path)).decode()
            conversation.add_call(ToolCall(_call_id(item, path), name, arguments))
        case _ if kind.removesuffix("_output") in _CALLS_OF_OTHER_TOOLS:
            conversation.add_result(_call_id(item, path), _shown(item.get("output"), f"{path}.output"))
        case "image_generation_call":
            if picture := get_string(item, "result", path):  # an assistant cannot show an image in other contracts
                conversation.add(Message("user", (Image(f"data:image/png;base64,{picture}"),)))
        case "item_reference":
            raise BadRequest(
                f"{path}: it refers to an item by its id, and this server keeps no items; send the item itself, as "
                "clients do with `store: false`",
                param=path,
                code="item_not_found",
            )
        case _ if kind in _RECORDS:
            pass
        case _:
            raise BadRequest(
                f"{path}.type: items of type {kind[:64]!r} cannot be passed on to a model here; leave the item out",
                param=f"{path}.type",
                code="unsupported_value",
            )


def _shown(output: Any, path: str) -> tuple[Part, ...]:
    if isinstance(output, dict) and output.get("type") == "computer_screenshot":
        return read_part(output, path)
    return (Text(output if isinstance(output, str) else msgspec.json.encode(output).decode()),)


def records(items: Any) -> tuple[str, ...]:
    """The types of the items that say what OpenAI's own tools did: the conversation goes on without them."""
    kinds = [item.get("type") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return tuple(dict.fromkeys(kind for kind in kinds if kind in _RECORDS - _SAY_NOTHING))


def _message(item: dict[str, Any], path: str, conversation: _Conversation) -> None:
    """A message. One in the form of Chat Completions or of Anthropic may hold reasoning, calls and results."""
    for message in read_message(item, path):
        match message.role:
            case "assistant":
                conversation.add_message(message)
            case "developer":  # OpenAI's newer word for `system`, which its models take too
                conversation.add(replace(message, role="system"))
            case _:
                conversation.add(message)


def _function(item: dict[str, Any], path: str) -> str:
    return function_name(need_string(item, "name", path), get_string(item, "namespace", path))


def _call_id(item: dict[str, Any], path: str) -> str:
    return get_string(item, "call_id", path) or need_string(item, "id", path)


def _reasoning(item: dict[str, Any], path: str) -> str:
    """The text of a reasoning item: its `content` if the client has it, else its `summary`."""
    name = "content" if item.get("content") else "summary"
    parts = objects(get_array(item, name, path) or [], f"{path}.{name}")
    return "\n\n".join([need_string(part, "text", at) for part, at in parts])


def _output(item: dict[str, Any], path: str) -> tuple[Part, ...]:
    if item.get("output") is None:
        raise missing(f"{path}.output", "a string or a list of parts")
    return read_content(item["output"], f"{path}.output")
