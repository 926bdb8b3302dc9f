"""Requests that go in a circle: proxies that lead to each other, or back to the first (E06).

Another chat-proxy is known by its `User-Agent`. Its requests are passed on with a count of hops, all others without, so
a vendor that is asked directly never sees the header.
"""

from collections.abc import Mapping

from proxy.errors import LoopDetected

HOPS = "x-chat-proxy-hops"
MOST = 5
"""How many proxies a request may pass. A chain of two or three is what some have; more is a circle."""

_AGENT = "chat-proxy/"


def hops(headers: Mapping[str, str]) -> int:
    """How many proxies a request has passed before this one."""
    if not headers.get("user-agent", "").startswith(_AGENT):
        return 0
    count = headers.get(HOPS, "1")
    return int(count) if count.isdecimal() and len(count) < 4 else MOST


def check_hops(headers: Mapping[str, str]) -> None:
    """Raises `LoopDetected` for a request that passed too many."""
    if hops(headers) >= MOST:
        raise LoopDetected(
            f"This request passed {MOST} proxies already: their backends lead to each other in a circle."
        )
