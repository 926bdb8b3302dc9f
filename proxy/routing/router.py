"""Which targets answer a request, and why: compiled rules, no I/O, no clock."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from proxy.config.answers import HedgeSettings
from proxy.config.models import ResumeSettings, RouteSettings, ServerSettings
from proxy.config.rules import STARS, TargetSettings
from proxy.errors import BadRequest, Forbidden, NoRoute, ProxyError
from proxy.request import ChatRequest
from proxy.routing.conditions import Condition, Facts, Kept, Matcher, any_of, captured, conditions, is_glob, shown
from proxy.routing.explanation import Choice, Explanation, Skipped
from proxy.routing.params import parameters
from proxy.routing.pick import PICKERS, NothingKnown, Price, States, Weighted, sticky_to
from proxy.routing.plan import Hedge, Limit, Plan, Resume, Target, Timers
from proxy.routing.principal import Principal

ModelLists = Callable[[str], Sequence[str]]
"""The models that a backend's upstream lists, by the backend's name. Never waits: what is not known yet is empty."""


def no_lists(_backend: str) -> Sequence[str]:
    """For configs whose upstreams are not asked."""
    return ()


def no_prices(_target: Target, _input_tokens: int, _output_tokens: int) -> None:
    """For configs in which nothing has a price."""


class _Candidate(NamedTuple):
    """A target that is on, with the model it would be asked for. `problem` says why it may not be used, if so."""

    target: Target
    weight: float
    problem: str


class _Rule:
    """A route, compiled: its conditions, the targets that are on, and all of a plan that does not change."""

    __slots__ = (
        "_constant", "_names_model", "_own_models", "_picker", "_starred", "_states", "_targets", "_weights",
        "conditions", "name", "off", "settings", "takes", "template",
    )  # fmt: skip

    def __init__(
        self,
        settings: RouteSettings,
        live: Mapping[str, str],
        off: Mapping[str, str],
        defaults: ServerSettings,
        *,
        states: States,
        price: Price,
    ) -> None:
        timers = Timers(**settings.timeouts.over(defaults.timeouts).model_dump())
        on = [target for target in settings.to if target.backend in live]
        tick_s = (settings.delivery or defaults.delivery).tick_s
        self.settings = settings
        self.name = settings.name
        self.off = {
            target.target: off.get(target.backend, "it is off") for target in settings.to if target.backend not in live
        }
        self._own_models = live
        self._targets = tuple(
            Target(t.backend, t.model, timers.connect_s, timers.first_token_s, tick_s, timers.total_s, limit=_limit(t))
            for t in on
        )
        self._weights = tuple(target.weight for target in on)
        self._states = states
        self._picker = PICKERS[settings.pick](settings, price)
        self._constant = self._picker.constant and all(target.model and not target.stars for target in on)
        self._starred = frozenset(target.model for target in on if target.stars)
        self._names_model = _naming(settings.match.model or ())
        self.takes: Matcher = _any_model if settings.match.model is None else any_of(tuple(settings.match.model))
        self.conditions = (*self._live_condition(), *conditions(settings.match), self._key_condition())
        self.template = Plan(
            route=settings.name,
            targets=self._targets,
            timers=timers,
            set=settings.set,
            default=settings.default,
            heartbeat_s=defaults.heartbeat_s if settings.heartbeat_s is None else settings.heartbeat_s,
            tick_s=tick_s,
            smooth_s=settings.smooth.max_lag_ms / 1000 if settings.smooth else 0.0,
            repetition_guard=settings.repetition_guard,
            min_tokens_per_s=settings.min_tokens_per_s or 0.0,
            on_cut=settings.on_cut,
            continue_with=settings.continue_with,
            keeps_request=settings.on_cut == "continue",
            hedge=_hedge(settings.hedge),
            resume=_resume(settings.resume, defaults.resume),
            options=settings.options,
        )

    def failing(self, facts: Facts) -> Condition | None:
        """The first condition that does not hold; `None` when the rule takes the request."""
        for condition in self.conditions:
            if not condition.holds(facts):
                return condition
        return None

    def takes_but_for_model(self, facts: Facts) -> bool:
        """Whether all conditions hold but the one on the model; `takes` says that of a model."""
        return all(one.holds(facts) for one in self.conditions if one.name != "model")

    def plan(self, facts: Facts) -> Plan:
        """What a request does that the rule takes. Raises `BadRequest` or `Forbidden` when no target is left."""
        if self._constant and not (facts.principal and facts.principal.models):
            return self.template
        candidates = list(self.candidates(facts))
        usable = [Weighted(target, weight) for target, weight, problem in candidates if not problem]
        if not usable:
            raise self._nothing_left(facts, [candidate.problem for candidate in candidates])
        return structs.replace(self.template, targets=self._picker.order(usable, facts, self._states))

    def candidates(self, facts: Facts) -> Iterator[_Candidate]:
        """Each target that is on, in the order of the config."""
        asked, principal = facts.request.model, facts.principal
        permitted = any_of(principal.models) if principal is not None and principal.models else None
        tied = permitted is not None and asked is not None and permitted(asked) and self._names_model(asked)
        for target, weight in zip(self._targets, self._weights, strict=True):
            model = asked or self._own_models[target.backend]
            if target.model in self._starred:
                resolved = self._filled(target, asked or "")
            else:
                resolved = target if target.model else structs.replace(target, model=model, asked=bool(asked))
            if not resolved.model:
                yield _Candidate(target, weight, _NO_MODEL)
                continue
            allowed = permitted is None or tied or permitted(resolved.model) or permitted(str(resolved))
            yield _Candidate(resolved, weight, "" if allowed else _NOT_ALLOWED)

    def _filled(self, target: Target, asked: str) -> Target:
        """A target with the stars of the first pattern that fits in place of `$1` and so on."""
        patterns = self.settings.match.model or ()
        taken = next((found for one in patterns if (found := captured(one, asked)) is not None), [])
        model = STARS.sub(lambda place: taken[int(place[1]) - 1], target.model) if taken else ""
        return structs.replace(target, model=model, asked=True, pattern=target.model)

    def _named_by_stars(self, target: Target, models: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The reverse, for patterns with one star: the names by which a client gets these models."""
        form = STARS.sub("*", target.model)
        for pattern in self.settings.match.model or ():
            if form.count("*") == pattern.count("*") == 1:
                taken = ((model, captured(form, model)) for model in models)
                yield from (
                    (pattern.replace("*", found[0]), f"{target.backend}/{model}") for model, found in taken if found
                )

    def names(self, listed: ModelLists) -> Iterator[tuple[str, str]]:
        """Names that a client might ask this rule for, each with the one target that it stands for, or with nothing."""
        for pattern in self.settings.match.model or ():
            if not is_glob(pattern):
                yield pattern, ""
        for target in self._targets:
            if target.model in self._starred:
                yield from self._named_by_stars(target, listed(target.backend))
                continue
            if target.model:
                yield target.model, str(target)
                yield str(target), str(target)
                continue
            own = self._own_models[target.backend]
            for model in (*((own,) if own else ()), *listed(target.backend)):
                yield model, f"{target.backend}/{model}"

    def choices(self, facts: Facts, *, notes: bool = False) -> tuple[Choice, ...]:
        """All targets of the rule in the order of the config, also those that are not used."""
        candidates = list(self.candidates(facts))
        usable = [Weighted(target, weight) for target, weight, problem in candidates if not problem]
        shares = iter(self._picker.shares(usable))
        scores = iter([self._picker.note(one, facts, self._states) if notes else "" for one in usable])
        return (
            *(
                Choice(str(target), 0.0, problem) if problem else Choice(str(target), next(shares), "", next(scores))
                for target, _, problem in candidates
            ),
            *(Choice(name, 0.0, f"off: {why}") for name, why in self.off.items()),
        )

    def sticks_to(self, facts: Facts) -> str:
        """What of the request decides where it goes, with `sticky`; empty without."""
        name, value = sticky_to(self.settings.sticky, facts)
        return name if value else ""

    def _nothing_left(self, facts: Facts, problems: Sequence[str]) -> ProxyError:
        if _NOT_ALLOWED in problems:
            asked = f" `{shown(facts.request.model)}`" if facts.request.model else ""
            return Forbidden(f"This key may not use the model{asked} here. `GET /v1/models` lists those it may.")
        return BadRequest(
            f"This route (`{self.name}`) needs a model: name one in `model`.", param="model", code="model_required"
        )

    def _live_condition(self) -> tuple[Condition, ...]:
        """A rule whose targets are all off matches nothing, and says so."""
        if self._targets:
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
    names one ("" if it has none); `off` says why the others are not. Pickers read `states` and `price`.
    """

    def __init__(
        self,
        routes: Sequence[RouteSettings],
        live: Mapping[str, str],
        off: Mapping[str, str],
        defaults: ServerSettings,
        *,
        states: States | None = None,
        price: Price = no_prices,
    ) -> None:
        states = NothingKnown() if states is None else states
        self._rules = tuple(_Rule(route, live, off, defaults, states=states, price=price) for route in routes)
        self.named = frozenset(name for route in routes for name in _named(route))
        """Models that the rules name, in `match` or as targets, also those that are off or that a key may not use."""
        self._looking_up = tuple(
            condition
            for rule in self._rules
            for condition in rule.conditions
            if condition.name.startswith(("header ", "metadata "))
        )

    def plan(self, request: ChatRequest, principal: Principal | None = None) -> Plan:
        """What this request does. Raises `NoRoute`, `Forbidden` or `BadRequest`, each saying what would help."""
        return self.plan_by(Facts(request, principal))

    def plan_by(self, facts: Facts) -> Plan:
        """As `plan`, for callers that keep the facts."""
        return self._rule(facts).plan(facts)

    def keep(self, facts: Facts) -> Kept:
        """What is kept of a request, with all headers and metadata that the rules name; secrets stay out."""
        for condition in self._looking_up:
            condition.holds(facts)
        return facts.keep()

    def explain(self, request: ChatRequest, principal: Principal | None = None) -> Explanation:
        """The same decision as `plan`, by the same code, with its reasons."""
        return self.explain_by(Facts(request, principal))

    def explain_by(self, facts: Facts) -> Explanation:
        """As `explain`. Raises `NotKept` for kept facts that do not hold what a rule asks for."""
        request, principal = facts.request, facts.principal
        skipped: list[Skipped] = []
        rule: _Rule | None = None
        plan: Plan | None = None
        error: ProxyError | None = None
        try:
            rule = self._rule(facts, skipped)
            plan = rule.plan(facts)
        except ProxyError as reason:
            error = reason
        return Explanation(
            contract=request.contract,
            path=request.path,
            model=request.model,
            key=principal.name if principal else None,
            skipped=tuple(skipped),
            route=rule.name if rule else None,
            pick=rule.settings.pick if rule else "",
            sticks_to=rule.sticks_to(facts) if rule else "",
            choices=rule.choices(facts, notes=True) if rule else (),
            plan=plan,
            parameters=tuple(parameters(plan, request)) if plan else (),
            error=error,
        )

    def models(
        self, asker: ChatRequest, principal: Principal | None = None, *, listed: ModelLists = no_lists
    ) -> list[str]:
        """The models that this client gets by asking for them, in the order of the rules (N1).

        `asker` is a request of the client's without a model: its contract, path and headers decide too. A name is
        listed if a rule takes it by name, or if it leads to the target that it stands for and to no other.
        `listed` returns the models that a backend's own upstream lists.
        """
        asking = Facts(asker, principal)
        rules = [rule for rule in self._rules if rule.takes_but_for_model(asking)]
        found: dict[str, None] = {}
        for rule in rules:
            for name, target in rule.names(listed):  # thousands, so little is done for each
                if name in found or not rule.takes(name) or next(one for one in rules if one.takes(name)) is not rule:
                    continue
                choices = rule.choices(Facts(structs.replace(asker, model=name), principal))
                shares = {choice.target: choice.share for choice in choices}
                if shares.get(target) == 1 if target else any(shares.values()):
                    found[name] = None
        return list(found)

    def _rule(self, facts: Facts, skipped: list[Skipped] | None = None) -> _Rule:
        for rule in self._rules:
            condition = rule.failing(facts)
            if condition is None:
                return rule
            if skipped is not None:
                skipped.append(Skipped(rule.name, condition.name, condition.wanted, condition.got(facts)))
        raise self._no_route(facts)

    def _no_route(self, facts: Facts) -> ProxyError:
        """Names the rule that came closest, and what it misses, as far as a client may know that."""
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


def _limit(settings: TargetSettings) -> Limit | None:
    slots, queue = settings.concurrency, settings.queue
    if slots is None:
        return None
    return Limit(settings.target, slots.min, slots.max, queue.size if queue else 0, queue.wait_s if queue else 0.0)


def _hedge(settings: HedgeSettings | None) -> Hedge | None:
    if settings is None:
        return None
    after_s = None if settings.after_ms is None else settings.after_ms / 1000
    return Hedge(after_s, settings.after_percentile or 0.0, drain=settings.on_lose == "drain")


_NO_MODEL = "the request names no model"
_NOT_ALLOWED = "the key's `models` do not allow it"
_KEY = "key routes"


def _any_model(_name: str) -> bool:
    return True


def _misses(condition: Condition, facts: Facts) -> str:
    if condition.name == "off":
        return "which is off as its backends are"
    if not condition.public:
        return f"whose condition on {condition.name} does not hold"
    return f"which wants {condition.name} {condition.wanted} and got {condition.got(facts)}"


def _named(route: RouteSettings) -> Iterator[str]:
    yield from (pattern for pattern in route.match.model or () if not is_glob(pattern))
    for target in route.to:
        yield from (target.model, target.target) if target.model and not target.stars else ()


def _naming(patterns: Sequence[str]) -> Matcher:
    """Whether the rule's author named this model. A bare `*` takes every model and names none."""
    return any_of(tuple(pattern for pattern in patterns if pattern.strip("*?")))


def _resume(said: bool | None, settings: ResumeSettings | None) -> Resume | None:
    """Whether a route's streams can be resumed, as the route says, else as the server's settings do."""
    if said is False or (said is None and settings is None):
        return None
    return Resume(**(settings or ResumeSettings()).model_dump())
