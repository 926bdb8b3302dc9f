"""Parse JSON as RFC 8259 defines it, and refuse what two readers could understand differently.

The body is parsed once and written again for the upstream, so the proxy and the upstream read the same request. This
needs five checks beyond the grammar, all without a second parse:

- *duplicate names*: readers differ on which one counts. Each `:` outside strings is one name; it is compared with the
  number of names in the parsed value.
- *depth*: nesting deeper than `MAX_DEPTH` can exhaust the stack of code that copies or prints the value.
- *number of values*: a body of millions of `[]` would block all other requests for seconds; a long text does not.
- *numbers* beyond 64-bit integers and finite doubles: they cannot be written back.
- *invalid text*: bytes that are not UTF-8, half surrogate pairs, a byte order mark.
"""

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from proxy.errors import BadRequest

MAX_DEPTH = 128
MAX_VALUES = 500_000  # about 0.2 s of work; enough for a conversation of 100,000 messages

_decode = msgspec.json.Decoder().decode
_CONTAINERS = frozenset({dict, list})
_LONG_NUMBER = re.compile(rb"\d{19}")
# A string matches too, so that numbers inside it are skipped; only a number sets the group.
_STRING_OR_NUMBER = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)', re.DOTALL)
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises `BadRequest` that says what is wrong and at which byte."""
    # The skeleton is the body without its strings: each name leaves a `:`, and numbers stay.
    skeleton = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    if len(skeleton) > MAX_VALUES and sum(map(skeleton.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise BadRequest(f"the request body holds more than {MAX_VALUES} values")
    try:
        value = _decode(body)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, as is UnicodeDecodeError
        _refuse(body, error)
    if _count_names(value) != skeleton.count(b":"):
        _refuse_duplicate(body)
    if _LONG_NUMBER.search(skeleton) and (position := _unwritable_number(body)) is not None:
        raise _number_error(position)
    return value


def _count_names(value: Any) -> int:
    """The number of object members, counted level by level, for recursion could exhaust the stack."""
    names, depth, level = 0, 0, [value]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _depth_error()
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                names += len(node)
                below += [child for child in node.values() if type(child) in _CONTAINERS]
            elif type(node) is list:
                below += [child for child in node if type(child) in _CONTAINERS]
        level = below
    return names


def _unwritable_number(body: bytes) -> int | None:
    """The position of the first number that no 64-bit integer and no finite double can hold."""
    for match in _STRING_OR_NUMBER.finditer(body):
        number = match[1]
        if number is None:
            continue
        if not math.isfinite(float(number)):
            return match.start()
        # A 64-bit integer has at most twenty digits; int() never gets more, for it is slow on long ones.
        is_integer = number.lstrip(b"-").isdigit()
        if is_integer and (len(number) > 20 or not -(2**63) <= int(number) < 2**64):
            return match.start()
    return None


def _refuse(body: bytes, error: ValueError | RecursionError) -> NoReturn:
    """Raise the error for a body that msgspec refused, with a clearer message than msgspec's in some cases."""
    if isinstance(error, RecursionError):
        raise _depth_error() from error
    if body.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        message = "begins with a byte order mark (byte 0); send UTF-8 without one"
    elif (bad := _first_byte_that_is_not_utf8(body)) is not None:
        message = f"is not valid UTF-8 (byte {bad})"
    elif not body.strip():
        message = "is empty; a JSON object was expected"
    elif half_pair := _HALF_PAIR.search(body):
        message = f"has half of a surrogate pair, which is not a character (byte {half_pair.start()})"
    elif isinstance(error, msgspec.ValidationError):
        raise _number_error(_unwritable_number(body)) from error
    elif "truncated" in str(error):
        message = f"ends before its JSON is complete (byte {len(body)})"
    else:
        message = f"is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}"
    raise BadRequest(f"the request body {message}") from error


def _refuse_duplicate(body: bytes) -> NoReturn:
    """Raise the error that names the duplicate. It costs a second, slower parse, for such bodies only."""

    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest(
                    f"the request body has {name[:64]!r} twice in one object; readers differ on which counts"
                )
            seen.add(name)

    json.loads(body, object_pairs_hook=unique, parse_int=float)
    raise BadRequest("the request body has a name twice in one object")


def _first_byte_that_is_not_utf8(body: bytes) -> int | None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def _number_error(position: int | None) -> BadRequest:
    where = "" if position is None else f" (byte {position})"
    return BadRequest(f"the request body has a number out of range{where}: integers go to 64 bits, others to 1e308")


def _depth_error() -> BadRequest:
    return BadRequest(f"the request body nests deeper than {MAX_DEPTH} levels")
