"""What a process prints at its start: where it listens, what it serves, and what answers without a key."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from proxy.config.models import RouteSettings
from proxy.server.accepting import Acceptor
from proxy.server.operator_pages import Operation
from proxy.server.snapshot import ConfigSnapshot

_BOLD, _DIM, _CYAN, _YELLOW, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[33m", "\x1b[0m"


_Row = tuple[tuple[str, str, str], bool]
"""Three cells, and whether what they are about is off."""


class Terminal(NamedTuple):
    """What can be shown."""

    width: int
    colors: bool


def terminal() -> Terminal | None:
    """The terminal that standard output is; `None` if it is none."""
    if not sys.stdout.isatty():
        return None
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return Terminal(shutil.get_terminal_size().columns, colors=not plain)


class Served(NamedTuple):
    """What there is to say. `path`: the config file, or "" where there is none."""

    snapshot: ConfigSnapshot
    path: str
    acceptors: Sequence[Acceptor]
    operations: Mapping[str, Operation]


def banner(served: Served, on: Terminal | None) -> str:
    """Plain text for files, and a table for a terminal. Without a config file the routes are known already."""
    if on is None:
        lines = [*_listening(served), *(_plain(served.snapshot) if served.path else ())]
    else:
        lines = [
            *_listening(served, on),
            *(_tables(served.snapshot, on) if served.path else ()),
            *_surfaces(served, on),
        ]
    return "\n".join(lines) + "\n"


def _listening(served: Served, on: Terminal | None = None) -> Iterator[str]:
    host = served.snapshot.config.settings.server.host
    shown = f"[{host}]" if ":" in host else host
    config = f"config: {served.path}" if served.path else "no config file"
    for acceptor in served.acceptors:
        url = _colored(f"http://{shown}:{acceptor.port}", _BOLD + _CYAN, on)
        if acceptor.prefix:
            yield f"and on {url}, with {acceptor.prefix} at the root"
        else:
            yield f"chat-proxy listening on {url}  ({config})"


def _plain(snapshot: ConfigSnapshot) -> Iterator[str]:
    settings, off = snapshot.config.settings, snapshot.config.off
    yield from ("", "routes, first match wins:")
    width = max(len(route.name) for route in settings.routes)
    for route in settings.routes:
        targets = ", ".join(target.target for target in route.to)
        yield f"  {route.name:<{width}}  -> {targets}{'   (off)' if _is_off(route, off) else ''}"
    if declared := settings.frontends:
        yield from ("", "contracts declared:")
        yield from (f"  {name}: POST {', '.join(frontend.path)}" for name, frontend in declared.items())
    yield from ("", "backends:")
    yield from (f"  {name}: on" for name in snapshot.backends)
    yield from (f"  {name}: off, {why}" for name, why in off.items())


def _tables(snapshot: ConfigSnapshot, on: Terminal) -> Iterator[str]:
    config = snapshot.config
    routes: list[_Row] = []
    for route in config.settings.routes:
        targets = " then ".join(target.target for target in route.to)
        off = _is_off(route, config.off)
        routes.append(((route.name, _takes(route), f"off: {targets}" if off else targets), off))
    yield ""
    yield from _table(("route", "takes", "goes to"), routes, on)
    yield ""
    kinds = {name: row["kind"] for name, row in config.settings.backends.items()}
    backends: list[_Row] = [((name, kinds[name], "on"), False) for name in snapshot.backends]
    backends += [((name, kinds[name], f"off: {why}"), True) for name, why in config.off.items()]
    yield from _table(("backend", "kind", ""), backends, on)


def _takes(route: RouteSettings) -> str:
    """The conditions of a rule, the models first."""
    match = route.match.model_dump(exclude_none=True)
    parts = [", ".join(match.pop("model", ()))]
    for name, value in match.items():
        parts.append(f"{name} {', '.join(map(str, value)) if isinstance(value, (list, dict)) else value}")
    return " · ".join(filter(None, parts)) or "all else"


def _table(heads: tuple[str, str, str], rows: Sequence[_Row], on: Terminal) -> Iterator[str]:
    """Rows of three cells no wider than the terminal; those that are off stand out."""
    room = on.width - 2 - 2 * 2  # the indent, and two gaps
    first = min(max(len(row[0]) for row in (heads, *(cells for cells, _ in rows))), room // 4)
    second = min(max(len(row[1]) for row in (heads, *(cells for cells, _ in rows))), (room - first) // 2)
    widths = (first, second, max(room - first - second, 1))

    def line(cells: Sequence[str]) -> str:
        return (
            "  "
            + "  ".join(f"{_cut(cell, width):<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        )

    yield _colored(line(heads), _DIM, on)
    for cells, off in rows:
        yield _colored(line(cells), _YELLOW if off else "", on)


def _surfaces(served: Served, on: Terminal) -> Iterator[str]:
    """One line, broken where the terminal ends: what answers without a key."""
    snapshot, auth = served.snapshot, served.snapshot.config.settings.auth
    asks = auth is not None and not auth.off
    if asks:
        paths = [path for path, operation in served.operations.items() if operation.open]
    else:
        paths = [*(frontend.endpoints[0].path for frontend in snapshot.frontends), "/", "/status", "/metrics"]
    text = f"answers without a key: {' '.join(dict.fromkeys(paths))}" + ("; all else asks for one" if asks else "")
    yield ""
    yield from textwrap.wrap(
        text, max(on.width, 20), initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )


def _is_off(route: RouteSettings, off: Mapping[str, str]) -> bool:
    return all(target.backend in off for target in route.to)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _colored(text: str, color: str, on: Terminal | None) -> str:
    return f"{color}{text}{_RESET}" if color and on is not None and on.colors else text
