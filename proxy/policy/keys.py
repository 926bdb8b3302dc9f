"""API keys: who asks, or why nobody may.

Every way to present a key goes through one function, so that no header style is checked less than another.
A ring holds SHA-256 digests only and looks up by the whole digest: the text a client sent is never compared,
stored, logged or used as a key of anything (G01, G02).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence

from proxy.config.models import AuthSettings, KeySettings
from proxy.errors import RateLimited, Unauthorized
from proxy.policy.peers import FailedLogins
from proxy.routing.principal import ANONYMOUS, KEY_HEADERS, Principal

LONGEST_KEY = 4096


class KeyRing:
    """The keys of one config. Made anew at each reload; `failed` outlives it."""

    def __init__(self, auth: AuthSettings | None, failed: FailedLogins | None = None) -> None:
        self._open = auth is None or auth.off  # `auth` with no key that is on lets nobody in
        self._failed = FailedLogins() if failed is None else failed
        self._known: dict[bytes, tuple[bytes, Principal]] = {}
        for key in live_keys(auth):
            digest = bytes.fromhex(key.digest)
            self._known[digest] = (digest, Principal.of(key))

    def identify(self, headers: Mapping[str, str], peer: str) -> Principal:
        """Who sent these headers. Raises `Unauthorized`, or `RateLimited` for a peer that keeps failing.

        A known key is let in whatever others at its address did: one office or front proxy shares an
        address, and locking all of it out would be the better attack. Guessing stays hopeless because
        short keys are refused at start. A request without any key is told so and not counted.
        """
        if self._open:
            return ANONYMOUS
        if not any(name in headers for name in KEY_HEADERS):
            raise Unauthorized("No API key given. Send it as `Authorization: Bearer KEY`, or as `x-api-key: KEY`.")
        try:
            return self._look_up(presented_key(headers))
        except Unauthorized:
            self._refuse_if_too_many(peer)
            raise

    def _look_up(self, presented: bytes) -> Principal:
        digest = hashlib.sha256(presented).digest()
        known = self._known.get(digest)
        if known is None or not hmac.compare_digest(known[0], digest):
            raise Unauthorized("This API key is not known here. Check that it is complete and meant for this server.")
        return known[1]

    def _refuse_if_too_many(self, peer: str) -> None:
        wait_s = self._failed.failed(peer)
        if wait_s:
            raise RateLimited(
                "Too many requests with a wrong API key came from this address. Wait, then use a valid key.",
                code="too_many_failed_logins",
                retry_after=wait_s,
            ) from None


def presented_key(headers: Mapping[str, str]) -> bytes:
    """The one key that a request presents. Raises `Unauthorized` for none and for anything unclear.

    `headers` may be a multi-mapping (one with `getall`), as aiohttp's is: only that can show that a header
    came twice. The same key in two styles is accepted, some SDKs send both; two different keys are not.
    """
    found = b""
    for name in KEY_HEADERS:
        values = _all_values(headers, name)
        if not values:
            continue
        if len(values) > 1:
            raise Unauthorized(f"The header `{name}` was sent {len(values)} times. Send one API key, once.")
        key = _clean(name, values[0])
        if found and not hmac.compare_digest(found, key):
            raise Unauthorized("Two different API keys were sent. Send one.")
        found = key
    if not found:
        raise Unauthorized("No API key given.")
    return found


def _clean(name: str, value: str) -> bytes:
    """A header's value as a key: printable ASCII without blanks, of a sane length."""
    if len(value) > LONGEST_KEY:
        raise Unauthorized(f"The API key in `{name}` is longer than any key: over {LONGEST_KEY} characters.")
    key = value.strip(" \t")
    if name == "authorization":
        scheme, _, key = key.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("The `Authorization` header is not of the form `Bearer KEY`.")
        key = key.strip(" ")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise Unauthorized(f"The API key in `{name}` is malformed: a key is printable ASCII without blanks.")
    return key.encode("ascii")


def _all_values(headers: Mapping[str, str], name: str) -> Sequence[str]:
    getall = getattr(headers, "getall", None)
    if getall is not None:
        values: Sequence[str] = getall(name, ())
        return values
    return [headers[name]] if name in headers else ()


def live_keys(auth: AuthSettings | None) -> list[KeySettings]:
    """The keys that are on. One whose `${VAR:-}` came out empty is off."""
    return [] if auth is None or auth.off else [key for key in auth.keys if not key.off]


def new_key() -> tuple[str, str]:
    """A fresh key and its digest: the first is for the client, the second for the config."""
    key = "cp-" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()
