"""Which contract is served where: paths as they are written, and the choice where several contracts share one.

The table is made of a config's frontends, so it belongs to one generation. Nothing is normalised: a path that is
not in the table, letter by letter, is served by nobody (G03).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

import msgspec

from proxy.contracts.base import Endpoint, Frontend, Head
from proxy.errors import BadRequest

ID = "{id}"


class Binding(msgspec.Struct, frozen=True):
    """One contract at one method and path."""

    frontend: Frontend
    endpoint: Endpoint


class RouteMatch(msgspec.Struct, frozen=True):
    """What is at a path: by method, all contracts that are served there. `tail` is what `{id}` stands for."""

    by_method: Mapping[str, tuple[Binding, ...]]
    tail: str = ""

    def served(self, method: str) -> tuple[Binding, ...]:
        """Who serves `method`; for one that nobody serves, somebody who can at least say so in a contract's form."""
        method = "GET" if method == "HEAD" and "HEAD" not in self.by_method else method
        return self.by_method.get(method) or next(iter(self.by_method.values()))


class EndpointTable:
    """All endpoints of some frontends. Iterating gives the paths."""

    def __init__(self, frontends: Iterable[Frontend]) -> None:
        paths: dict[str, dict[str, list[Binding]]] = {}
        for frontend in frontends:
            for endpoint in frontend.endpoints:
                here = paths.setdefault(endpoint.path, {}).setdefault(endpoint.method, [])
                if endpoint.detects is None and (other := _unclaimed(here)) is not None:
                    names = f"{other.frontend.name} and by {frontend.name}"
                    raise ValueError(f"{endpoint.method} {endpoint.path} is claimed by {names}")
                here.append(Binding(frontend, endpoint))
        self._places = {
            path: RouteMatch({method: tuple(sorted(here, key=_claims_first)) for method, here in methods.items()})
            for path, methods in paths.items()
        }
        patterns = (path for path in paths if ID in path)
        self._patterns = sorted(
            (path.partition(ID)[::2] for path in patterns), key=lambda ends: -len(ends[0] + ends[1])
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def resolve(self, prefix: str, path: str) -> str:
        """What `path` means where `prefix` goes without saying: the path under it if one is served, else itself."""
        return prefix + path if prefix and self.find(prefix + path) is not None else path

    def find(self, path: str) -> RouteMatch | None:
        """What is served at `path`. Where patterns overlap, the one that spells out most of it counts."""
        place = self._places.get(path)
        if place is not None:
            return place
        for prefix, suffix in self._patterns:
            if len(path) > len(prefix) + len(suffix) and path.startswith(prefix) and path.endswith(suffix):
                tail = unquote(path[len(prefix) : len(path) - len(suffix)])
                return RouteMatch(self._places[prefix + ID + suffix].by_method, tail)
        return None


def choose(served: tuple[Binding, ...], head: Head, body: bytes) -> Binding:
    """The contract that a request speaks, where several are served at its path.

    The query parameter `contract` names one; else the strongest claim counts; else the one that claims nothing.
    Raises `BadRequest` for a name that is not served there.
    """
    named = head.query.get("contract")
    if named is not None:
        for one in served:
            if one.frontend.name == named:
                return one
        names = ", ".join(sorted(one.frontend.name for one in served))
        raise BadRequest(f"query parameter contract: {named[:32]!r} is not served here; {names} is", param="contract")
    if len(served) == 1:
        return served[0]
    return max(served, key=lambda one: _claim(one, head, body))  # the first of equals: claims come before defaults


def guess_from_head(served: tuple[Binding, ...], head: Head) -> Binding:
    """The contract in which a refusal is told before the body is read: by the head alone, and whatever it names."""
    try:
        return choose(served, head, b"")
    except BadRequest:
        return served[-1]


def _claim(one: Binding, head: Head, body: bytes) -> float:
    detects = one.endpoint.detects
    if detects is None:
        return 0.5
    return detects(head, body)


def _claims_first(one: Binding) -> tuple[bool, str]:
    return one.endpoint.detects is None, one.frontend.name


def _unclaimed(served: list[Binding]) -> Binding | None:
    return next((one for one in served if one.endpoint.detects is None), None)
