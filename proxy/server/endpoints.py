"""Which contract is served at which path, and the choice between contracts that share a path.

A table belongs to one config snapshot. Nothing is normalised: only a path that is in the table letter by letter is
served (G03).
"""

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
    """What is at a path: all contracts that are served there, by method. `tail` is what `{id}` stands for."""

    by_method: Mapping[str, tuple[Binding, ...]]
    tail: str = ""

    def served(self, method: str) -> tuple[Binding, ...]:
        """The contracts that serve `method`. If there are none, those of another method, for the form of the error."""
        method = "GET" if method == "HEAD" and "HEAD" not in self.by_method else method
        return self.by_method.get(method) or next(iter(self.by_method.values()))


class EndpointTable:
    """All endpoints of some frontends. Iterating gives the paths."""

    def __init__(self, frontends: Iterable[Frontend]) -> None:
        paths: dict[str, dict[str, list[Binding]]] = {}
        for frontend in frontends:
            for endpoint in frontend.endpoints:
                here = paths.setdefault(endpoint.path, {}).setdefault(endpoint.method, [])
                other = next((one for one in here if one.endpoint.detects is None), None)
                if endpoint.detects is None and other is not None:
                    names = f"{other.frontend.name} and {frontend.name}"
                    raise ValueError(f"{endpoint.method} {endpoint.path} is served by {names} without `detects`")
                here.append(Binding(frontend, endpoint))
        self._matches = {
            path: RouteMatch({method: tuple(sorted(here, key=_detectors_first)) for method, here in methods.items()})
            for path, methods in paths.items()
        }
        patterns = (path for path in paths if ID in path)
        self._patterns = sorted(
            (path.partition(ID)[::2] for path in patterns), key=lambda ends: -len(ends[0] + ends[1])
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._matches)

    def full_path(self, prefix: str, path: str) -> str:
        """`prefix` and `path` if something is served there, else `path` alone."""
        return prefix + path if prefix and self.find(prefix + path) is not None else path

    def find(self, path: str) -> RouteMatch | None:
        """What is served at `path`. Where patterns overlap, the longest counts."""
        match = self._matches.get(path)
        if match is not None:
            return match
        for prefix, suffix in self._patterns:
            if len(path) > len(prefix) + len(suffix) and path.startswith(prefix) and path.endswith(suffix):
                tail = unquote(path[len(prefix) : len(path) - len(suffix)])
                return RouteMatch(self._matches[prefix + ID + suffix].by_method, tail)
        return None


def resolve(served: tuple[Binding, ...], head: Head, body: bytes) -> Binding:
    """The contract that a request speaks, where several are served at its path.

    The query parameter `contract` names one. Without it, the contract is chosen whose `detects` is the surest, and if none
    is sure, the one without `detects`. Raises `BadRequest` for a name that is not served there.
    """
    named = head.query.get("contract")
    if named is not None:
        for one in served:
            if one.frontend.name == named:
                return one
        names = ", ".join(sorted(one.frontend.name for one in served))
        raise BadRequest(
            f"query parameter contract: {named[:32]!r} is not served here; use one of {names}", param="contract"
        )
    if len(served) == 1:
        return served[0]
    return max(served, key=lambda one: _sureness(one, head, body))  # the first of equals: detectors come first


def guess_from_head(served: tuple[Binding, ...], head: Head) -> Binding:
    """The contract whose form an error takes before the body is read."""
    try:
        return resolve(served, head, b"")
    except BadRequest:
        return served[-1]


def _sureness(one: Binding, head: Head, body: bytes) -> float:
    """How surely a request speaks a contract. One without `detects` comes before those that say 0, after all others."""
    detects = one.endpoint.detects
    return 0.5 if detects is None else detects(head, body)


def _detectors_first(one: Binding) -> tuple[bool, str]:
    return one.endpoint.detects is None, one.frontend.name
