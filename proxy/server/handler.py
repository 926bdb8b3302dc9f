"""The HTTP handler: the path of every request through the server.

One handler serves every path, so that nothing can be reached without these checks (G03). It has its own table of
paths, compared letter by letter, and one order of checks: preflight, key, path, method, size and form, contract.
"""

import asyncio

import structlog
from aiohttp import web

from proxy.contracts.base import Encoder, Offer, Reply
from proxy.errors import Draining, Forbidden, InternalError, ProxyError
from proxy.events import Batch, Fault
from proxy.pipeline.client import ClientGone
from proxy.pipeline.exchange import Exchange
from proxy.request import ChatRequest
from proxy.routing.conditions import Facts
from proxy.server import resumable as streams
from proxy.server.body import check_framing, read_body
from proxy.server.client import CollectingClient, StreamingClient
from proxy.server.context import STOPPING, App, RequestContext
from proxy.server.endpoints import Binding, RouteMatch, resolve
from proxy.server.not_found import not_found
from proxy.server.operator_pages import Operation, find_operation
from proxy.server.resumable import STREAMS, Resumed
from proxy.wire.hops import HOPS, check_hops

log = structlog.get_logger("proxy.http")


class Handler:
    """Serves every path of the app."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        with RequestContext(self._app, http) as context:
            try:
                return await self._answer(context)
            except ProxyError as error:
                return context.refuse(error)
            except (asyncio.CancelledError, ConnectionError):
                raise
            except Exception:
                id = context.record.request_id
                log.exception("request_failed", **context.record.ids)
                if context.begun:
                    raise
                return context.refuse(InternalError(f"The proxy failed; its log has request {id}."))

    async def _answer(self, context: RequestContext) -> web.StreamResponse:
        check_framing(context.http)
        if context.head.method == "OPTIONS":
            return context.preflight()
        match = context.match
        if match is None and (operation := find_operation(self._app.operations, context.path)) is not None:
            return await _operate(context, operation)
        context.identify()
        if match is None and context.path.startswith(STREAMS):
            return await streams.answer(context)
        if match is None:
            raise not_found(context.path, [*context.snapshot.table, *self._app.operations])
        context.allow_only(*match.by_method)
        if self._app.closed:
            raise Draining(STOPPING, retry_after=1)
        begun = await _begin(context, match)
        if isinstance(begun, web.StreamResponse):
            return begun
        if isinstance(begun, Resumed):
            return await streams.read(context, begun.log, begun.position)
        exchange, encoder = begun
        context.begin_answer(encoder)
        if exchange.request.stream:
            return await _stream(context, exchange, encoder)
        return await _collect(context, exchange, encoder)


async def _operate(context: RequestContext, operation: Operation) -> web.StreamResponse:
    """A page for operators."""
    if not operation.open:
        context.identify()
    context.allow_only(*operation.methods)
    principal = context.principal
    if principal is not None and principal.restricted and not operation.for_all:
        raise Forbidden("This key is limited to certain routes or models; operator pages need one without limits.")
    if operation.answer is not None:
        return context.reply(await operation.answer(), record=False)
    assert operation.handle is not None
    context.recorded = False
    return await operation.handle(context)


async def _begin(context: RequestContext, match: RouteMatch) -> tuple[Exchange, Encoder] | Resumed | web.Response:
    """Read the request, plan it, and make what answers it; or answer at once, if no model is needed.

    A step of its own, so that the body is freed before the answer comes. It may be megabytes, and the answer may
    take minutes.
    """
    head, snapshot = context.head, context.snapshot
    has_body = head.method == "POST" and (context.http.body_exists or not match.tail)  # `…/{id}/cancel` has none
    body = await read_body(context) if has_body else b""
    context.binding = binding = resolve(match.served(head.method), head, body)
    frontend, endpoint = binding.frontend, binding.endpoint
    if (
        endpoint.action in {"resume", "stop"}
        and (found := await streams.by_name(context, binding, match.tail)) is not None
    ):
        return context.reply(found, record=False) if isinstance(found, Reply) else found
    if endpoint.action != "chat":
        return context.reply(_known(context, binding, match.tail, body), record=False)
    if HOPS in head.headers:
        check_hops(head.headers)
    request = frontend.decode(body, head)
    record = context.record
    record.model, record.user, record.stream = request.model or "", request.user or "", request.stream
    record.contract, record.path, record.router = frontend.name, context.path, snapshot.router
    record.task = request.task
    facts = Facts(request, context.principal)
    try:
        plan = snapshot.router.plan_by(facts)
    finally:
        record.kept = snapshot.router.keep(facts)
    record.route = plan.route
    head.options = plan.options
    encoder = frontend.encoder(request, head)
    if isinstance(encoder, Reply):
        return context.reply(encoder)
    resumable = plan.resume is not None and request.stream
    if resumable and (running := await streams.join(context, body)) is not None:
        return running
    if snapshot.admission is not None:
        plan = await context.admit(snapshot.admission, request, plan)
    exchange = Exchange(snapshot.pipeline, request, plan, record)
    return await streams.begin(context, exchange, encoder, body) if resumable else (exchange, encoder)


def _known(context: RequestContext, binding: Binding, id: str, body: bytes) -> Reply:
    """The answer to a question about models, or one that a contract answers by itself."""
    models, created = _models(context, binding), context.snapshot.loaded_at
    match binding.endpoint.action:
        case "models":
            return binding.frontend.models(models, created)
        case "model":
            return binding.frontend.model(id, models, created)
        case _:
            assert binding.endpoint.answer is not None
            return binding.endpoint.answer(body, context.head, Offer(models, created, context.snapshot.context))


def _models(context: RequestContext, binding: Binding) -> list[str]:
    """The models that this client can ask for at the contract's own path."""
    head, snapshot = context.head, context.snapshot
    frontend = binding.frontend
    path = next((point.path for point in frontend.endpoints if point.action == "chat"), head.path)
    asker = ChatRequest(id=head.id, contract=frontend.name, dialect="", messages=(), path=path, headers=head.headers)
    return snapshot.router.models(asker, context.principal, listed=snapshot.listed_models)


async def _stream(context: RequestContext, exchange: Exchange, encoder: Encoder) -> web.StreamResponse:
    """Answer as the tokens come. An error before the first of them is raised, later ones are part of the answer."""
    client = StreamingClient(context, encoder)
    failure: ProxyError | None = None
    try:
        if encoder.early:
            await client.begin(flush=True)
        try:
            await context.run(exchange, client)
        except ProxyError as error:
            if not client.begun:
                raise
            failure = error
            await client.send(Batch([Fault(error)]))
        await client.end()
    except ClientGone:
        client.abort()
    else:
        return client.response
    finally:
        if client.begun:
            context.begun = True
            context.ended(200, client.bytes_out, failure)
    raise ConnectionResetError  # not inside `except ClientGone`: the timer's error behind it would keep this task


async def _collect(context: RequestContext, exchange: Exchange, encoder: Encoder) -> web.StreamResponse:
    """Answer when the answer is whole."""
    client = CollectingClient(encoder)
    await context.run(exchange, client)
    assert client.reply is not None
    return context.reply(client.reply, error=client.error)
