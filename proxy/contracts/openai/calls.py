"""Telling the tool calls of a stream apart.

The documentation tells them apart by `index`. Some servers leave it out, some set it to 0 for every call, some repeat
id and name with each piece, and some send id and name in different pieces. So the pieces are read in order:

| a piece with …                                          | means                                                |
|---------------------------------------------------------|------------------------------------------------------|
| an index not seen before                                | a new call, unless one of the next two lines fits    |
| the id of a call that is not complete                   | more of that call: the index counts the pieces       |
| the id of an earlier call, and no name                  | more of that call, whatever the index                |
| arguments alone, with an index not seen before          | more of the last call, if it is not complete         |
| another id, and a name                                  | a new call                                           |
| another id alone, after arguments that are complete     | a new call, whose name follows                       |
| another id alone, before that                           | more of this call: the id changes with each piece    |
| another name with the same id, before any arguments     | the rest of the name                                 |
| another name alone, before any, where the call has an id| the rest of the name                                 |
| another name and no id, or the same after complete ones | a new call                                           |
| arguments alone, after arguments that are complete      | an error: nobody knows whose they are                |
| arguments that begin with all that came before          | an error: it repeats what a client has been given    |
| the same id and the same arguments once more            | nothing new                                          |
"""

import json

import msgspec

from proxy.contracts.openai.chunks import ToolCallPiece
from proxy.errors import UpstreamMalformed
from proxy.events import StreamEvent, ToolCallDelta, ToolCallStart
from proxy.wire.json_text import several_objects
from proxy.wire.lenient_json import SurrogateJoiner

CHECKS = 64
"""How often the arguments of one call are parsed while they come, so that the work stays linear in their bytes."""


class Call(msgspec.Struct):
    """One call as far as it has come. `index` is its place among those that were told; -1 until it has a name."""

    id: str = ""
    name: str = ""
    index: int = -1
    pieces: list[str] = []
    checks: int = CHECKS
    joiner: SurrogateJoiner = msgspec.field(default_factory=SurrogateJoiner)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def complete(self) -> bool:
        """Whether the arguments so far are a whole JSON object."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}") or not self.checks:
            return False
        self.checks -= 1
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False


class CallReader:
    """Turns pieces of calls into events. `id` is the answer's, from which ids are made where there are none."""

    __slots__ = ("_calls", "_last", "id", "indexes", "renumbers", "told")

    def __init__(self) -> None:
        self.id = ""
        self._calls: dict[tuple[int, int], Call] = {}  # by choice and the upstream's index
        self._last: dict[int, Call] = {}  # by choice
        self.told = 0  # how many calls were told, each by a `ToolCallStart`
        self.renumbers = False  # two calls had one index, so that the upstream's do not tell them apart
        self.indexes: list[int] = []  # of the pieces read since the caller emptied it: our own

    def read(self, choice: int, piece: ToolCallPiece, events: list[StreamEvent]) -> None:
        """One piece of a call. Raises `UpstreamMalformed` where it cannot be told whose it is."""
        function = piece.function or piece.custom or piece
        id_, name, arguments = piece.id or "", function.name or "", function.text
        call = self._found(choice, piece.index, id_, name)
        if call is None or _opens(call, id_, name):
            self._tell_last(choice, events)
            call = self._open(choice, piece.index)
        elif arguments.lstrip()[:1] == "{" and call.pieces:
            if call.complete():
                if id_ and id_ == call.id and arguments == call.arguments:
                    self.indexes.append(call.index)
                    return
                raise UpstreamMalformed("the upstream sent arguments of several tool calls that cannot be told apart")
            if arguments.startswith(told := call.arguments) and told.strip():
                raise UpstreamMalformed(
                    "the upstream repeats a tool call's arguments from their beginning in each piece"
                )
        self._last[choice] = call
        self.indexes.append(self.told if call.index < 0 else call.index)
        self._add(call, id_, name, arguments, events)

    def fill(self, choice: int, pieces: list[ToolCallPiece], events: list[StreamEvent]) -> None:
        """The calls of a whole message, after their pieces came: only what is missing is told."""
        calls = [call for (of, _), call in self._calls.items() if of == choice]
        for position, piece in enumerate(pieces):
            function = piece.function or piece.custom or piece
            call = next((call for call in calls if piece.id and call.id == piece.id), None)
            if call is None and position < len(calls) and calls[position].name in ("", function.name):
                call = calls[position]
            if call is None:
                call = self._open(choice, None)
            whole, told = function.text, call.arguments
            rest = whole.removeprefix(told) if whole.startswith(told) else ""
            self._add(call, piece.id or "", function.name or "", rest, events)

    def finish(self, events: list[StreamEvent]) -> None:
        """The answer is complete. Raises `UpstreamMalformed` for a call without a name, or for several in one."""
        self.tell_named(events)
        for call in self._calls.values():
            if call.index < 0 and call.arguments.strip():
                raise UpstreamMalformed("the upstream called a tool without naming it")
            if call.index >= 0 and (rest := call.joiner.flush()):
                events.append(ToolCallDelta(call.index, rest))
            if several_objects(call.arguments):
                raise UpstreamMalformed("the upstream sent arguments of several tool calls as those of one")

    def tell_named(self, events: list[StreamEvent]) -> None:
        """Nothing more comes: tell the calls of which only the name came."""
        for choice in self._last:
            self._tell_last(choice, events)

    def _found(self, choice: int, index: int | None, id_: str, name: str) -> Call | None:
        here = None if index is None else self._calls.get((choice, index))
        if here is not None and (name or not id_ or here.id == id_):
            return here
        if id_:
            call = next((call for (of, _), call in self._calls.items() if of == choice and call.id == id_), here)
            again = index is None or call is None or not name or (name == call.name and not call.complete())
            return call if again else None
        last = self._last.get(choice)
        return None if name or (index is not None and last is not None and last.complete()) else last

    def _open(self, choice: int, index: int | None) -> Call:
        call = Call()
        key = (choice, len(self._calls) if index is None else index)
        if key in self._calls:
            self.renumbers = True  # kept under a key that no piece names, so that its end is still looked at
            self._calls[choice, -1 - len(self._calls)] = self._calls.pop(key)
        self._calls[key] = call
        return call

    def _add(self, call: Call, id_: str, name: str, arguments: str, events: list[StreamEvent]) -> None:
        if name != call.name and call.index < 0 and not call.pieces:
            call.name = name if name.startswith(call.name) else call.name + name
        call.id, call.name = call.id or id_, call.name or name
        arguments = call.joiner.join(arguments) if arguments else ""
        if arguments:
            call.pieces.append(arguments)
        if call.index < 0:
            if not call.name or not call.pieces:
                return  # arguments wait for the name, and a name for the rest of it
            self._start(call, events)
            arguments = call.arguments
        if arguments:
            events.append(ToolCallDelta(call.index, arguments))

    def _tell_last(self, choice: int, events: list[StreamEvent]) -> None:
        """Tell the last call if it has a name and, as it turns out, no arguments."""
        call = self._last.get(choice)
        if call is not None and call.index < 0 and call.name:
            self._start(call, events)

    def _start(self, call: Call, events: list[StreamEvent]) -> None:
        call.index = self.told
        self.told += 1
        id_ = call.id
        if not id_ or any(other.id == id_ and other is not call for other in self._calls.values()):
            id_ = f"call_{self.id.removeprefix('chatcmpl-')}_{call.index}"  # clients find a call by its id
        events.append(ToolCallStart(call.index, id_, call.name))


def _opens(call: Call, id_: str, name: str) -> bool:
    """Whether a piece that bears the index of `call` begins another one."""
    if id_ and call.id and id_ != call.id:
        return (bool(name) and bool(call.name)) or call.complete()
    if not name or not call.name or (id_ and id_ == call.id) or (not id_ and call.id and not call.pieces):
        return False
    return name != call.name or call.complete()
