"""The composition root: from a config file to a running app. The only module that knows every other.

A *generation* is one valid config and all that was built from it. Each request holds the generation it began
with, its fallbacks included, until it is over; a reload puts a new one in front and the old one is closed
when its last request has left (E02, E03).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog
from aiohttp import web
from pydantic import BaseModel

from proxy import __version__
from proxy.backends.base import Backend, Resources, kind, own_models
from proxy.config.load import Config, load_config
from proxy.config.models import LimitSettings
from proxy.contracts.base import Frontend, Reply, registered
from proxy.contracts.declared.frontend import declared
from proxy.errors import ConfigError, ConfigErrors, Draining, ProxyError
from proxy.pipeline.exchange import Exchange, Pipeline
from proxy.pipeline.targets import TargetStates
from proxy.policy.cors import Cors
from proxy.policy.keys import KeyRing
from proxy.policy.peers import FailedLogins, client_address
from proxy.request import ChatRequest
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal
from proxy.routing.router import Router
from proxy.server.client import CollectingClient, StreamingClient
from proxy.server.endpoints import EndpointTable
from proxy.server.handler import Handler, Operation
from proxy.server.listener import HANDLER
from proxy.telemetry.base import RecordSink
from proxy.telemetry.log import RequestLog
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.record import StreamRecord
from proxy.telemetry.redact import Redactor, secrets_of
from proxy.transport import Transport
from proxy.transport.http1 import HttpTransport

log = structlog.get_logger("proxy.app")

READ_AHEAD = 64 * 1024
"""Bytes of an answer that wait unread for a client that is slow, before its upstream is held back. A socket read
may bring up to 256 KiB at once, so this is how much may stand before it, not how much there may be."""

JSON = {"Content-Type": "application/json"}


def settings_for(name: str) -> type[BaseModel]:
    """The settings model of a backend kind; what `load_config` checks rows with."""
    return kind(name).settings


class ConfigSnapshot:
    """One valid config and what was built from it."""

    def __init__(
        self, number: int, config: Config, backends: Mapping[str, Backend], app: App, *, loaded_at: int
    ) -> None:
        settings = config.settings
        self.number = number
        self.config = config
        self.backends = backends
        self.loaded_at = loaded_at
        self.keys = KeyRing(settings.auth, app.failed_logins)
        self.frontends: tuple[Frontend, ...] = (*app.frontends.values(), *declared(settings.frontends))
        self.table = EndpointTable(self.frontends)
        self.cors = Cors(settings.server.cors)
        self.router = Router(settings.routes, own_models(config.backends), config.off, settings.server)
        self.pipeline = Pipeline(backends, int(settings.server.limits.answer_mb * 1_000_000), app.states)
        self._visitors = 0
        self._retired = False
        self._empty = asyncio.Event()

    def enter(self) -> None:
        self._visitors += 1

    def leave(self) -> None:
        self._visitors -= 1
        if self._retired and not self._visitors:
            self._empty.set()

    async def retire(self) -> None:
        """Wait for the last request that began here, then let the backends go."""
        self._retired = True
        if self._visitors:
            await self._empty.wait()
        for backend in self.backends.values():
            await backend.aclose()


class RequestContext:
    """One request in the app: which generation answers it, who asks, how it ends. See `frontends.http.RequestContext`."""

    __slots__ = ("_app", "_clock", "_exchange", "_generation", "_peer", "_principal", "_record")

    def __init__(self, app: App, generation: ConfigSnapshot, request_id: str, peer: str) -> None:
        self._app = app
        self._generation = generation
        self._peer = peer
        self._clock = asyncio.get_running_loop().time
        self._principal: Principal | None = None
        self._exchange: Exchange | None = None
        self._record = StreamRecord(request_id=request_id, started_at=self._clock(), stream=False)

    def __enter__(self) -> Self:
        self._generation.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        record = self._record
        self._generation.leave()
        if kind is not None:
            gone = issubclass(kind, (asyncio.CancelledError, ConnectionError))
            record.finish("client_gone" if gone else "internal", self._clock())
        if record.status or record.end:  # pages for operators and lists leave no line
            record.finish("internal" if record.status >= 500 else "done", self._clock())
            for sink in self._app.sinks:
                sink.ended(record)

    @property
    def limits(self) -> LimitSettings:
        return self._generation.config.settings.server.limits

    @property
    def table(self) -> EndpointTable:
        return self._generation.table

    @property
    def models_named(self) -> Container[str]:
        return self._generation.router.named

    @property
    def models_created(self) -> int:
        return self._generation.loaded_at

    def cors(self, headers: Mapping[str, str], *, preflight: bool) -> Mapping[str, str]:
        cors = self._generation.cors
        return (cors.preflight(headers) or {}) if preflight else cors.headers(headers.get("origin"))

    def identify(self, headers: Mapping[str, str]) -> Principal:
        principal = self._generation.keys.identify(headers, self._peer)
        self._principal, self._record.key = principal, principal.name
        return principal

    def describe(self, *, contract: str, path: str, request: ChatRequest | None = None) -> None:
        record = self._record
        record.contract, record.path = contract, path
        if request is not None:
            record.model, record.stream = request.model or "", request.stream

    def plan(self, request: ChatRequest) -> Plan:
        plan = self._generation.router.plan(request, self._principal)
        self._record.route = plan.route
        self._exchange = Exchange(self._generation.pipeline, request, plan, self._record)
        return plan

    async def run(self, client: StreamingClient | CollectingClient) -> None:
        exchange = self._exchange
        assert exchange is not None
        with self._app.running(exchange):
            await exchange.run(client)

    def models(self) -> list[str]:
        return self._generation.router.models(self._principal)

    def ended(self, *, status: int, bytes_out: int, error: ProxyError | None = None) -> None:
        record = self._record
        record.status, record.bytes_out = status, bytes_out
        if error is not None:
            record.finish(error.end, self._clock(), error_code=error.code)


class App:
    """The running proxy: the current generation, what is under way, and what all generations share."""

    def __init__(self, path: str, *, host: str | None = None, port: int | None = None) -> None:
        self.path = path
        self._host, self._port = host, port
        self.frontends: dict[str, Frontend] = {name: point.load() for name, point in registered().items()}
        self.operations: Mapping[str, Operation] = {
            "/": Operation(self._front_door, open=True),
            "/healthz": Operation(self._healthz, open=True),
            "/readyz": Operation(self._readyz, open=True),
            "/metrics": Operation(self._metrics),
            "/status": Operation(self._status),
        }
        self.metrics = Metrics()
        self.sinks: list[RecordSink] = [self.metrics, RequestLog()]
        self.redactor = Redactor()
        self.transport: Transport = HttpTransport(high_water=READ_AHEAD)
        self.metrics.watch_tick(lambda: self.transport.auto_tick_s)
        self.draining = False
        self.closed = False
        self.active: set[Exchange] = set()
        self.failed_logins = FailedLogins()
        self.states = TargetStates(time.monotonic)
        self._current: ConfigSnapshot | None = None
        self._number = 0
        self._reloading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._rejected: list[str] = []

    @property
    def started(self) -> bool:
        return self._current is not None

    @property
    def generation(self) -> ConfigSnapshot:
        assert self._current is not None, "start() has not been awaited"
        return self._current

    def connection_limits(self) -> LimitSettings:
        """What holds for a client that connects now."""
        return self.generation.config.settings.server.limits

    # -- requests ----------------------------------------------------------------------------------------------

    def visit(self, request_id: str, peer: str | None, headers: Mapping[str, str]) -> RequestContext:
        generation = self.generation
        trusted = generation.config.settings.server.trusted_proxies
        return RequestContext(
            self, generation, request_id, client_address(peer, headers, trusted) if trusted else peer or ""
        )

    def running(self, exchange: Exchange) -> _Running:
        return _Running(self, exchange)

    def stop_all(self, error: ProxyError) -> None:
        """End everything under way with `error`: each client gets its one truthful end."""
        for exchange in list(self.active):
            exchange.interrupt(error)

    # -- generations -------------------------------------------------------------------------------------------

    def load(self) -> Config:
        """Read and check the file; blocking. Raises `ConfigErrors`."""
        return load_config(self.path, settings_for=settings_for, host=self._host, port=self._port)

    async def start(self, config: Config | None = None) -> None:
        """Build the first generation. Raises `ConfigErrors`."""
        if config is None:
            config = await asyncio.to_thread(self.load)
        generation = await self._build(config, self._number + 1)
        self._install(generation)
        self._warn(generation)

    async def reload(self) -> bool:
        """Read the file again and swap it in whole; a bad one leaves the old one serving, and says why."""
        async with self._reloading:
            try:
                generation = await self._attempt(self.load, self._number + 1)
            except ConfigErrors as errors:
                self._reject([str(error) for error in errors.errors])
                self._tell_rejected()
                return False
            self._take_up(generation)
            self._tell_taken_up(generation)
            return True

    async def _attempt(
        self, load: Callable[[], Config], number: int, *, loaded_at: int | None = None
    ) -> ConfigSnapshot:
        """Build a generation beside the one in force; a bug on the way is a `ConfigErrors` too."""
        try:
            return await self._build(await asyncio.to_thread(load), number, loaded_at=loaded_at)
        except ConfigErrors:
            raise
        except Exception as error:
            log.exception("config_reload_failed", file=self.path)
            raise ConfigErrors([ConfigError(f"{type(error).__name__} while loading; see the log")]) from error

    def _take_up(self, generation: ConfigSnapshot) -> None:
        """From now on requests begin with `generation`; the one before goes with its last request."""
        old = self._current
        self._install(generation)
        if old is not None:
            self._retire(old)

    def _retire(self, generation: ConfigSnapshot) -> None:
        task = asyncio.create_task(generation.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _tell_taken_up(self, generation: ConfigSnapshot) -> None:
        self._warn(generation)
        self.metrics.config_reload("accepted")
        log.info("config_reloaded", file=self.path, generation=generation.number, off=dict(generation.config.off))

    def _reject(self, errors: list[str]) -> None:
        self._rejected = errors

    def _tell_rejected(self) -> None:
        self.metrics.config_reload("rejected")
        log.error("config_rejected", file=self.path, serving_generation=self._number, errors=self._rejected)

    def _warn(self, generation: ConfigSnapshot) -> None:
        for warning in generation.config.warnings:
            log.warning("config_warning", message=str(warning))

    def _install(self, generation: ConfigSnapshot) -> None:
        self._current, self._number, self._rejected = generation, generation.number, []
        settings = generation.config.settings
        breaker = settings.server.breaker
        self.states.configure(failures=breaker.failures, open_s=breaker.open_s, longest_s=breaker.longest_s)
        self.failed_logins.per_minute = settings.server.limits.auth_failures_per_minute
        self.metrics.configured(
            generation=generation.number,
            contracts=[frontend.name for frontend in generation.frontends],
            routes=[route.name for route in settings.routes],
            backends=list(generation.backends),
            models={target.model for route in settings.routes for target in route.to},
        )

    async def _build(self, config: Config, number: int, *, loaded_at: int | None = None) -> ConfigSnapshot:
        limits = config.settings.server.limits
        self.redactor.secrets.learn(secrets_of([config.backends, config.settings]))
        resources = Resources(
            transport=self.transport,
            secrets=self.redactor.secrets,
            frame_bytes=int(limits.frame_mb * 1_000_000),
            answer_bytes=int(limits.answer_mb * 1_000_000),
        )
        backends = {
            name: kind(str(getattr(row, "kind", ""))).build(name, row, resources)
            for name, row in config.backends.items()
        }
        failures = await asyncio.gather(*(one.open() for one in backends.values()), return_exceptions=True)
        failed = [failure for failure in failures if failure is not None]
        if failed:
            for backend in backends.values():
                await backend.aclose()
            for failure in failed:
                if not isinstance(failure, ConfigError):
                    raise failure
            raise ConfigErrors([failure for failure in failed if isinstance(failure, ConfigError)])
        loaded_at = int(time.time()) if loaded_at is None else loaded_at
        return ConfigSnapshot(number, config, backends, self, loaded_at=loaded_at)

    async def aclose(self) -> None:
        """Let everything go. Requests are over by now."""
        if self._current is not None:
            await self._current.retire()
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=1)
        await self.transport.aclose()

    # -- pages for operators -----------------------------------------------------------------------------------

    async def _front_door(self) -> Reply:
        """Claude Code knocks here (`HEAD /`) before its first request, without a key."""
        return Reply(200, b"chat-proxy\n", {"Content-Type": "text/plain; charset=utf-8"})

    async def _healthz(self) -> Reply:
        return Reply(200, b'{"status":"ok"}', JSON)

    async def _readyz(self) -> Reply:
        if self.draining:
            return Reply(503, b'{"status":"draining"}', JSON)
        return Reply(200, b'{"status":"ready"}', JSON)

    async def _metrics(self) -> Reply:
        body, content_type = self.metrics.exposition()
        return Reply(200, body, {"Content-Type": content_type})

    async def _status(self) -> Reply:
        return Reply(200, msgspec.json.encode(self._told()), JSON)

    def _told(self) -> dict[str, Any]:
        """What `/status` says."""
        generation = self.generation
        routes = generation.config.settings.routes
        return {
            "version": __version__,
            "status": "draining" if self.draining else "serving",
            "config": {
                "file": Path(self.path).name,
                "generation": generation.number,
                "digest": generation.config.digest,
                "loaded_at": generation.loaded_at,
                "rejected": self._rejected or None,
            },
            "active": len(self.active),
            "delivery": {"auto_tick_ms": round(self.transport.auto_tick_s * 1000)},
            "circuits_open": {name: round(left, 1) for name, left in self.states.open_circuits().items()},
            "frontends": {
                frontend.name: sorted({endpoint.path for endpoint in frontend.endpoints})
                for frontend in generation.frontends
            },
            "backends": {
                **{name: {"on": True} for name in generation.backends},
                **{name: {"on": False, "why": why} for name, why in generation.config.off.items()},
            },
            "routes": [{"name": route.name, "to": [target.target for target in route.to]} for route in routes],
        }


class _Running:
    """Counts an exchange as under way, so that a drain can wait for it or end it."""

    __slots__ = ("_app", "_exchange")

    def __init__(self, app: App, exchange: Exchange) -> None:
        self._app, self._exchange = app, exchange

    def __enter__(self) -> None:
        if self._app.closed:
            raise Draining("This server is stopping. Try again: another one answers.", retry_after=1)
        self._app.active.add(self._exchange)
        self._app.metrics.stream_started()

    def __exit__(self, *_: object) -> None:
        self._app.active.discard(self._exchange)
        self._app.metrics.stream_left()


APP = web.AppKey("app", App)


async def _continue_later(request: web.Request) -> None:
    """`Expect: 100-continue` is answered only once the body is wanted (C08): see `_Call._body`."""


def create_app(path: str | os.PathLike[str], *, app: App | None = None) -> web.Application:
    """An application that serves the config file `path`, for `aiohttp.web` or a test client.

    `chat-proxy serve` adds what an application cannot have: limits on connections, signals, and a drain.
    """

    @web.middleware
    async def everything(request: web.Request, handler: object) -> web.StreamResponse:  # noqa: ARG001
        """Also for targets that no route of aiohttp's takes, such as `OPTIONS *`: it would answer 404 by itself."""
        return await answer(request)

    served = web.Application(client_max_size=0, middlewares=[everything])

    async def lifetime(served: web.Application) -> AsyncIterator[None]:
        running = app or App(os.fspath(path))
        if app is None:
            await running.start()
        served[APP] = running
        served[HANDLER] = Handler(running)
        yield
        await running.aclose()

    async def answer(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await served[HANDLER](request)
        return response

    served.cleanup_ctx.append(lifetime)
    served.router.add_route("*", "/{path:.*}", answer, expect_handler=_continue_later)
    return served
