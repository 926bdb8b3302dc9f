"""Takes secrets out of an upstream's words before anybody sees them.

A provider that refuses a key likes to quote it, and an error page may show hosts, addresses with passwords,
or a stack. What a config holds as secret is removed literally; what merely looks like a key goes too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from proxy.wire.text import MESSAGE_LENGTH, one_line_of

REDACTED = "[redacted]"

_READ = 8 * 1024  # characters of a text looked at: enough for any message, and a bound on the work
_SHORTEST = 4  # a "secret" of fewer characters would blank out ordinary words

# Linear by construction: one character class per repetition, no nesting.
_KEYS = re.compile(
    r"""
      (?i:\b(?:bearer|basic)\s+[\w.~+/=*-]{6,})                        # an Authorization value
    | \b(?:sk|pk|rk|gsk|xai|hf|ghp|glpat|tgp|fw|nvapi|pplx|csk|r8)[-_][\w*.-]{6,}   # vendors' key prefixes
    | \bAIza[\w-]{20,} | \bAKIA[A-Z0-9]{12,} | \beyJ[\w-]{10,}[\w.-]*  # Google, AWS, any JWT
    | (?i:\b(?:api[-_ ]?key|token|password|secret)["']?\s?[:=]\s?["']?[^\s"',;&]{6,})
    """,
    re.VERBOSE,
)
_USERINFO = re.compile(r"://[^/\s@]{1,256}@")


class Redactor:
    """Call it with an upstream's text: one line comes back, bounded, without `secrets` and their look-alikes.

    `secrets` are a backend's own: keys, secret header values, and what else must not be told, such as the
    host of a private address.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for secret in secrets if len(secret) >= _SHORTEST for form in (secret, quote(secret, safe=""))}
        self._secrets = sorted(known, key=len, reverse=True)  # the longer first: one may contain another

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"

    def __call__(self, text: str, limit: int = MESSAGE_LENGTH) -> str:
        # First without secrets, then cut: half a key would no longer be known as one.
        text = one_line_of(self._without_secrets(text)[:_READ], _READ).partition("Traceback (most recent")[0]
        text = self._without_secrets(text)  # again: a line break may have stood in the middle of one
        text = _USERINFO.sub("://", _KEYS.sub(REDACTED, text))
        return one_line_of(text, limit)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text
