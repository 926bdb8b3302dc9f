"""API keys: who asks, or why the request is refused.

One function reads every header that may hold a key, so that all are checked alike. A key ring holds SHA-256 digests
only and looks up the whole digest: the text that a client sent is never compared, stored or logged (G01, G02).
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Protocol

from proxy.config.models import AuthSettings, KeySettings
from proxy.errors import RateLimited, Unauthorized
from proxy.policy.peers import FailedLogins
from proxy.routing.principal import ANONYMOUS, KEY_HEADERS, Principal

LONGEST_KEY = 4096


class OtherKeys(Protocol):
    """Keys that are kept elsewhere."""

    def find(self, digest: bytes) -> tuple[bytes, Principal] | None:
        """The digest and the principal of a key. Raises `KeysUnknown`, and `Unauthorized` for one that has expired."""

    @property
    def principals(self) -> list[Principal]:
        """Those of all keys."""


class KeyRing:
    """The keys of one config. Each reload makes a new ring; `failed` is kept."""

    def __init__(
        self, auth: AuthSettings | None, failed: FailedLogins | None = None, stored: OtherKeys | None = None
    ) -> None:
        self._open = auth is None or auth.off  # `auth` whose keys are all off admits nobody
        self._failed = FailedLogins() if failed is None else failed
        self._known: dict[bytes, tuple[bytes, Principal]] = {}
        for key in live_keys(auth):
            digest = bytes.fromhex(key.digest)
            self._known[digest] = (digest, Principal.of(key))
        self._stored = stored
        self._names = {principal.name for _, principal in self._known.values()}

    @property
    def principals(self) -> list[Principal]:
        """Those of all keys, in the file and elsewhere."""
        return [*(one for _, one in self._known.values()), *(self._stored.principals if self._stored else ())]

    def identify(self, headers: Mapping[str, str], peer: str) -> Principal:
        """Who sent these headers. Raises `Unauthorized`, or `RateLimited` for a peer that keeps failing.

        A known key is admitted whatever others at its address did: a whole office may share one address, and an
        attacker could lock it out. Guessing stays hopeless because short keys are refused at start. A request
        without any key gets an error that says so, and is not counted.
        """
        if self._open:
            return ANONYMOUS
        for name in KEY_HEADERS:  # without a generator: each request comes here
            if name in headers:
                break
        else:
            raise Unauthorized("No API key given. Send it as `Authorization: Bearer KEY`, or as `x-api-key: KEY`.")
        try:
            return self._look_up(presented_key(headers))
        except Unauthorized:
            self._refuse_if_too_many(peer)
            raise

    def _look_up(self, presented: bytes) -> Principal:
        digest = hashlib.sha256(presented).digest()
        known = self._known.get(digest)
        if known is None and self._stored is not None:
            known = self._stored.find(digest)
            if known is not None and known[1].name in self._names:  # the file's key of that name is another
                known = None
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
    """The one key that a request presents. Raises `Unauthorized` for no key, several keys or a malformed one.

    `headers` may be a multi-mapping (one with `getall`), as aiohttp's is: only that shows that a header came twice.
    The same key in two headers is accepted, as some SDKs send it; two different keys are not.
    """
    found = b""
    for name in KEY_HEADERS:
        if name not in headers:
            continue
        values = _all_values(headers, name)
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
    """A header's value as a key: printable ASCII without blanks, no longer than `LONGEST_KEY`."""
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
    """The keys that are on. A key whose `${VAR:-}` is empty is off."""
    return [] if auth is None or auth.off else [key for key in auth.keys if not key.off]


def new_key() -> tuple[str, str]:
    """A new key, for the client, and its digest, for the config."""
    key = "cp-" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()
