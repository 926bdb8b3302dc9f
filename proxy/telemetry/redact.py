"""What may stand in a log line: no secrets (I01), nothing that forges or hides lines (H09), nothing huge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

MASK = "[redacted]"

LONGEST_VALUE = 2048
LONGEST_TRACEBACK = 8 * 1024
MOST_ITEMS = 32
DEEPEST = 3

SHORTEST_SECRET = 8  # shorter ones are words ("ollama", "none") and would mask half the log
MOST_SECRETS = 2000
MOST_NAMES, LONGEST_NAME = 256, 256
_MARGIN = 512  # a secret cut in two at the edge is not recognised, so the edge is dropped

_SHORTEST_KEY_LIKE = 12  # less is a name, an id, a word: nearly all values are, and they cost nothing

_KEY_LIKE = re.compile(
    # Each alternative is a literal start and one bounded run, so matching is linear in the text.
    r"""(?<![A-Za-z0-9])(?:
        (?:sk|rk|pk|cp|xai|pplx|fw|tgp|gsk|nvapi|csk|r8|hf|ghp|gho|ghs|github_pat|glpat|xox[abprs])[-_][A-Za-z0-9_*-]{10,512}
      | AIza[0-9A-Za-z_-]{30,128}
      | (?:AKIA|ASIA)[0-9A-Z]{16}
      | eyJ[A-Za-z0-9_-]{8,256}\.[A-Za-z0-9_-]{8,4096}(?:\.[A-Za-z0-9_-]{0,4096})?
    )""",
    re.VERBOSE,
)
_AFTER_A_NAME = re.compile(
    r"""((?:api[-_ ]?key(?:\s{1,3}provided)?|access[-_]?key|secret|password|passwd|token|authorization|cookie)
         ["']?\s{0,3}[:=]\s{0,3}["']?(?:bearer\s|basic\s)?\s{0,3}
       | \bbearer\s{1,3}
       | \bbasic\s{1,3}(?=[A-Za-z0-9+/]{12})
       | [?&](?:key|sig|signature|code)=
       | ://[^\s/@:"']{0,128}:(?=[^\s/@"']{1,256}@)
    )([^\s"',;&<>@]{6,4096})""",
    re.VERBOSE | re.IGNORECASE,
)


class Redactor:
    """Masks the config's own secrets wherever they turn up, and whatever looks like a key.

    Fed at start and at each reload. Old secrets stay: a stream of the config before may still fail and
    name one.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._cleaned: dict[str, str] = {}
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these too from now on, also as they look inside a URL."""
        known = dict.fromkeys(self._secrets)
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                known |= dict.fromkeys((secret, quote(secret, safe="")))
        # Longest first, so that of two secrets the one that contains the other is masked whole.
        self._secrets = sorted(list(known)[-MOST_SECRETS:], key=len, reverse=True)
        self._cleaned.clear()

    def redact(self, text: str) -> str:
        """`text` without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if len(text) >= _SHORTEST_KEY_LIKE:
            text = _KEY_LIKE.sub(MASK, text)
            if "=" in text or ":" in text or " " in text:
                text = _AFTER_A_NAME.sub(rf"\1{MASK}", text)
        return text

    def clean(self, value: object, *, longest: int = LONGEST_VALUE, keep: str = "") -> str:
        """`value` as text that is safe in one line: redacted, then cut, then escaped but for `keep`."""
        text = _text(value)
        cut = len(text) > longest
        if cut:
            dropped = len(text) - longest
            text = self.redact(text[: longest + _MARGIN])
            text = text[: min(longest, max(0, len(text) - _MARGIN))]
            return f"{visible(text, keep)}…[{dropped} more characters]"
        return visible(self.redact(text), keep)

    def clean_name(self, text: str) -> str:
        """As `clean`, for what comes again and again: paths, models."""
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
    except Exception:  # somebody's `__str__`; a log call must not become an error
        return f"[a {type(value).__name__} that cannot be shown]"


def secrets_of(value: object) -> Iterator[str]:
    """All secret strings inside settings (models, mappings, lists), for `Redactor.learn`."""
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
