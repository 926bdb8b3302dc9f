"""Writes a config as YAML, with comments: sections of rows, each row on a line if it is short."""

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

WIDTH = 118  # characters of a line

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def scalar(value: Any) -> str:
    """A value on one line: a mapping or a list in its flow form."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(name)}: {scalar(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else f'"{"".join(map(_escaped, value))}"'
    return json.dumps(value)


def _escaped(char: str) -> str:
    if char.isprintable():
        return f"\\{char}" if char in '"\\' else char
    return f"\\U{ord(char):08x}"


def comment(text: str, indent: int = 0) -> list[str]:
    """A comment of one or more lines."""
    text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    lead = " " * indent + "# "
    return textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=lead + "  ", break_long_words=False)


def pair(name: str, value: Any, indent: int) -> list[str]:
    """One setting: on one line, or in block form where that would be too long."""
    line = f"{' ' * indent}{scalar(name)}: {scalar(value)}"
    if len(line) <= WIDTH or not isinstance(value, (Mapping, list, tuple)) or not value:
        return [line]
    lines = [f"{' ' * indent}{scalar(name)}:"]
    if isinstance(value, Mapping):
        for key, item in value.items():
            lines += pair(key, item, indent + 2)
    else:
        lines += [f"{' ' * indent}  - {scalar(item)}" for item in value]
    return lines


def item(fields: Mapping[str, Any], indent: int) -> list[str]:
    """One entry of a list of mappings."""
    line = f"{' ' * indent}- {scalar(fields)}"
    if len(line) <= WIDTH:
        return [line]
    lines = [line for name, value in fields.items() for line in pair(name, value, indent + 2)]
    lines[0] = f"{' ' * indent}- {lines[0].lstrip()}"
    return lines


def section(name: str, lines: list[str]) -> list[str]:
    """A part of the file, at its left edge; nothing if it has no lines."""
    return ["", f"{name}:", *lines] if lines else []
