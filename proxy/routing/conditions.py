"""The conditions of a rule: compiled once, checked for every request, with the reason when one fails.

Everything here takes time linear in the request for a given config: sets and prefixes for names, a
backtracking-free glob, RE2 for text.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from proxy.config.models import MatchSettings, TokenRange
from proxy.config.regex import linear_regex
from proxy.request import Audio, ChatRequest, File, Image
from proxy.routing.principal import SECRET_HEADERS, Principal

Matcher = Callable[[str], bool]

CONTENT_CHARACTERS = 16_384
"""How much of the last user message `match.content` looks at. RE2 is linear, but not fast: `(.*a){20}` took 4 s for 5 MB,
during which nothing else was served (A8)."""

_SHOWN = 80  # characters of a request's value in a message


class NotKept(Exception):
    """A rule asks for something of an earlier request that was not kept; the message names it."""


class Kept(NamedTuple):
    """What is kept of a request to explain it later: neither its contents nor a secret."""

    principal: Principal | None
    tokens: int | None = None  # `None`, here and below: no rule asked for it
    features: frozenset[str] | None = None
    looked_up: dict[str, Any] | None = None  # headers and metadata by name, whether a pattern was found


class Facts:
    """A request and who asks. What takes time to find out is computed once, when a rule first needs it."""

    __slots__ = ("_features", "_kept", "_looked_up", "_text", "_tokens", "principal", "request")

    def __init__(self, request: ChatRequest, principal: Principal | None, kept: Kept | None = None) -> None:
        """With `kept`, `request` is without contents and headers, and what `kept` does not know is `NotKept`."""
        self.request, self.principal = request, principal
        self._kept = kept is not None
        self._text: str | None = None
        self._tokens: int | None = kept.tokens if kept else None
        self._features: frozenset[str] | None = kept.features if kept else None
        self._looked_up: dict[str, Any] | None = kept.looked_up if kept else None

    def keep(self) -> Kept:
        """What a later explanation needs of this request. To be called while its contents are there."""
        return Kept(self.principal, self._tokens, self._features, self._looked_up)

    def looked_up(self, name: str, find: "Callable[[Facts], Any]") -> Any:
        """A fact that only some rules ask for, remembered for `keep`. Raises `NotKept`."""
        known = self._looked_up
        if known is None:
            known = self._looked_up = {}
        if name not in known:
            self._expect(name)
            known[name] = find(self)
        return known[name]

    def _expect(self, name: str) -> None:
        if self._kept:
            raise NotKept(name)

    @property
    def text(self) -> str:
        """The last user message, as far as `match.content` looks at it."""
        if self._text is None:
            self._text = self.request.last_user_text[:CONTENT_CHARACTERS]
        return self._text

    @property
    def tokens(self) -> int:
        if self._tokens is None:
            self._expect("tokens")
            self._tokens = self.request.estimated_tokens()
        return self._tokens

    @property
    def features(self) -> frozenset[str]:
        """What the request contains, in the words of `match.has`."""
        if self._features is None:
            self._expect("has")
            self._features = _features(self.request)
        return self._features


class Condition(NamedTuple):
    """One thing that a rule requires. `public`: an error to a client may say what."""

    name: str
    wanted: str
    holds: Callable[[Facts], bool]
    got: Callable[[Facts], str]
    public: bool = True


def conditions(match: MatchSettings) -> tuple[Condition, ...]:
    """The conditions of a `match`, cheapest first."""
    found: list[Condition] = []
    if match.contract is not None:
        found.append(_named("contract", match.contract, lambda facts: facts.request.contract))
    if match.path is not None:
        found.append(_named("path", match.path, lambda facts: facts.request.path))
    if match.key is not None:
        found.append(_named("key", match.key, _key_name, public=False))
    if match.model is not None:
        found.append(_named("model", match.model, lambda facts: facts.request.model))
    if match.user is not None:
        found.append(_named("user", match.user, lambda facts: facts.request.user, public=False))
    for name, patterns in (match.header or {}).items():
        found.append(_header(name.lower(), patterns))
    for name, patterns in (match.metadata or {}).items():
        found.append(_metadata(name, patterns))
    if match.has is not None:
        found.append(_has(frozenset(match.has)))
    if match.tokens is not None:
        found.append(_tokens(match.tokens))
    if match.content is not None:
        found.append(_content(match.content))
    return tuple(found)


@lru_cache(maxsize=1024)
def any_of(patterns: tuple[str, ...]) -> Matcher:
    """A test whether a text matches one of these globs. Case counts."""
    literal = frozenset(pattern for pattern in patterns if not is_glob(pattern))
    globs = [_glob(pattern) for pattern in patterns if is_glob(pattern)]
    if not globs:
        return literal.__contains__
    if len(globs) == 1 and not literal:
        return globs[0]
    return lambda text: text in literal or any(matches(text) for matches in globs)


def is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _glob(pattern: str) -> Matcher:
    """`*` is any run of characters, `?` any one; nothing else is special."""
    if "?" in pattern:
        return lambda text: _walk(pattern, text)
    head, *middle, tail = pattern.split("*")
    if not middle and not tail:
        return lambda text: text.startswith(head)
    shortest = len(pattern) - pattern.count("*")

    def matches(text: str) -> bool:
        if len(text) < shortest or not text.startswith(head) or not text.endswith(tail):
            return False
        at, end = len(head), len(text) - len(tail)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches


def captured(pattern: str, text: str) -> list[str] | None:
    """What each `*` of a pattern without `?` stands for in `text`, the earlier ones as little as can be; `None`: no match."""
    if not any_of((pattern,))(text):
        return None
    if "*" not in pattern:
        return []
    head, *middle, tail = pattern.split("*")
    at, end, found = len(head), len(text) - len(tail), []
    for part in middle:
        place = text.find(part, at, end)
        found.append(text[at:place])
        at = place + len(part)
    return [*found, text[at:end]]


def _walk(pattern: str, text: str) -> bool:
    """Greedy matching that goes back to the last `*` only: at most len(pattern) × len(text) steps."""
    p = t = retry_t = 0
    star = -1
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, retry_t = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p += 1
            t += 1
        elif star >= 0:
            retry_t += 1
            p, t = star + 1, retry_t
        else:
            return False
    return all(character == "*" for character in pattern[p:])


def _named(
    name: str, patterns: Sequence[str], value: Callable[[Facts], str | None], *, public: bool = True
) -> Condition:
    """A condition on one text of the request. An absent text matches no pattern."""
    matches = any_of(tuple(patterns))

    def holds(facts: Facts) -> bool:
        found = value(facts)
        return found is not None and matches(found)

    return Condition(name, " or ".join(patterns), holds, lambda facts: shown(value(facts)), public)


def _key_name(facts: Facts) -> str | None:
    return facts.principal.name if facts.principal is not None else None


def _header(name: str, patterns: Sequence[str]) -> Condition:
    label = f"header {name}"

    def value(facts: Facts) -> str | None:
        return facts.request.headers.get(name)

    if name not in SECRET_HEADERS:
        return _named(label, patterns, lambda facts: facts.looked_up(label, value), public=False)
    secret = _named(label, patterns, value, public=False)

    def verdict(facts: Facts) -> bool:  # of a secret only this is remembered
        facts.looked_up(label, lambda facts: "(not shown)" if value(facts) is not None else "nothing")
        return secret.holds(facts)

    return secret._replace(
        holds=lambda facts: facts.looked_up(f"{label} {secret.wanted}", verdict),
        got=lambda facts: facts.looked_up(label, lambda _: "nothing"),
    )


def _metadata(name: str, patterns: Sequence[str]) -> Condition:
    label = f"metadata {name}"

    def value(facts: Facts) -> str | None:
        return _as_text(facts.request.metadata.get(name))

    return _named(label, patterns, lambda facts: facts.looked_up(label, value), public=False)


def _as_text(value: Any) -> str | None:
    """A metadata value as YAML writes it; `None` for a list, a mapping or null."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
        case _:
            return None


def _has(wanted: frozenset[str]) -> Condition:
    return Condition(
        "has",
        " or ".join(sorted(wanted)),
        lambda facts: not wanted.isdisjoint(facts.features),
        lambda facts: ", ".join(sorted(facts.features)) or "nothing",
    )


def _features(request: ChatRequest) -> frozenset[str]:
    found = {_FEATURE_OF_PART.get(type(part), "") for message in request.messages for part in message.parts}
    found.discard("")
    if request.tools:
        found.add("tools")
    form = request.params.get("response_format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        found.add("json_schema")
    return frozenset(found)


_FEATURE_OF_PART: dict[type, str] = {Image: "images", Audio: "audio", File: "files"}


def _tokens(wanted: TokenRange) -> Condition:
    least, most = wanted.min or 0, wanted.max
    text = f"at least {least}" if most is None else f"{least} to {most}" if least else f"at most {most}"
    return Condition(
        "tokens",
        text,
        lambda facts: least <= facts.tokens and (most is None or facts.tokens <= most),
        lambda facts: f"about {facts.tokens}",
    )


def _content(pattern: str) -> Condition:
    search = linear_regex(pattern).search

    def found(facts: Facts) -> bool:
        facts.looked_up("characters", lambda facts: len(facts.text))
        return search(facts.text) is not None

    return Condition(
        "content",
        pattern,
        lambda facts: facts.looked_up(f"content {pattern}", found),
        lambda facts: f"{facts.looked_up('characters', lambda facts: len(facts.text))} characters without it",
        public=False,
    )


def shown(value: str | None) -> str:
    """A request's value for a message: on one line, at most `_SHOWN` characters."""
    if value is None:
        return "nothing"
    text = "".join(character if character.isprintable() else "�" for character in value[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
