"""The parameters a target is sent: the request's, with the route's `default` and `set` applied."""

from collections.abc import Iterator

import msgspec

from proxy.request import ChatRequest
from proxy.routing.explanation import Parameter
from proxy.routing.plan import Plan, Target


def parameters(plan: Plan, request: ChatRequest) -> Iterator[Parameter]:
    """The parameters sent upstream: the request's over the route's `default`, and the route's `set` over both.

    A name that is not modelled is only in `raw_body`, where it counts as the request's all the same.
    """
    given = request.raw_body or {}
    for name, value in plan.default.items():
        if not any(name in said for name in _names(name) for said in (request.params, given, plan.set)):
            yield Parameter(name, value, "default")
    for name, value in request.params.items():
        if not any(name in plan.set for name in _names(name)):
            yield Parameter(name, value, "hint" if name in request.hints else "request")
    for name, value in plan.set.items():
        yield Parameter(name, value, "set")


def prepared(request: ChatRequest, plan: Plan, target: Target) -> ChatRequest:
    """The request as this target gets it: its model, and the route's `default` and `set` applied."""
    params, hints, routed = request.params, request.hints, request.routed
    if plan.set or plan.default:
        params = {parameter.name: parameter.value for parameter in parameters(plan, request)}
        hints = hints.difference(plan.set)
        routed = frozenset(plan.set).union(params.keys() - request.params.keys())
    return msgspec.structs.replace(request, model=target.model, params=params, hints=hints, routed=routed)


def output_limit(plan: Plan, request: ChatRequest) -> int | None:
    """The most tokens that each choice of the answer may have, by the route or by the request. An embedding has none.

    A server may ignore -1, and the smaller one of two limits, so neither counts here.
    """
    if request.task == "embedding":
        return 0
    of_llama = (request.raw_body or {}).get("n_predict")  # llama.cpp puts it above the other two
    asked = request.params if of_llama is None else {"n_predict": of_llama, **request.params}
    for said in (plan.set, asked, plan.default):
        if said and (given := [value for name in (*_LIMIT, "n_predict") if (value := said.get(name)) is not None]):
            limits = [value for value in given if type(value) is int and value > 0]
            return max(limits) if len(limits) == len(given) else None
    return None


def most_output(plan: Plan, request: ChatRequest) -> int | None:
    """The most tokens that all choices of the answer may have together."""
    limit = output_limit(plan, request)
    if limit is None:
        return None
    params, body = request.params, request.raw_body or {}
    choices = [value for name in ("n", "best_of") if type(value := params.get(name, body.get(name))) is int]
    return limit * max([1, *choices])


def shorter_output(plan: Plan, request: ChatRequest, most: int | None) -> dict[str, int]:
    """The parameter that limits an answer to `most` tokens, by the request's name for it; empty if it has no effect."""
    if most is None or ((asked := output_limit(plan, request)) is not None and asked <= most):
        return {}
    return {next((name for name in _LIMIT if name in request.params), _LIMIT[0]): most}


def with_shorter_output(plan: Plan, request: ChatRequest, most: int | None) -> Plan:
    """The plan with answers of at most `most` tokens; itself if they are no longer now."""
    limit = shorter_output(plan, request, most)
    if not limit:
        return plan
    kept = {name: value for name, value in plan.set.items() if name not in _LIMIT}
    return msgspec.structs.replace(plan, set=kept | limit)


def _names(name: str) -> tuple[str, ...]:
    """A parameter's names: OpenAI has two for one limit, and what has both is refused."""
    return _LIMIT if name in _LIMIT else (name,)


_LIMIT = ("max_tokens", "max_completion_tokens")
