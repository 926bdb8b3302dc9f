"""Requests from a command line, and what the router says about them in words and as data."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from proxy.backends.base import Backend, BackendSettings, Resources, kind, refusal
from proxy.backends.http import HttpBackend
from proxy.config.load import Config
from proxy.config.wording import nearest
from proxy.contracts.base import Head, built_in_frontends
from proxy.errors import BadRequest, NotFound, RequestError, Unauthorized, Unsupported
from proxy.pipeline.targets import TargetStates
from proxy.policy.peers import FailedLogins
from proxy.request import ChatRequest
from proxy.routing.conditions import Facts, Kept
from proxy.routing.explanation import Choice, Explanation, Parameter, guards_in_words
from proxy.routing.params import prepared
from proxy.routing.plan import Hedge, Limit, Plan, Target
from proxy.routing.principal import ANONYMOUS, Principal
from proxy.server.endpoints import Binding, RouteMatch, resolve
from proxy.server.snapshot import ConfigSnapshot
from proxy.store.base import Meter, Room, Want
from proxy.store.memory import MemoryStore
from proxy.store.rules import Counting, Outputs, in_words
from proxy.transport import Request, Response

SMALLEST_BODY = b'{"messages":[{"role":"user","content":"hi"}],"input":"hi"}'  # of most contracts


class _Nowhere:
    """The transport of backends that are only asked what they would send."""

    auto_tick_s = 0.0

    async def open(self, request: Request) -> Response:
        raise AssertionError(f"explaining sends no request, so none to {request.url}")

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Unwatched:
    """A `Watcher` that does nothing: explaining takes no room in limits."""

    def rooms(self, wants: Sequence[Want], rooms: Sequence[Room]) -> None: ...
    def denied(self, meter: Meter) -> None: ...


_NO_RESOURCES = Resources(transport=_Nowhere())

Targets = Sequence[tuple[Target, Backend]]

_ORIGIN = {
    "request": "from the request",
    "hint": "from the request, to a target that is known to take it",
    "set": "set by the route",
    "default": "the route's default",
}


def principal_of(config: Config, name: str | None) -> Principal | None:
    """Who asks: the key of that name. Without a name, anybody if no keys are listed, else `None`.

    Raises `Unauthorized` for an unknown name.
    """
    auth = config.settings.auth
    keys = {key.name: key for key in auth.keys} if auth and not auth.off else {}
    if name is None:
        return None if keys else ANONYMOUS
    if name not in keys:
        raise Unauthorized(f"no key `{name}`{nearest(name, keys) if keys else ': the config lists none'}")
    return Principal.of(keys[name])


class Judge:
    """What one config does with requests: how it reads them, and where it sends them."""

    def __init__(self, config: Config, key: str | None = None, *, states: TargetStates | None = None) -> None:
        """`key` is the name of the key that asks. Raises `Unauthorized` for a name that is not in the config.

        `states` is what a running proxy knows of its targets; without it none of them has failed.
        """
        self._states = TargetStates(time.monotonic) if states is None else states
        snapshot = ConfigSnapshot(
            0,
            config,
            {},
            built_in=built_in_frontends(),
            states=self._states,
            failed_logins=FailedLogins(),
            counting=Counting(MemoryStore(time.monotonic), Outputs(), _Unwatched()),
            loaded_at=0,
        )
        self._table = snapshot.table
        self._router = snapshot.router
        self._issuers = snapshot.pipeline.issuers
        self._admission = snapshot.admission
        self._rows = {name: row for name, row in config.backends.items() if isinstance(row, BackendSettings)}
        self._principal = principal_of(config, key)

    def explain_kept(self, request: ChatRequest, kept: Kept) -> Explanation:
        """Where an earlier request would go, from what is kept of it. Raises `NotKept`."""
        return self._router.explain_by(Facts(request, kept.principal, kept))

    def explain(
        self, path: str, headers: Mapping[str, str], body: bytes | None, *, id: str, model: str | None = None
    ) -> Explanation:
        """Where a request goes, and why. Without a body, its only message is "hi". `model` replaces the body's.

        Raises a `RequestError` where no contract is served at its path, or the contract cannot read it.
        """
        request = self._decode(path, headers, body, id=id, model=model)
        if model is not None and request.model is None:  # a declared contract may have another place for it
            request = msgspec.structs.replace(request, model=model)
        explanation = self._router.explain(request, self._principal)
        found = self._backends(explanation.plan)
        return msgspec.structs.replace(
            explanation,
            choices=tuple(self._choices(explanation)),
            tags_state=self._issuers.several(explanation.route or ""),
            omissions=tuple(self._omissions(explanation.plan, request, found)),
            differences=tuple(self._differences(explanation.plan, request, found)),
            limits=tuple(self._limits(explanation.plan, request)),
        )

    def _choices(self, explanation: Explanation) -> Iterator[Choice]:
        """The choices. The note of one that is held back at the moment says why."""
        targets = {str(target): target for target in explanation.plan.targets} if explanation.plan else {}
        for choice in explanation.choices:
            why = self._states.held_back(targets[choice.target]) if choice.target in targets else ""
            note = "; ".join(filter(None, [choice.note, why and f"tried last: {why}"]))
            yield msgspec.structs.replace(choice, note=note)

    def _limits(self, plan: Plan | None, request: ChatRequest) -> Iterator[tuple[str, str]]:
        """The limits that apply, and whose they are: the client's, then those of the targets."""
        if plan is not None and self._admission is not None:
            yield from self._admission.described(request.user, self._principal, plan)
        for target in plan.targets if plan else ():
            if (limits := getattr(self._rows.get(target.backend), "limits", None)) is not None:
                yield from ((f"the target `{target.backend}`", words) for words in in_words(limits))
                yield from ((f"the target `{target}`", words) for words in in_words(limits.per_model))

    def _backends(self, plan: Plan | None) -> list[tuple[Target, Backend]]:
        """The targets, each with a backend that sends nothing."""
        return [
            (target, kind(row.kind).build(target.backend, row, _NO_RESOURCES))
            for target in (plan.targets if plan else ())
            if (row := self._rows.get(target.backend))
        ]

    @staticmethod
    def _differences(plan: Plan | None, request: ChatRequest, found: Targets) -> Iterator[tuple[str, str]]:
        """For each target, what the request sent to it says in other words than the client did."""
        for target, backend in found:
            if plan and isinstance(backend, HttpBackend):
                with suppress(RequestError, Unsupported):
                    for difference in backend.differences(prepared(request, plan, target), target):
                        yield str(target), difference

    def _omissions(self, plan: Plan | None, request: ChatRequest, found: Targets) -> Iterator[tuple[str, str]]:
        """For each target, what of the request it leaves out. Kind `litellm` does not say: it would have to be imported."""
        for target, backend in found:
            if error := refusal(backend, request.task):
                yield str(target), f"refuses it: {error.message}"
            elif plan and isinstance(backend, HttpBackend):
                try:
                    foreign = self._issuers.foreign_state(request, target)
                    for notice in (*foreign, *backend.written(prepared(request, plan, target), target)[1]):
                        yield str(target), notice.message
                except Unsupported as unsupported:
                    yield str(target), f"refuses it: {unsupported.message}"

    def _decode(
        self, path: str, headers: Mapping[str, str], body: bytes | None, *, id: str, model: str | None
    ) -> ChatRequest:
        parts = urlsplit(path)
        served = _chats(self._table.find(parts.path))
        if not served:
            known = [path for path in self._table if _chats(self._table.find(path))]
            raise NotFound(f"no contract is served at {parts.path}{nearest(parts.path, known)}")
        head = Head(
            id=id,
            method="POST",
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}},
            models=self._router.named,
        )
        frontend = resolve(served, head, body or SMALLEST_BODY).frontend
        if body is None:
            body = getattr(frontend, "smallest_body", SMALLEST_BODY)
        return frontend.decode(body if model is None else _with_model(body, model), head)


def _with_model(body: bytes, model: str) -> bytes:
    """A body that asks for `model`. One that is not a JSON object stays as it is: its contract says what is wrong."""
    try:
        fields = json.loads(body)
    except ValueError:
        return body
    return json.dumps(fields | {"model": model}).encode() if isinstance(fields, dict) else body


def _chats(match: RouteMatch | None) -> tuple[Binding, ...]:
    """The contracts at a path that send requests to a model."""
    posted = match.by_method.get("POST", ()) if match else ()
    return tuple([one for one in posted if one.endpoint.action == "chat"])


class Recorded(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a recording: `{"path": …, "headers": {…}, "body": {…}}`."""

    path: str = "/chat"
    headers: dict[str, str] = {}
    body: msgspec.Raw = msgspec.Raw(b"")


def recorded(line: str) -> Recorded:
    """Read a line of a recording. Raises `BadRequest` if it is not one."""
    try:
        return msgspec.json.decode(line, type=Recorded)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadRequest(
            f'not a recorded request: {error}; write {{"path": …, "headers": {{…}}, "body": {{…}}}}'
        ) from None


def compared(entry: Recorded, judges: Sequence[Judge], *, id: str) -> list[Explanation]:
    """What each config says about a recorded request.

    A config that cannot read the request refuses it. Raises a `RequestError` when none can read it.
    """
    found: list[Explanation] = []
    failures: list[RequestError] = []
    for judge in judges:
        try:
            found.append(judge.explain(entry.path, entry.headers, bytes(entry.body) or None, id=id))
        except RequestError as error:
            failures.append(error)
            refused = Explanation(contract="", path=entry.path, model=None, key=None, skipped=(), error=error)
            found.append(refused)
    if len(failures) == len(judges):
        raise failures[0]
    return found


def verdict(explanation: Explanation) -> str:
    """What `diff` compares, in words: the route, its targets in order, and what is sent with the request."""
    if explanation.plan is None:
        assert explanation.error is not None
        return f"refused: {explanation.error.status} {explanation.error.code}"
    return " ".join([f"{explanation.route}:", ", ".join(map(str, explanation.plan.targets)), *_changes(explanation)])


def _changes(explanation: Explanation) -> Iterator[str]:
    for parameter in explanation.parameters:
        if parameter.origin != "request":
            yield f"{parameter.name}={json.dumps(parameter.value, default=str)}"


def as_data(explanation: Explanation) -> dict[str, Any]:
    """The explanation for machines."""
    plan, error = explanation.plan, explanation.error
    share = {choice.target: choice.share for choice in explanation.choices}
    note = {choice.target: choice.note for choice in explanation.choices}
    return {
        "contract": explanation.contract,
        "path": explanation.path,
        "model": explanation.model,
        "key": explanation.key,
        "skipped": [msgspec.to_builtins(rule) for rule in explanation.skipped],
        "route": explanation.route,
        "pick": explanation.pick or None,
        "sticks_to": explanation.sticks_to or None,
        "targets": [
            {"target": str(target), "backend": target.backend, "model": target.model, "share": share[str(target)]}
            | ({"score": score} if (score := note[str(target)]) else {})
            | ({"limit": msgspec.to_builtins(target.limit)} if target.limit else {})
            for target in (plan.targets if plan else ())
        ],
        "unused": [{"target": choice.target, "why": choice.unused} for choice in explanation.choices if choice.unused],
        "timers": msgspec.to_builtins(plan.timers) if plan else None,
        "heartbeat_s": plan.heartbeat_s if plan else None,
        "delivery": {"tick_ms": _tick_ms(plan)} if plan else None,
        "hedge": msgspec.to_builtins(plan.hedge) if plan else None,
        "guards": dict(guards_in_words(plan)) if plan else {},
        "on_cut": plan.on_cut if plan else None,
        "tags_state": explanation.tags_state,
        "dialect": plan.options.get("dialect") if plan else None,
        "errors": plan.options.get("errors") if plan else None,
        "reasoning_field": plan.options.get("reasoning_field") if plan else None,
        "parameters": {
            parameter.name: {"value": parameter.value, "origin": parameter.origin}
            for parameter in explanation.parameters
        },
        "limits": [{"of": whose, "limit": limit} for whose, limit in explanation.limits],
        "omissions": [{"target": target, "what": what} for target, what in explanation.omissions],
        "differences": [{"target": target, "what": what} for target, what in explanation.differences],
        "error": {"status": error.status, "code": error.code, "message": error.message} if error else None,
    }


def as_text(explanation: Explanation) -> str:
    """The explanation for a person: one thing per line, its name in front."""
    lines: list[tuple[str, str]] = [
        ("request", f"{explanation.path}, model {explanation.model or '(none)'}, key {explanation.key or '(none)'}"),
        ("contract", explanation.contract),
    ]
    lines += _labelled("skipped", [str(rule) for rule in explanation.skipped])
    if explanation.route:
        lines.append(("route", explanation.route))
    if explanation.pick not in {"", "in-order"}:
        by = f", by {explanation.sticks_to}" if explanation.sticks_to else ""
        lines.append(("pick", explanation.pick + by))
    lines += _labelled("to", list(_targets(explanation)))
    if plan := explanation.plan:
        timers = plan.timers
        waits = f"connect {timers.connect_s:g} s, first token {timers.first_token_s:g} s, gap {timers.token_gap_s:g} s"
        lines.append(("timers", f"{waits}, total {timers.total_s:g} s, unstreamed {timers.whole_s:g} s"))
        lines.append(("heartbeat", f"after {plan.heartbeat_s:g} s of silence" if plan.heartbeat_s else "never"))
        lines.append(("delivery", _delivery(plan)))
        if plan.hedge:
            lines.append(("hedge", _hedge(plan.hedge)))
        lines += guards_in_words(plan)
        lines.append(("when cut", plan.on_cut))
        if explanation.tags_state:
            lines.append(("state", "tagged with the vendor who made it, and sent to no other"))
        if explanation.contract == "chat":
            lines.append(("dialect", plan.options.get("dialect") or "as the client asks"))
            lines.append(("errors", plan.options.get("errors") or "frame"))
        if field := plan.options.get("reasoning_field"):
            lines.append(("reasoning", field))
        lines += _labelled("sends", [_parameter(parameter) for parameter in explanation.parameters])
        lines += _labelled("limits", [f"{limit} for {whose}" for whose, limit in explanation.limits])
        lines += _labelled("reworded", [f"{target}: {what}" for target, what in explanation.differences])
        lines += _labelled("notices", [f"{target}: {what}" for target, what in explanation.omissions])
    if error := explanation.error:
        lines.append(("refused", f"{error.status} {error.code}: {error.message}"))
    return "\n".join(f"{label:<10} {text}" for label, text in lines)


def _tick_ms(plan: Plan) -> float | str:
    return "auto" if plan.tick_s is None else round(plan.tick_s * 1000)


def _delivery(plan: Plan) -> str:
    match _tick_ms(plan):
        case "auto":
            return "as it comes; under load, fast streams at most every 33 ms"
        case 0:
            return "as it comes"
        case tick:
            return f"fast streams at most every {tick} ms"


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return ""
    slots = f"{limit.most}" if limit.least == limit.most else f"{limit.least} to {limit.most}"
    return f"{slots} at once" + (f", {limit.queue} more wait up to {limit.wait_s:g} s" if limit.queue else "")


def _hedge(hedge: Hedge) -> str:
    when = f"{hedge.after_percentile:g} % of its answers began" if hedge.after_s is None else f"{hedge.after_s:g} s"
    return f"asks the second target too after {when}; the loser is {'read to its end' if hedge.drain else 'closed'}"


def _labelled(label: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    return [("" if index else label, text) for index, text in enumerate(texts)]


def _targets(explanation: Explanation) -> Iterator[str]:
    weighted = any(0 < choice.share < 1 for choice in explanation.choices)
    choices = {choice.target: choice for choice in explanation.choices}
    for number, target in enumerate(explanation.plan.targets if explanation.plan else (), 1):
        choice = choices[str(target)]
        star = f"  (from {target.backend}/{target.pattern})" if target.pattern else ""
        share = f"{choice.share:.0%} of requests" if weighted else "fallback" if number > 1 else ""
        note = "; ".join(filter(None, [choice.note or share, _limit(target.limit)]))
        yield f"{number}. {target}{star}" + (f"  ({note})" if note else "")
    for choice in explanation.choices:
        if choice.unused:
            yield f"-  {choice.target}  ({choice.unused})"


def _parameter(parameter: Parameter) -> str:
    value = json.dumps(parameter.value, ensure_ascii=False, default=str)
    value = value if len(value) <= 60 else value[:59] + "…"
    return f"{parameter.name} {value}  ({_ORIGIN[parameter.origin]})"
