"""What one process knows of its requests. Several processes are each asked the same, and their answers joined."""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

import msgspec

from proxy.pipeline.exchange import Exchange
from proxy.pipeline.targets import TargetStates
from proxy.server.snapshot import ConfigSnapshot
from proxy.telemetry.recent import MOST_RECENT, RecentRequests
from proxy.telemetry.record import StreamRecord
from proxy.telemetry.redact import Redactor
from proxy.web import explaining
from proxy.web.rows import Clock, row, told

MOST_LIVE = 100
"""How many requests under way are shown. The counts are of all of them."""

MOST_NEW = 50
"""How many requests that ended since the last look are shown: a row takes 30 µs, and nobody reads a hundred a second."""


class App(Protocol):
    """What is read of the app."""

    path: str
    redactor: Redactor
    recent: RecentRequests
    states: TargetStates

    @property
    def snapshot(self) -> ConfigSnapshot: ...
    @property
    def active(self) -> Collection[Exchange]: ...
    @property
    def draining(self) -> bool: ...
    def text(self) -> str: ...


class Query(msgspec.Struct, omit_defaults=True):
    """One question to every process: what is new since the last answer, one request, or what another config would do.

    `since` has the number of the newest record that is known, by process.
    """

    since: dict[str, int] | None = None
    id: str = ""
    last: bool = False
    config: str = ""


class Seen(msgspec.Struct):
    """What one process answers."""

    process: str
    number: int = 0
    tokens: int = 0
    active: int = 0
    ended: list[dict[str, Any]] = []
    live: list[dict[str, Any]] = []
    found: dict[str, Any] | None = None
    judged: explaining.Judged | None = None


Everybody = Callable[[Query], Any]
"""Asks all processes: a coroutine function that returns a list of `Seen`."""


async def look(app: App, query: Query) -> Seen:
    """The answer of this process."""
    recent, running = app.recent, [exchange.record for exchange in app.active]
    seen = Seen(str(os.getpid()), recent.number)
    clock = Clock(asyncio.get_running_loop().time(), time.time())
    if query.since is not None:
        seen.active = len(running)
        seen.tokens = recent.tokens + sum(record.content_events for record in running)
        known = query.since.get(seen.process)
        ended = recent.since(0) if known is None else recent.since(known)[-MOST_NEW:]
        seen.ended = [row(one, clock, app.redactor) for one in ended]
        running.sort(key=lambda record: -record.started_at)
        seen.live = [row(one, clock, app.redactor) for one in running[:MOST_LIVE]]
    elif query.config:
        records = [record for record in islice(reversed(recent), MOST_RECENT) if record.kept is not None]
        seen.judged = await asyncio.to_thread(explaining.judged, app, query.config.encode(), records)
    else:
        found = _find(query, running, recent)
        seen.found = told(found, clock, app.redactor) if found else None
    return seen


def _find(query: Query, running: Sequence[StreamRecord], recent: RecentRequests) -> StreamRecord | None:
    everything: Iterable[StreamRecord] = reversed(recent) if query.last else (*running, *reversed(recent))
    return next((one for one in everything if query.last or one.request_id == query.id), None)
