"""Cleans values for log lines: no secrets (I01), nothing that forges or hides lines (H09), nothing huge."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, SecretStr

from proxy.wire.secret_shapes import MARGIN, Secrets

LONGEST_VALUE = 2048  # characters
LONGEST_TRACEBACK = 8 * 1024  # characters
MOST_ITEMS = 32  # of a list or mapping
DEEPEST = 3  # levels of lists and mappings

MOST_NAMES, LONGEST_NAME = 256, 256  # entries of the cache of `clean_name`, and characters of one


class Redactor:
    """Makes any value fit for a log line, without what `secrets` know and without what looks like a key."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        self.secrets = Secrets() if secrets is None else secrets
        self._cleaned: dict[str, str] = {}
        self._version = self.secrets.version

    def clean(self, value: object, *, longest: int = LONGEST_VALUE, keep: str = "") -> str:
        """`value` as text that is safe in one line: redacted, then cut, then escaped but for `keep`."""
        text = _text(value)
        cut = len(text) > longest
        if cut:
            dropped = len(text) - longest
            text = self.secrets.mask(text[: longest + MARGIN])
            text = text[: min(longest, max(0, len(text) - MARGIN))]
            return f"{visible(text, keep)}…[{dropped} more characters]"
        return visible(self.secrets.mask(text), keep)

    def clean_name(self, text: str) -> str:
        """As `clean`, with a cache, for values that repeat: paths, models."""
        if self._version != self.secrets.version:
            self._cleaned.clear()
            self._version = self.secrets.version
        cleaned = self._cleaned.get(text)
        if cleaned is None:
            cleaned = self.clean(text)
            if len(self._cleaned) >= MOST_NAMES:  # a client may invent any number
                self._cleaned.clear()
            if len(text) <= LONGEST_NAME:
                self._cleaned[text] = cleaned
        return cleaned

    def clean_value(self, value: object, depth: int = 0) -> object:
        """`value` made of plain JSON types, each string cleaned, bounded in breadth and depth."""
        match value:
            case None | bool():
                return value
            case int():
                return value if -(2**63) <= value < 2**63 else f"[a number of {value.bit_length()} bits]"
            case float():
                return value if value - value == 0 else str(value)  # JSON knows neither NaN nor infinity
            case Mapping() if depth < DEEPEST:
                items = list(value.items())[:MOST_ITEMS]
                return {self.clean(key, longest=128): self.clean_value(item, depth + 1) for key, item in items}
            case list() | tuple() | set() | frozenset() if depth < DEEPEST:
                return [self.clean_value(item, depth + 1) for item in list(value)[:MOST_ITEMS]]
            case _:
                return self.clean(value)


def visible(text: str, keep: str = "") -> str:
    r"""`text` with everything that does not show as itself written as an escape such as `\x1b` or `\u202e`.

    Python's own notion of printable is the Unicode one: it leaves out control and format characters (ANSI
    escapes, bidirectional overrides, zero-width ones), line separators, surrogates and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # any `__str__` may fail; a log call must not become an error
        return f"[a {type(value).__name__} that cannot be shown]"


def secrets_of(value: object) -> Iterator[str]:
    """All secret strings inside settings (models, mappings, lists), for `Secrets.learn`."""
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case BaseModel():
            for name in type(value).model_fields:
                yield from secrets_of(getattr(value, name))
        case Mapping():
            for item in value.values():
                yield from secrets_of(item)
        case list() | tuple():
            for item in value:
                yield from secrets_of(item)
        case _:
            pass
