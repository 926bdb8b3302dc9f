"""The HTTP handler: reads a request, finds who asks and what for, writes the answer, notices who leaves.

One handler serves every path, so that nothing is reachable that does not pass here (G03): our own table of
paths, compared as they are written, and one order of checks: preflight, key, path, size and form, contract.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
import structlog
from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11

from proxy.config.closest import closest
from proxy.config.models import LimitSettings
from proxy.contracts.base import Encoder, Frontend, Head, Offer, Reply
from proxy.errors import (
    BadRequest,
    Draining,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    ProxyError,
    RequestTimeout,
    TooLarge,
    UnsupportedMedia,
)
from proxy.events import Batch, Fault
from proxy.pipeline.client import ClientGone
from proxy.request import ChatRequest
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal
from proxy.server.client import CollectingClient, StreamingClient
from proxy.server.endpoints import Binding, EndpointTable, RouteMatch, choose, guess_from_head
from proxy.server.listener import SERVER

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("proxy.http")


class RequestContext(Protocol):
    """One request as the rest of the app sees it: which config answers it, who asks, how it ends.

    It holds one generation of the config from the first byte to the last, whatever is reloaded meanwhile.
    """

    @property
    def limits(self) -> LimitSettings: ...

    @property
    def table(self) -> EndpointTable:
        """What is served where."""

    @property
    def models_named(self) -> Container[str]:
        """The models that the config names, as they are written there."""

    @property
    def models_created(self) -> int:
        """When what is offered last changed, as a Unix time."""

    def cors(self, headers: Mapping[str, str], *, preflight: bool) -> Mapping[str, str]:
        """CORS headers for this request; none unless the config allows its origin."""

    def identify(self, headers: Mapping[str, str]) -> Principal: ...

    def describe(self, *, contract: str, path: str, request: ChatRequest | None = None) -> None:
        """What is known of the request so far, for the log and the metrics."""

    def plan(self, request: ChatRequest) -> Plan: ...

    async def run(self, client: StreamingClient | CollectingClient) -> None: ...

    def models(self) -> list[str]: ...

    def ended(self, *, status: int, bytes_out: int, error: ProxyError | None = None) -> None: ...


class App(Protocol):
    """What the handler needs from the composition root."""

    @property
    def operations(self) -> Mapping[str, Operation]: ...

    @property
    def draining(self) -> bool:
        """Connections are to be closed after their answer."""

    @property
    def closed(self) -> bool:
        """Nothing new is begun any more."""

    def visit(
        self, request_id: str, peer: str | None, headers: Mapping[str, str]
    ) -> AbstractContextManager[RequestContext, None]: ...


class Operation(msgspec.Struct, frozen=True):
    """A page for operators. `open` ones ask for no key."""

    answer: Callable[[], Awaitable[Reply]]
    open: bool = False


class Handler:
    """Serves every path of the app."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        request_id = http.headers.get("X-Request-Id", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = secrets.token_hex(16)  # a UUID in form: llama-cpp-python answers 400 to any other
        with self._app.visit(request_id, http.remote, http.headers) as visit:
            call = _Call(self._app, visit, http, request_id)
            try:
                answer = await call.answer()
                # Streamed from here, so that none of what led up to it is kept while it goes on: a prompt may be large.
                return answer if isinstance(answer, web.StreamResponse) else await call.stream(answer)
            except ProxyError as error:
                return call.refuse(error)
            except (asyncio.CancelledError, ConnectionError):
                raise
            except Exception:
                log.exception("request_failed", request_id=request_id)
                if call.begun:
                    raise
                return call.refuse(InternalError(f"The proxy failed; its log has request {request_id}."))


class _Call:
    """One HTTP request while it is being answered."""

    __slots__ = ("_app", "_client", "_found", "_head", "_headers", "_http", "_path", "_place", "_unasked", "_visit")

    def __init__(self, app: App, visit: RequestContext, http: web.BaseRequest, request_id: str) -> None:
        self._app = app
        self._visit = visit
        self._http = http
        self._path = visit.table.resolve(getattr(http.protocol, "prefix", ""), http.rel_url.raw_path)
        self._head = Head(
            id=request_id,
            method=http.method,
            path=self._path,
            query=http.query,
            headers={name.lower(): value for name, value in http.headers.items()},
            models=visit.models_named,
        )
        self._headers = {
            "Server": SERVER,
            "X-Request-Id": request_id,
            **visit.cors(self._head.headers, preflight=False),
        }
        self._place: RouteMatch | None = None
        self._found: Binding | None = None  # until the body is read, whom errors are told by
        self._client: StreamingClient | None = None
        self._unasked = http.headers.get("Expect", "").lower() == "100-continue" and http.version >= HttpVersion11

    @property
    def begun(self) -> bool:
        """Whether the client has had a status."""
        return self._client is not None and self._client.begun

    async def answer(self) -> web.StreamResponse | Encoder:
        """The answer, or what it is to be streamed with."""
        http, visit = self._http, self._visit
        self._check_framing()
        if http.method == "OPTIONS":
            return self._preflight()
        operation = self._app.operations.get(self._path)
        if operation is not None and operation.open:
            self._only(("GET",))
            return self._reply(await operation.answer(), record=False)
        place = self._place = visit.table.find(self._path)
        if place is not None:
            self._found = guess_from_head(place.served(http.method), self._head)
        visit.describe(
            contract=self._found.frontend.name if self._found else "", path=self._path if place or operation else ""
        )
        principal = visit.identify(http.headers)
        if operation is not None:
            self._only(("GET",))
            if principal.routes or principal.models:
                raise Forbidden(
                    "This key is limited to certain routes or models; operator pages need one without limits."
                )
            return self._reply(await operation.answer(), record=False)
        if place is None:
            raise NotFound(f"There is nothing at {self._path[:200]}. {self._closest()}")
        self._only(tuple(place.by_method))
        if self._app.closed:
            raise Draining("This server is stopping. Try again: another one answers.", retry_after=1)
        return await self._serve(place)

    async def _serve(self, place: RouteMatch) -> web.StreamResponse | Encoder:
        visit, head = self._visit, self._head
        served = place.served(self._http.method)
        body = await self._body() if self._http.method == "POST" else b""
        self._found = found = choose(served, head, body)
        match found.endpoint.action:
            case "chat":
                return await self._chat(found.frontend, body)
            case "models":
                return self._reply(found.frontend.models(visit.models(), visit.models_created), record=False)
            case "model":
                listed = visit.models()
                return self._reply(found.frontend.model(place.tail, listed, visit.models_created), record=False)
            case "answer":
                assert found.endpoint.answer is not None
                return self._reply(
                    found.endpoint.answer(body, head, Offer(visit.models(), visit.models_created)), record=False
                )

    def refuse(self, error: ProxyError) -> web.StreamResponse:
        """Answer with an error before anything was sent, in the form of the contract that was called."""
        reply = self._found.frontend.failure(error, self._head) if self._found else _plain_failure(error, self._head)
        return self._reply(reply, error=error)

    # -- answering ---------------------------------------------------------------------------------------------

    async def _chat(self, frontend: Frontend, body: bytes) -> web.StreamResponse | Encoder:
        visit, head = self._visit, self._head
        request = frontend.decode(body, head)
        visit.describe(contract=frontend.name, path=self._path, request=request)
        plan = visit.plan(request)
        head = msgspec.structs.replace(head, options=plan.options)
        encoder = frontend.encoder(request, head)
        if isinstance(encoder, Reply):
            return self._reply(encoder)
        return encoder if request.stream else await self._whole(encoder)

    async def stream(self, encoder: Encoder) -> web.StreamResponse:
        visit = self._visit
        client = self._client = StreamingClient(
            self._http, encoder, self._headers, stall_s=visit.limits.write_stall_s, close=self._app.draining
        )
        failure: ProxyError | None = None
        try:
            if encoder.early:
                await client.begin(flush=True)
            try:
                await visit.run(client)
            except ProxyError as error:
                if not client.begun:
                    return self._reply(encoder.failure(error), error=error)
                failure = error
                await client.send(Batch([Fault(error)]))
            await client.end()
        except ClientGone as gone:
            client.abort()
            raise ConnectionResetError(gone) from None
        finally:
            if client.begun:
                visit.ended(status=200, bytes_out=client.bytes_out, error=failure)
        return client.response

    async def _whole(self, encoder: Encoder) -> web.StreamResponse:
        client = CollectingClient(encoder)
        try:
            await self._visit.run(client)
        except ProxyError as error:
            return self._reply(encoder.failure(error), error=error)
        assert client.reply is not None
        return self._reply(client.reply, error=client.error)

    def _reply(self, reply: Reply, *, error: ProxyError | None = None, record: bool = True) -> web.Response:
        headers = {"Cache-Control": "no-store", **self._headers, **reply.headers, **(error.headers if error else {})}
        response = web.Response(status=reply.status, body=reply.body, headers=headers)
        # Whether a body nobody asked for still comes is the client's choice: what follows could be read as either.
        if self._app.draining or self._unasked or headers.get("Connection") == "close":
            response.force_close()
        if record:
            self._visit.ended(status=reply.status, bytes_out=len(reply.body), error=error)
        return response

    def _preflight(self) -> web.Response:
        """Browsers ask before they send a key, so this asks for none. Without CORS it is an empty yes to nothing."""
        headers = {**self._headers, **self._visit.cors(self._head.headers, preflight=True)}
        return web.Response(status=204, headers=headers)

    # -- finding -----------------------------------------------------------------------------------------------

    def _only(self, methods: tuple[str, ...]) -> None:
        method = self._http.method
        if method not in methods and not (method == "HEAD" and "GET" in methods):
            allowed = ", ".join(sorted({*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
            raise MethodNotAllowed(f"{self._path} is served with {allowed}.", headers={"Allow": allowed})

    def _closest(self) -> str:
        paths = [path for path in self._visit.table if "{" not in path]
        near = closest(self._path, paths)
        return f"Did you mean {near}?" if near else f"Chat is served at {', '.join(sorted(paths))}."

    # -- reading -----------------------------------------------------------------------------------------------

    def _check_framing(self) -> None:
        """Refuse what aiohttp's parser in Python lets through and the one in C does not (H04)."""
        http = self._http
        coding = http.headers.get("Transfer-Encoding")
        if http.version not in {HttpVersion10, HttpVersion11} or (
            coding is not None and (coding.lower() != "chunked" or http.version < HttpVersion11)
        ):
            raise BadRequest("The request is not valid HTTP.", code="invalid_http", headers=CLOSE)

    async def _body(self) -> bytes:
        """The request's body, within the limits. Says no before the body is asked for wherever it can."""
        http, limits = self._http, self._visit.limits
        limit = int(limits.body_mb * 1_000_000)
        self._check_form()
        if http.content_length is not None and http.content_length > limit:
            raise _body_too_large(limit)
        if self._unasked:
            self._unasked = False
            if http.transport is None:
                raise ConnectionResetError
            http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if http.content.is_eof():  # most bodies come with their heads
                body = http.content.read_nowait()
                if len(body) > limit:
                    raise _body_too_large(limit)
                return body
            async with asyncio.timeout(limits.body_s):
                return await self._read(limit)
        except TimeoutError:
            raise RequestTimeout(f"The request body took longer than {limits.body_s:g} s.", headers=CLOSE) from None
        except web.RequestPayloadError:
            raise BadRequest("The request body is not valid HTTP.", headers=CLOSE) from None

    async def _read(self, limit: int) -> bytes:
        content = self._http.content
        pieces: list[bytes] = []
        size = 0
        while piece := await content.readany():
            size += len(piece)
            if size > limit:
                raise _body_too_large(limit)
            pieces.append(piece)
        if pieces:
            content._buffer = _READ  # noqa: SLF001 - an empty deque is 0.8 KB, for as long as the answer takes
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_form(self) -> None:
        """Only plain JSON (H07).

        A body that claims to be no JSON is taken only from a caller that is no browser: `curl -d` says
        "form", while a web page that says "text/plain" would slip past the CORS preflight.
        """
        headers = self._head.headers
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            raise UnsupportedMedia(f"Compressed bodies ({encoding[:20]}) are not read. Send plain JSON.", headers=CLOSE)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
            return
        from_browser = "origin" in headers or "sec-fetch-site" in headers or "sec-fetch-mode" in headers
        if from_browser or kind not in {"", "application/x-www-form-urlencoded"}:
            raise UnsupportedMedia("Send the request as JSON, with `Content-Type: application/json`.", headers=CLOSE)


CLOSE = {"Connection": "close"}

_READ: deque[bytes] = deque()  # what is left of any body that was read to its end


def _body_too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request is larger than {limit / 1_000_000:g} MB (server.limits.body_mb).", headers=CLOSE)


def _plain_failure(error: ProxyError, head: Head) -> Reply:
    """An error where no contract was found: the form that most clients read."""
    body = {"message": error.message, "type": error.type, "code": error.code, "request_id": head.id}
    headers = {"Content-Type": "application/json", **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return Reply(error.status, msgspec.json.encode({"error": body}), headers)
