"""Mask secrets in text: those that a config holds, in any form, and everything that looks like a key.

One table for both edges: the log, and what clients read of an upstream's messages.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote

MASK = "[redacted]"

MARGIN = 2048
"""Characters to drop where a text was cut before it was masked: half a secret is not recognised."""

MOST_SECRETS = 2000

_SHORTEST = 4  # fewer characters are masked nowhere: they would blank out ordinary words
_SHORTEST_WORD = 8  # of a secret made of letters alone: "ollama" and "none" are keys of local servers
_SHORTEST_DISGUISED = 8  # letters and digits of a secret that is searched for in disguise
_SHORTEST_ENCODED = 10  # letters and digits of its base64

_KEYS = re.compile(
    # Each alternative is a literal start and one bounded run, so matching is linear in the text.
    r"""(?<![A-Za-z0-9])(?:
        sk[-_][\w*.-]{6,512}                                 # OpenAI, Anthropic, OpenRouter, Stripe, …
      | (?:rk|pk|cp|xai|pplx|fw|tgp|gsk|nvapi|csk|r8|hf|npm)[-_][\w*-]{8,512}
      | (?:gh[oprsu]|github_pat|glpat|xox[a-z]|xapp)[-_][\w*-]{8,512}    # GitHub, GitLab, Slack
      | AIza[\w-]{20,128} | ya29\.[\w-]{10,512}                        # Google
      | (?:AKIA|ASIA)[A-Z0-9]{12,64}                                     # AWS
      | eyJ[\w-]{8,4096}(?:\.[\w-]{0,4096}){0,2}                     # JSON web tokens
      | -----BEGIN\ [A-Z ]{0,32}PRIVATE\ KEY-----[\w+/=\s\\-]{0,8192}
    )""",
    re.VERBOSE | re.ASCII,
)
_NAMED = re.compile(
    r"""((?:api[-_ ]?key(?:\s{1,3}provided)?|access[-_]?key|secret|password|passwd|token|authorization|cookie)
         \\{0,4}["']?\s{0,3}[:=]\s{0,3}\\{0,4}["']?(?:(?:bearer|basic|token)\s)?\s{0,3}
       | \bbearer\s{1,3}
       | \bbasic\s{1,3}(?=[A-Za-z0-9+/]{12})
       | [?&](?:key|sig|signature|code)=
    )([^\s"',;&<>@\\]{6,4096})""",
    re.VERBOSE | re.IGNORECASE,
)
_USERINFO = re.compile(r"""(?<=://)[^\s/@"']{1,256}(?=@)""")

_SHORTEST_SHAPE = 9  # shorter texts are names, ids, words: nearly all values of a log are, and they cost nothing

_SCHEME = re.compile(r"(?i:bearer|token|basic|bot|key|api-?key|sso-key|digest|hmac|negotiate)")
_WORDS = re.compile(r"[\s,;]+")

_SQUEEZE = {code: chr(code).lower() if chr(code).isalnum() else None for code in range(128)}
_UNITS = re.compile(
    # A letter or digit as it stands, or escaped once or several times: %41, %2541, \u0041, \\x41, &#x41;, &#65;.
    r"""%(?:25){0,4}([0-9A-Fa-f]{2}) | \\{1,8}(?:u00|x)([0-9A-Fa-f]{2}) | &\#x0{0,4}([0-9A-Fa-f]{2}); | &\#0{0,4}([0-9]{2,3});
      | \\{1,8}[nrt] | ([^\W_])""",
    re.VERBOSE,
)
_ENCODED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-%\\")


class Secrets:
    """The secrets that must not be shown. They are learnt at start, at each reload, and when a credential is first sent.

    Old secrets stay, at most `MOST_SECRETS`: a stream of an earlier config may still fail and name one.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.version = 0  # grows with each new secret, for caches of masked texts
        self._known: dict[str, None] = {}
        self._exact: list[str] = []
        self._disguised: dict[str, bool] = {}  # letters and digits in lower case; whether they are an encoding
        self.learn(secrets)

    def __repr__(self) -> str:
        return f"Secrets({len(self._known)})"

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these from now on: as they are, their parts that are secret alone, and encodings of both."""
        new = {part: None for secret in secrets if secret not in self._known for part in _parts(secret)}
        if new.keys() <= self._known.keys():
            return
        self._known = dict.fromkeys([*self._known, *new][-MOST_SECRETS:])
        exact = {form for secret in self._known for form in (secret, quote(secret, safe=""))}
        # The longest first: of two secrets the one that contains the other is masked whole.
        self._exact = sorted(exact, key=len, reverse=True)
        disguised = {needle: encoded for secret in self._known for needle, encoded in _disguises(secret)}
        self._disguised = dict(sorted(disguised.items(), key=lambda item: len(item[0])))
        self.version += 1

    def mask(self, text: str) -> str:
        """`text` without secrets, and without what looks like one. Time is linear in the text."""
        if len(text) < _SHORTEST:
            return text
        for secret in self._exact:
            if secret in text:
                text = text.replace(secret, MASK)
        if len(text) < _SHORTEST_DISGUISED:
            return text
        text = self._without_disguised(text)
        if len(text) >= _SHORTEST_SHAPE:
            text = _KEYS.sub(MASK, text)
            if "=" in text or ":" in text or " " in text:
                text = _USERINFO.sub(MASK, _NAMED.sub(rf"\1{MASK}", text))
        return text

    def _without_disguised(self, text: str) -> str:
        """`text` without secrets in other cases, spaced, escaped, or as base64 or hex."""
        plain = text.isascii() and "%" not in text and "\\" not in text and "&#" not in text
        letters = text.translate(_SQUEEZE) if plain else "".join(letter for letter, _, _ in _units(text))
        size = len(letters)
        found = []
        for needle in self._disguised:
            if len(needle) > size:
                break
            if needle in letters:
                found.append(needle)
        return self._cut_out(text, found) if found else text

    def _cut_out(self, text: str, needles: Iterable[str]) -> str:
        units = list(_units(text))
        letters = "".join(letter for letter, _, _ in units)
        hidden = bytearray(len(text))
        for needle in needles:
            at = letters.find(needle)
            while at >= 0:
                start, end = units[at][1], units[at + len(needle) - 1][2]
                if self._disguised[needle]:  # what is left of an encoding at its edges tells some of it
                    while start and text[start - 1] in _ENCODED:
                        start -= 1
                    while end < len(text) and text[end] in _ENCODED:
                        end += 1
                hidden[start:end] = b"\1" * (end - start)
                at = letters.find(needle, at + 1)
        return "".join(
            MASK if match[0][0] else text[match.start() : match.end()] for match in re.finditer(rb"\x01+|\x00+", hidden)
        )


def _units(text: str) -> Iterator[tuple[str, int, int]]:
    """The letters and digits of a text in lower case, escapes undone, each with its beginning and end."""
    for match in _UNITS.finditer(text):
        percent, slash, entity, decimal, plain = match.groups()
        if plain is not None:
            letter = plain.lower()
        elif decimal is not None:
            letter = chr(int(decimal)).lower()
        elif (digits := percent or slash or entity) is not None:
            letter = chr(int(digits, 16)).lower()
        else:
            continue
        if len(letter) == 1 and letter.isalnum():
            yield letter, match.start(), match.end()


def _parts(secret: str) -> Iterator[str]:
    """A secret, and what of it is one by itself: a header's value has a scheme, a cookie names, `Basic` a user."""
    if not _worth_masking(secret):
        return
    yield secret
    scheme, blank, rest = secret.partition(" ")
    rest = rest.strip()
    if blank and _SCHEME.fullmatch(scheme):
        if _worth_masking(rest):
            yield rest
        if scheme.lower() == "basic":
            yield from _decoded_basic(rest)
    if blank or "=" in secret:
        for word in _WORDS.split(secret):
            for piece in (word, word.partition("=")[2].strip("\"'")):
                if len(piece) >= _SHORTEST_WORD and any(map(str.isdigit, piece)) and any(map(str.isalpha, piece)):
                    yield piece


def _decoded_basic(credentials: str) -> Iterator[str]:
    try:
        pair = b64decode(credentials + "=" * (-len(credentials) % 4)).decode()
    except ValueError:
        return
    user, _, password = pair.partition(":")
    yield from (part for part in (pair, user, password) if _worth_masking(part))


def _worth_masking(secret: str) -> bool:
    return len(secret) >= (_SHORTEST_WORD if secret.isalpha() else _SHORTEST)


def _disguises(secret: str) -> Iterator[tuple[str, bool]]:
    """What to look for among the letters and digits of a text, and whether it is an encoding."""
    letters = "".join(char.lower() for char in secret if char.isalnum())
    if len(letters) < _SHORTEST_DISGUISED or letters.isdigit():
        return
    yield letters, False
    data = secret.encode("utf-8", "replace")
    yield data.hex(), True
    for before in range(3):  # base64 of a longer text that holds the secret looks different by where it begins
        code = b64encode(bytes(before) + data).decode()
        # Characters that also hold bits of what surrounds the secret are left out.
        code = code[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        needle = "".join(char.lower() for char in code if char.isalnum())
        if len(needle) >= _SHORTEST_ENCODED:
            yield needle, True
