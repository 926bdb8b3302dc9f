"""A request in a target's vocabulary, and its answer back in the client's. No I/O.

For requests that change dialect: the conversation gets its one shape (`wire.conversation`), and names of tools that
the target refuses are sent as names that it takes. Answers tell the client its own names.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.errors import Unsupported
from proxy.events import Batch, Notice, ToolCallStart
from proxy.request import ChatRequest, Message, Text
from proxy.wire.cache_marks import marked
from proxy.wire.conversation import SYSTEM_ROLES, arranged
from proxy.wire.ids import id_for, names_for
from proxy.wire.media import with_media
from proxy.wire.omissions import unread_notices
from proxy.wire.settings import with_settings
from proxy.wire.vocabulary import GEMINI_SEAL, IdForm, Vocabulary

_ANY_ID = IdForm()
_SPEAKERS = ("user", "assistant")
_NOT_IN_NAMES = re.compile(r"[\s<|\\/>]+")
"""What OpenAI refuses in a `name`: "string does not match pattern. Expected a string that matches '^[^\\s<|\\\\/>]+$'"."""


class Translation(msgspec.Struct, frozen=True):
    """A request as its target takes it, and what its client should know.

    `names` has the client's name of a tool for each name that is sent, and `used` the ids that it has for calls.
    """

    request: ChatRequest
    notices: tuple[Notice, ...] = ()
    names: Mapping[str, str] = {}
    used: frozenset[str] = frozenset()


def translated(request: ChatRequest, vocabulary: Vocabulary) -> Translation:
    """The request in `vocabulary`. One that is fine already comes back as it is."""
    notices = unread_notices(request) if request.unread else []
    if not request.tools and not request.params and _is_plain(request.messages):
        return Translation(request, tuple(notices))
    request = with_settings(request, vocabulary, notices)
    used = frozenset([call.id for message in request.messages for call in message.tool_calls])
    messages = tuple(_without_foreign_signature(message, vocabulary) for message in request.messages)
    messages = with_media(messages, vocabulary, notices)
    request, messages = marked(request, messages, vocabulary.cache_marks, notices)
    conversation = arranged(messages, vocabulary)
    said = any(message.role not in SYSTEM_ROLES for message in conversation.messages)
    if not conversation.messages or not (said or vocabulary.empty_turns):
        raise Unsupported("this target needs a message that is not empty, besides the system prompt")
    called = [call.name for message in conversation.messages for call in message.tool_calls]
    names = names_for(dict.fromkeys([*(tool.name for tool in request.tools), *called]), vocabulary.tool_names)
    messages = _with_names_of_speakers(conversation.messages, vocabulary, notices)
    if vocabulary.unsigned:
        messages = tuple(
            replace(message, reasoning_signature=vocabulary.unsigned)
            if message.tool_calls and not message.reasoning_signature
            else message
            for message in messages
        )
    if names:
        messages = tuple(_renamed(message, names) for message in messages)
        request = replace(
            request,
            tools=tuple(replace(tool, name=names.get(tool.name, tool.name)) for tool in request.tools),
            params=_renamed_choice(request.params, names),
        )
    if messages != request.messages:
        request = replace(request, messages=messages)
    return Translation(request, (*notices, *conversation.notices), {sent: name for name, sent in names.items()}, used)


def _is_plain(messages: tuple[Message, ...]) -> bool:
    """Whether the conversation is questions and answers of one text each, which every target takes as they are.

    Most chat pages send nothing else, and looking closer costs 40 µs.
    """
    for message in messages:
        parts = message.parts
        if (
            message.role not in _SPEAKERS
            or message.tool_calls
            or message.name
            or message.reasoning_signature
            or len(parts) != 1
            or type(parts[0]) is not Text
            or parts[0].cache is not None
            or not parts[0].text
            or parts[0].text.isspace()
        ):
            return False
    return messages != () and messages[0].role == messages[-1].role == "user"


def _without_foreign_signature(message: Message, vocabulary: Vocabulary) -> Message:
    """The message without the signature of its reasoning where another vendor than the target's made it."""
    signature = message.reasoning_signature
    foreign = signature and signature.startswith(GEMINI_SEAL) != (vocabulary.signatures == "gemini")
    return replace(message, reasoning_signature=None) if foreign else message


def _with_names_of_speakers(
    messages: tuple[Message, ...], vocabulary: Vocabulary, notices: list[Notice]
) -> tuple[Message, ...]:
    if not vocabulary.names and any(message.name and message.role != "tool" for message in messages):
        notices.append(Notice("ignored_setting", "the names of speakers were left out: this target takes none", "name"))
    return tuple(_with_name(message, vocabulary) for message in messages)


def _with_name(message: Message, vocabulary: Vocabulary) -> Message:
    """The message with a name of its speaker that the target takes, if it takes any."""
    if not message.name or message.role == "tool":
        return message
    name = _NOT_IN_NAMES.sub("_", message.name)[:64] if vocabulary.names else None
    return message if name == message.name else replace(message, name=name)


def _renamed(message: Message, names: Mapping[str, str]) -> Message:
    if message.role == "tool" and message.name:
        message = replace(message, name=names.get(message.name, message.name))
    if not any(call.name in names for call in message.tool_calls):
        return message
    return replace(
        message, tool_calls=tuple(replace(call, name=names.get(call.name, call.name)) for call in message.tool_calls)
    )


def _renamed_choice(params: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """`tool_choice` with the names that are sent, also in the list of `allowed_tools`."""
    if not isinstance(params.get("tool_choice"), dict):
        return params
    return {**params, "tool_choice": _with_names(params["tool_choice"], names)}


def _with_names(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_with_names(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: names.get(one, one) if key == "name" and isinstance(one, str) else _with_names(one, names)
        for key, one in value.items()
    }


def restored(batch: Batch, names: Mapping[str, str], used: set[str]) -> Batch:
    """The batch with the client's names of its tools, and with ids of calls that the client has not `used`.

    Some servers count their calls anew in each answer, and clients of AG-UI take the second `call_0` for the first.
    """
    if batch.text_only:
        return batch
    events = batch.events
    for index, event in enumerate(events):
        if type(event) is ToolCallStart and (event.name in names or event.id in used):
            name = names.get(event.name, event.name)
            events[index] = replace(event, name=name, id=id_for(event.id, _ANY_ID, used))
        elif type(event) is ToolCallStart:
            used.add(event.id)
    return batch
