"""YAML text to plain data, with the line and column of every value.

PyYAML splits the text into events. This module composes and constructs the data itself, so that a duplicate key,
a tag, a merge and a word with a surprising meaning in YAML 1.1 are errors with a line, and the result holds only
mappings with text keys, lists, text, numbers, booleans and null. Size, depth and the expansion of aliases are
bounded before anything is built.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from proxy.config.file import MAX_BYTES
from proxy.config.scalars import TrapError, plain_scalar
from proxy.config.variables import substitute
from proxy.errors import ConfigError, ConfigErrors

MAX_DEPTH = 100  # of lists and mappings inside each other
MAX_NODES = 50_000  # an alias counts as often as it is used

_SHORTEST_SECRET = 6  # characters; masking shorter values would make messages unreadable

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """Line and column, counted from 1, and for an unquoted scalar the word as written."""

    line: int
    column: int
    word: str = ""


@dataclass(slots=True)
class Document:
    """A file's data and the place of every part. `unset` lists the variables without a value, by path of use."""

    file: str
    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    unset: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    from_environment: dict[Path, tuple[str, ...]] = field(default_factory=dict, repr=False)
    errors: list[ConfigError] = field(default_factory=list)
    faulty: set[Path] = field(default_factory=set)  # values with an error; no further error is reported for them
    incomplete: set[Path] = field(default_factory=set)  # mappings that lost a key to an error

    def place(self, path: Path, *, key: bool = False) -> Place:
        """The place of `path`, or of the innermost part of it that is written in the file."""
        if key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Place(1, 1)

    def error(self, message: str, path: Path, *, key: bool = False) -> ConfigError:
        place = self.place(path, key=key)
        return ConfigError(self.masked(message), file=self.file, line=place.line, column=place.column)

    def masked(self, message: str) -> str:
        """The message without values from the environment: any of them may be a secret in the wrong place."""
        for value in {value for values in self.from_environment.values() for value in values}:
            if len(value) >= _SHORTEST_SECRET:
                message = message.replace(value, "…").replace(repr(value)[1:-1], "…")
        return message


def parse(
    content: bytes, *, file: str, environment: Mapping[str, str], words: Mapping[Path, Collection[str]] | None = None
) -> Document:
    """Read a file's content. Raises `ConfigErrors` if nothing can be read; other errors are in the result.

    `words` lists, by path, words that are text there and refused elsewhere, such as `off`.
    """
    text = _decode(content, file)
    try:
        root = _Composer(text, file).document()
    except ConfigError as error:
        raise ConfigErrors([error]) from None
    if root is None:
        raise ConfigErrors(
            [ConfigError("the file is empty; it needs `backends` and `routes`", file=file, line=1, column=1)]
        )
    builder = _Builder(file, environment, words or {})
    document = builder.document
    document.data = builder.build(root, ())
    if root.kind != "mapping":
        raise ConfigErrors(
            [document.error("the file must be a mapping with keys such as `backends:` and `routes:`", ())]
        )
    return document


_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _decode(content: bytes, file: str) -> str:
    if len(content) > MAX_BYTES:
        raise ConfigErrors([ConfigError(f"the file is larger than {MAX_BYTES >> 20} MiB", file=file, line=1, column=1)])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        raise ConfigErrors([_at(before, "this is not UTF-8; save the file as UTF-8", file)]) from None
    if found := _FORBIDDEN.search(text):
        character = f"U+{ord(found[0]):04X}"
        message = f"the character {character} is not allowed in YAML; remove it, or write it as an escape in quotes"
        raise ConfigErrors([_at(text[: found.start()], message, file)])
    return text


def _at(before: str, message: str, file: str) -> ConfigError:
    """An error after the text `before`."""
    line = before.count("\n") + 1
    return ConfigError(message, file=file, line=line, column=len(before) - before.rfind("\n"))


class _Node:
    """A scalar, list or mapping of the text. `size` and `height` include what aliases refer to."""

    __slots__ = ("children", "height", "kind", "place", "plain", "size", "text")

    def __init__(self, kind: str, mark: Any) -> None:
        self.kind = kind
        self.place = Place(mark.line + 1, mark.column + 1)
        self.children: list[_Node] = []  # of a mapping: key, value, key, value …
        self.text = ""
        self.plain = False
        self.size = 1
        self.height = 1

    def add(self, child: "_Node") -> None:
        self.children.append(child)
        self.size += child.size
        self.height = max(self.height, child.height + 1)


class _Composer:
    """Events to nodes. Uses the pure parser, which has better messages and positions; libyaml for long files."""

    _LONG = 64 << 10

    def __init__(self, text: str, file: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if len(text) > self._LONG else yaml.SafeLoader
        self._file, self._text = file, text
        self._events: Iterator[Any] = yaml.parse(text, Loader=loader)
        self._anchors: dict[str, _Node | None] = {}

    def document(self) -> _Node | None:
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        except (yaml.YAMLError, ValueError, OverflowError):  # such as an escape without a character
            raise ConfigError("this is not YAML", file=self._file, line=1, column=1) from None

    def _document(self) -> _Node | None:
        root: _Node | None = None
        for event in self._events:
            match event:
                case yaml.DocumentStartEvent() if root is not None:
                    raise self._error("a second document starts here; a config is a single one", event.start_mark)
                case yaml.NodeEvent():
                    root = self._node(event, 1)
                case _:
                    pass
        return None if root is None or (root.plain and not root.text) else root

    def _node(self, event: Any, depth: int) -> _Node:
        mark = event.start_mark
        if depth > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep", mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            raise self._error(
                "tags (`!name`, `!!type`) are not allowed here; remove it, or quote text that starts with !", mark
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # not complete: an alias to it would be endless
        node = self._content(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: Any, depth: int) -> _Node:
        mark = event.start_mark
        if isinstance(event, yaml.ScalarEvent):
            node = _Node("scalar", mark)
            node.text = event.value
            node.plain = not event.style  # None; libyaml: the empty text
            if node.plain and (found := _INVISIBLE.search(event.value)):
                character = f"U+{ord(found[0].removeprefix(':')):04X}"
                raise self._error(f"here is an invisible {character}, as copied from a page; type a space", mark)
            node.size += len(event.value) >> 6  # a long text costs as much as many short ones
            return node
        node = _Node("list" if isinstance(event, yaml.SequenceStartEvent) else "mapping", mark)
        for inner in self._events:
            if isinstance(inner, yaml.CollectionEndEvent):
                break
            node.add(self._node(inner, depth + 1))
            if node.size > MAX_NODES:
                raise self._error(f"more than {MAX_NODES:,} values, aliases counted by use", inner.start_mark)
        return node

    def _alias(self, event: Any, depth: int) -> _Node:
        name, mark = event.anchor, event.start_mark
        if name not in self._anchors:
            raise self._error("this alias has no anchor (`&name`) above it; quote text that starts with *", mark)
        node = self._anchors[name]
        if node is None:
            raise self._error("this alias refers to a value that contains it", mark)
        if depth + node.height > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep", mark)
        return node

    def _error(self, message: str, mark: Any) -> ConfigError:
        return ConfigError(message, file=self._file, line=mark.line + 1, column=mark.column + 1)

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> ConfigError:
        problem, mark = error.problem or "this is not YAML", error.problem_mark or error.context_mark
        message = next((hint for sign, hint in _SYNTAX if sign in problem), f"not valid YAML: {problem}")
        lines = self._text.splitlines()
        for number in (mark.line + 1, mark.line) if mark else ():
            if 0 < number <= len(lines) and (stuck := _STUCK.match(lines[number - 1])):
                return ConfigError(_NO_SPACE.format(stuck[2]), file=self._file, line=number, column=stuck.end(1) + 1)
        if message == _SECOND_COLON and mark is not None and self._starts_at(mark):
            message = _INDENTED
        if error.context_mark and message in _BEGUN_BEFORE:
            mark = error.context_mark
        if mark is None:
            return ConfigError(message, file=self._file, line=1, column=1)
        return self._error(message, mark)

    def _starts_at(self, colon: Any) -> bool:
        """True if the colon is the first in its line, so that the line above continues into this one."""
        before = self._text.splitlines()[colon.line][: colon.column]
        return (
            before.startswith(" ") and ": " not in before and not before.lstrip().startswith(("-", '"', "'", "{", "["))
        )


_WIDE = "[\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]"
_INVISIBLE = re.compile(f"(?:^|:){_WIDE}|{_WIDE}$")
"""A character that looks like a space or like nothing, and is read as part of a text."""
_STUCK = re.compile(r"(\s*(?:- +)?)(-(?=[A-Za-z_]\w*(?::|$))|[\w.-]+:(?=[{\[]))")
"""A `-` or a `:` that no space follows, so that it is read as part of a key."""
_NO_SPACE = "a space is missing after `{}`"
_SECOND_COLON = "a second `: ` in this line; quote the text that holds it, or start a new line"
_INDENTED = "this line is indented deeper than the one above, which has a value already; indent both alike"
_UNCLOSED = "a bracket or brace opened here is never closed"
_UNQUOTED = "a quote opened here is never closed"
_NO_COLON = "a `:` is missing after this key, or the line belongs to the one above; check its indentation"
_BEGUN_BEFORE = frozenset({_UNCLOSED, _UNQUOTED, _NO_COLON})  # reported where it begins, not where it was noticed
_SYNTAX = (
    ("'\\t' that cannot start", "a tab cannot indent YAML; use spaces"),
    ("mapping values are not allowed", _SECOND_COLON),
    ("could not find expected ':'", _NO_COLON),
    ("expected <block end>", "this line fits neither what is above nor around it; check its indentation"),
    ("found unexpected end of stream", _UNQUOTED),
    ("'@' that cannot start", "text cannot start with @ unless it is quoted"),
    ("'`' that cannot start", "text cannot start with a backtick unless it is quoted"),
    ("'%' that cannot start", "text cannot start with % unless it is quoted"),
    ("unknown escape character", 'not an escape that "…" knows; double the backslash, or use \'…\''),
    ("but got '<stream end>'", _UNCLOSED),
    ("but found '<stream end>'", "the file ends inside a bracket or brace"),
    ("expected ',' or", "a `,` or the closing bracket is missing before this"),
)  # fmt: skip


def _stuck(key: str, value: _Node) -> str:
    """The `-` or `NAME:` in a key that lacks a space after it; a key such as `llama3:8b` has a value."""
    if found := _STUCK.match(key):
        return found[2]
    name, colon, rest = key.partition(":")
    return name + colon if rest and value.plain and not value.text else ""


class _Builder:
    """Nodes to data: checks words, replaces variables, records places."""

    def __init__(self, file: str, environment: Mapping[str, str], words: Mapping[Path, Collection[str]]) -> None:
        self.document = Document(file)
        self._environment, self._words = environment, words
        self._reported: set[tuple[int, int, str]] = set()  # an alias leads to the same place again

    def build(self, node: _Node, path: Path) -> Any:
        self.document.values[path] = node.place
        match node.kind:
            case "mapping":
                return self._mapping(node, path)
            case "list":
                return [self.build(child, (*path, index)) for index, child in enumerate(node.children)]
            case _:
                return self._scalar(node, path)

    def _mapping(self, node: _Node, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in zip(node.children[::2], node.children[1::2], strict=True):
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in lines:
                self._fault(f"`{_short(key)}` is already in line {lines[key]}; keep one of the two", key_node)
                continue
            if key_node.plain and (stuck := _stuck(key, value_node)):
                self._fault(_NO_SPACE.format(stuck), key_node, path)
                continue
            lines[key] = key_node.place.line
            self.document.keys[*path, key] = key_node.place
            data[key] = self.build(value_node, (*path, key))
        return data

    def _key(self, node: _Node, path: Path) -> str | None:
        """A key as text; None if it is not text, which is reported."""
        if node.kind == "scalar" and not node.plain:
            return node.text
        try:
            key = plain_scalar(node.text) if node.kind == "scalar" else None
        except TrapError as trap:
            merge = node.text == "<<"
            message = "`<<` merges are not allowed here; write the keys out" if merge else f"the key {trap}"
        else:
            if isinstance(key, str):
                return key
            message = (
                f"a key must be text, and `{_short(node.text)}` is not; quote it" if node.text else "a key must be text"
            )
        self.document.incomplete.add(path)
        self._fault(message, node)
        return None

    def _scalar(self, node: _Node, path: Path) -> Any:
        document = self.document
        text: Any = node.text
        if node.plain and text not in self._words.get(path, ()):
            document.values[path] = Place(node.place.line, node.place.column, text)
            try:
                text = plain_scalar(text)
            except TrapError as trap:
                secret = bool(path) and looks_secret(path[-1])
                message = "without quotes this is not text in YAML 1.1; quote it" if secret else str(trap)
                return self._fault(message, node, path)
            if not isinstance(text, str):
                return text
        try:
            result = substitute(text, self._environment)
        except ValueError as error:
            return self._fault(str(error), node, path)
        if result.unset:
            document.unset[path] = result.unset
        if result.values:
            document.from_environment[path] = result.values
        return result.text

    def _fault(self, message: str, node: _Node, path: Path | None = None) -> None:
        """Record an error, of the value at `path` if that is given."""
        line, column, _ = node.place
        if path is not None:
            self.document.faulty.add(path)
        if (line, column, message) not in self._reported:
            self._reported.add((line, column, message))
            self.document.errors.append(ConfigError(message, file=self.document.file, line=line, column=column))


_SECRET = re.compile(r"key|secret|token|password|sha256|authorization|credential", re.IGNORECASE)


def looks_secret(key: str | int) -> bool:
    """True if a message must not repeat the value of this key."""
    return isinstance(key, str) and bool(_SECRET.search(key))


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
