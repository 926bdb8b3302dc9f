"""How a request is said to its target, where that differs from how its client said it. For people; no I/O."""

from collections.abc import Iterator

from proxy.request import ChatRequest, Message
from proxy.wire.conversation import SYSTEM_ROLES
from proxy.wire.translation import Translation
from proxy.wire.vocabulary import Vocabulary


def differences(request: ChatRequest, translation: Translation, vocabulary: Vocabulary) -> Iterator[str]:
    """One line for each kind of difference."""
    sent = translation.request
    if sent is request:
        return
    if len(sent.messages) != len(request.messages):
        yield f"{len(request.messages)} messages are sent as {len(sent.messages)}"
    if moved := _late(request.messages) - _late(sent.messages):
        yield f"{moved} later system {'text goes' if moved == 1 else 'texts go'} into the user's turn"
    if fresh := len({*_ids(sent.messages)} - {*_ids(request.messages)}):
        yield f"{fresh} call {'id is' if fresh == 1 else 'ids are'} made anew"
    for ours, name in translation.names.items():
        yield f"the tool {name} is offered as {ours}"
    for ours, theirs in vocabulary.parameters.items():
        if ours in request.params:
            yield f"{ours} is sent as {theirs}"
    if vocabulary.no_thinking and sent.params.get("reasoning_effort") == "none":
        yield f"not to think is sent as {', '.join(vocabulary.no_thinking)}"
    elif vocabulary.thinking and "reasoning_effort" in sent.params:
        yield f"to think is sent as {', '.join(vocabulary.thinking)}"


def _late(messages: tuple[Message, ...]) -> int:
    """How many texts of the system stand behind the head."""
    roles = [message.role for message in messages]
    head = next((index for index, role in enumerate(roles) if role not in SYSTEM_ROLES), len(roles))
    return sum(role in SYSTEM_ROLES for role in roles[head:])


def _ids(messages: tuple[Message, ...]) -> Iterator[str]:
    return (call.id for message in messages for call in message.tool_calls)
