"""What two configs differ in, as the paths of the keys: values may be secrets, so none is shown."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.config.load import Config

MOST_DIFFERENCES = 50


def difference(old: Config, new: Config) -> list[str]:
    """Such as `routes.code.to changed`, `backends.local added`."""
    found = list(_differences(_plain(old), _plain(new), ""))
    found += [f"routes order: {', '.join(order)}" for order in _order(old, new)]
    more = len(found) - MOST_DIFFERENCES
    return [*found[:MOST_DIFFERENCES], f"and {more} more"] if more > 0 else found


def _plain(config: Config) -> dict[str, Any]:
    plain = config.settings.model_dump(exclude={"backends", "routes"})
    plain["backends"] = {
        **{name: row.model_dump() for name, row in config.backends.items()},
        **dict.fromkeys(config.off, "off"),
    }
    plain["routes"] = {route.name: route.model_dump() for route in config.settings.routes}
    return plain


def _order(old: Config, new: Config) -> Iterator[list[str]]:
    before, after = ([route.name for route in config.settings.routes] for config in (old, new))
    if sorted(before) == sorted(after) and before != after:
        yield after


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        yield f"{path} changed"
        return
    for name in {**old, **new}:
        here = f"{path}.{name}" if path else str(name)
        if name not in new:
            yield f"{here} removed"
        elif name not in old:
            yield f"{here} added"
        else:
            yield from _differences(old[name], new[name], here)
