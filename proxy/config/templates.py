"""Templates of declared contracts: config data in which `$name` stands for a value of the answer.

    {type: token, text: $text}      {"type":"token","text":" world"}
    "Sorry: $message"               Sorry: the model is busy
    "0:$text.json"                  0:" world"

A template value that is exactly `$name` becomes the named value with its type; inside longer text it becomes text.
`$name.json` becomes the value as JSON text. All structure comes from the config: a value cannot leave its place,
whatever it holds.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import msgspec

from proxy.config.wording import closest

Path = tuple[str | int, ...]

ALWAYS = ("id", "model", "created")
"""The placeholders of every template: the request's id, the model that answers, and the start (Unix time)."""

_CALL = ("call_id", "call_index", "name")
_USAGE = ("input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
_ERROR = ("message", "code", "type", "status", "retryable", "retry_after", "param")

PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "start": (),
    "token": ("text",),
    "reasoning": ("text",),
    "tool_call_start": _CALL,
    "tool_call_delta": (*_CALL, "arguments_text"),
    "tool_call": (*_CALL, "arguments", "arguments_text"),
    "source": ("url", "title"),
    "media": ("url", "media_type"),
    "notice": ("message", "code", "param"),
    "usage": (*_USAGE, "finish_reason"),
    "done": (*_USAGE, "finish_reason", "answer"),
    "error": _ERROR,
    "heartbeat": (),
    "whole": ("text", "reasoning", "tool_calls", "sources", "media", *_USAGE, "finish_reason"),
    "body": _ERROR,
}
"""The further placeholders of each template. All but `whole` and `body` stand under `response`, `body` under `errors`."""

STREAM_TEMPLATES = tuple(name for name in PLACEHOLDERS if name not in {"whole", "body"})
TOOL_TEMPLATES = ("tool_call_start", "tool_call_delta", "tool_call")

_REQUEST = "request"
_STRINGS = frozenset(
    {"id", "text", "call_id", "name", "arguments_text", "url", "title", "media_type", "message", "code"}
)
_NEVER_EMPTY = frozenset({"text", "message"})
_PLACEHOLDER = re.compile(r"\$(request(?:\.[A-Za-z0-9_-]+)+|[A-Za-z_][A-Za-z0-9_]*)(\.json(?![A-Za-z0-9_]))?")
_LINE_END = re.compile(r"[\r\n]")


class Slot(msgspec.Struct, frozen=True):
    """A placeholder `$name`; with `as_json` it is `$name.json`."""

    name: str
    as_json: bool = False


class Scalar(msgspec.Struct, frozen=True):
    """Text without placeholders, a number, true, false or null."""

    value: str | float | bool | None


class Words(msgspec.Struct, frozen=True):
    """Text with placeholders."""

    pieces: tuple[str | Slot, ...]

    @property
    def slot(self) -> Slot | None:
        """The placeholder, if the text is one placeholder and nothing else."""
        return self.pieces[0] if len(self.pieces) == 1 and isinstance(self.pieces[0], Slot) else None


class Fields(msgspec.Struct, frozen=True):
    """A mapping, with the config's keys."""

    items: "tuple[tuple[str, Node], ...]"


class Items(msgspec.Struct, frozen=True):
    """A list."""

    items: "tuple[Node, ...]"


Node = Scalar | Words | Fields | Items


class Problem(NamedTuple):
    """A mistake in a template, and its place in it."""

    path: Path
    message: str


def parse(value: Any, template: str) -> tuple[Node, list[Problem]]:
    """The template in config data, and all its mistakes. `template` is its key, such as `token`."""
    problems: list[Problem] = []
    node = _node(value, (*PLACEHOLDERS[template], *ALWAYS), (), problems)
    if isinstance(node, Scalar) and not isinstance(node.value, str):
        problems.append(Problem((), f"a template is a mapping, a list or text, such as {{text: $text}}; not {value!r}"))
    return node, problems


def is_text(node: Node) -> TypeGuard[Scalar | Words]:
    """Whether a template is text, which is written as it is; any other is written as JSON."""
    return isinstance(node, Words) or (isinstance(node, Scalar) and isinstance(node.value, str))


def text_pieces(node: Scalar | Words) -> tuple[str | Slot, ...]:
    """The pieces of a text template."""
    return node.pieces if isinstance(node, Words) else (str(node.value),)


def is_one_line(node: Node) -> bool:
    """Whether the frame can never hold a line end, whatever the values are."""
    if not is_text(node):
        return True  # JSON escapes them
    return all(piece.as_json if isinstance(piece, Slot) else not _LINE_END.search(piece) for piece in text_pieces(node))


def slots(node: Node) -> Iterator[Slot]:
    """All placeholders of a template."""
    match node:
        case Words(pieces):
            yield from (piece for piece in pieces if isinstance(piece, Slot))
        case Fields(items):
            for _, value in items:
                yield from slots(value)
        case Items(values):
            for value in values:
                yield from slots(value)
        case Scalar():
            pass


def request_path(name: str) -> tuple[str, ...] | None:
    """The path into the request's body that a placeholder `request.…` names; None for other placeholders."""
    first, *steps = name.split(".")
    return tuple(steps) if first == _REQUEST and steps else None


def could_look_alike(one: Node, other: Node) -> bool:
    """Whether some values make the two templates the same payload, so that no client could tell them apart.

    For two texts only their beginnings and ends are compared, so two texts that differ only in the middle count as
    alike.
    """
    if is_text(one) or is_text(other):
        return _overlap(_outline(one), _outline(other))
    return _same_value(one, other)


def _same_value(one: Node, other: Node) -> bool:
    """Whether two JSON templates could become the same value."""
    match one, other:
        case Fields(items), Fields(others):
            there = dict(others)
            return dict(items).keys() == there.keys() and all(_same_value(value, there[key]) for key, value in items)
        case Items(nodes), Items(others):
            return len(nodes) == len(others) and all(map(_same_value, nodes, others))
        case (Words(), _) | (_, Words()):
            if _may_be_any_value(one) or _may_be_any_value(other):
                return True
            return _overlap(_outline_of(_json_outline(one)), _outline_of(_json_outline(other)))
        case Scalar(value), Scalar(other_value):
            return value == other_value and isinstance(value, bool) == isinstance(other_value, bool)
        case _:
            return False


def _may_be_any_value(node: Node) -> bool:
    return (
        isinstance(node, Words) and (slot := node.slot) is not None and not slot.as_json and slot.name not in _STRINGS
    )


def _overlap(one: "_Outline", other: "_Outline") -> bool:
    if not one.open and not other.open:
        return one.prefix == other.prefix
    start, end = min(len(one.prefix), len(other.prefix)), min(len(one.suffix), len(other.suffix))
    if one.prefix[:start] != other.prefix[:start]:
        return False
    if one.suffix[len(one.suffix) - end :] != other.suffix[len(other.suffix) - end :]:
        return False
    return (one.open or one.least >= other.least) and (other.open or other.least >= one.least)


def _node(value: Any, names: Collection[str], path: Path, problems: list[Problem]) -> Node:
    match value:
        case str():
            return _words(value, names, path, problems)
        case dict():
            return Fields(tuple([(key, _node(inner, names, (*path, key), problems)) for key, inner in value.items()]))
        case list():
            return Items(tuple([_node(inner, names, (*path, index), problems) for index, inner in enumerate(value)]))
        case _:
            return Scalar(value)


def _words(text: str, names: Collection[str], path: Path, problems: list[Problem]) -> Node:
    pieces: list[str | Slot] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        name, as_json = match[1], bool(match[2])
        if name.startswith("request.") and name.endswith(".json"):
            name, as_json = name.removesuffix(".json"), True
        if name == _REQUEST:
            problems.append(Problem(path, "`$request` needs a field: `$request.conversation_id` repeats that one"))
        elif name not in names and request_path(name) is None:
            problems.append(Problem(path, f"unknown placeholder `${name[:40]}`{_nearest(name, names)}"))
        if match.start() > at:
            pieces.append(text[at : match.start()])
        pieces.append(Slot(name, as_json))
        at = match.end()
    if not pieces:
        return Scalar(text)
    if at < len(text):
        pieces.append(text[at:])
    return Words(tuple(pieces))


def _nearest(name: str, names: Collection[str]) -> str:
    near = closest(name, names)
    known = ", ".join(f"${name}" for name in sorted(names))
    return f"; did you mean `${near}`?" if near else f"; there is: {known}"


class _Outline(NamedTuple):
    """The beginning and end of a template's output, its least length, and whether the middle can be anything."""

    prefix: str
    suffix: str
    least: int
    open: bool


def _outline(node: Node) -> _Outline:
    return _outline_of(_text_outline(node) if is_text(node) else _json_outline(node))


def _outline_of(pieces: Iterator[str | int]) -> _Outline:
    merged: list[str | int] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    least = sum(len(piece) if isinstance(piece, str) else piece for piece in merged)
    prefix = merged[0] if merged and isinstance(merged[0], str) else ""
    suffix = merged[-1] if merged and isinstance(merged[-1], str) else ""
    return _Outline(prefix, suffix, least, any(isinstance(piece, int) for piece in merged))


def _text_outline(node: Scalar | Words) -> Iterator[str | int]:
    for piece in text_pieces(node):
        match piece:
            case str():
                yield piece
            case Slot(_, True):
                yield from _value_outline(piece)
            case Slot(name):
                yield int(name in _NEVER_EMPTY)


def _json_outline(node: Node) -> Iterator[str | int]:
    """Literal text, and the least length of each part that can be anything."""
    match node:
        case Scalar(value):
            yield json.dumps(value, ensure_ascii=False)
        case Words(pieces):
            if (slot := node.slot) is not None and not slot.as_json:
                yield from _value_outline(slot)
                return
            yield '"'
            for piece in pieces:
                if isinstance(piece, str):
                    yield json.dumps(piece, ensure_ascii=False)[1:-1]
                else:
                    yield int(piece.name in _NEVER_EMPTY)
            yield '"'
        case Fields(items):
            for number, (key, inner) in enumerate(items):
                yield ("," if number else "{") + json.dumps(key, ensure_ascii=False) + ":"
                yield from _json_outline(inner)
            yield "}" if items else "{}"
        case Items(nodes):
            for number, inner in enumerate(nodes):
                yield "," if number else "["
                yield from _json_outline(inner)
            yield "]" if nodes else "[]"


def _value_outline(slot: Slot) -> Iterator[str | int]:
    if slot.name in _STRINGS:
        yield from ('"', int(slot.name in _NEVER_EMPTY), '"')
    else:
        yield 1
