"""Which web pages may call from a browser: the headers of the Fetch standard's CORS protocol.

Nothing is sent by default. Answers name what is allowed and never say `*`, which covers neither `Authorization` nor
requests with credentials.
"""

import string
from collections.abc import Callable, Mapping

import structlog

from proxy.config.models import CorsSettings
from proxy.errors import ConfigError

log = structlog.get_logger("proxy.cors")

METHODS = "GET, POST, DELETE, OPTIONS"
EXPOSED = (
    "x-request-id, request-id, retry-after, x-should-retry, x-stream-id, x-chat-dialect, x-chat-notice, x-chat-route, "
    "x-chat-target, x-chat-attempts, x-chat-cost, x-vercel-ai-ui-message-stream, stream-next-offset, stream-cursor, "
    "stream-up-to-date, stream-closed, stream-sse-data-encoding, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    "x-ratelimit-reset-tokens"
)
MAX_AGE_S = 600  # how long a browser may keep the answer to a preflight
MOST_REPORTED = 20
"""Of a config, how many origins that are not allowed are logged. Anybody can send any origin."""

_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")  # RFC 9110 §5.6.2
_LABEL = frozenset(string.ascii_lowercase + string.digits + "-_")
_LONGEST_ORIGIN = 512
_LONGEST_REQUEST_HEADERS = 4096

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Cors:
    """Answers for one config. Both methods give headers to add; neither reads a body or asks for a key."""

    def __init__(self, settings: CorsSettings | None = None) -> None:
        self._on = settings is not None and bool(settings.origins)
        self._reported: set[str] = set()
        self._credentials = settings is not None and settings.credentials
        patterns = [_normal(origin) for origin in settings.origins] if settings else []
        self._exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._matchers = [_matcher(pattern) for pattern in patterns if "*" in pattern]
        if self._credentials and "*" in patterns:
            raise ConfigError('server.cors: credentials cannot go with origin "*": name the origins.')

    def headers(self, origin: str | None, host: str = "") -> dict[str, str]:
        """For every answer, also to errors; to be set before a stream's head is sent.

        The browser alone sees that an origin is not allowed, so it is logged, unless the page comes from `host`,
        the address that was asked.
        """
        allowed = origin is not None and self._allowed(origin)
        if origin is not None and not allowed and origin.partition("://")[2] != host:
            self._report(origin)
        if not self._on:
            return {}
        if origin is None or not allowed:
            return {"Vary": "Origin"}  # a shared cache must not give this answer to an origin that is allowed
        granted = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED, "Vary": "Origin"}
        if self._credentials:
            granted["Access-Control-Allow-Credentials"] = "true"
        return granted

    def _report(self, origin: str) -> None:
        """Log an origin that is not allowed: each once, and not more than `MOST_REPORTED`."""
        origin = origin[:_LONGEST_ORIGIN]
        if origin not in self._reported and len(self._reported) < MOST_REPORTED:
            self._reported.add(origin)
            log.warning("cors_origin_denied", origin=origin, hint="server.cors.origins lists the pages that may call")

    def preflight(self, headers: Mapping[str, str]) -> dict[str, str] | None:
        """For the 204 to a preflight; `None` when the request is no preflight, or its origin may not call.

        `Access-Control-Request-Private-Network` is not granted: a page on the internet may not reach a proxy on a
        private network.
        """
        origin = headers.get("origin")
        if origin is None or "access-control-request-method" not in headers or not self._allowed(origin):
            return None
        granted = self.headers(origin)
        del granted["Access-Control-Expose-Headers"]
        granted["Access-Control-Allow-Methods"] = METHODS
        granted["Access-Control-Max-Age"] = str(MAX_AGE_S)
        granted["Vary"] = "Origin, Access-Control-Request-Headers"
        wanted = _header_names(headers.get("access-control-request-headers", ""))
        if wanted:
            granted["Access-Control-Allow-Headers"] = wanted
        return granted

    def _allowed(self, origin: str) -> bool:
        if not self._on or len(origin) > _LONGEST_ORIGIN or not origin.isascii() or not origin.isprintable():
            return False
        return origin in self._exact or any(matches(origin) for matches in self._matchers)


def _normal(origin: str) -> str:
    """An origin as browsers write it: lower case, no trailing slash, no default port."""
    origin = origin.strip().lower().rstrip("/")
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition("://")[0], "/"))


def _matcher(pattern: str) -> Callable[[str], bool]:
    """A test for a pattern with a `*`: all origins, all subdomains, or all ports. Each is linear in the origin.

    A star stands for whole labels or a whole port, so `https://*.example.com` does not match
    `https://evil-example.com`, `https://example.com.evil.net` or `https://evil.net/.example.com`.
    """
    before, _, after = pattern.partition("*")
    if pattern == "*":
        return lambda _origin: True
    if before.endswith("://") and after.startswith(".") and after.strip(".") and "*" not in after:
        return _between(before, after, _is_labels)
    if before.count(":") == 2 and before.endswith(":") and not after:
        return _between(before, "", _is_port)
    raise ConfigError(
        f"server.cors: origin {pattern!r} is too broad. A `*` may stand for all origins (`*`), for subdomains "
        "(`https://*.example.com`) or for the port (`http://localhost:*`)."
    )


def _between(before: str, after: str, fits: Callable[[str], bool]) -> Callable[[str], bool]:
    def matches(origin: str) -> bool:
        if len(origin) < len(before) + len(after) or not (origin.startswith(before) and origin.endswith(after)):
            return False
        return fits(origin[len(before) : len(origin) - len(after)])

    return matches


def _is_labels(text: str) -> bool:
    return all(label and _LABEL.issuperset(label) for label in text.split("."))


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and text.isdigit()


def _header_names(wanted: str) -> str:
    """The header names that a page asks to send; empty if one of them is no name, and then the browser refuses."""
    if len(wanted) > _LONGEST_REQUEST_HEADERS:
        return ""
    names = [name.strip(" \t").lower() for name in wanted.split(",")]
    return ", ".join(names) if all(name and _TOKEN.issuperset(name) for name in names) else ""
