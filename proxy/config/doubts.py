"""Keys of routes that are right one by one, and do nothing or fight each other together. Each is a warning."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.config.models import RouteSettings, ServerSettings
from proxy.config.partial import Readable
from proxy.config.source import Document, Path

_SHORTER = (
    ("timeouts", "connect_s", "first_token_s"),
    ("timeouts", "first_token_s", "total_s"),
    ("timeouts", "token_gap_s", "total_s"),
    ("breaker", "open_s", "longest_s"),
)
"""A section, a time in it, and the time that is over before it, if both are written and the first is longer."""


def doubts(document: Document, read: Readable) -> Iterator[tuple[str, Path]]:
    """What is probably not meant, and where it is written."""
    server = read.server or ServerSettings()
    yield from _never_over(document.data.get("server"), ("server",))
    for index, route, _ in read.routes:
        path: Path = ("routes", index)
        yield from _never_over(document.data["routes"][index], path)
        yield from (
            (f"route `{route.name}`: {message}", (*path, key)) for key, message in _of_route(route, read, server)
        )
    yield from _two_limits(document, read)


def _of_route(route: RouteSettings, read: Readable, server: ServerSettings) -> Iterator[tuple[str, str]]:
    given, first_s = route.model_fields_set, route.timeouts.over(server.timeouts).first_token_s
    if "continue_with" in given and route.on_cut != "continue":
        yield "continue_with", "`continue_with` is never sent without `on_cut: continue`; add that, or remove it"
    if route.resume and server.resume is None:
        yield (
            "resume",
            "`resume: true` keeps nothing without `server.resume`; add that, such as `resume: {}` under `server`",
        )
    if route.pick != "in-order" and len(route.to) < 2:
        yield "pick", f"`pick: {route.pick}` has nothing to choose from with one target; add another, or remove it"
    if route.sticky == "key" and not (read.asks and read.auth and not read.auth.off):
        yield "sticky", "`sticky: key` holds nothing together, as `auth` asks nobody for a key; use `conversation`"
    if route.hedge and route.hedge.after_ms and route.hedge.after_ms >= first_s * 1000:
        most = f"`timeouts.first_token_s` is over after {first_s:g} s"
        yield "hedge", f"`hedge.after_ms` asks no second target, as {most}; make one shorter or the other longer"


def _never_over(section: Any, path: Path) -> Iterator[tuple[str, Path]]:
    for within, longer, shorter in _SHORTER:
        times = section.get(within) if isinstance(section, Mapping) else None
        if not isinstance(times, Mapping):
            continue
        first, least = times.get(longer), times.get(shorter)
        if isinstance(first, int | float) and isinstance(least, int | float) and first > least:
            message = (
                f"`{longer}: {first:g}` is never reached, as `{shorter}` is {least:g}; make `{longer}` the shorter one"
            )
            yield message, (*path, within, longer)


def _two_limits(document: Document, read: Readable) -> Iterator[tuple[str, Path]]:
    """One target has one set of slots, whichever rule a request came by."""
    first: dict[str, tuple[Any, Path]] = {}
    for index, route, _ in read.routes:
        for number, target in enumerate(route.to):
            if target.concurrency is None:
                continue
            limit, path = (target.concurrency, target.queue), ("routes", index, "to", number, "concurrency")
            other, where = first.setdefault(target.target, (limit, path))
            if other != limit:
                message = (
                    f"`{target.target}` has another `concurrency` or `queue` in line {document.place(where).line}, and its "
                    "slots are counted over all rules, so they change with each request; write the same in both"
                )
                yield message, path
