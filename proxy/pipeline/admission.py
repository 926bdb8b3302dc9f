"""Limits of clients: whether a request may begin, and what it used when it is over.

`Admission.admit` runs before anything is asked upstream. It takes room for the request in each meter that it comes
under: of the key, of the key's user, of the route. The lease it returns is settled once, when the request is over.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import msgspec

from proxy.config.limits import KeyLimits, UsageLimits
from proxy.config.models import Settings
from proxy.errors import RateLimited
from proxy.events import Notice
from proxy.pipeline.spending import Budget, Budgets, SpentElsewhere, check_budgets, downgraded, has_budgets
from proxy.policy.prices import Prices
from proxy.request import ChatRequest
from proxy.routing.params import most_output, shorter_output, with_shorter_output
from proxy.routing.plan import Plan
from proxy.routing.principal import ANONYMOUS, Principal
from proxy.store.base import Lease, Meter, Room, Want
from proxy.store.rules import Counting, Outputs, limit_in_words, meters, never_fits, shortened, used, wants, whose
from proxy.telemetry.record import StreamRecord

SOON_S = 1.0
"""What a client is told to wait for the end of another request, which may come at any time."""


_TOLD = frozenset({"requests", "tokens"})
"""The units of limits that answers tell what is left of."""


class _Limited(msgspec.Struct, frozen=True):
    """One `limits:` with its meters, and whose it is."""

    whose: str
    meters: tuple[Meter, ...]
    most_output: int | None

    @classmethod
    def of(cls, limits: UsageLimits | None, scope: str, owner: str, count: str = "") -> Self:
        return cls(
            whose(scope, owner),
            tuple(meters(limits, scope, owner, count)),
            limits.max_output_tokens if limits else None,
        )


class _Key(msgspec.Struct, frozen=True):
    principal: Principal
    own: _Limited
    per_user: UsageLimits | None


class Admitted(msgspec.Struct, frozen=True):
    """A request that may begin. `plan` is what it does, within its limits; `headers` tell the client what is left."""

    plan: Plan
    headers: Mapping[str, str]
    notices: list[Notice]
    _lease: Lease
    _outputs: Outputs
    _tokens_in: int
    _budgets: Budgets | None

    def settle(self, record: StreamRecord) -> None:
        """The request is over. Called once."""
        if record.usage is not None and record.end == "done":
            self._outputs.seen(record.route, record.usage.output_tokens)
        lease = self._lease
        if lease.store is not None:
            spent = self._budgets.spent(record, self._tokens_in) if self._budgets is not None else 0
            lease.store.settle(lease, used(lease.wants, self._tokens(record), spent))

    def _tokens(self, record: StreamRecord) -> int:
        """The tokens used: as counted, else those of the request if its client left while a target was asked."""
        counts = [one.usage.total_tokens for one in record.attempts if one.usage is not None]
        if counts:
            return sum(counts)
        return self._tokens_in if record.end == "client_gone" and record.tries else 0


def _room_for_another(wants: Sequence[Want], rooms: Sequence[Room]) -> bool:
    """Whether the tokens and the money that are left are enough to ask a second target too."""
    shared = [one for one in zip(wants, rooms, strict=True) if one[0].meter.unit in {"tokens", "usd"}]
    return all(room.left >= want.charge + want.hold for want, room in shared)


def limits_clients(settings: Settings) -> bool:
    """Whether a config has limits or budgets of clients."""
    auth = settings.auth
    rows = [route.limits for route in settings.routes]
    if auth is not None and not auth.off:
        rows += [auth.limits, *(key.limits for key in auth.keys)]
    return any(rows) or has_budgets(settings)


class Admission:
    """The limits of one config. `counting` outlives it."""

    def __init__(self, settings: Settings, counting: Counting, prices: Prices) -> None:
        self.budgets = Budgets(settings, prices) if has_budgets(settings) else None
        self._store, self._outputs, self._watcher = counting
        self._of_keys: KeyLimits | None = settings.auth.limits if settings.auth else None
        self._routes = {route.name: _Limited.of(route.limits, "route", route.name) for route in settings.routes}
        self._keys: dict[str, _Key] = {}

    async def admit(self, request: ChatRequest, principal: Principal, plan: Plan) -> Admitted:
        """Take room for the request. Raises `RateLimited`, `OverBudget`, or `LimitsUnknown` while the store is away."""
        if self.budgets is None:
            return await self._admitted(request, principal, plan, ())
        found, notices = self.budgets.of(principal, plan.route), list[Notice]()
        while True:  # each budget is used up once at most
            try:
                admitted = await self._admitted(request, principal, self.budgets.priced(plan, found), found)
            except SpentElsewhere as spent:
                plan, notice = downgraded(plan, spent.budgets)
                found = [one for one in found if one not in spent.budgets]
                notices.append(notice)
            else:
                admitted.notices.extend(notices)
                return admitted

    async def _admitted(
        self, request: ChatRequest, principal: Principal, plan: Plan, budgets: Sequence[Budget]
    ) -> Admitted:
        limited = self._limited(request.user, principal, plan)
        ours = [meter for one in limited for meter in one.meters]
        plan, notices = _shortened(request, plan, limited)
        tokens_in, tokens_out, money = 0, 0, list[Want]()
        if budgets or any(meter.unit == "tokens" for meter in ours):
            tokens_in = request.estimated_tokens()
            tokens_out = self._outputs.expected(plan.route, most := most_output(plan, request))
            money = self.budgets.wants(plan, budgets, tokens_in, most or tokens_out) if self.budgets is not None else []
        lease = Lease(plan.timers.total_s, (*wants(ours, tokens_in, tokens_out), *money))
        headers: dict[str, str] = {}
        if lease.wants:
            taken, rooms = await self._store.take(lease)
            self._watcher.rooms(lease.wants, rooms)
            headers = _headers(lease.wants, rooms)
            if self.budgets is not None:
                self.budgets.watch(budgets, lease.wants, rooms)
            if not taken:
                check_budgets(budgets, lease.wants, rooms, self._watcher)
                raise self._refusal(lease.wants, rooms, headers)
            if plan.hedge is not None and not _room_for_another(lease.wants, rooms):
                plan = msgspec.structs.replace(plan, hedge=None)
        return Admitted(plan, headers, notices, lease, self._outputs, tokens_in, self.budgets)

    def described(self, user: str | None, principal: Principal | None, plan: Plan) -> Iterator[tuple[str, str]]:
        """Each of the limits that a request comes under, and whose they are, in words."""
        for one in self._limited(user, principal or ANONYMOUS, plan):
            for meter in one.meters:
                yield one.whose, limit_in_words(meter)
            if one.most_output is not None:
                yield one.whose, f"answers of {one.most_output} tokens"
        for budget in self.budgets.of(principal or ANONYMOUS, plan.route) if self.budgets else ():
            yield whose(budget.meter.scope, budget.meter.owner), budget.in_words

    def _limited(self, user: str | None, principal: Principal, plan: Plan) -> list[_Limited]:
        key = self._keys.get(principal.name)
        if key is None or key.principal is not principal:
            key = self._keys[principal.name] = self._key(principal)
        found = [key.own, self._routes[plan.route]]
        if user and key.per_user is not None:
            count = f"{principal.name}:{shortened(user)}"
            found.append(_Limited.of(key.per_user, "user", principal.name, count))
        return found

    def _key(self, principal: Principal) -> _Key:
        limits = self._of_keys if principal.limits is msgspec.UNSET else principal.limits
        limits = limits.over(self._of_keys) if limits is not None else None
        return _Key(principal, _Limited.of(limits, "key", principal.name), limits.per_user if limits else None)

    def _refusal(self, wants: Sequence[Want], rooms: Sequence[Room], headers: dict[str, str]) -> RateLimited:
        """Says which limit is reached: the one that takes longest, if there are several."""
        short = [(want, room) for want, room in zip(wants, rooms, strict=True) if room.wait_s]
        want, room = max(short, key=lambda one: one[1].wait_s if one[1].wait_s > 0 else SOON_S)
        meter = want.meter
        self._watcher.denied(meter)
        if error := never_fits(wants):
            error.headers = headers
            return error
        wait_s = room.wait_s if room.wait_s > 0 else SOON_S
        return RateLimited(
            f"The limit of {limit_in_words(meter)} for {whose(meter.scope, meter.owner)} is reached. Try again in {_duration(wait_s)}.",
            retry_after=wait_s,
            headers=headers,
        )


def _shortened(request: ChatRequest, plan: Plan, limited: Sequence[_Limited]) -> tuple[Plan, list[Notice]]:
    """The plan with the longest answer that is allowed, and a notice if that changes something."""
    most = min([one.most_output for one in limited if one.most_output is not None], default=None)
    limit = shorter_output(plan, request, most)
    if not limit:
        return plan, []
    (name,) = limit
    notice = Notice("changed_setting", f"{name} is {most}: longer answers are not allowed here", name)
    return with_shorter_output(plan, request, most), [notice]


def _headers(wants: Sequence[Want], rooms: Sequence[Room]) -> dict[str, str]:
    """What is left, as OpenAI tells it: for requests and for tokens, of the limit that has the least left."""
    least: dict[str, tuple[float, Meter]] = {}
    for want, room in zip(wants, rooms, strict=True):
        meter = want.meter
        if meter.unit in _TOLD and (meter.unit not in least or room.left < least[meter.unit][0]):
            least[meter.unit] = room.left, meter
    headers: dict[str, str] = {}
    for unit, (left, meter) in least.items():
        headers[f"x-ratelimit-limit-{unit}"] = str(meter.limit)
        headers[f"x-ratelimit-remaining-{unit}"] = str(int(left + 1e-6))
        headers[f"x-ratelimit-reset-{unit}"] = _duration((meter.limit - left) * meter.period_s / meter.limit)
    return headers


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s"
