"""litellm's HTTP, over the process's one upstream transport instead of connections of its own.

Its own follow redirects with the prompt and the key, lose what had arrived when a connection breaks, and are
out of a stream's reach. What it sends through here is timed, bounded, refused and closed like any other
backend's request. Some providers insist on connections of their own (Cohere, Cloudflare, AWS and Google's
Vertex among them): for those, closing goes through litellm, and redirects are its affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import httpx

from proxy.backends.http import ERROR_BYTES, ERROR_S
from proxy.backends.litellm.lines import LineGuard
from proxy.backends.streaming import LAST_BYTES_S
from proxy.errors import FrameTooLarge, ProxyError, UpstreamMalformed, UpstreamRedirect, UpstreamTruncated
from proxy.transport import Request, Response, Transport
from proxy.wire.upstream_errors import parse_error

TAKES_HANDLER = frozenset(
    # Providers whose connections come from an `AsyncHTTPHandler` given as `client`. Those built on the OpenAI SDK
    # use `litellm.aclient_session` instead, and refuse it. A test calls each of them.
    {
        "anthropic",
        "azure_ai",
        "databricks",
        "deepseek",
        "fireworks_ai",
        "gemini",
        "groq",
        "hosted_vllm",
        "huggingface",
        "mistral",
        "ollama",
        "ollama_chat",
        "openrouter",
        "together_ai",
        "xai",
    }
)

_OF_THE_CONNECTION = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding"})
_UNDONE = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_BY_LINES = frozenset({"text/event-stream", "application/x-ndjson", "application/ndjson", "application/jsonl"})


class Exchange:
    """One request's HTTP: what litellm may use for it, and what came of it."""

    def __init__(self, transport: Transport, *, connect_s: float, frame_bytes: int, answer_bytes: int) -> None:
        self.transport = transport
        self.connect_s, self.frame_bytes, self.answer_bytes = connect_s, frame_bytes, answer_bytes
        self.begun = False
        self.abandoned = False  # nobody waits any more: do not even connect
        self.response: Response | None = None
        self.guard: LineGuard | None = None

    @property
    def said_done(self) -> bool:
        """Whether the protocol's end sentinel has come. litellm does not pass it on."""
        return self.guard is not None and self.guard.done

    @property
    def status(self) -> int | None:
        return self.response.status if self.response is not None else None

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers if self.response is not None else {}

    def close(self) -> None:
        """Close the connection, unless its answer has been read to the end. Idempotent."""
        if self.response is not None:
            self.response.close()


EXCHANGE: ContextVar[Exchange | None] = ContextVar("litellm_exchange", default=None)
"""Set in the context litellm runs in. A request outside of one is litellm's own idea, and is refused."""


class UpstreamTransport(httpx.AsyncBaseTransport):
    """What httpx's clients take for a transport: hands requests on to that of the current `Exchange`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = EXCHANGE.get()
        if exchange is None or exchange.abandoned:
            raise httpx.ConnectError("nobody has asked for this request", request=request)
        exchange.begun = True
        response = exchange.response = await exchange.transport.open(await _outgoing(request, exchange))
        try:
            return await self._answered(request, response, exchange)
        except BaseException:
            response.close()
            raise

    async def _answered(self, request: httpx.Request, response: Response, exchange: Exchange) -> httpx.Response:
        status = response.status
        if 300 <= status < 400:
            raise UpstreamRedirect(f"the upstream answered with a redirect ({status}), which is never followed")
        headers = [(name, value) for name, value in response.headers.items() if name not in _UNDONE]
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if status >= 400:
            return httpx.Response(status, headers=headers, content=await _error_body(response), request=request)
        if kind == "text/html":
            raise UpstreamMalformed("the upstream answered with a web page; check the backend's api_base")
        if kind == "application/json" and int(response.headers.get("content-length", ERROR_BYTES)) < ERROR_BYTES:
            body = await response.read_all(ERROR_BYTES)
            if detail := parse_error(body):  # an error in a success's clothes (A07): litellm would see no events
                status = detail.status or 502
            return httpx.Response(status, headers=headers, content=body, request=request)
        if kind in _BY_LINES:
            exchange.guard = LineGuard(exchange.frame_bytes)
        stream = _Body(response, exchange.guard, exchange.answer_bytes)
        return httpx.Response(status, headers=headers, stream=stream, request=request)


class _Body(httpx.AsyncByteStream):
    """An answer's body as httpx reads one."""

    def __init__(self, response: Response, guard: LineGuard | None, answer_bytes: int) -> None:
        self._response, self._guard, self._left = response, guard, answer_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        guard = self._guard
        while data := await self._response.read():
            if guard is not None:
                data = guard.feed(data)
            else:
                self._left -= len(data)
                if self._left < 0:
                    raise FrameTooLarge("the upstream sent a larger answer than server.limits.answer_mb allows")
            if data:
                yield data
            if guard is not None and guard.error is not None:
                raise guard.error
        if guard is not None and (data := guard.finish()):
            yield data

    async def aclose(self) -> None:
        """After the end sentinel, meet the body's end too, so that the connection can be used again."""
        if self._guard is not None and self._guard.done:
            with suppress(TimeoutError, ProxyError):
                async with asyncio.timeout(LAST_BYTES_S):
                    await self._response.read()
        self._response.close()


async def _outgoing(request: httpx.Request, exchange: Exchange) -> Request:
    headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_CONNECTION}
    return Request(
        method=request.method,
        url=str(request.url),
        headers={**headers, "accept-encoding": "identity"},
        body=await request.aread(),
        connect_s=exchange.connect_s,
    )


async def _error_body(response: Response) -> bytes:
    """The body of an error, as far as it is worth reading; the status alone says enough."""
    try:
        async with asyncio.timeout(ERROR_S):
            return await response.read_all(ERROR_BYTES)
    except (TimeoutError, UpstreamTruncated, UpstreamMalformed):
        return b""
    finally:
        response.close()


class Lent:
    """The clients litellm is given in place of its own. It keeps them for the whole process, so they are counted."""

    def __init__(self) -> None:
        self._users = 0

    def lend(self, litellm: Any) -> Any:
        """Set up litellm for one more backend; returns its handler for the providers of `TAKES_HANDLER`."""
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # noqa: PLC0415  (takes seconds at first)

        self._users += 1
        if litellm.aclient_session is None or litellm.aclient_session.is_closed:
            litellm.aclient_session = httpx.AsyncClient(transport=UpstreamTransport(), trust_env=False)
        return AsyncHTTPHandler(transport=UpstreamTransport(), follow_redirects=False)

    async def take_back(self, litellm: Any) -> None:
        """One backend less. With the last one goes what litellm has opened for itself."""
        self._users -= 1
        if self._users == 0:
            await litellm.close_litellm_async_clients()
            litellm.in_memory_llm_clients_cache.flush_cache()


LENT = Lent()
