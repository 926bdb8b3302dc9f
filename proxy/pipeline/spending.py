"""Budgets: how much money a key or a route may spend until a day, a week or a month is over.

A budget is a meter that does not drain, in billionths of a dollar; each period has a meter of its own. A request holds
the worst case, and settles with what it cost. See `proxy.store.base`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Self

import msgspec
import structlog

from proxy.config.budgets import BudgetSettings
from proxy.config.models import RouteSettings, Settings
from proxy.errors import OverBudget
from proxy.events import Notice
from proxy.policy.prices import Prices
from proxy.routing.plan import Plan, Target
from proxy.routing.principal import Principal
from proxy.store.base import Meter, Room, Want, Watcher
from proxy.telemetry.record import StreamRecord

log = structlog.get_logger("proxy.budgets")

BILLION = 1_000_000_000  # of a meter's units are a dollar
NEVER_S = 3650 * 86_400.0  # how long a budget without an end is kept: ten years
MOST_WARNED = 10_000  # periods that were warned of


class Budget(msgspec.Struct, frozen=True):
    """A budget in the period that now is. `given` is as the config has it, `settings` without a target that is off."""

    given: BudgetSettings
    settings: BudgetSettings
    meter: Meter
    began: float  # Unix time
    ends: float | None  # None: never

    @classmethod
    def of(cls, settings: BudgetSettings, scope: str, owner: str, now: float, prices: Prices) -> Self:
        began, ends = period(settings, now)
        meter = Meter(
            name=f"budget:{scope}:{owner}:{settings.per}:{int(began)}",
            unit="usd",
            scope=scope,
            owner=owner,
            limit=round(settings.usd * BILLION),
            period_s=0.0,
            keeps_s=NEVER_S if ends is None else ends - now + 86_400,  # requests under way may end in the next period
            on_outage=settings.on_outage,
        )
        live = settings
        if settings.downgrade_to and not prices.is_on(settings.downgrade_to.partition("/")[0]):
            live = settings.model_copy(update={"downgrade_to": None})
        return cls(settings, live, meter, began, ends)

    @property
    def in_words(self) -> str:
        per = "altogether" if self.settings.per == "total" else f"a {self.settings.per}"
        return f"${self.settings.usd:.12g} {per}"

    def refusal(self, room: Room) -> OverBudget:
        """Says what is left, and when it begins again."""
        meter, left = self.meter, max(0.0, room.left) / BILLION
        again = "It does not begin again by itself."
        if self.ends is not None:
            _, _, zone = self.settings.at
            again = f"It begins again on {datetime.fromtimestamp(self.ends, zone):%Y-%m-%d %H:%M %Z}."
        why = "is used up" if left * BILLION < 1 else f"has ${left:.6f} left, less than this request may cost"
        return OverBudget(f"The budget of {self.in_words} for the {meter.scope} `{meter.owner}` {why}. {again}")


def period(settings: BudgetSettings, now: float) -> tuple[float, float | None]:
    """When the present period began and when it ends, as Unix times."""
    if settings.per == "total":
        return 0.0, None
    hour, minute, zone = settings.at
    local = datetime.fromtimestamp(now, zone)
    day = local.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    if day.timestamp() > now:
        day -= timedelta(days=1)
    match settings.per:
        case "day":
            return day.timestamp(), (day + timedelta(days=1)).timestamp()
        case "week":
            day -= timedelta(days=day.weekday())
            return day.timestamp(), (day + timedelta(days=7)).timestamp()
        case "month":
            day = day.replace(day=1)
            return day.timestamp(), (day + timedelta(days=32)).replace(day=1).timestamp()


def has_budgets(settings: Settings) -> bool:
    """Whether any key or route has one, or may have: keys of a store may bring limits and budgets at any time."""
    auth = settings.auth
    of_keys = [auth.budget, *(key.budget for key in auth.keys)] if auth is not None else []
    may_come = auth is not None and not auth.off and settings.store is not None
    return may_come or any(of_keys) or any(route.budget for route in settings.routes)


class Budgets:
    """The budgets of one config."""

    def __init__(self, settings: Settings, prices: Prices) -> None:
        self._prices = prices
        auth = settings.auth
        self._of_keys = auth.budget if auth else None
        self._routes = {route.name: route.budget for route in settings.routes}
        self._rows = list(self._settings(map(Principal.of, auth.keys if auth else ())))
        self._periods: dict[tuple[str, str], Budget] = {}
        self._warned: set[str] = set()

    def of(self, principal: Principal, route: str) -> list[Budget]:
        """Those that a request comes under."""
        return [
            self._current(settings, scope, owner)
            for settings, scope, owner in (
                (self._of_key(principal), "key", principal.name),
                (self._routes[route], "route", route),
            )
            if settings is not None
        ]

    def all(self, principals: Iterable[Principal]) -> list[Budget]:
        """Those of these keys and of all routes."""
        return [self._current(*one) for one in self._settings(principals)]

    def _of_key(self, principal: Principal) -> BudgetSettings | None:
        return self._of_keys if principal.budget is msgspec.UNSET else principal.budget

    def _settings(self, principals: Iterable[Principal]) -> Iterator[tuple[BudgetSettings, str, str]]:
        keys = [(self._of_key(one), "key", one.name) for one in principals]
        routes = [(budget, "route", name) for name, budget in self._routes.items()]
        yield from [(budget, scope, name) for budget, scope, name in (*keys, *routes) if budget is not None]

    def _current(self, settings: BudgetSettings, scope: str, owner: str) -> Budget:
        found, now = self._periods.get((scope, owner)), time.time()
        if found is None or (found.ends is not None and now >= found.ends) or found.given is not settings:
            found = self._periods[scope, owner] = Budget.of(settings, scope, owner, now, self._prices)
        return found

    def priced(self, plan: Plan, budgets: Sequence[Budget]) -> Plan:
        """The plan without targets that must not be asked because nobody knows what they cost. Raises `OverBudget`."""
        if all(one.settings.unknown_price == "allow" for one in budgets):
            return plan
        known = tuple(target for target in plan.targets if self._prices.price(target.backend, target.model) is not None)
        if not known:
            raise OverBudget(
                f"No price is known for {plan.targets[0]}, and the budget here allows only what has one.",
                code="price_unknown",
            )
        return msgspec.structs.replace(plan, targets=known)

    def wants(self, plan: Plan, budgets: Sequence[Budget], tokens_in: int, tokens_out: int) -> list[Want]:
        """Room for the dearest target. A request that may cost more than the whole budget needs all of it."""
        costs = [self._prices.of(target, tokens_in, tokens_out) for target in plan.targets]
        worst = max([_billionths(cost) for cost in costs if cost is not None], default=0)
        return [Want(one.meter, 0, min(worst, one.meter.limit)) for one in budgets]

    def watch(self, budgets: Sequence[Budget], wants: Sequence[Want], rooms: Sequence[Room]) -> None:
        """Warn of each budget that is nearly used, once in a period."""
        for budget, room in _rooms(budgets, wants, rooms):
            meter = budget.meter
            if 1 - room.left / meter.limit >= budget.settings.warn_at and meter.name not in self._warned:
                if len(self._warned) >= MOST_WARNED:
                    self._warned.clear()
                self._warned.add(meter.name)
                left = round(room.left / BILLION, 6)
                log.warning(
                    "budget_nearly_used", scope=meter.scope, name=meter.owner, usd=budget.settings.usd, left=left
                )

    def spent(self, record: StreamRecord, tokens_in: int) -> int:
        """What a request that is over cost. An attempt that nobody counted is taken to have read the request."""
        total = 0
        for attempt in record.attempts:
            cost = attempt.cost_usd
            if cost is None and attempt.started_at and attempt.usage is None:
                cost = self._prices.of(Target(attempt.backend, attempt.model), tokens_in, 0)
            total += _billionths(cost)
        return total

    def unpriced(self, routes: Sequence[RouteSettings]) -> Iterator[str]:
        """Doubts about a config: budgets that do not count all that they are for."""
        for budget, scope, name in self._rows:
            ours = [route for route in routes if scope == "key" or route.name == name]
            targets = [target for route in ours for target in route.to if target.model and not target.stars]
            unknown = {one.target for one in targets if self._prices.price(one.backend, one.model) is None}
            if unknown and budget.unknown_price == "allow":
                yield (
                    f"the budget of the {scope} `{name}` does not count what {', '.join(sorted(unknown))} costs: no price is "
                    "known. Add one under `prices`, or say `unknown_price: deny`"
                )


class SpentElsewhere(Exception):
    """These budgets are used up, and each names who answers instead."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        super().__init__()
        self.budgets = budgets


def check_budgets(budgets: Sequence[Budget], wants: Sequence[Want], rooms: Sequence[Room], watcher: Watcher) -> None:
    """Raises `OverBudget`, or `SpentElsewhere`, if it is for a budget that a request was refused, and for nothing else."""
    short = [(budget, room) for budget, room in _rooms(budgets, wants, rooms) if room.wait_s]
    for budget, _ in short:
        watcher.denied(budget.meter)
    final = [one for one in short if one[0].settings.downgrade_to is None]
    if final:
        budget, room = max(final, key=lambda one: one[0].ends or float("inf"))
        raise budget.refusal(room)
    if short and len(short) == sum(1 for room in rooms if room.wait_s):
        raise SpentElsewhere([budget for budget, _ in short])


def _rooms(budgets: Sequence[Budget], wants: Sequence[Want], rooms: Sequence[Room]) -> list[tuple[Budget, Room]]:
    """The room in each budget. While a shared store is away, some are not asked."""
    found = {want.meter.name: room for want, room in zip(wants, rooms, strict=True)}
    return [(one, found[one.meter.name]) for one in budgets if one.meter.name in found]


def downgraded(plan: Plan, budgets: Sequence[Budget]) -> tuple[Plan, Notice]:
    """The plan with the target that a budget names instead, and what the client is told."""
    budget = budgets[0]
    backend, _, model = (budget.settings.downgrade_to or "").partition("/")
    first = plan.targets[0]
    target = Target(backend, model or first.model, connect_s=first.connect_s, first_token_s=first.first_token_s)
    whose = f"{budget.meter.scope} `{budget.meter.owner}`"
    notice = Notice("changed_setting", f"the budget of the {whose} is used up, so {target} answers", "model")
    return msgspec.structs.replace(plan, targets=(target,), hedge=None), notice


def _billionths(cost: Decimal | None) -> int:
    return 0 if cost is None else round(cost * BILLION)
