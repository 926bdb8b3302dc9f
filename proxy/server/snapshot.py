"""A config snapshot: one valid config and all that was built from it.

A request keeps the snapshot that it began with until it is over, its fallbacks included. A reload puts a new
snapshot in force, and the old one is closed after its last request (E02, E03).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from proxy.backends.base import Backend, ChecksHealth, KnowsContexts, ListsModels, own_models
from proxy.backends.issuers import Issuers
from proxy.config.checks import is_loopback
from proxy.config.load import Config
from proxy.contracts.base import Frontend
from proxy.contracts.declared.frontend import declared
from proxy.pipeline.admission import Admission, limits_clients
from proxy.pipeline.costs import counts_costs
from proxy.pipeline.exchange import Pipeline
from proxy.pipeline.health import check_health
from proxy.pipeline.targets import TargetStates
from proxy.policy.cors import Cors
from proxy.policy.hosts import Hosts
from proxy.policy.keys import KeyRing, OtherKeys
from proxy.policy.peers import FailedLogins
from proxy.policy.prices import Prices
from proxy.routing.router import Router
from proxy.server.endpoints import EndpointTable
from proxy.store.rules import Counting


class ConfigSnapshot:
    """One valid config and what was built from it.

    `number` counts the configs that were in force; `loaded_at` is a Unix time. `built_in` are the contracts that
    every config has. `states`, `failed_logins` and `counting` are shared with the snapshots before and after.
    `processes` is how many serve it together.
    """

    def __init__(
        self,
        number: int,
        config: Config,
        backends: Mapping[str, Backend],
        *,
        built_in: Iterable[Frontend],
        states: TargetStates,
        failed_logins: FailedLogins,
        counting: Counting,
        stored_keys: OtherKeys | None = None,
        loaded_at: int,
        processes: int = 1,
    ) -> None:
        settings = config.settings
        self.number, self.config, self.backends = number, config, backends
        self.loaded_at = loaded_at
        self.keys = KeyRing(settings.auth, failed_logins, stored_keys)
        self.frontends: tuple[Frontend, ...] = (*built_in, *declared(settings.frontends))
        self.table = EndpointTable(self.frontends)
        self.cors = Cors(settings.server.cors)
        alone = settings.auth is None and is_loopback(settings.server.host)
        self.hosts = Hosts(settings.server.allowed_hosts) if alone else None
        prices = Prices(config.backends, settings.prices)
        self.router = Router(
            settings.routes, own_models(config.backends), config.off, settings.server, states=states, price=prices.of
        )
        self.prices = prices if counts_costs(settings) else None
        self.admission = Admission(settings, counting, prices) if limits_clients(settings) else None
        issuers = Issuers(config.backends, settings.routes)
        self.pipeline = Pipeline(backends, int(settings.server.limits.answer_mb * 1_000_000), states, issuers)
        # A process's share. The limit per client is not divided: the kernel may give all its connections to one.
        limits = settings.server.limits
        self.limits = limits.model_copy(update={"connections": -(-limits.connections // processes)})
        self._processes, self._states = processes, states
        self._checks: list[asyncio.Task[None]] = []
        self._requests = 0
        self._retired = False
        self._unused = asyncio.Event()

    def warnings(self) -> Iterable[object]:
        """What may not be meant in the config, and in how it is served."""
        settings, rows = self.config.settings, self.config.backends.values()
        yield from self.config.warnings
        if self.admission is not None and self.admission.budgets:
            yield from self.admission.budgets.unpriced(settings.routes)
        limited = self.admission is not None or any(getattr(row, "limits", None) for row in rows)
        if self._processes > 1 and limited and settings.store is None:
            yield (
                f"limits are counted by each process alone: {self._processes} workers together admit up to "
                f"{self._processes} times as much; name a `store: redis://…` that counts for all of them"
            )

    def listed_models(self, backend: str) -> Sequence[str]:
        """The models that a backend's own upstream lists, as far as they are known."""
        found = self.backends[backend]
        return found.models() if isinstance(found, ListsModels) else ()

    def context(self, model: str) -> int:
        """The most tokens of a conversation with `model`, as its upstream lists it: the least where several do; 0: unknown."""
        sizes = (found.context(model) for found in self.backends.values() if isinstance(found, KnowsContexts))
        return min(filter(None, sizes), default=0)

    def ask_for_models(self) -> None:
        """Have the backends that answer to any model ask their upstreams for their lists, in the background (N1)."""
        for route in self.config.settings.routes:
            for target in route.to:
                if not target.model and target.backend in self.backends:
                    self.listed_models(target.backend)

    def check_health(self) -> None:
        """Check in the background whether the backends that have `health` are well."""
        for name, row in self.config.backends.items():
            backend, health = self.backends[name], getattr(row, "health", None)
            if health is None:
                self._states.well(name)  # an earlier config may have checked it
            elif isinstance(backend, ChecksHealth):
                check = check_health(name, backend, self._states, path=health.path, every_s=health.every_s)
                self._checks.append(asyncio.create_task(check, name=f"health of {name}"))

    def enter(self) -> None:
        """A request begins with this snapshot."""
        self._requests += 1

    def leave(self) -> None:
        """A request that began with it is over."""
        self._requests -= 1
        if self._retired and not self._requests:
            self._unused.set()

    async def close(self) -> None:
        """Wait for the last request that began here, then close the backends."""
        self._retired = True
        await asyncio.sleep(0)  # a task that is cancelled before it has begun cleans nothing up
        for task in (*self.pipeline.losers, *self._checks):
            task.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        if self._requests:
            await self._unused.wait()
        for backend in self.backends.values():
            await backend.aclose()
