"""The composition root: from a config file to a running app. The only module that knows every other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from proxy.backends.base import Resources, settings_for
from proxy.backends.discovery import Lists
from proxy.backends.order import build
from proxy.config.difference import difference
from proxy.config.file import FileReader
from proxy.config.limits import passwords_of
from proxy.config.load import Config, load_config
from proxy.config.models import LimitSettings, ServerSettings, Settings
from proxy.contracts.base import built_in_frontends
from proxy.errors import ConfigError, ConfigErrors, ProxyError
from proxy.ledger.metrics import ledger_metrics
from proxy.pipeline.costs import needs_prices
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.targets import TargetStates
from proxy.policy.keys import OtherKeys, live_keys
from proxy.policy.peers import FailedLogins
from proxy.policy.prices import listed
from proxy.server.operator_pages import Operation, OperatorPages
from proxy.server.remembering import keep_remembering, remember_spending
from proxy.server.snapshot import ConfigSnapshot
from proxy.store import open_store
from proxy.store.base import Store
from proxy.store.rules import Counting, Outputs
from proxy.streams.registry import Streams
from proxy.telemetry import otlp
from proxy.telemetry.log import RequestLog
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import RecentRequests
from proxy.telemetry.record import RecordSink
from proxy.telemetry.redact import Redactor, secrets_of
from proxy.telemetry.slots import slot_gauges, stream_gauges
from proxy.transport import Transport
from proxy.transport.http1 import HttpTransport
from proxy.web.feed import WebPages
from proxy.web.look import Query, Seen, look

if TYPE_CHECKING:
    from proxy.config.usage import UsageSettings
    from proxy.ledger.writer import Ledger
    from proxy.policy.stored_keys import StoredKeys
    from proxy.streams.shared import SharedStreams
    from proxy.telemetry.otlp.export import Telemetry

log = structlog.get_logger("proxy.app")

ASK_FOR_MODELS_AFTER_S = 2.0  # the first requests after a start or a reload go first

READ_AHEAD = 64 * 1024
"""Bytes of an answer that may wait for a slow client before reading from its upstream pauses. One read of a socket
brings up to 256 KiB, so more than this can be waiting."""


class App:
    """The running proxy: the config in force, the requests being answered, and what all configs share."""

    pages: type[OperatorPages] = OperatorPages

    def __init__(
        self,
        path: str,
        *,
        host: str | None = None,
        port: int | None = None,
        content: bytes | None = None,
        without_file: bool = False,
        generation: int = 1,
        loaded_at: int | None = None,
        processes: int = 1,
        warns: bool = True,
    ) -> None:
        """`content` is loaded first, by default the file's. `without_file`: it stands for a file that is not there yet.

        `generation` and `loaded_at` are those of the first config. Of several `processes` that serve together one warns.
        """
        self.path, self.without_file, self._content = path, without_file, content
        self._host, self._port = host, port
        self._file = FileReader(path)
        self.frontends = built_in_frontends()
        self.recent = RecentRequests()
        pages = self.pages(self).by_path()
        self.operations: Mapping[str, Operation] = {**pages, **WebPages(self, pages["/status"], self.look).by_path()}
        self.metrics = Metrics()
        self.sinks: list[RecordSink] = [self.metrics, RequestLog(), self.recent]
        self.tracer: Telemetry | None = None  # of the config in force
        self.redactor = Redactor()
        self.transport: Transport = HttpTransport(high_water=READ_AHEAD)
        self.metrics.watch_tick(lambda: self.transport.auto_tick_s)
        self.draining = False
        self.closed = False
        self.active: set[Exchange] = set()
        self.streams = Streams()
        self.failed_logins = FailedLogins()
        self.states = TargetStates(time.monotonic)
        self._model_lists: Lists = {}
        self.metrics.show(lambda: slot_gauges(self.states.queues()))
        self.metrics.show(lambda: stream_gauges(self.streams.state()))
        self.changed: Sequence[str] = []  # what differs between the config in force and the one before
        self._streams_at: dict[str, SharedStreams] = {}
        self.store: Store = open_store(None)  # of the config in force
        self._stores: dict[str | None, Store] = {None: self.store}
        self._keys: dict[Store, StoredKeys] = {}
        self._outputs = Outputs()
        self.metrics.limits.state = lambda: self.store.state()  # noqa: PLW0108 - the store may change
        self.ledger: Ledger | None = None  # of the config in force
        self._ledgers: dict[UsageSettings, Ledger] = {}
        self.metrics.show(lambda: ledger_metrics(self._ledgers.values()))
        self.rejected: Sequence[str] = []  # what is wrong with the file, if it was not taken up
        self._snapshot: ConfigSnapshot | None = None
        self._at_start: ServerSettings
        self._number, self._loaded_at = generation - 1, loaded_at
        self._processes, self._warns = processes, warns
        self._reloading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._remembering: set[asyncio.Task[None]] = set()

    @property
    def started(self) -> bool:
        return self._snapshot is not None

    @property
    def snapshot(self) -> ConfigSnapshot:
        """The config in force."""
        assert self._snapshot is not None, "start() has not been awaited"
        return self._snapshot

    def connection_limits(self) -> LimitSettings:
        """The limits for a client that connects now."""
        return self.snapshot.limits

    async def look(self, query: Query) -> list[Seen]:
        """What each serving process knows of its requests; here there is one process."""
        return [await look(self, query)]

    # -- requests ----------------------------------------------------------------------------------------------

    def stop_all(self, error: ProxyError) -> None:
        """End every running answer with `error`. Each client gets one error frame or status."""
        for exchange in list(self.active):
            exchange.interrupt(error)

    # -- configs -----------------------------------------------------------------------------------------------

    def load(self, content: bytes | None = None) -> Config:
        """Check `content`, by default that of the start. Blocks. Raises `ConfigErrors`."""
        content = self._content if content is None else content
        return load_config(self.path, content=content, settings_for=settings_for, host=self._host, port=self._port)

    def text(self) -> str:
        """The file as it is now, or what stands for one that is not there. Blocks. Raises `OSError`, `ValueError`."""
        if self.without_file and self._content is not None and not Path(self.path).exists():
            return self._content.decode()
        return Path(self.path).read_text()

    async def start(self, config: Config | None = None) -> None:
        """Build the first snapshot. Raises `ConfigErrors`."""
        if config is None:
            config = await asyncio.to_thread(self.load)
        snapshot = await self._build(config, self._number + 1, loaded_at=self._loaded_at)
        self._put_in_force(snapshot)
        if self._warns:
            self._log_warnings(snapshot)

    async def reload(self) -> bool:
        """Read the file again and replace the whole config. A bad file is logged, and the old config stays in force."""
        async with self._reloading:
            try:
                content = await self._file.read()
                snapshot = await self._load_and_build(lambda: self.load(content), self._number + 1)
            except ConfigErrors as errors:
                self.rejected = [str(error) for error in errors.errors]
                self._report_rejected()
                return False
            self._replace(snapshot)
            self._report_accepted(snapshot)
            return True

    async def _load_and_build(
        self, load: Callable[[], Config], number: int, *, loaded_at: int | None = None
    ) -> ConfigSnapshot:
        """Build a snapshot beside the one in force. A bug on the way becomes `ConfigErrors` too."""
        try:
            return await self._build(await asyncio.to_thread(load), number, loaded_at=loaded_at)
        except ConfigErrors:
            raise
        except Exception as error:
            log.exception("config_reload_failed", file=self.path)
            raise ConfigErrors([ConfigError(f"{type(error).__name__} while loading; see the log")]) from error

    async def _build(self, config: Config, number: int, *, loaded_at: int | None = None) -> ConfigSnapshot:
        limits = config.settings.server.limits
        self.redactor.secrets.learn(secrets_of([config.backends, config.settings]))
        usage = config.settings.usage
        for store in (config.settings.store, usage.store if usage else None):
            self.redactor.secrets.learn(passwords_of(store.get_secret_value()) if store else ())
        resources = Resources(
            transport=self.transport,
            secrets=self.redactor.secrets,
            frame_bytes=int(limits.frame_mb * 1_000_000),
            answer_bytes=int(limits.answer_mb * 1_000_000),
            model_lists=self._model_lists,
        )
        await asyncio.to_thread(otlp.load, config.settings.telemetry)
        if needs_prices(config.settings):
            await asyncio.to_thread(listed, "openai", "gpt-4o")  # loads the list, which takes half a second
        await self._open_ledger(usage)
        counting = self._counting(config)
        backends = {name: build(row, name, resources, counting) for name, row in config.backends.items()}
        failures = await asyncio.gather(*(one.open() for one in backends.values()), return_exceptions=True)
        failed = [failure for failure in failures if failure is not None]
        if failed:
            for backend in backends.values():
                await backend.aclose()
            for failure in failed:
                if not isinstance(failure, ConfigError):
                    raise failure
            raise ConfigErrors([failure for failure in failed if isinstance(failure, ConfigError)])
        snapshot = ConfigSnapshot(
            number,
            config,
            backends,
            built_in=self.frontends,
            states=self.states,
            failed_logins=self.failed_logins,
            counting=counting,
            stored_keys=await self._stored_keys(config, counting.store),
            loaded_at=int(time.time()) if loaded_at is None else loaded_at,
            processes=self._processes,
        )
        if not await remember_spending(snapshot, counting.store):
            self._remember(counting.store)
        return snapshot

    def _remember(self, store: Store) -> None:
        """Ask the ledger what was spent, as soon as it can be read."""
        task = asyncio.create_task(keep_remembering(lambda: self.snapshot, store))
        self._remembering.add(task)
        task.add_done_callback(self._remembering.discard)

    async def _open_ledger(self, settings: UsageSettings | None) -> None:
        """Open the ledger that a config asks for. It is closed with the app: earlier configs' requests may need it."""
        if settings is None or settings in self._ledgers:
            return
        from proxy.ledger.writer import Ledger  # noqa: PLC0415 - not loaded where it is off

        ledger = Ledger(settings)
        try:
            await asyncio.to_thread(ledger.start)
        except OSError as error:
            why = f"usage: the spool `{settings.spool_folder}` cannot be written: {error.strerror}"
            raise ConfigErrors([ConfigError(f"{why}. Name another folder in `usage.spool`", file=self.path)]) from error
        self._ledgers[settings] = ledger

    def _counting(self, config: Config) -> Counting:
        """What counts for a config. All that name the same store share it."""
        address = config.settings.store
        url = address.get_secret_value() if address else None
        if url not in self._stores:
            self._stores[url] = store = open_store(url)
            store.on_back = lambda: self._remember(store)
        return Counting(self._stores[url], self._outputs, self.metrics.limits)

    def _shared_streams(self, settings: Settings) -> SharedStreams | None:
        """Where replicas find each other's streams, if a config has both a shared store and streams to resume."""
        resumes = settings.server.resume is not None or any(route.resume for route in settings.routes)
        if settings.store is None or not resumes:
            return None
        url = settings.store.get_secret_value()
        if url not in self._streams_at:
            from proxy.streams.shared import SharedStreams  # noqa: PLC0415 - an extra, which only this needs

            self._streams_at[url] = SharedStreams(url)
        return self._streams_at[url]

    async def _stored_keys(self, config: Config, store: Store) -> OtherKeys | None:
        """The keys of the store, if a config has one that keeps them and asks for keys."""
        auth = config.settings.auth
        if config.settings.store is None or auth is None or auth.off:
            return None
        if store not in self._keys:
            from proxy.policy.stored_keys import StoredKeys  # noqa: PLC0415 - needs the extra `redis`

            self._keys[store] = StoredKeys(store, self.metrics.name_keys)
        keys = self._keys[store]
        await keys.start()
        return keys

    def _replace(self, snapshot: ConfigSnapshot) -> None:
        """Requests begin with `snapshot` from now on. The one before is closed after its last request."""
        old = self._snapshot
        self._put_in_force(snapshot)
        if old is not None:
            self.changed = difference(old.config, snapshot.config)
            self._in_background(old.close())

    def _put_in_force(self, snapshot: ConfigSnapshot) -> None:
        if self._snapshot is None:
            self._at_start = snapshot.config.settings.server
        self._snapshot, self._number, self.rejected = snapshot, snapshot.number, []
        settings = snapshot.config.settings
        self.store = self._counting(snapshot.config).store
        self.streams.shared = self._shared_streams(settings)
        self._write_down_in(self._ledgers[settings.usage] if settings.usage else None)
        breaker = settings.server.breaker
        self.states.configure(failures=breaker.failures, open_s=breaker.open_s, longest_s=breaker.longest_s)
        self.failed_logins.per_minute = settings.server.limits.auth_failures_per_minute
        self.metrics.configured(
            generation=snapshot.number,
            contracts=[frontend.name for frontend in snapshot.frontends],
            routes=[route.name for route in settings.routes],
            backends=list(snapshot.backends),
            models={target.model for route in settings.routes for target in route.to},
            keys=[key.name for key in live_keys(settings.auth)],
        )
        self._trace(snapshot)
        snapshot.check_health()
        asyncio.get_running_loop().call_later(ASK_FOR_MODELS_AFTER_S, snapshot.ask_for_models)

    def _write_down_in(self, ledger: Ledger | None) -> None:
        if self.ledger is not None:
            self.sinks.remove(self.ledger)
        if ledger is not None:
            self.sinks.append(ledger)
        self.ledger = ledger

    def _trace(self, snapshot: ConfigSnapshot) -> None:
        """Export what the config in force asks for. An exporter whose settings stay goes on."""
        wanted, old = otlp.wanted(snapshot.config.settings.telemetry), self.tracer
        places = {name: otlp.place(row) for name, row in snapshot.config.backends.items()} if wanted else {}
        if old is not None and old.settings == wanted:
            old.places = places
            return
        if old is not None:
            self.sinks.remove(old)
            self._in_background(old.aclose())
        self.tracer = otlp.start(wanted, self.metrics, places) if wanted else None
        if self.tracer is not None:
            self.sinks.insert(0, self.tracer)  # so that the log has the trace of requests that were refused at once

    def _in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _report_accepted(self, snapshot: ConfigSnapshot) -> None:
        self._log_warnings(snapshot)
        if later := snapshot.config.settings.server.needs_restart(self._at_start):
            message = "these settings are read at the start only: restart to apply them"
            log.warning("config_needs_restart", file=self.path, keys=later, message=message)
        self.metrics.config_reload("accepted")
        log.info("config_reloaded", file=self.path, generation=snapshot.number, off=dict(snapshot.config.off))

    def _report_rejected(self) -> None:
        self.metrics.config_reload("rejected")
        log.error("config_rejected", file=self.path, serving_generation=self._number, errors=self.rejected)

    def _log_warnings(self, snapshot: ConfigSnapshot) -> None:
        for warning in snapshot.warnings():
            log.warning("config_warning", message=str(warning))

    async def aclose(self) -> None:
        """Close everything. All requests are over by now."""
        for task in self._remembering:
            task.cancel()
        for shared in self._streams_at.values():
            await shared.aclose()
        self.streams.forget_all()
        if self._snapshot is not None:
            await self._snapshot.close()
        if self._closing:
            await asyncio.wait(self._closing, timeout=1)
        for keys in self._keys.values():
            await keys.aclose()
        if self.tracer is not None:
            await self.tracer.aclose()
        for store in self._stores.values():
            await store.aclose()
        for ledger in self._ledgers.values():
            await asyncio.to_thread(ledger.close)
        await self.transport.aclose()
