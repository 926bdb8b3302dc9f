"""The conformance suite for a contract. A plug-in's tests subclass it, with a request and a reader of answers:

    class TestMine(ContractConformance):
        contract = ContractCase("mine", body=b'{"question": "hi"}', read=read)

`read` takes the bytes of one answer in pieces, as a client's network brings them, and returns what the client
understood, as events. Write it from the client, without the contract's own code: a mistake must not be made twice.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import msgspec
import pytest

from proxy.contracts.base import Encoder, Frontend, Head, Reply, registered
from proxy.errors import BadRequest, InternalError, ProxyError, RateLimited, RequestError, Unauthorized, UpstreamFailed
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    RefusalDelta,
    Source,
    Start,
    StreamEvent,
    TextDelta,
)
from proxy.request import Answer, ChatRequest, Usage
from proxy.server.endpoints import EndpointTable
from proxy.testing.answers import CUT, EXAMPLES, HOSTILE_TEXTS, text_answer

Pieces = list[bytes]
Carries = Callable[[StreamEvent], StreamEvent | None]

SOME_ERRORS: Sequence[ProxyError] = (
    BadRequest("`question` is missing", param="question"),
    Unauthorized("a key is needed"),
    RateLimited("too many requests", retry_after=7),
    UpstreamFailed("the model is overloaded", status=503),
    InternalError("something went wrong"),
)

WRONG_VALUES: Sequence[Any] = (None, True, 0, -1, 1.5, 10**30, "", "x", [], [None], [[]], {}, {"x": None}, [{}])


class Understood(msgspec.Struct, frozen=True):
    """What a client understood of an answer, without where the answer was cut into pieces."""

    content: list[tuple[type, Any]]  # runs of text, reasoning, refusal and media, in their order
    sources: list[StreamEvent]
    notices: list[StreamEvent]
    signature: str
    calls: list[tuple[str, str, Any]]  # id, name, arguments
    end: str  # the finish reason, or the message of the error
    failed: bool
    usage: Usage | None

    def but(self, **changed: Any) -> Self:
        """A copy with other values."""
        return msgspec.structs.replace(self, **changed)


def understood(events: Sequence[StreamEvent]) -> Understood:
    """Add events up to what a client understands of them."""
    content = [event for event in events if isinstance(event, (TextDelta, ReasoningDelta, RefusalDelta, Media))]
    runs = [
        (kind, list(run) if kind is Media else "".join([event.text for event in run if not isinstance(event, Media)]))
        for kind, run in itertools.groupby(content, type)
    ]
    collector = Collector()
    end = collector.add(Batch(list(events)))
    answer = collector.answer()
    return Understood(
        content=runs,
        sources=[event for event in events if isinstance(event, Source)],
        notices=[event for event in events if isinstance(event, Notice)],
        signature=answer.reasoning_signature,
        calls=[(call.id, call.name, call.arguments or "{}") for call in answer.tool_calls],
        end=end.error.message if isinstance(end, Fault) else end.reason if end else "no end",
        failed=isinstance(end, Fault),
        usage=answer.usage,
    )


def carrying(*kinds: type, refusals: bool = False) -> Carries:
    """Clients learn of text, the end and events of these kinds; of a refusal as text, unless the contract has `refusals`."""
    carried = {TextDelta, Start, Finish, Fault, *kinds} | ({RefusalDelta} if refusals else set())

    def carries(event: StreamEvent) -> StreamEvent | None:
        if isinstance(event, RefusalDelta) and not refusals:
            return TextDelta(event.text)
        return event if type(event) in carried else None

    return carries


ONLY_TEXT = carrying()


@dataclass(frozen=True)
class ContractCase:
    """A contract, a request in it, and how its clients read answers.

    `carries` is what clients can learn of an event, None for nothing. `seen` changes what is expected of the whole
    answer, for a contract that says less than the events do: `lambda answer: answer.but(usage=None)`.
    """

    name: str
    body: bytes
    """A request that asks for a stream. Every field of it is tried with wrong values."""

    read: Callable[[Pieces], Sequence[StreamEvent]]
    carries: Carries = ONLY_TEXT
    seen: Callable[[Understood], Understood] = lambda answer: answer
    path: str = ""
    """Where the request is sent; the contract's first endpoint if empty."""

    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the route says to the contract."""

    streams_only: bool = False
    """The contract has no unstreamed answers."""

    estimates_usage: bool = False
    """Clients are shown estimated tokens if the upstream counted none."""

    hides_calls_of_failed_answers: bool = False
    """Of an answer that failed with calls in it only the error is certain: what comes after an open call may be held."""

    frontend: Frontend | None = None
    """The contract itself, where it is not registered under its name."""

    def load(self) -> Frontend:
        """The contract, by way of its entry point."""
        if self.frontend is not None:
            return self.frontend
        assert self.name in registered(), (
            f"no contract {self.name!r} is registered: see [project.entry-points.'proxy.frontends']"
        )
        loaded: Frontend = registered()[self.name].load()
        return loaded

    def head(self, frontend: Frontend) -> Head:
        """What the contract is told of a request besides its body."""
        path = self.path or next(point.path for point in frontend.endpoints if point.action == "chat")
        headers = {"content-type": "application/json", **self.headers}
        return Head("req-1", "POST", path, self.query, headers, self.options)

    def expected(self, events: Sequence[StreamEvent]) -> Understood:
        """What a client should understand of these events."""
        return self.seen(understood([told for event in events if (told := self.carries(event)) is not None]))

    def check(self, pieces: Pieces, events: Sequence[StreamEvent]) -> None:
        """Clients that are sent these bytes understand what the events say."""
        expected, found = self.expected(events), understood(self.read(pieces))
        if self.estimates_usage and expected.usage is None:
            found = found.but(usage=None)
        if self.hides_calls_of_failed_answers and expected.failed and expected.calls:
            expected, found = (one.but(content=[], signature="", calls=[]) for one in (expected, found))
        assert found == expected


class ContractConformance:
    """What every contract must do."""

    contract: ClassVar[ContractCase]

    @pytest.fixture
    def case(self) -> ContractCase:
        """The case in hand. A suite of many cases overrides this with a parametrised fixture."""
        return self.contract

    @pytest.fixture
    def frontend(self, case: ContractCase) -> Frontend:
        return case.load()

    @pytest.fixture
    def head(self, case: ContractCase, frontend: Frontend) -> Head:
        return case.head(frontend)

    # requests

    def test_it_is_served_under_its_name(self, case: ContractCase, frontend: Frontend, head: Head) -> None:
        assert frontend.name == case.name
        assert all(point.path.startswith("/") for point in frontend.endpoints)
        assert head.path in set(EndpointTable([frontend]))

    def test_detection_never_raises(self, case: ContractCase, frontend: Frontend, head: Head) -> None:
        for point in frontend.endpoints:
            if point.detects is not None:
                for body in (case.body, *broken_bodies(case.body)):
                    assert point.detects(head, body) >= 0

    def test_its_request_is_read(self, case: ContractCase, frontend: Frontend, head: Head) -> None:
        request = frontend.decode(case.body, head)
        assert request.contract == case.name
        assert request.id == head.id
        assert request.messages
        assert request.stream, "the case's body must ask for a stream"

    def test_a_wrong_body_is_refused_or_read_and_never_a_crash(
        self, case: ContractCase, frontend: Frontend, head: Head
    ) -> None:
        for body in itertools.chain(broken_bodies(case.body), wrong_fields(case.body)):
            try:
                request = frontend.decode(body, head)
                frontend.encoder(request, head)
            except RequestError as error:
                assert 400 <= error.status < 500, body[:200]
            except Exception as error:
                raise AssertionError(f"{type(error).__name__} instead of a RequestError for {body[:200]!r}") from error
            else:
                assert isinstance(request, ChatRequest)

    # answers

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_clients_understand_an_answer_however_it_is_cut(
        self, case: ContractCase, frontend: Frontend, example: str
    ) -> None:
        events, dice = EXAMPLES[example], random.Random(7)
        stream = written(case, frontend, [Batch([event]) for event in events])
        for pieces in (
            [stream],
            *(cut_every(stream, size) for size in (1, 2, 7, 64)),
            *(cut_at_random(stream, dice) for _ in range(10)),
        ):
            case.check(pieces, events)

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_batches_may_be_cut_anywhere(self, case: ContractCase, frontend: Frontend, example: str) -> None:
        events = list(EXAMPLES[example])
        for size in (2, 3, len(events)):
            batches = [Batch(events[at : at + size]) for at in range(0, len(events), size)]
            case.check([written(case, frontend, batches)], events)

    @pytest.mark.parametrize("tokens", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
    def test_text_stays_text(self, case: ContractCase, frontend: Frontend, tokens: Sequence[str]) -> None:
        events = text_answer(tokens)
        case.check([written(case, frontend, [Batch([event]) for event in events])], events)

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_a_heartbeat_changes_no_answer(self, case: ContractCase, frontend: Frontend, example: str) -> None:
        events = EXAMPLES[example]
        encoder = encoder_of(case, frontend)
        stream = b"".join(encoder.feed(Batch([event])) + _heartbeat(encoder, event) for event in events)
        case.check([stream], events)

    def test_an_error_is_never_a_success(self, case: ContractCase, frontend: Frontend) -> None:
        encoder = encoder_of(case, frontend)
        stream = encoder.feed(Batch([Start("", "m"), TextDelta("Half"), Fault(CUT)]))
        if not encoder.abort_on_fault:  # where the connection is cut, that is the sign
            assert understood(case.read([stream])).failed

    def test_the_stream_says_what_it_is(self, case: ContractCase, frontend: Frontend) -> None:
        encoder = encoder_of(case, frontend)
        assert any(name.lower() == "content-type" for name in encoder.headers)
        _check_headers(encoder.headers)
        assert isinstance(encoder.early, bool)

    def test_an_unstreamed_answer_holds_the_text(self, case: ContractCase, frontend: Frontend) -> None:
        encoder = encoder_of(case, frontend)
        if case.streams_only:
            assert encoder.whole(Answer(text="Hello")).status >= 400
            return
        reply = encoder.whole(Answer(id="up-1", model="m", text="Hello", usage=Usage(1, 1)))
        assert reply.status == 200
        assert b"Hello" in reply.body
        _check_headers(reply.headers)

    @pytest.mark.parametrize("error", SOME_ERRORS, ids=lambda error: error.code)
    def test_an_error_before_the_answer_is_a_status_with_words(
        self, case: ContractCase, frontend: Frontend, head: Head, error: ProxyError
    ) -> None:
        for reply in (frontend.failure(error, head), encoder_of(case, frontend).failure(error)):
            assert reply.status == error.status
            assert error.message in reply.body.decode()
            names = {name.lower(): value for name, value in reply.headers.items()}
            assert "content-type" in names
            if error.retry_after is not None:
                assert names["retry-after"] == "7"
            assert all(names[name.lower()] == value for name, value in error.headers.items())
            _check_headers(reply.headers)


# -- tools of the suite ----------------------------------------------------------------------------------------------


def encoder_of(case: ContractCase, frontend: Frontend) -> Encoder:
    """The encoder of the case's request."""
    head = case.head(frontend)
    encoder = frontend.encoder(frontend.decode(case.body, head), head)
    assert not isinstance(encoder, Reply), "the contract answers the case's body without a model"
    return encoder


def written(case: ContractCase, frontend: Frontend, batches: Sequence[Batch]) -> bytes:
    """The bytes of one answer."""
    encoder = encoder_of(case, frontend)
    return b"".join([encoder.feed(batch) for batch in batches])


def cut_every(stream: bytes, size: int) -> Pieces:
    """`stream` in pieces of `size` bytes."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def cut_at_random(stream: bytes, dice: random.Random) -> Pieces:
    """`stream` in pieces as a network might bring them."""
    pieces, start = [], 0
    longest = dice.choice((3, 17, 200, 5000))
    while start < len(stream):
        size = dice.randint(1, longest)
        pieces.append(stream[start : start + size])
        start += size
    return pieces


def broken_bodies(body: bytes) -> Iterator[bytes]:
    """Bodies that are not JSON, or not an object, or too deep."""
    yield from (b"", b"{", b"[]", b"null", b'"x"', b"5", b"\xff\xfe", b"{}" * 2, b"\xef\xbb\xbf{}", b"{}")
    yield body[: len(body) // 2]
    yield b"[" * 100_000
    yield b'{"x":' * 100_000


def wrong_fields(body: bytes) -> Iterator[bytes]:
    """`body` with each of its values in turn replaced by values of other types, or left out."""
    value = json.loads(body)
    for path in _paths(value):
        for wrong in WRONG_VALUES:
            yield json.dumps(_replaced(value, path, wrong)).encode()
        yield json.dumps(_replaced(value, path, _MISSING)).encode()


_MISSING = object()


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from _paths(inner, (*before, key))


def _replaced(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    copy = dict(value) if isinstance(value, dict) else list(value)
    new = _replaced(value[path[0]], path[1:], wrong)
    if new is _MISSING:
        del copy[path[0]]
    else:
        copy[path[0]] = new
    return copy


def _heartbeat(encoder: Encoder, before: StreamEvent) -> bytes:
    """A heartbeat, as the server sends it: not before the answer begins, and not after it ends."""
    return b"" if isinstance(before, (Finish, Fault)) else encoder.ping()


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        assert not {"\r", "\n", "\0"} & {*name, *value}, f"header {name!r} could be split"
