"""Routes out of LiteLLM's `model_list` and `router_settings`: one for each name that a client may ask for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from proxy.importing import deployments
from proxy.importing.deployments import BARE_NAMES, Deployment
from proxy.importing.source import ENVIRON, Path, Source, mapping
from proxy.routing.pick import PICKERS

_PICK_OF = {
    "cost-based-routing": "cheapest",
    "latency-based-routing": "least-latency",
    "least-busy": "least-busy",
    "simple-shuffle": "weighted",
}
_MODES = frozenset({"chat", "completion", "responses", "embedding"})
_FALLBACK_DEPTH = 5  # LiteLLM's `max_fallbacks`


class Route(msgspec.Struct):
    """One rule of the result."""

    name: str
    match: dict[str, Any]
    to: list[Any]
    pick: str = ""
    default: dict[str, Any] = {}
    timeouts: dict[str, float] = {}
    notes: list[str] = []


class Groups:
    """The deployments of a file by the name that they share, and the rows they are asked by."""

    def __init__(self, source: Source, *, drop_params: bool) -> None:
        self.source = source
        self.rows: dict[str, dict[str, Any]] = {}
        self.by_name: dict[str, list[tuple[str, Deployment]]] = {}  # with the row's name
        credentials = {
            str(entry.get("credential_name")): mapping(entry.get("credential_values"))
            for entry in map(mapping, source.data.get("credential_list") or ())
        }
        for number, entry in enumerate(source.data.get("model_list") or ()):
            path = ("model_list", number)
            given = mapping(mapping(entry).get("litellm_params"))
            name = mapping(entry).get("model_name")
            if not isinstance(name, str) or not isinstance(given.get("model"), str):
                raise source.error(
                    "an entry of model_list needs model_name and litellm_params.model", source.line(path)
                )
            params = {**credentials.get(str(given.get("litellm_credential_name")), {}), **given}
            name = source.text(name, name="model_name", variable="MODEL_NAME") if name.startswith(ENVIRON) else name
            made = deployments.read(source, (*path, "litellm_params"), params, drop_params=drop_params)
            made.notes += [
                source.leave((*path, part), "it says nothing about where requests go")
                for part in mapping(entry)
                if part not in {"model_name", "litellm_params", "model_info"}
            ]
            self._info((*path, "model_info"), mapping(mapping(entry).get("model_info")))
            self.by_name.setdefault(name, []).append((self._row(made), made))

    def _info(self, path: Path, info: Mapping[str, Any]) -> None:
        """Note what `model_info` says of who may ask, and of models that are asked at other addresses."""
        for part in ("team_id", "access_groups"):
            if info.get(part):
                why = "`models` of a key, or `match: {key: …}` of a route, say who may ask for it"
                self.source.leave((*path, part), why, routes=part == "team_id")
        if (mode := info.get("mode")) and mode not in _MODES:
            why = f"{mode}: chats, completions and embeddings are served, and nothing else"
            self.source.leave((*path, "mode"), why, routes=True)

    def find(self, name: str) -> bool:
        """Whether there are deployments of a name. One that a wildcard takes gets an entry of its own."""
        if name in self.by_name:
            return True
        bare = [
            f"{provider}/{name}" for provider, names in BARE_NAMES.items() if any(_taken(one, name) for one in names)
        ]
        for asked in [name, *bare]:
            for pattern in sorted(self.by_name, key=_specificity, reverse=True):
                taken = _taken(pattern, asked) if "*" in pattern else None
                if taken:
                    self.by_name[name] = [
                        (row, msgspec.structs.replace(made, model=_put(made.model, taken.groups())))
                        for row, made in self.by_name[pattern]
                    ]
                    return True
        return False

    def _row(self, made: Deployment) -> str:
        """The row's name; a row like one before is not written twice."""
        for name, row in self.rows.items():
            if row == made.row:
                return name
        wanted = re.sub(r"[^A-Za-z0-9_-]+", "-", made.provider or "litellm")
        name, number = wanted, 1
        while name in self.rows:
            number += 1
            name = f"{wanted}-{number}"
        self.rows[name] = made.row
        return name

    def targets(self, name: str) -> list[str]:
        """The targets of one name, as a fallback has them."""
        return list(dict.fromkeys(f"{row}/{made.model}" for row, made in self.by_name.get(name, ())))


class Router:
    """`router_settings`, and what of it stands in `litellm_settings`."""

    def __init__(self, source: Source, groups: Groups) -> None:
        self._source, self._groups = source, groups
        settings = mapping(source.data.get("router_settings"))
        general = mapping(source.data.get("litellm_settings"))
        self.aliases = {
            str(alias): str(mapping(to).get("model", to))
            for alias, to in mapping(settings.get("model_group_alias")).items()
        }
        both = [("router_settings", settings), ("litellm_settings", general)]
        self._fallbacks: dict[str, list[str]] = {}
        self._longer: dict[str, list[str]] = {}  # for requests that are too long
        for where, values in both:
            self._read(where, "fallbacks", values, self._fallbacks)
            self._read(where, "context_window_fallbacks", values, self._longer)
            if default := values.get("default_fallbacks"):
                self._fallbacks.setdefault("*", self._known((where, "default_fallbacks"), "*", default))
            if values.get("content_policy_fallbacks"):
                why = "an answer that a filter refused is told to the client; no other target is asked"
                source.leave((where, "content_policy_fallbacks"), why, routes=True)
        strategy = str(settings.get("routing_strategy") or "simple-shuffle")
        self.pick = _PICK_OF.get(strategy, "")
        if self.pick not in PICKERS:
            why = f"no `pick` is like {strategy}; targets are drawn by weight"
            source.leave(("router_settings", "routing_strategy"), why, routes=True)
            self.pick = "weighted"

    def _read(self, where: str, name: str, values: Mapping[str, Any], into: dict[str, list[str]]) -> None:
        given = values.get(name) or []
        for number, entry in enumerate(given if isinstance(given, list) else [given]):
            if not isinstance(entry, dict):
                why = f"{entry}: it does not say whose fallback it is"
                self._source.leave((where, name, number), why, routes=True)
            for group, names in mapping(entry).items():
                if found := self._known((where, name, number), str(group), names):
                    into.setdefault(str(group), found)

    def _known(self, path: Path, group: str, names: Any) -> list[str]:
        """The fallbacks of `group` that there are; those that are not to be had are noted."""
        found = [names] if isinstance(names, str) else list(names or ())
        if not all(isinstance(one, str) for one in found):
            self._source.leave(path, f"{group}: a fallback that changes the request is not to be had", routes=True)
            return []
        for one in [group, *found]:
            if one != "*" and not self._groups.find(self.aliases.get(one, one)):
                self._source.leave(path, f"{group}: no entry of model_list is named {one}", routes=True)
        return found

    def after(self, asked: str) -> list[str]:
        """The names whose deployments follow those of `asked`, as LiteLLM walks them."""
        walked = dict.fromkeys([self.aliases.get(asked, asked)])
        self._walk(asked, asked, walked, 0)
        return list(walked)[1:]

    def _walk(self, name: str, asked: str, walked: dict[str, None], depth: int) -> None:
        if depth >= _FALLBACK_DEPTH:
            return
        for one in [*self._usual(name, asked), *self._longer.get(name, [])]:
            real = self.aliases.get(one, one)
            if real not in walked and real in self._groups.by_name:
                walked[real] = None
                self._walk(one, asked, walked, depth + 1)

    def _usual(self, name: str, asked: str) -> list[str]:
        """The chain of a name, else that of the name asked for, else the one for all. An alias has its own chain."""
        return self._fallbacks.get(name) or self._fallbacks.get(asked) or self._fallbacks.get("*") or []

    def only_for_length(self, asked: str) -> list[str]:
        """Fallbacks that LiteLLM has only for requests that are too long."""
        usual = self._usual(asked, asked)
        return [one for one in self._longer.get(asked, []) if one not in usual]


def routes(source: Source, groups: Groups, router: Router) -> Iterator[Route]:
    """The rules, in the order in which LiteLLM looks: names, aliases, then wildcards, the longest first."""
    names = [(name, name) for name in groups.by_name if "*" not in name]
    aliases = [(alias, name) for alias, name in router.aliases.items() if alias not in groups.by_name]
    stars = sorted((name for name in groups.by_name if "*" in name), key=_specificity, reverse=True)
    for asked, name in [*names, *aliases, *((name, name) for name in stars)]:
        if name in groups.by_name:
            yield _route(source, groups, router, asked, name)
        else:
            why = f"no entry of model_list is named {name}"
            source.leave(("router_settings", "model_group_alias", asked), why, routes=True)
    yield from _bare(groups)


def _specificity(pattern: str) -> tuple[int, int]:
    """As LiteLLM sorts its patterns, which are expressions by then."""
    expression = re.escape(pattern).replace(r"\*", "(.*)")
    return len(expression), sum(expression.count(char) for char in "*+?\\^$|()")


def _taken(pattern: str, name: str) -> re.Match[str] | None:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), name)


def _put(pattern: str, values: Sequence[str]) -> str:
    """`pattern` with `values` in place of its stars."""
    left = iter(values)
    return re.sub(r"\*", lambda star: next(left, star[0]), pattern)


def _route(source: Source, groups: Groups, router: Router, asked: str, name: str) -> Route:
    members = groups.by_name[name]
    notes = [note for _, made in members for note in made.notes]
    targets = [f"{row}/{_filled(source, name, made, notes)}" for row, made in members]
    follow = [target for after in router.after(asked) for target in groups.targets(after) if target not in targets]
    follow = list(dict.fromkeys(target for target in follow if "*" not in target))
    pick, to = _picked(source, router, members, targets, follow)
    if longer := router.only_for_length(asked):
        notes.append(
            f"{', '.join(longer)}: in LiteLLM only for a request that is too long; here a target that fails is followed "
            "by the next one, whatever it failed for"
        )
    return Route(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", asked.replace("*", "any")).strip("-") or "any",
        match={"model": asked},
        to=to,
        pick=pick,
        default=_defaults(members, notes),
        timeouts=_timeouts(members, notes),
        notes=notes,
    )


def _filled(source: Source, name: str, made: Deployment, notes: list[str]) -> str:
    """The target's model, with `$1` for what a wildcard took."""
    stars, taken = made.model.count("*"), name.count("*")
    if not stars:
        return made.model
    if stars != taken or not made.provider or made.provider == "*":
        why = "the client's name alone would say which provider is asked; name the providers, such as openai/*"
        notes.append(source.leave((*made.path, "model"), why, routes=True))
        return made.model.replace("*", "any")
    return _put(made.model, [f"${number}" for number in range(1, stars + 1)])


def _picked(
    source: Source, router: Router, members: Sequence[tuple[str, Deployment]], targets: list[str], follow: list[str]
) -> tuple[str, list[Any]]:
    """`pick` and `to`: the members of a group as LiteLLM picks among them, then the fallbacks."""
    orders = [made.params.get("order") for _, made in members]
    if len(set(targets)) == 1:
        return "", [targets[0], *follow]
    if any(order is not None for order in orders):
        ranks = [float("inf") if order is None else order for order in orders]
        if len(set(ranks)) < len(ranks):
            why = "deployments of the same order are asked as they stand, not drawn"
            source.leave((*members[0][1].path, "order"), why, routes=True)
        ordered = [target for _, target in sorted(zip(ranks, targets, strict=True), key=lambda one: one[0])]
        return "", [*dict.fromkeys(ordered), *follow]
    if router.pick in {"cheapest", "least-latency"}:
        if follow:
            why = f"with `pick: {router.pick}` a fallback would be picked like the others; drawn by weight instead"
            source.leave(("router_settings", "routing_strategy"), why, routes=True)
        else:
            for _, made in members:
                for name in made.params.keys() & {"rpm", "tpm"}:
                    made.notes.append(source.leave((*made.path, name), "a backend's `limits` say how much it is asked"))
            return router.pick, list(dict.fromkeys(targets))
    weights: dict[str, float] = {}
    for target, weight in zip(targets, _weights(members), strict=True):
        weights[target] = weights.get(target, 0.0) + weight
    to: list[Any] = [
        {"target": target, "weight": int(weight) if weight.is_integer() else weight}
        for target, weight in weights.items()
    ]
    pick = router.pick if router.pick == "least-busy" else "weighted"
    return pick, [*to, *({"target": target, "weight": 0} for target in follow)]


def _weights(members: Sequence[tuple[str, Deployment]]) -> list[float]:
    """The first of weight, rpm and tpm that any deployment has; those without it get nothing, as in LiteLLM."""
    for name in ("weight", "rpm", "tpm"):
        found = [made.params.get(name) for _, made in members]
        weights = [float(one or 0) for one in found]
        if any(weights):
            return weights
    return [1.0] * len(members)


def _defaults(members: Sequence[tuple[str, Deployment]], notes: list[str]) -> dict[str, Any]:
    """Settings that all deployments have alike; a route cannot set one for some of its targets."""
    shared = {
        name: value
        for name, value in members[0][1].defaults.items()
        if all(made.defaults.get(name) == value for _, made in members)
    }
    others = sorted({name for _, made in members for name in made.defaults} - shared.keys())
    if others:
        notes.append(f"{', '.join(others)}: not carried over, as deployments differ in it and a route sets one for all")
    return shared


def _timeouts(members: Sequence[tuple[str, Deployment]], notes: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in ("timeout", "stream_timeout"):
        values = [made.params.get(name) for _, made in members]
        numbers = [float(one) for one in values if one and one > 0]
        if not numbers:
            continue
        if len(set(numbers)) > 1 or len(numbers) < len(values):
            notes.append(f"{name}: deployments differ in it and a route has one; this is the longest")
        found |= timeouts(**{name: max(numbers)})
    return found


def timeouts(*, timeout: float | None = None, stream_timeout: float | None = None) -> dict[str, float]:
    """LiteLLM's timeouts, in seconds, as timers of ours."""
    found: dict[str, float] = {}
    if timeout:
        found = {"first_token_s": timeout, "whole_s": timeout}
    return found | ({"first_token_s": stream_timeout} if stream_timeout else {})


def _bare(groups: Groups) -> Iterator[Route]:
    """A name without its provider reaches a wildcard too where LiteLLM knows whose it is."""
    for provider, names in BARE_NAMES.items():
        members = groups.by_name.get(f"{provider}/*", ())
        if len(members) == 1 and members[0][1].model == "*" and "*" not in groups.by_name:
            note = f"names without a provider, which LiteLLM knows to be {provider}'s"
            yield Route(f"{provider}-bare", {"model": names}, [members[0][0]], notes=[note])
