"""Requests with any field of any type, through all that a request passes before it is sent: never a 500 (A6)."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from proxy.backends.base import Resources, kind
from proxy.config.models import RouteSettings, ServerSettings
from proxy.contracts.base import Endpoint, Frontend, Head, Offer, Reply, registered
from proxy.errors import ProxyError
from proxy.events import Batch, Fault, Finish, Notice, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.request import Answer, ChatRequest, ToolCall
from proxy.routing.params import prepared
from proxy.routing.principal import ANONYMOUS
from proxy.routing.router import Router
from tests.support.rich_requests import REQUESTS

Path = tuple[str | int, ...]

DEEP: Any = "x"
for _ in range(40):
    DEEP = [DEEP]

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 5, 1.5, 1e308, -0.0, 2**63, -(2**63), 10**19 // 2, "", "x", "1", "0.5", "null", "[]", " ",
    "data:,", "data:", "http://", "\u0000", "ü" * 300, [], {}, [None], [[]], [{}], [1], ["x"], [True], {"x": None},
    {"": []}, {"type": None}, {"type": 1}, {"type": "text"}, {"type": "function"}, {"type": []}, {"text": 1},
    [{"type": "text", "text": None}], [{"type": "function"}], {"role": "user", "content": "x"}, DEEP,
]  # fmt: skip
"""Of every JSON type, and what could be taken for something it is not."""


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """The places of all fields and items."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        yield (*at, step)
        yield from paths(child, (*at, step))


def mutated(body: Any, path: Path, change: Any) -> Any:
    """A copy in which `change` is done to the value at a place."""
    body = copy.deepcopy(body)
    holder = body
    for step in path[:-1]:
        holder = holder[step]
    change(holder, path[-1])
    return body


def put(value: Any) -> Any:
    def change(holder: Any, step: Any) -> None:
        holder[step] = copy.deepcopy(value)

    return change


def delete(holder: Any, step: Any) -> None:
    del holder[step]


def into_list(holder: Any, step: Any) -> None:
    holder[step] = [holder[step]]


def into_object(holder: Any, step: Any) -> None:
    holder[step] = {"type": "text", "x": holder[step]}


def into_text(holder: Any, step: Any) -> None:
    holder[step] = json.dumps(holder[step])


def twice(holder: Any, step: Any) -> None:
    if isinstance(holder, list):
        holder.insert(step, copy.deepcopy(holder[step]))
    else:
        holder[f"{step}2"] = copy.deepcopy(holder[step])


CHANGES = [*map(put, VALUES), delete, into_list, into_object, into_text, twice]

ROUTES = [
    {"name": "tools", "match": {"has": ["tools"], "metadata": {"team": "b"}, "user": "bob"}, "to": "openai/m"},
    {"name": "content", "match": {"content": "^never$", "tokens": {"min": 100_000}}, "to": "openai/m"},
    {
        "name": "drawn",
        "match": {"user": "x*"},
        "to": ["openai/m", "anthropic/m"],
        "pick": "weighted",
        "sticky": "conversation",
    },
    {"name": "r", "to": ["openai/m", "anthropic/m"], "set": {"seed": 1}, "default": {"max_tokens": 100}},
]
TARGETS = {
    "openai": {"kind": "openai", "api_key": "k"},
    "compatible": {"kind": "openai-compatible", "base_url": "http://localhost:1/v1"},
    "anthropic": {"kind": "anthropic", "api_key": "k"},
}


class Stage:
    """All that a request passes, without I/O."""

    def __init__(self) -> None:
        routes = [RouteSettings.model_validate(route) for route in ROUTES]
        self.router = Router(routes, dict.fromkeys(TARGETS, ""), {}, ServerSettings())
        self.backends = [self._built(name, row) for name, row in TARGETS.items()]
        self.served = [(e, f) for point in registered().values() if (f := point.load()) for e in f.endpoints]

    @staticmethod
    def _built(name: str, row: dict[str, Any]) -> Any:
        made = kind(row["kind"])
        return made.build(name, made.settings.model_validate(row), Resources(None))  # type: ignore[arg-type]  # asks nobody

    def run(self, frontend: Frontend, path: str, body: bytes) -> str:
        """Pass a body through; returns what it ended as. Anything but a `ProxyError` of the client's is our mistake."""
        head = Head("req-1", "POST", path, {}, {"accept": "*/*", "user-agent": "ollama/1"})
        for endpoint, _ in self.served:
            if endpoint.detects is not None:
                assert endpoint.detects(head, body) >= 0
        try:
            request = frontend.decode(body, head)
            encoder = frontend.encoder(request, head)
            plan = self.router.plan(request, ANONYMOUS)
        except ProxyError as error:
            self._is_the_clients(error, frontend, head)
            return "refused"
        for backend, target in zip(self.backends, (*plan.targets, plan.targets[0]), strict=False):
            self._sent(backend, prepared(request, plan, target), target)
        if not isinstance(encoder, Reply):
            self._written(frontend, encoder, request, head)
        return "read"

    def _sent(self, backend: Any, request: ChatRequest, target: Any) -> None:
        try:
            msgspec.json.encode(backend._fields(backend._translated(request, target).request, target))
            backend.written(request, target)
        except ProxyError as error:
            if error.status >= 500:
                raise AssertionError(f"{backend.name} answers {error.status}") from error

    def _written(self, frontend: Frontend, encoder: Any, request: ChatRequest, head: Head) -> None:
        """The answer repeats fields of the request."""
        call = ToolCall("c1", "weather", '{"city":"Oslo"}')
        encoder.feed(Batch([Start("a", "m"), Notice("code", "x", "y"), TextDelta("Hi")]))
        encoder.feed(Batch([ToolCallStart(0, call.id, call.name), ToolCallDelta(0, call.arguments)]))
        encoder.feed(Batch([Finish("tool_calls")]))
        if frontend.name != "ag-ui":
            fresh = frontend.encoder(request, head)
            assert not isinstance(fresh, Reply)
            assert fresh.whole(Answer(text="Hi", tool_calls=(call,))).status == 200
        fresh = frontend.encoder(request, head)
        assert not isinstance(fresh, Reply)
        fresh.feed(Batch([Start("a", "m"), ToolCallStart(0, "c1", "weather"), Fault(ProxyError("cut"))]))

    @staticmethod
    def _is_the_clients(error: ProxyError, frontend: Frontend, head: Head) -> None:
        assert error.status < 500 or error.code == "not_implemented", error
        assert error.message
        assert frontend.failure(error, head).body


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


def check(stage: Stage, name: str, body: Any, what: object) -> None:
    frontend, path, _ = REQUESTS[name]
    try:
        stage.run(frontend, path, json.dumps(body).encode())
    except Exception as error:
        raise AssertionError(f"{name}: {what}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("name", REQUESTS)
def test_A6_the_rich_request_of_each_contract_is_read(stage: Stage, name: str) -> None:
    frontend, path, body = REQUESTS[name]
    assert stage.run(frontend, path, json.dumps(body).encode()) == "read"


def random_bodies(name: str, count: int, seed: int) -> Iterator[tuple[Any, list[Any]]]:
    """Bodies with one to three random changes, and what was changed."""
    draw = random.Random(f"{name} {seed}")
    original = REQUESTS[name][2]
    for _ in range(count):
        body, changed = original, []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            places = list(paths(body))
            place, change = draw.choice(places), draw.randrange(len(CHANGES))
            body = mutated(body, place, CHANGES[change])
            changed.append((place, change))
        yield body, changed


def every_change(name: str) -> Iterator[tuple[Any, list[Any]]]:
    original = REQUESTS[name][2]
    for place in paths(original):
        for number, change in enumerate(CHANGES):
            yield mutated(original, place, change), [(place, number)]


TYPES = [None, True, 5, 1.5, "x", [1], {"x": 1}]


@pytest.mark.parametrize("name", REQUESTS)
def test_A6_no_field_of_any_type_is_a_500(stage: Stage, name: str) -> None:
    """Each field of a body with each type of JSON, and random changes anywhere: about 2,000 bodies."""
    original = REQUESTS[name][2]
    for field in original:
        for value in TYPES:
            check(stage, name, {**original, field: value}, (field, value))
    for body, changed in random_bodies(name, 60, seed=1):
        check(stage, name, body, changed)


@pytest.mark.heavy
@pytest.mark.parametrize("name", REQUESTS)
def test_A6_no_field_of_any_type_is_a_500_in_fifty_thousand_bodies(stage: Stage, name: str) -> None:
    """Each change of each field, and random changes of several: about 85,000 bodies."""
    for body, changed in every_change(name):
        check(stage, name, body, changed)
    for body, changed in random_bodies(name, 1500, seed=2):
        check(stage, name, body, changed)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_A6_what_a_contract_answers_itself_is_never_a_500(stage: Stage, value: Any) -> None:
    offer = Offer(["m"], 1_700_000_000)
    bodies = [value, {"model": value}, {"name": value}, {"model": "m", "messages": value, "max_tokens": 1}]
    bodies += [{"model": "m", "messages": [], name: value} for name in ("system", "tools", "thinking", "tool_choice")]
    for endpoint, frontend in stage.served:
        for body in bodies if endpoint.answer is not None else ():
            _answered(endpoint, frontend, json.dumps(body).encode(), offer)


def _answered(endpoint: Endpoint, frontend: Frontend, body: bytes, offer: Offer) -> None:
    head = Head("req-1", endpoint.method, endpoint.path.replace("{id}", "x"), {}, {})
    assert endpoint.answer is not None
    try:
        endpoint.answer(body, head, offer)
    except ProxyError as error:
        Stage._is_the_clients(error, frontend, head)
