"""Regular expressions that cannot hang: RE2 syntax, time linear in the text.

Python's `re` needs seconds for `(a+)+$` on 26 characters, and a rule is tried on every prompt, so an engine with
a bound is needed. RE2 is an extra; only configs with a `content` rule need it.
"""

from functools import lru_cache
from typing import Any

MAX_LENGTH = 1000  # characters of an expression


@lru_cache(maxsize=256)
def linear_regex(pattern: str) -> Any:
    """The compiled pattern, which has `search`. Raises `ValueError` that says what is wrong, and where in the pattern."""
    try:
        import re2  # noqa: PLC0415 - an extra
    except ImportError:
        raise ValueError("`content` needs a linear-time engine: pip install 'chat-proxy[re2]'") from None
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"the expression is longer than {MAX_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(_explain(pattern, error)) from None


def _explain(pattern: str, error: Exception) -> str:
    """RE2 says `what: fragment`. Add the position of the fragment."""
    said = error.args[0] if error.args else b""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    what, _, fragment = text.partition(": ")
    at = pattern.find(fragment) if fragment else -1
    where = f" at character {at + 1}" if at >= 0 else ""
    hint = "; RE2 has no look-around and no back-references" if what in _BACKTRACKING else ""
    return f"not a valid RE2 expression: {text}{where}{hint}"


_BACKTRACKING = ("invalid perl operator", "invalid escape sequence")
