"""The value of a word without quotes: text, null, true, false or a plain decimal number.

YAML 1.1, which Python's parser implements, reads `NO` as false, `0123` as 83 and `22:22` as 1342; YAML 1.2
reads some of them as text. A word with a surprising or disputed meaning is an error that names the meaning.
"""

import math
import re
from collections.abc import Callable

import yaml

Scalar = str | int | float | bool | None

_LITERALS: dict[str, Scalar] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _LITERALS |= {_word: _value, _word.title(): _value, _word.upper(): _value}

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
_LONGEST_NUMBER = 18  # digits; longer ones fit no field and lose precision as floats


class TrapError(ValueError):
    """The word has another meaning in YAML 1.1 than it seems to have."""


def plain_scalar(word: str) -> Scalar:
    """The value of an unquoted word. Raises `TrapError` for one with a surprising meaning in YAML 1.1."""
    if word in _LITERALS:
        return _LITERALS[word]
    if word[0] not in _STARTS_A_TRAP:
        return word
    if len(word) > 64:
        if word.isdecimal():
            raise TrapError(f"a number of {len(word)} digits is too long; if it is text, quote it")
        return word
    if _INTEGER.fullmatch(word) or _DECIMAL.fullmatch(word):
        if len(word) > _LONGEST_NUMBER:
            raise TrapError(f"{word} has too many digits for a number; if it is text, quote it")
        return float(word) if "." in word else int(word)
    for pattern, meaning in _TRAPS:
        if pattern.fullmatch(word):
            made, instead = meaning(word)
            where = "" if made is _DISPUTED else " in YAML 1.1"
            write = f"write {instead}, or " if instead else ""
            raise TrapError(f'{word} without quotes is {made}{where}: {write}quote it if it is text: "{word}"')
    if any(pattern.match(word) for _, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(word[0], ())):
        raise TrapError(f'{word} without quotes is not text in YAML 1.1: quote it if it is: "{word}"')
    return word


_DISPUTED = "a number to some readers of YAML and text to others"
_STARTS_A_TRAP = frozenset("0123456789+-.yYnNoO=<")


def _boolean(word: str) -> tuple[str, str]:
    value = "true" if word.lower() in {"yes", "on"} else "false"
    return value, value


def _in_base(base: int) -> Callable[[str], tuple[str, str]]:
    def meaning(word: str) -> tuple[str, str]:
        sign, digits = ("-", word[1:]) if word[0] == "-" else ("", word.lstrip("+"))
        value = int(
            digits.lower().removeprefix("0x").removeprefix("0b").removeprefix("0o").replace("_", "") or "0", base
        )
        return f"the number {sign}{value}", f"{sign}{value}"

    return meaning


def _sexagesimal(word: str) -> tuple[str, str]:
    total = 0.0
    for part in word.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + float(part)
    value = f"{'-' if word[0] == '-' else ''}{total:g}" if total < 1e15 else "a very large number"
    return f"a number in base 60, {value}", ""


def _underscored(word: str) -> tuple[str, str]:
    value = word.replace("_", "").lstrip("+")
    return f"the number {value}", value


def _odd_float(word: str) -> tuple[str, str]:
    value = float(word.replace("_", ""))
    if not math.isfinite(value) or abs(value) >= 1e15 or (value and abs(value) < 1e-6):
        return _DISPUTED, ""
    written = f"{value:f}".rstrip("0") if not word.lstrip("+-").isdigit() else f"{value:.0f}"
    return _DISPUTED, written + "0" * written.endswith(".")


def _says(made: str) -> Callable[[str], tuple[str, str]]:
    return lambda _: (made, "")


_TRAPS: tuple[tuple[re.Pattern[str], Callable[[str], tuple[str, str]]], ...] = (
    (re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"), _boolean),
    (re.compile(r"[-+]?0_*[0-7][0-7_]*"), _in_base(8)),
    (re.compile(r"[-+]?0x[0-9a-fA-F_]+"), _in_base(16)),
    (re.compile(r"[-+]?0b[01_]+"), _in_base(2)),
    (re.compile(r"[-+]?0o[0-7]+"), _says(_DISPUTED)),
    (re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"), _sexagesimal),
    (re.compile(r"[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt \t].*)?"), _says("a date")),
    (re.compile(r"[-+]?[0-9]+(?:_+[0-9]+)+_*(?:\.[0-9]+)?"), _underscored),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), _says("not a finite number")),
    (re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"), _odd_float),
    (re.compile(r"="), _says("a special value")),
    (re.compile(r"<<"), _says("a merge")),
)
