"""Pages for operators: health, readiness, metrics, status, and what is at the root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from proxy import __version__
from proxy.contracts.base import Reply
from proxy.pipeline.targets import TargetStates
from proxy.server.snapshot import ConfigSnapshot
from proxy.server.usage import usage
from proxy.store.base import Store
from proxy.streams.registry import Streams
from proxy.telemetry.metrics import Metrics
from proxy.transport import Transport

if TYPE_CHECKING:
    from proxy.ledger.writer import Ledger

JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}


class Operation(msgspec.Struct, frozen=True):
    """A page for operators. `open` pages ask for no key, `for_all` ones for any key. It has `answer`, or `handle`, which reads the request."""

    answer: Callable[[], Awaitable[Reply]] | None = None
    open: bool = False
    for_all: bool = False
    handle: Callable[[Any], Awaitable[web.StreamResponse]] | None = None  # takes the `RequestContext`
    methods: tuple[str, ...] = ("GET",)


def find_operation(operations: Mapping[str, Operation], path: str) -> Operation | None:
    """The page at `path`, or the one that serves all of its folder, whose own path ends in a slash."""
    found = operations.get(path)
    if found is None and (slash := path.rfind("/")):  # the page at the root serves no folder
        found = operations.get(path[: slash + 1])
    return found


class App(Protocol):
    """What the pages show."""

    path: str
    metrics: Metrics
    states: TargetStates
    transport: Transport
    store: Store
    streams: Streams
    ledger: Ledger | None

    @property
    def snapshot(self) -> ConfigSnapshot: ...
    @property
    def draining(self) -> bool: ...
    @property
    def active(self) -> Collection[object]: ...
    @property
    def rejected(self) -> Sequence[str]: ...
    @property
    def changed(self) -> Sequence[str]: ...


class OperatorPages:
    """The pages of one process. Several processes that serve together override what they show in common."""

    def __init__(self, app: App) -> None:
        self._app = app

    def by_path(self) -> Mapping[str, Operation]:
        return {
            "/": Operation(self.root, open=True),
            "/healthz": Operation(self.healthz, open=True),
            "/readyz": Operation(self.readyz, open=True),
            "/metrics": Operation(self.metrics),
            "/status": Operation(self.status),
            "/usage": Operation(handle=usage, for_all=True),
        }

    async def root(self) -> Reply:
        """Claude Code asks for it (`HEAD /`) before its first request, without a key."""
        return Reply(200, b"chat-proxy\n", TEXT)

    async def healthz(self) -> Reply:
        return Reply(200, b'{"status":"ok"}', JSON)

    async def readyz(self) -> Reply:
        if self._app.draining:
            return Reply(503, b'{"status":"draining"}', JSON)
        return Reply(200, b'{"status":"ready"}', JSON)

    async def metrics(self) -> Reply:
        body, content_type = self._app.metrics.exposition()
        return Reply(200, body, {"Content-Type": content_type})

    async def status(self) -> Reply:
        return Reply(200, msgspec.json.encode(self.state()), JSON)

    def state(self) -> dict[str, Any]:
        """What `/status` shows."""
        app, snapshot = self._app, self._app.snapshot
        config = snapshot.config
        return {
            "version": __version__,
            "status": "draining" if app.draining else "serving",
            "config": {
                "file": Path(app.path).name,
                "generation": snapshot.number,
                "digest": config.digest,
                "loaded_at": snapshot.loaded_at,
                "rejected": app.rejected or None,
                "changed": app.changed,
            },
            "active": len(app.active),
            "store": app.store.state(),
            "usage": app.ledger.state() if app.ledger else None,
            "delivery": {"auto_tick_ms": round(app.transport.auto_tick_s * 1000)},
            "streams": app.streams.state(),
            "circuits_open": {name: round(left, 1) for name, left in app.states.open_circuits().items()},
            "targets": app.states.live(),
            "concurrency": app.states.queues(),
            "frontends": {
                frontend.name: sorted({endpoint.path for endpoint in frontend.endpoints})
                for frontend in snapshot.frontends
            },
            "backends": {
                **{name: {"on": True} for name in snapshot.backends},
                **{name: {"on": False, "why": why} for name, why in config.off.items()},
            },
            "routes": [
                {"name": route.name, "to": [target.target for target in route.to]} for route in config.settings.routes
            ],
        }
