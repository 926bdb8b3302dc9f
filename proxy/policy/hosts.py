"""Under which names requests are answered where no key is asked for and only this machine can connect.

A browser on this machine can: a web page may let its own name lead to 127.0.0.1 (DNS rebinding), and is then of the
same origin as the proxy. `Host` holds that name. Names that public DNS does not have cannot be a page's own.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from proxy.errors import Forbidden
from proxy.policy.peers import parse_address

_NOT_PUBLIC = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test")
"""Ends of names that public DNS does not have: of this machine, its network, and containers (`host.docker.internal`)."""

MOST_REMEMBERED = 64


class Hosts:
    """The check for one config. `allowed` are further names."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(name.lower().rstrip(".") for name in allowed)
        self._remembered: set[str] = set()

    def check(self, host: str | None) -> None:
        """Raises `Forbidden` for a name that may be a web page's own. `None`: the client names none, so it is no browser."""
        if host is None or host in self._remembered:
            return
        if not self._is_allowed(host):
            raise Forbidden(
                f"Without `auth` the proxy answers under names of this machine and its network, not under {host[:80]!r}: "
                "a web page could let its own name lead here. List the name under `server.allowed_hosts`, or `keys` "
                "under `auth`."
            )
        if len(self._remembered) < MOST_REMEMBERED:
            self._remembered.add(host)

    def _is_allowed(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if "." not in name and ":" not in name:  # a single word is a machine or a container
            return bool(name)
        return name in self._allowed or name.endswith(_NOT_PUBLIC) or parse_address(name) is not None
