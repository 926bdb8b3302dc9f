"""Client addresses: which one asks behind front proxies, and which ones keep presenting wrong keys."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

MOST_HOPS = 32


def client_address(peer: str | None, headers: Mapping[str, str], trusted_proxies: Iterable[str] = ()) -> str:
    """The client's address: `peer`, or, if that is a trusted proxy, the address that it forwards for.

    `X-Forwarded-For` is read from the right, the end that our own proxies wrote: the first hop that is not trusted is
    the client. Everything left of it may be invented, and so may the whole header of a peer that is not trusted.
    Never raises; a hop that is no address ends the search.
    """
    networks = _networks(tuple(trusted_proxies))
    address = parse_address(peer or "")
    if not networks or address is None or not _within(address, networks):
        return peer or ""
    for hop in _forwarded_for(headers):
        nearer = parse_address(hop)
        if nearer is None:
            break
        address = nearer
        if not _within(address, networks):
            break
    return str(address)


def is_within(peer: str | None, networks: Iterable[str]) -> bool:
    """Whether the address `peer` is in one of these networks."""
    address = parse_address(peer or "")
    return address is not None and _within(address, _networks(tuple(networks)))


class FailedLogins:
    """How often an address may present a wrong key: a token bucket for each, filled at `per_minute`.

    An IPv6 host owns a /64 at least, so a /64 counts as one address. Up to `capacity` addresses are remembered;
    then the one that failed longest ago is forgotten. `clock` returns monotonic seconds.
    """

    def __init__(
        self, per_minute: float = 30, *, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000
    ) -> None:
        self.per_minute, self._clock, self._capacity = per_minute, clock, capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (left, when)

    def __len__(self) -> int:
        return len(self._buckets)

    def failed(self, peer: str) -> float:
        """Count a failure. Zero while the address is within its limit, else the seconds until it is again."""
        if self.per_minute <= 0:
            return 0.0
        now = self._clock()
        name = one_owner(peer)
        left, then = self._buckets.pop(name, (self.per_minute, now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        allowed = left >= 1
        left -= allowed
        self._buckets[name] = (left, now)
        while len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / self.per_minute


def _forwarded_for(headers: Mapping[str, str]) -> list[str]:
    """The hops of all `X-Forwarded-For` lines, nearest first, at most `MOST_HOPS`."""
    getall = getattr(headers, "getall", None)
    lines = getall("x-forwarded-for", ()) if getall is not None else [headers.get("x-forwarded-for", "")]
    return [hop.strip() for hop in reversed(",".join(lines).rsplit(",", MOST_HOPS)[-MOST_HOPS:])]


def parse_address(text: str) -> _Address | None:
    """An address, also as `1.2.3.4:567`, `[::1]:567` or `fe80::1%eth0`. Unwraps IPv4-mapped IPv6 addresses."""
    if len(text) > 64:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=16)
def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    found = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            continue  # the config refuses these; to trust fewer networks is the safe reading
    return tuple(found)


def _within(address: _Address, networks: tuple[_Network, ...]) -> bool:
    return any(address in network for network in networks)


def one_owner(peer: str) -> str:
    """What stands for all addresses of a host: an IPv6 host owns a /64 at least."""
    if ":" not in peer and len(peer) < 16:  # IPv4, as nearly always
        return peer
    address = parse_address(peer)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address) if address is not None else peer[:64]
