"""One shape for every conversation that is translated for an upstream of another dialect. No I/O.

Contracts allow different things: results that come before a note or much later, calls without a result, ids that
repeat, one answer in several messages. Upstreams refuse most of that, each in its own way. `arranged` gives a
conversation the properties that all of them take, whatever contract it comes from:

- the system text at the head is one message; later system text stays in place where the target takes it, and goes
  into the user's turn elsewhere;
- an answer with calls is one message, and each of its calls is followed at once by its one result, in the order of
  the calls. A result that is missing is made and says so. A result without a call becomes the user's text;
- the ids of calls are unique in the conversation and have the target's form. They depend on nothing but what stands
  before them, so that a longer conversation begins with the same ids: prompt caches and replicas agree;
- the arguments of a call are a JSON object;
- what an answer or a result shows besides text stands in the user's turn behind it, where the target wants that;
- parts stay apart, and no text is lost.

A conversation that has all that is returned as it is. Readers of contracts only read, and writers only write.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from proxy.events import Notice
from proxy.request import Message, Part, Text, ToolCall
from proxy.wire.ids import id_for
from proxy.wire.json_text import object_text
from proxy.wire.vocabulary import IdForm, Vocabulary

INTERRUPTED = "The tool call was interrupted. It has no result."
UNDERSTOOD = "OK."
BEGIN = "."
CONTINUE = "Continue exactly where you stopped."
ORPHAN = "The result of a tool call that is not part of this conversation:"
SHOWN = "The result is in the user's next message."
SILENT = "The tool gave no output."
SYSTEM_ROLES = frozenset({"system", "developer"})


class Arranged(msgspec.Struct, frozen=True):
    """A conversation in a target's vocabulary, and notices of what its client may miss."""

    messages: tuple[Message, ...]
    notices: tuple[Notice, ...] = ()


def arranged(messages: Sequence[Message], vocabulary: Vocabulary) -> Arranged:
    """The conversation as `vocabulary` takes it. The same conversation always gives the same result."""
    notices: list[Notice] = []
    head, rest = _split(messages)
    found: Iterable[Message] = _paired(_one_message_an_answer(rest, vocabulary), notices)
    found = _media_behind(found, results=not vocabulary.result_media)
    if not vocabulary.empty_turns:
        found = _without_empty_turns([*found])
    found = _in_place(found, vocabulary)
    found = _one_message_an_answer(found, vocabulary)  # what stood between two messages of an answer may have moved
    if not vocabulary.user_after_result:
        found = _with_answers(found)
    found = list(_with_ids(found, vocabulary.call_ids))
    if vocabulary.user_first and found and found[0].role == "assistant":
        found.insert(0, Message("user", (Text(BEGIN),)))
    if vocabulary.prefill == "none" and found and found[-1].role == "assistant":
        found.append(Message("user", (Text(CONTINUE),)))
        notices.append(Notice("moved_answer", "the answer to be continued was sent as one that has ended", "messages"))
    return Arranged((*_head(head, vocabulary), *found), tuple(notices))


# -- system text -----------------------------------------------------------------------------------------------


def _split(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """The system text at the beginning, and all that follows."""
    for index, message in enumerate(messages):
        if message.role not in SYSTEM_ROLES:
            return messages[:index], messages[index:]
    return messages, ()


def _head(messages: Sequence[Message], vocabulary: Vocabulary) -> Iterator[Message]:
    """The system text at the head as one message with one text up to each mark, its parts a blank line apart.

    Several chat templates take nothing else.
    """
    parts: list[Part] = [part for message in messages for part in message.parts]
    if len(parts) > 1:
        texts: list[Part] = []
        for part in parts:
            before = texts[-1] if texts else None
            if isinstance(part, Text) and isinstance(before, Text) and before.cache is None:
                texts[-1] = Text(f"{before.text}\n\n{part.text}" if before.text else part.text, part.cache)
            elif not isinstance(part, Text) or part.text:
                texts.append(part)
        yield replace(_role(messages[0], vocabulary), parts=tuple(texts))
    elif messages:
        yield replace(_role(messages[0], vocabulary), parts=tuple(parts))


def _role(message: Message, vocabulary: Vocabulary) -> Message:
    developer = message.role == "developer" and not vocabulary.developer
    return replace(message, role="system") if developer else message


def _in_place(messages: Iterable[Message], vocabulary: Vocabulary) -> Iterable[Message]:
    """System text after the head, where the target takes it."""
    match vocabulary.system:
        case "anywhere":
            return (_role(message, vocabulary) for message in messages)
        case "after_user":
            return _behind_users(messages)
        case "head":
            return _as_reminders(messages)


def _behind_users(messages: Iterable[Message]) -> Iterator[Message]:
    """System text behind the user's turn that it stands beside, and in a turn of its own between two answers."""
    waiting: list[Part] = []
    is_users = False
    for message in [*messages, None]:
        if message is not None and message.role in SYSTEM_ROLES:
            waiting += message.parts
            continue
        if waiting and (message is None or message.role == "assistant"):
            yield Message("system", tuple(waiting)) if is_users else Message("user", (_reminder(waiting),))
            waiting = []
        if message is not None:
            is_users = message.role != "assistant"
            yield message


def _as_reminders(messages: Iterable[Message]) -> list[Message]:
    """System text as a reminder in the user's turn that it stands in, or in one of its own between answers."""
    found: list[Message] = []
    joins = False  # whether the last message is a user's turn that a reminder belongs to, or a reminder without a turn
    for message in messages:
        is_system = message.role in SYSTEM_ROLES
        if is_system:
            message = Message("user", (_reminder(message.parts),))
        if message.role == "user" and found and found[-1].role == "user" and (is_system or joins):
            found[-1] = replace(found[-1], parts=_side_by_side(found[-1].parts, message.parts))
        else:
            found.append(message)
        joins = is_system
    return found


def _side_by_side(before: Sequence[Part], after: Sequence[Part]) -> tuple[Part, ...]:
    """Parts of one turn. Two texts become one, because some servers take no list of parts."""
    if before and after and isinstance(before[-1], Text) and isinstance(after[0], Text):
        return (*before[:-1], Text(f"{before[-1].text}\n\n{after[0].text}".strip("\n")), *after[1:])
    return (*before, *after)


def _reminder(parts: Sequence[Part]) -> Text:
    """System text in the form that Claude Code gives it in a user's turn."""
    text = "\n\n".join(part.text for part in parts if isinstance(part, Text))
    return Text(f"<system-reminder>\n{text}\n</system-reminder>")


# -- calls and results -----------------------------------------------------------------------------------------


def _is_empty(message: Message) -> bool:
    return not message.tool_calls and all(isinstance(part, Text) and not part.text.strip() for part in message.parts)


def _without_empty_turns(messages: Sequence[Message]) -> list[Message]:
    """The turns that say something. The user's last one stays: without it, an answer would be one to be continued."""
    found = [_without_blanks(message) for message in messages if message.role == "tool" or not _is_empty(message)]
    if found and found[-1].role == "assistant" and messages[-1].role == "user":
        found.append(Message("user", (Text(BEGIN),)))
    return found


def _without_blanks(message: Message) -> Message:
    """The message without texts of white space alone, where it has something else. A result always says something."""
    if message.role == "tool" and _is_empty(message):
        return replace(message, parts=(Text(SILENT),))
    if message.role == "tool" or not any(isinstance(part, Text) and not part.text.strip() for part in message.parts):
        return message
    kept = [part for part in message.parts if not isinstance(part, Text) or part.text.strip()]
    return replace(message, parts=tuple(kept))


def _media_behind(messages: Iterable[Message], *, results: bool) -> Iterator[Message]:
    """Answers, and `results` of tools, as text alone. What else they show follows the answer as the user's.

    Where an answer has several results, a text says which of them shows it.
    """
    shown: list[tuple[int, tuple[Part, ...]]] = []
    count = 0
    for message in messages:
        if message.role != "tool":
            yield from _shown(shown, count)
            shown, count = [], 0
        count += message.role == "tool"
        if message.role == "assistant" or (message.role == "tool" and results):
            media = tuple(part for part in message.parts if not isinstance(part, Text))
            if media:
                text = tuple(part for part in message.parts if isinstance(part, Text))
                message = replace(message, parts=text or ((Text(SHOWN),) if count else ()))
                shown.append((count, media))
        if message.parts or message.tool_calls or message.role != "assistant" or not shown:
            yield message
    yield from _shown(shown, count)


def _shown(shown: Sequence[tuple[int, tuple[Part, ...]]], count: int) -> Iterator[Message]:
    if shown:
        parts: list[Part] = []
        for number, media in shown:
            parts += [Text(f"Shown by result {number} of {count}:")] if number and count > 1 else []
            parts += media
        yield Message("user", tuple(parts))


def _with_answers(messages: Iterable[Message]) -> Iterator[Message]:
    """An answer between the result of a tool and what the user says."""
    after_result = False
    for message in messages:
        if after_result and message.role == "user":
            yield Message("assistant", (Text(UNDERSTOOD),))
        after_result = message.role == "tool"
        yield message


def _one_message_an_answer(messages: Iterable[Message], vocabulary: Vocabulary) -> list[Message]:
    """Messages of one answer, up to its last call, become one message. What it says after its calls stays apart."""
    found: list[Message] = []
    open_answer: int | None = None  # where the answer begins that later messages may belong to
    for message in messages:
        if message.role != "assistant":
            open_answer = None
        elif open_answer is None:
            open_answer = len(found)
        elif message.tool_calls and not (vocabulary.signatures and _two_signatures(found[open_answer:], message)):
            message = _joined([*found[open_answer:], message])
            del found[open_answer:]
        found.append(message)
    return found


def _two_signatures(before: Sequence[Message], message: Message) -> bool:
    """Signed reasoning goes back as it came, a signature to its own text: such messages are not joined."""
    return bool(message.reasoning_signature) and any(one.reasoning_signature for one in before)


def _joined(messages: Sequence[Message]) -> Message:
    """Several messages of one role as one."""
    reasoning = [one.reasoning for one in messages if one.reasoning]
    return replace(
        messages[0],
        parts=sum((one.parts for one in messages), ()),
        tool_calls=sum((one.tool_calls for one in messages), ()),
        reasoning="\n\n".join(reasoning) if reasoning else None,
        reasoning_signature=next((one.reasoning_signature for one in messages if one.reasoning_signature), None),
    )


def _with_arguments(message: Message) -> Message:
    """The message with arguments that are JSON objects: most servers read them, and some answer 400 to others."""
    arguments = [object_text(call.arguments) for call in message.tool_calls]
    if all(text is call.arguments for text, call in zip(arguments, message.tool_calls, strict=True)):
        return message
    calls = zip(arguments, message.tool_calls, strict=True)
    return replace(message, tool_calls=tuple(replace(call, arguments=text) for text, call in calls))


class _Call:
    """A call in the conversation, and the result that was found for it."""

    __slots__ = ("call", "result")

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.result: Message | None = None

    def answer(self) -> Message:
        """Its result, or one that says that there is none."""
        return self.result or Message("tool", (Text(INTERRUPTED),), tool_call_id=self.call.id, failed=True)


def _paired(messages: Sequence[Message], notices: list[Notice]) -> list[Message]:
    """Each call with its one result right behind it.

    A result belongs to the nearest call before it with its id that has none yet. A later answer that uses the id again
    closes the call of the earlier one. A result without an id belongs to the first call of the last answer that has none,
    of its tool where it names one.
    """
    waiting: dict[str, list[_Call]] = {}
    calls: dict[int, list[_Call]] = {}
    kept: list[Message] = []
    for message in messages:
        if message.role != "tool":
            kept.append(message)
            if message.tool_calls:
                message = kept[-1] = _with_arguments(message)
                made = calls[len(kept) - 1] = [_Call(call) for call in message.tool_calls]
                waiting |= {one.call.id: [] for one in made}
                for one in made:
                    waiting[one.call.id].append(one)
        elif call := _called(message, waiting, [*calls.values()]):
            call.result = message if message.tool_call_id else replace(message, name=None)
        else:
            kept.append(_orphan(message))
            notices.append(Notice("moved_result", "a tool's result without its call was sent as text", "messages"))
    if any(one.result is None for made in calls.values() for one in made):
        notices.append(Notice("made_result", "a tool call without a result was sent as interrupted", "messages"))
    return [
        placed
        for index, message in enumerate(kept)
        for placed in (message, *[one.answer() for one in calls.get(index, ())])
    ]


def _called(message: Message, waiting: Mapping[str, list[_Call]], calls: Sequence[list[_Call]]) -> _Call | None:
    """The call that a result belongs to."""
    if message.tool_call_id:
        found = waiting.get(message.tool_call_id, [])
    else:
        found = [one for made in reversed(calls) for one in made if message.name in (None, one.call.name)]
    return next((one for one in found if one.result is None), None)


def _orphan(message: Message) -> Message:
    parts: tuple[Part, ...] = (Text(ORPHAN), *message.parts)
    return Message("user", parts)


# -- ids -------------------------------------------------------------------------------------------------------


def _with_ids(messages: Iterable[Message], form: IdForm) -> Iterator[Message]:
    """The ids of calls, each with its result's, unique and in the target's form."""
    used: set[str] = set()
    ids: Iterator[str] = iter(())
    for message in messages:
        if message.tool_calls:
            fresh = [id_for(call.id, form, used) for call in message.tool_calls]
            ids = iter(fresh)
            if any(new != call.id for new, call in zip(fresh, message.tool_calls, strict=True)):
                calls = zip(fresh, message.tool_calls, strict=True)
                message = replace(message, tool_calls=tuple(replace(call, id=new) for new, call in calls))
        elif message.role == "tool" and (new := next(ids, None)) != message.tool_call_id:
            message = replace(message, tool_call_id=new)
        yield message
