"""Where a request goes: its URL's origin, the target of its request line, and the forward proxy on the way.

No `repr` shows a path, a query or user information, because those may hold keys.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks one

import msgspec

from proxy.errors import InternalError, UpstreamConnect

DEFAULT_PORTS = {"http": 80, "https": 443}
_UNSAFE_IN_URL = re.compile(r"[^\x21-\x7e]")  # urlsplit() drops line breaks silently


class Origin(msgspec.Struct, frozen=True):
    """Scheme, host and port: what messages may name."""

    scheme: str
    host: str  # ASCII, in lower case; an IPv6 address without brackets
    port: int

    @property
    def authority(self) -> str:
        """As the `Host` header has it: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def host_and_port(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class ForwardProxy(msgspec.Struct, frozen=True):
    """An HTTP proxy on the way: CONNECT for https, absolute URLs for http."""

    origin: Origin
    authorization: str = ""  # a `Proxy-Authorization` value

    def __repr__(self) -> str:
        return f"ForwardProxy({self.origin})"


class Destination(msgspec.Struct, frozen=True):
    """The key of the pool: requests share a connection only if all of this is equal."""

    origin: Origin
    via: ForwardProxy | None = None


class Address(msgspec.Struct, frozen=True):
    """A parsed URL."""

    origin: Origin
    target: str  # path and query
    authorization: str = ""  # from user information in the URL

    def __repr__(self) -> str:
        return f"Address({self.origin})"


@lru_cache(maxsize=1024)
def parse(url: str) -> Address:
    """Parse an absolute http(s) URL.

    Raises `InternalError` for what could change the request line's meaning: blanks, control characters, and
    characters outside ASCII, which the caller has to percent-encode. Only the host may be international.
    """
    try:
        parts = urlsplit(url)
        host = _ascii_host(parts)
        port = parts.port
    except (ValueError, UnicodeError):
        raise InternalError("an upstream URL cannot be read: host or port is not valid") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise InternalError("an upstream URL must begin with http:// or https:// and a host")
    origin = Origin(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if _UNSAFE_IN_URL.search(url.replace(parts.netloc, "", 1)) or _UNSAFE_IN_URL.search(host):
        raise InternalError(
            f"the URL for {origin} has a blank, a control character or a character outside ASCII: percent-encode it"
        )
    return Address(origin, target, _basic(parts))


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _basic(parts: SplitResult) -> str:
    """User information in a URL as a `Basic` credential."""
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode("ascii")


class Ways:
    """Which origins are reached through a forward proxy.

    Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as `urllib.request` does, once; `proxies` (by scheme,
    and `no` for the exceptions) takes the environment's place.
    """

    def __init__(self, proxies: Mapping[str, str] | None = None) -> None:
        self._proxies = dict(getproxies_environment() if proxies is None else proxies)
        self._known: dict[Origin, Destination] = {}

    def to(self, origin: Origin) -> Destination:
        """The destination that stands for `origin`; always the same object for the same origin."""
        destination = self._known.get(origin)
        if destination is None:
            destination = self._known[origin] = Destination(origin, self._proxy_for(origin))
        return destination

    def _proxy_for(self, origin: Origin) -> ForwardProxy | None:
        url = self._proxies.get(origin.scheme)
        if not url or proxy_bypass_environment(origin.host_and_port, self._proxies):
            return None
        variable = f"{origin.scheme.upper()}_PROXY"
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = _ascii_host(parts), parts.port
        except (ValueError, UnicodeError):
            raise UpstreamConnect(f"{variable} cannot be read as a URL; it is needed to reach {origin}") from None
        if parts.scheme != "http" or not host:
            raise UpstreamConnect(
                f"{variable} must be an http:// URL, not {parts.scheme or 'no'}://; it is needed to reach {origin}"
            )
        return ForwardProxy(Origin("http", host.lower(), port or 80), _basic(parts))
