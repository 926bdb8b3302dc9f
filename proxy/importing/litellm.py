"""A config of LiteLLM's proxy, written as a config of this one (https://docs.litellm.ai/docs/proxy/config_settings)."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy.importing import writer
from proxy.importing.deployments import ONE_TRY
from proxy.importing.groups import Groups, Route, Router, routes, timeouts
from proxy.importing.source import Left, Source, mapping

_SETTINGS = "router_settings", "litellm_settings", "general_settings"
_FALLBACKS = {"fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"}
_READ = {
    "router_settings": _FALLBACKS
    | {"model_group_alias", "routing_strategy", "timeout", "stream_timeout", "allowed_fails", "cooldown_time"},
    "litellm_settings": _FALLBACKS | {"request_timeout", "allowed_fails", "cooldown_time", "drop_params", "json_logs"},
    "general_settings": {"master_key"},
}
_TOP = frozenset({*_SETTINGS, "model_list", "credential_list"})
_CHANGES_ROUTES = {
    "completion_model": "each route says which model is asked",
    "disable_cooldowns": "`server.breaker.failures: 0` says the same",
    "enable_pre_call_checks": "a target that a request is too long for refuses it, and the next one is asked",
    "enable_tag_filtering": "no route looks at a request's tags; `match: {header: …}` or `match: {key: …}` do",
    "include": "the files that it names are not read; put all parts into one file",
    "optional_pre_call_checks": "`sticky` keeps a conversation at one target",
    "pass_through_endpoints": "only the paths of the contracts are served",
    "provider_budget_config": "`limits` bound what a key or a target may use",
    "routing_groups": "a route has one `pick`",
}
_WHY = {
    "alerting": "metrics are at /metrics, for Prometheus",
    "allowed_fails_policy": "`server.breaker` counts failures of every kind",
    "custom_auth": "keys are listed in the file",
    "database_url": "keys are listed in the file; `chat-proxy key new` makes one, with a digest to list",
    "max_fallbacks": "all targets of a route are asked, as long as its timers allow",
    "set_verbose": "`server.log.level` says how much is logged",
    "store_model_in_db": "models that stand in the database are not in this file: add them",
    **dict.fromkeys(("allow_requests_on_db_unavailable", "salt_key"), "there is no database"),
    **dict.fromkeys(("cache", "cache_params"), "answers are not cached"),
    **dict.fromkeys(
        ("callbacks", "failure_callback", "success_callback"), "one log line and the metrics tell of each request"
    ),
    **dict.fromkeys(("num_retries", "model_group_retry_policy", "retry_policy"), ONE_TRY),
    **dict.fromkeys(
        ("redis_host", "redis_password", "redis_port", "redis_url"), "each process keeps its own state of targets"
    ),
}
_NOTHING_LIKE_IT = "this proxy has nothing like it"


class Converted(msgspec.Struct, frozen=True):
    """The result: its YAML, what is left out, the variables it needs (and what each holds), and those for literal secrets."""

    text: str
    left: tuple[Left, ...]
    variables: Mapping[str, str]
    literals: tuple[str, ...]

    @property
    def changes_routes(self) -> list[Left]:
        """What is left out and changes who answers which request."""
        return [left for left in self.left if left.routes]


def convert(text: str, file: str) -> Converted:
    """Convert the text of `file`. Raises `ConfigErrors` for one that cannot be read, or has no models."""
    # Once more where the name of a secret in the file would also be that of a variable.
    source, found = _converted(Source(text, file))
    if source.referred_to & set(source.was_literal):
        source, found = _converted(Source(text, file, source.referred_to))
    return found


def _converted(source: Source) -> tuple[Source, Converted]:
    if not source.data.get("model_list"):
        why = f"; {_CHANGES_ROUTES['include']}" if "include" in source.data else ""
        raise source.error(
            f"this file has no model_list, so there is nothing to import{why}", source.line(("include",))
        )
    litellm = mapping(source.data.get("litellm_settings"))
    groups = Groups(source, drop_params=litellm.get("drop_params") is True)
    rules = list(routes(source, groups, Router(source, groups)))
    server = _server(source)
    auth = _auth(source)
    _rest(source)
    said = {note for rule in rules for note in rule.notes}
    rest = [left.comment for left in source.left if left.comment not in said]
    lines = [
        *writer.section("server", [line for name, value in server.items() for line in writer.pair(name, value, 2)]),
        *writer.section("auth", auth),
        *writer.section("backends", [line for name, row in groups.rows.items() for line in writer.pair(name, row, 2)]),
        *writer.section("routes", [line for rule in _named(rules) for line in _rule(rule)]),
        *(["", *(line for note in rest for line in writer.comment(note))] if rest else []),
    ]
    literals = tuple(source.was_literal)
    head = [*_head(source, literals), *lines]
    return source, Converted("\n".join(head) + "\n", tuple(source.left), source.variables, literals)


def _head(source: Source, literals: tuple[str, ...]) -> Iterator[str]:
    name = source.file.rpartition("/")[2]
    yield from writer.comment(f"Made of {name} by `chat-proxy import litellm`.")
    if source.variables:
        yield from writer.comment(f"Needs these variables: {', '.join(source.variables)}.")
    if literals:
        told = f"{name} holds secrets itself. They are not copied: set {', '.join(literals)} to them."
        yield from writer.comment(told)


def _server(source: Source) -> dict[str, Any]:
    router, litellm = (mapping(source.data.get(name)) for name in ("router_settings", "litellm_settings"))
    found: dict[str, Any] = {}

    def number(section: str, name: str) -> float | None:
        value = source.number(mapping(source.data.get(section)).get(name), (section, name))
        return value if value and value > 0 else None

    timers = timeouts(
        timeout=number("router_settings", "timeout") or number("litellm_settings", "request_timeout"),
        stream_timeout=number("router_settings", "stream_timeout"),
    )
    if timers:
        found["timeouts"] = timers
    breaker: dict[str, Any] = {}
    fails = router.get("allowed_fails", litellm.get("allowed_fails"))
    if isinstance(fails, int):
        breaker["failures"] = fails + 1  # LiteLLM says how many are still allowed
    if cooldown := number("router_settings", "cooldown_time") or number("litellm_settings", "cooldown_time"):
        breaker |= {"open_s": cooldown, "longest_s": max(cooldown, 30)}
    if breaker:
        found["breaker"] = breaker
    if litellm.get("json_logs") is True:
        found["log"] = {"format": "json"}
    return found


def _auth(source: Source) -> list[str]:
    key = mapping(source.data.get("general_settings")).get("master_key")
    if key is None:
        return []
    value = source.text(key, name="master_key", variable="LITELLM_MASTER_KEY", holds="key")
    return ["  keys:", *writer.item({"name": "master", "key": value}, 4)]


def _rest(source: Source) -> None:
    """Note all settings that no part of the result says."""
    for name in source.data:
        if name == "environment_variables":
            source.leave((name,), "set them where chat-proxy is started")
        elif name not in _TOP:
            _leave(source, (name,))
    for section in _SETTINGS:
        for name, value in mapping(source.data.get(section)).items():
            if name not in _READ[section] and value not in (None, False):
                _leave(source, (section, name))


def _leave(source: Source, path: tuple[str, ...]) -> None:
    name = path[-1]
    why = _CHANGES_ROUTES.get(name) or _WHY.get(name, _NOTHING_LIKE_IT)
    source.leave(path, why, routes=name in _CHANGES_ROUTES)


def _named(rules: list[Route]) -> list[Route]:
    """The rules with names that differ."""
    seen: dict[str, int] = {}
    for rule in rules:
        seen[rule.name] = seen.get(rule.name, 0) + 1
        if seen[rule.name] > 1:
            rule.name += f"-{seen[rule.name]}"
    return rules


def _rule(rule: Route) -> Iterator[str]:
    for note in dict.fromkeys(rule.notes):
        yield from writer.comment(note, 2)
    fields: dict[str, Any] = {"name": rule.name, "match": rule.match}
    if rule.pick:
        fields["pick"] = rule.pick
    fields["to"] = rule.to[0] if len(rule.to) == 1 else rule.to
    fields |= {name: value for name, value in (("default", rule.default), ("timeouts", rule.timeouts)) if value}
    yield from writer.item(fields, 2)
