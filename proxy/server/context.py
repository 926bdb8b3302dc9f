"""One HTTP request, from its head to the record of its end."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from math import ceil
from types import TracebackType
from typing import Protocol, Self

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11

from proxy.contracts.base import Encoder, Head, Reply
from proxy.errors import Draining, MethodNotAllowed, ProxyError
from proxy.pipeline.admission import Admission, Admitted
from proxy.pipeline.client import Client
from proxy.pipeline.costs import price_attempts
from proxy.pipeline.exchange import Exchange
from proxy.policy.peers import client_address, is_within
from proxy.request import ChatRequest
from proxy.routing.plan import Plan
from proxy.routing.principal import ANONYMOUS, Principal
from proxy.server.endpoints import Binding, RouteMatch, guess_from_head
from proxy.server.operator_pages import Operation
from proxy.server.snapshot import ConfigSnapshot
from proxy.streams.registry import Streams
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.record import RecordSink, StreamRecord
from proxy.telemetry.trace import Tracer

SERVER = "chat-proxy"
"""The `Server` header: aiohttp's own names its version and Python's."""

CLOSE = {"Connection": "close"}

STOPPING = "This server is stopping. Try again: another one answers."

LONGEST_TARGET = 256
"""How much of a target is said in a header, in characters: clients name models, and front proxies take heads of 4 KB."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NO_HEAD = Head(id="", method="", path="", query={}, headers={})


class App(Protocol):
    """What a request needs from the composition root."""

    operations: Mapping[str, Operation]
    metrics: Metrics
    sinks: list[RecordSink]
    active: set[Exchange]
    streams: Streams

    @property
    def tracer(self) -> Tracer | None:
        """What begins traces, if requests are traced."""

    @property
    def snapshot(self) -> ConfigSnapshot: ...

    @property
    def draining(self) -> bool:
        """Connections are to be closed after their answer."""

    @property
    def closed(self) -> bool:
        """No request is begun any more."""


class RequestContext:
    """One HTTP request: who asks for what, by which config it is answered, and how it ends.

    It keeps the config snapshot that it began with, whatever is reloaded meanwhile. It is in use as long as the
    answer takes, so `begin_answer` frees what is not needed any more.
    """

    __slots__ = (
        "_now", "app", "awaits_continue", "begun", "binding", "encoder", "handed_over", "head", "headers", "http",
        "lease", "match", "path", "peer", "principal", "record", "recorded", "snapshot",
    )  # fmt: skip

    def __init__(self, app: App, http: web.BaseRequest) -> None:
        received = http.headers
        given = received.get("X-Request-Id")
        chosen = given is not None and _REQUEST_ID.fullmatch(given) is not None
        # Ours has the form of a UUID: llama-cpp-python answers 400 to any other id.
        id = given if given is not None and chosen else secrets.token_hex(16)
        self.app = app
        self.http = http
        self.snapshot = snapshot = app.snapshot
        trusted = snapshot.config.settings.server.trusted_proxies
        self.peer = client_address(http.remote, received, trusted) if trusted else http.remote or ""
        self.path = path = snapshot.table.full_path(getattr(http.protocol, "prefix", ""), http.rel_url.raw_path)
        self.match: RouteMatch | None = snapshot.table.find(path)
        self.head = Head(
            id=id,
            method=http.method,
            path=path,
            query=http.query,
            headers={name.lower(): value for name, value in received.items()},
            models=snapshot.router.named,
        )
        self.headers = {
            "Server": SERVER,
            "X-Request-Id": id,
            **snapshot.cors.headers(received.get("Origin"), received.get("Host", "")),
        }
        self.awaits_continue = (
            "Expect" in received and received["Expect"].lower() == "100-continue" and http.version >= HttpVersion11
        )
        self.binding: Binding | None = None  # known when the body was read
        self.principal: Principal | None = None  # known when the key was checked
        self.encoder: Encoder | None = None  # known when the answer begins
        self.lease: Admitted | None = None  # known when its limits were checked, if there are any
        self.begun = False  # the client has been sent a status
        self.recorded = True  # False for pages that record their own end
        self.handed_over = False  # the record is ended elsewhere, not by the handler
        self._now = asyncio.get_running_loop().time
        self.record = StreamRecord(
            request_id=id, id_chosen=chosen, started_at=self._now(), method=http.method, stream=False
        )

    def __enter__(self) -> Self:
        self.snapshot.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.recorded and not self.handed_over:
            gone = issubclass(kind, (asyncio.CancelledError, ConnectionError))
            self.record.finish("client_gone" if gone else "internal", self._now())
        if self.handed_over:
            self.snapshot.leave()
        else:
            self.end()

    def hand_over(self) -> None:
        """Let the answer outlive this connection: whatever runs it calls `end`."""
        self.handed_over = True
        self.snapshot.enter()

    def reads(self, record: StreamRecord) -> None:
        """Note that the request is sent an answer that belongs to the `record` of another request."""
        self.record, self.handed_over = record, True

    def end(self) -> None:
        """End the request. If a hedge's loser is still read, it ends after that."""
        if self.record.loser is None:
            self._over()
        else:  # the snapshot's backend closes it, and the record says what it cost
            self.record.loser.add_done_callback(lambda _: self._over())

    def _over(self) -> None:
        """Nothing of the request is under way any more."""
        self.snapshot.leave()
        record = self.record
        record.loser = None
        self._price()
        if self.lease is not None:
            self.lease.settle(record)
        if self.recorded and (record.status or record.end):  # operators' pages and lists of models are not recorded
            record.finish("internal" if record.status >= 500 else "done", self._now())
            self._name_contract()
            for sink in self.app.sinks:
                sink.ended(record)

    # -- who asks, and for what --------------------------------------------------------------------------------

    def identify(self) -> None:
        """Find out whose key the request has. Raises `Unauthorized`, `RateLimited`, or `Forbidden` for a page's own name."""
        if self.snapshot.hosts is not None:
            self.snapshot.hosts.check(self.http.headers.get("Host"))
        self.principal = self.snapshot.keys.identify(self.http.headers, self.peer)
        self.record.key = self.principal.name
        if self.app.tracer is not None:
            self.record.trace = self.app.tracer.begin(self.head.headers if self._caller_is_known() else {})

    def _caller_is_known(self) -> bool:
        """Whether the caller's trace is believed: it has a key, or is a trusted proxy. Others could forge traces."""
        trusted = self.snapshot.config.settings.server.trusted_proxies
        return self.principal is not ANONYMOUS or is_within(self.http.remote, trusted)

    def allow_only(self, *methods: str) -> None:
        """Raises `MethodNotAllowed` for any other method. Where `GET` is allowed, `HEAD` is too."""
        method = self.head.method
        if method not in methods and not (method == "HEAD" and "GET" in methods):
            allowed = ", ".join(sorted({*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
            raise MethodNotAllowed(f"{self.path} is served with {allowed}.", headers={"Allow": allowed})

    async def admit(self, admission: Admission, request: ChatRequest, plan: Plan) -> Plan:
        """Take room for the request in its limits; returns the plan within them. Raises `RateLimited`, `LimitsUnknown`."""
        assert self.principal is not None
        self.lease = lease = await admission.admit(request, self.principal, plan)
        self.headers |= lease.headers
        self.record.notices = lease.notices
        return lease.plan

    def begin_answer(self, encoder: Encoder) -> None:
        """From now on `encoder` writes the answer, errors included. What the client sent is not kept."""
        self.encoder = encoder
        self.head = _NO_HEAD

    # -- answering ---------------------------------------------------------------------------------------------

    async def run(self, exchange: Exchange, client: Client) -> None:
        """Answer `client`, counted as under way meanwhile, so that a drain can wait for it or end it."""
        app = self.app
        if app.closed:
            raise Draining(STOPPING, retry_after=1)
        app.active.add(exchange)
        app.metrics.stream_started()
        try:
            await exchange.run(client)
        finally:
            app.active.discard(exchange)
            app.metrics.stream_left()

    def reply(self, reply: Reply, *, error: ProxyError | None = None, record: bool = True) -> web.Response:
        """A complete answer, as aiohttp wants it. With `record`, the request's end is recorded."""
        headers = {"Cache-Control": "no-store", **self.headers, **reply.headers, **(error.headers if error else {})}
        if self.record.route:
            headers |= {**self.answered_by(), **self._cost()}
        response = web.Response(status=reply.status, body=reply.body, headers=headers)
        # A client that waits for `100 Continue` may still send its body, or not: the next bytes on this connection
        # could be the body or a new request.
        if self.app.draining or self.awaits_continue or headers.get("Connection") == "close":
            response.force_close()
        if record:
            self.ended(reply.status, len(reply.body), error)
        return response

    def refuse(self, error: ProxyError) -> web.Response:
        """Answer with an error, in the form of the contract that was called, as long as nothing was sent."""
        self.record.words = error.message
        if self.encoder is not None:
            return self.reply(self.encoder.failure(error), error=error)
        self._name_contract()
        binding = self.binding
        reply = binding.frontend.failure(error, self.head) if binding else _plain_failure(error, self.head.id)
        return self.reply(reply, error=error)

    def answered_by(self) -> Mapping[str, str]:
        """The headers that say who answers, as far as it is known, or who failed last."""
        record = self.record
        if not self.snapshot.config.settings.server.answer_headers:
            return {}
        headers = {"X-Chat-Route": record.route}
        if target := record.target:
            headers["X-Chat-Target"] = "".join([one if " " <= one <= "~" else "?" for one in target[:LONGEST_TARGET]])
            headers["X-Chat-Attempts"] = str(record.tries)
        return headers

    def _cost(self) -> Mapping[str, str]:
        """The header that says what a whole answer cost, its failed attempts included, in US dollars, if that is known."""
        self._price()
        known = [one.cost_usd for one in self.record.attempts if one.started_at and one.cost_usd is not None]
        if not known or len(known) < self.record.tries or not self.snapshot.config.settings.server.answer_headers:
            return {}
        return {"X-Chat-Cost": f"{sum(known):f}"}

    def _price(self) -> None:
        if self.snapshot.prices is not None:
            price_attempts(self.record, self.snapshot.prices)

    def preflight(self) -> web.Response:
        """The answer to `OPTIONS`. Browsers ask before they send a key, so none is needed. Without CORS it is empty."""
        headers = {**self.headers, **(self.snapshot.cors.preflight(self.head.headers) or {})}
        return web.Response(status=204, headers=headers)

    def ended(self, status: int, bytes_out: int, error: ProxyError | None = None) -> None:
        record = self.record
        record.status, record.bytes_out = status, bytes_out
        if error is not None:
            record.finish(error.end, self._now(), error_code=error.code)

    def _name_contract(self) -> None:
        """Before the body is read, the head is enough to choose the contract."""
        if self.binding is None and self.match is not None:
            self.binding = guess_from_head(self.match.served(self.head.method), self.head)
        if self.binding is not None:
            self.record.contract = self.binding.frontend.name
        if self.match is not None or self.path in self.app.operations:
            self.record.path = self.path


def _plain_failure(error: ProxyError, id: str) -> Reply:
    """An error at a path without a contract, in the form that most clients read."""
    body = {"message": error.message, "type": error.type, "code": error.code, "request_id": id}
    headers = {"Content-Type": "application/json", **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    return Reply(error.status, msgspec.json.encode({"error": body}), headers)
