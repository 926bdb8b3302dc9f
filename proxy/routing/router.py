"""Which targets answer a request, and why: compiled rules, no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b

from msgspec import structs

from proxy.config.models import RouteSettings, ServerSettings
from proxy.errors import BadRequest, Forbidden, NoRoute, ProxyError
from proxy.request import ChatRequest
from proxy.routing.conditions import Condition, Facts, Matcher, Principal, any_of, conditions, is_glob, shown
from proxy.routing.explanation import Choice, Explanation, Skipped
from proxy.routing.params import parameters
from proxy.routing.plan import Plan, Target, Timers


class _Rule:
    """A route, compiled: its conditions, the targets that are on, and all of a plan that does not change."""

    __slots__ = (
        "_draw_value",
        "_names_model",
        "_own_models",
        "conditions",
        "fixed",
        "name",
        "off",
        "settings",
        "targets",
        "template",
        "weights",
    )

    def __init__(
        self, settings: RouteSettings, live: Mapping[str, str], off: Mapping[str, str], defaults: ServerSettings
    ) -> None:
        timers = Timers(**settings.timeouts.over(defaults.timeouts).model_dump())
        on = [target for target in settings.to if target.backend in live]
        self.settings = settings
        self.name = settings.name
        self._own_models = live
        tick_s = (settings.delivery or defaults.delivery).tick_s
        self.targets = tuple(Target(target.backend, target.model, timers.connect_s, tick_s) for target in on)
        self.weights = tuple(target.weight for target in on) if settings.pick == "weighted" else ()
        self.fixed = all(target.model for target in self.targets)
        self.off = {
            target.target: off.get(target.backend, "it is off") for target in settings.to if target.backend not in live
        }
        self.conditions = (*self._live_condition(), *conditions(settings.match), self._key_condition())
        self._names_model = _naming(settings.match.model or ())
        self._draw_value = _draw_value(settings.sticky)
        self.template = Plan(
            route=settings.name,
            targets=(),
            timers=timers,
            set=settings.set,
            default=settings.default,
            heartbeat_s=defaults.heartbeat_s if settings.heartbeat_s is None else settings.heartbeat_s,
            tick_s=tick_s,
            on_cut=settings.on_cut,
            errors=settings.errors,
            dialect=settings.dialect,
            reasoning_field=settings.reasoning_field,
        )

    def failing(self, facts: Facts) -> Condition | None:
        """The first condition that does not hold; None when the rule takes the request."""
        for condition in self.conditions:
            if not condition.holds(facts):
                return condition
        return None

    def candidates(self, facts: Facts) -> Iterator[tuple[Target, float, str]]:
        """Each target that is on, resolved, with its weight and why it may not be used (empty: it may)."""
        asked, principal = facts.request.model, facts.principal
        permitted = any_of(principal.models) if principal is not None and principal.models else None
        tied = permitted is not None and asked is not None and permitted(asked) and self._names_model(asked)
        for index, target in enumerate(self.targets):
            weight = self.weights[index] if self.weights else 0.0
            model = asked or self._own_models[target.backend]
            if not target.model and not model:
                yield target, weight, _NO_MODEL
                continue
            resolved = target if target.model else structs.replace(target, model=model, asked=bool(asked))
            allowed = permitted is None or tied or permitted(resolved.model) or permitted(str(resolved))
            yield resolved, weight, "" if allowed else _NOT_ALLOWED

    def chosen(self, facts: Facts) -> tuple[Target, ...]:
        """The targets in the order they are tried. Raises `BadRequest` or `Forbidden` when none is left."""
        if self.fixed and not self.weights and not (facts.principal and facts.principal.models):
            return self.targets
        candidates = list(self.candidates(facts))
        usable = [(target, weight) for target, weight, problem in candidates if not problem]
        if not usable:
            raise self._nothing_left(facts, [problem for _, _, problem in candidates])
        first = self._drawn([weight for _, weight in usable], facts) if self.weights else 0
        ordered = [usable[first], *usable[:first], *usable[first + 1 :]]
        return tuple(target for target, _ in ordered)

    def _drawn(self, weights: Sequence[float], facts: Facts) -> int:
        """Which one the request draws: a pure hash, so it is the same on every replica and in `explain`."""
        value = self._draw_value(facts) or facts.request.id
        digest = blake2b(f"{self.name}\0{value}".encode("utf-8", "replace"), digest_size=8).digest()
        point = int.from_bytes(digest) / 2**64 * sum(weights)
        for index, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return index
        return 0  # all weights left are 0

    def _nothing_left(self, facts: Facts, problems: Sequence[str]) -> ProxyError:
        if _NOT_ALLOWED in problems:
            asked = f" `{shown(facts.request.model)}`" if facts.request.model else ""
            return Forbidden(f"This key may not use the model{asked} here. `GET /v1/models` lists those it may.")
        return BadRequest(
            f"This route (`{self.name}`) needs a model: name one in `model`.", param="model", code="model_required"
        )

    def _live_condition(self) -> tuple[Condition, ...]:
        """None of the targets on: the rule matches nothing, and says so."""
        if self.targets:
            return ()
        why = ", ".join(dict.fromkeys(f"backend {name.partition('/')[0]}: {why}" for name, why in self.off.items()))
        return (Condition("off", "a backend that is on", lambda _: False, lambda _: why, public=False),)

    def _key_condition(self) -> Condition:
        """The key that asks must be one that may use this rule."""

        def holds(facts: Facts) -> bool:
            return facts.principal is None or not facts.principal.routes or self.name in facts.principal.routes

        def got(facts: Facts) -> str:
            return f"key {facts.principal.name}" if facts.principal else "no key"

        return Condition(_KEY, f"a key with `{self.name}` in its routes", holds, got, public=False)


class Router:
    """The routes of one config.

    `live` are the backends that are on, each with the model it answers with when neither target nor request
    names one ("" when it needs to be told); `off` says why the others are not.
    """

    def __init__(
        self,
        routes: Sequence[RouteSettings],
        live: Mapping[str, str],
        off: Mapping[str, str],
        defaults: ServerSettings,
    ) -> None:
        self._rules = tuple(_Rule(route, live, off, defaults) for route in routes)
        self.named = frozenset(name for route in routes for name in _named(route))
        """Models that the rules name, in `match` or as targets, whatever is on and whoever may use them."""

    def plan(self, request: ChatRequest, principal: Principal | None = None) -> Plan:
        """What this request does. Raises `NoRoute`, `Forbidden` or `BadRequest`, each saying what would help."""
        facts = Facts(request, principal)
        return self._planned(self._rule(facts), facts)

    def explain(self, request: ChatRequest, principal: Principal | None = None) -> Explanation:
        """The same decision as `plan`, by the same code, with its reasons."""
        facts = Facts(request, principal)
        skipped: list[Skipped] = []
        rule: _Rule | None = None
        plan: Plan | None = None
        error: ProxyError | None = None
        try:
            rule = self._rule(facts, skipped)
            plan = self._planned(rule, facts)
        except ProxyError as reason:
            error = reason
        return Explanation(
            contract=request.contract,
            path=request.path,
            model=request.model,
            key=principal.name if principal else None,
            skipped=tuple(skipped),
            route=rule.name if rule else None,
            choices=_choices(rule, facts) if rule else (),
            plan=plan,
            parameters=tuple(parameters(plan, request)) if plan else (),
            error=error,
        )

    def models(self, principal: Principal | None = None) -> list[str]:
        """The models that `principal` may name, in the order of the rules."""
        found: dict[str, None] = {}
        for rule in self._rules:
            if not rule.targets or (principal and principal.routes and rule.name not in principal.routes):
                continue
            found |= dict.fromkeys(_models(rule, principal))
        return list(found)

    def _rule(self, facts: Facts, skipped: list[Skipped] | None = None) -> _Rule:
        for rule in self._rules:
            condition = rule.failing(facts)
            if condition is None:
                return rule
            if skipped is not None:
                skipped.append(Skipped(rule.name, condition.name, condition.wanted, condition.got(facts)))
        raise self._no_route(facts)

    @staticmethod
    def _planned(rule: _Rule, facts: Facts) -> Plan:
        plan = rule.template
        return Plan(
            route=plan.route,
            targets=rule.chosen(facts),
            timers=plan.timers,
            set=plan.set,
            default=plan.default,
            heartbeat_s=plan.heartbeat_s,
            tick_s=plan.tick_s,
            on_cut=plan.on_cut,
            errors=plan.errors,
            dialect=plan.dialect,
            reasoning_field=plan.reasoning_field,
        )

    def _no_route(self, facts: Facts) -> ProxyError:
        """Names the rule that came closest, and what it misses, as far as that is a client's business."""
        request = facts.request
        what = (
            f"model `{shown(request.model)}`" if request.model else f"{request.path or 'this request'} without a model"
        )
        closest: tuple[int, _Rule, Condition] | None = None
        for rule in self._rules:
            failed = [condition for condition in rule.conditions if not condition.holds(facts)]
            if [condition.name for condition in failed] == [_KEY]:
                return Forbidden("This key may not use the route for this request.")
            if failed[-1].name != _KEY and (closest is None or len(failed) < closest[0]):
                closest = len(failed), rule, failed[0]
        if closest is None:
            return NoRoute(f"No route takes {what}.")
        _, rule, condition = closest
        return NoRoute(f"No route takes {what}. The closest is `{rule.name}`, {_misses(condition, facts)}.")


_NO_MODEL = "the request names no model"
_NOT_ALLOWED = "the key's `models` do not allow it"
_KEY = "key routes"


def _misses(condition: Condition, facts: Facts) -> str:
    if condition.name == "off":
        return "which is off as its backends are"
    if not condition.public:
        return f"whose condition on {condition.name} does not hold"
    return f"which wants {condition.name} {condition.wanted} and got {condition.got(facts)}"


def _choices(rule: _Rule, facts: Facts) -> tuple[Choice, ...]:
    """All targets of the rule as the file lists them, also those not used."""
    candidates = list(rule.candidates(facts))
    total = sum(weight for _, weight, problem in candidates if not problem)
    usable = [target for target, _, problem in candidates if not problem]
    found = []
    for target, weight, problem in candidates:
        if problem:
            share = 0.0
        elif rule.weights and total:
            share = weight / total
        else:
            share = 1.0 if target is usable[0] else 0.0
        found.append(Choice(str(target), share, problem))
    return (*found, *(Choice(name, 0.0, f"off: {why}") for name, why in rule.off.items()))


def _models(rule: _Rule, principal: Principal | None) -> Iterator[str]:
    """What a client can ask this rule for: the names it matches, else those of its targets."""
    names = [pattern for pattern in rule.settings.match.model or () if not is_glob(pattern)]
    for name in names:
        request = ChatRequest(id="", contract="", dialect="", messages=(), model=name)
        if any(not problem for _, _, problem in rule.candidates(Facts(request, principal))):
            yield name
    if names:
        return
    nobody_asked = ChatRequest(id="", contract="", dialect="", messages=())
    for target, _, problem in rule.candidates(Facts(nobody_asked, principal)):
        if not problem:
            yield target.model
            yield str(target)


def _named(route: RouteSettings) -> Iterator[str]:
    yield from (pattern for pattern in route.match.model or () if not is_glob(pattern))
    for target in route.to:
        yield from (target.model, target.target) if target.model else ()


def _naming(patterns: Sequence[str]) -> Matcher:
    """Whether the rule's author named this model. A bare `*` takes every model and names none."""
    return any_of(tuple(pattern for pattern in patterns if pattern.strip("*?")))


def _draw_value(sticky: str | None) -> Callable[[Facts], str | None]:
    """What decides a weighted draw; without a value it is the request's id."""
    match sticky:
        case None:
            return lambda _: None
        case "key":
            return lambda facts: facts.principal.name if facts.principal else None
        case "user":
            return lambda facts: facts.request.user
        case "conversation":
            return lambda facts: _conversation(facts.request)
        case _:
            header = sticky.removeprefix("header:").lower()
            return lambda facts: facts.request.headers.get(header)


def _conversation(request: ChatRequest) -> str | None:
    """What stays the same from turn to turn: an id the client gives, else how the conversation began."""
    for name in ("conversation_id", "thread_id", "session_id", "chat_id"):
        if isinstance(found := request.metadata.get(name), str) and found:
            return found
    return next((message.text[:4096] for message in request.messages if message.role == "user"), None)
