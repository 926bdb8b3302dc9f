"""The line of a config file that an error is about, with a caret under its column. Secrets in it are masked."""

import re
import unicodedata
from collections.abc import Sequence

from proxy.config.source import looks_secret
from proxy.errors import ConfigError
from proxy.wire.secret_shapes import Secrets

WIDTH = 72  # characters of a line that are shown

_KEY = re.compile(r"""["']?([\w.-]+)["']?\s*:(?:\s|$)""")
_VALUE = re.compile(r"""\$\{\w+\}|(?<![^\s"'{}\[\],:|>-])[^\s"'{}\[\],:]{4,}+(?!["']?\s*:(?:\s|$))""")
"""A variable, or a word of four characters or more that is not a key."""
_QUOTED = re.compile("`([^`]+)`")
_PLAIN = re.compile(r"\$\{.*|[\d.:-]+|true|false|null")


def excerpt(error: ConfigError, lines: Sequence[str]) -> str:
    """Two lines to print below the error; empty for an error without a place in the file."""
    if not 0 < error.line <= len(lines):
        return ""
    text = _masked(lines, error.line - 1, error.message)
    at = min(max(error.column - 1, 0), len(text))
    start = max(0, at - WIDTH * 2 // 3) if len(text) > WIDTH else 0
    shown = text[start : start + WIDTH]
    if start:
        shown = "…" + shown[1:]
    if start + WIDTH < len(text):
        shown = shown[:-1] + "…"
    number = f"{error.line:>6} | "
    return f"{number}{shown}\n{' ' * (len(number) - 2)}| {_blank(shown[: at - start])}^"


def _blank(text: str) -> str:
    """As wide as `text` on a terminal."""
    return "".join(
        " " * (not unicodedata.combining(one)) * (1 + (unicodedata.east_asian_width(one) in "WF")) for one in text
    )


def _masked(lines: Sequence[str], index: int, message: str) -> str:
    """The line, a character for each of its own. A value of a key that looks like a secret's is stars, and so is
    every value on a line that holds something in the shape of a secret; but not what `message` quotes itself.
    """
    line = "".join(one if one.isprintable() else "�" for one in lines[index].expandtabs(1))
    keys = _KEY.findall(line)
    for before in reversed(lines[:index]):  # a value may stand below its key
        if keys:
            break
        keys = _KEY.findall(before)[-1:]
    if not any(map(looks_secret, keys)) and Secrets().mask(line) == line:
        return line
    quoted = _QUOTED.findall(message)

    def stars(word: re.Match[str]) -> str:
        return word[0] if word[0] in quoted or _PLAIN.fullmatch(word[0]) else "*" * len(word[0])

    return _VALUE.sub(stars, line)
