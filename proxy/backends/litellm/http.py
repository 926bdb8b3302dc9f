"""litellm's HTTP over the process's one upstream transport, in place of connections of its own.

litellm's own client follows redirects with the prompt and the key, loses what had come when a connection breaks, and
cannot be closed with the stream. Requests that go through here are timed, bounded, refused and closed like any other
backend's. Some providers insist on connections of their own (Cohere, Cloudflare, AWS and Google's Vertex among them):
litellm closes those, and decides about their redirects.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from time import time
from typing import Any

import httpx

from proxy.backends.http import error_body, retry_after
from proxy.backends.litellm.lines import LineGuard
from proxy.backends.litellm.wires import DECODERS, LITELLM, wire_of, wire_of_json
from proxy.backends.streaming import Decoder, content_type, read_json, read_last_bytes, sniff
from proxy.contracts.openai import stream as openai
from proxy.errors import FrameTooLarge, UpstreamMalformed, UpstreamRedirect
from proxy.request import NO_HEADERS
from proxy.transport import Request, Response, Transport
from proxy.wire.secret_shapes import Secrets
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean, parse_error, upstream_error

TAKES_HANDLER = frozenset({
    "anthropic", "azure_ai", "databricks", "deepseek", "fireworks_ai", "gemini", "groq", "hosted_vllm", "huggingface",
    "mistral", "ollama", "ollama_chat", "openrouter", "together_ai", "xai",
})  # fmt: skip
"""Providers that use an `AsyncHTTPHandler` given as `client`. Those built on the OpenAI SDK refuse it, and use
`litellm.aclient_session` instead. A test calls each of them."""

_OF_THE_CONNECTION = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding"})
_UNDONE = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
_TELL_WITHIN = 64 * 1024  # bytes of a stream after which its wire is left to litellm
_JSON_TOOL = b'"json_tool_call"'
"""A tool that litellm makes of `response_format` for some providers; it turns the call back into text."""


class UpstreamCall:
    """One request of litellm's, sent over the process's transport: its limits, and the answer it got."""

    def __init__(
        self,
        transport: Transport,
        *,
        connect_s: float,
        frame_bytes: int,
        answer_bytes: int,
        tick_s: float | None = 0.0,
        by_lines: bool = False,
        secrets: Secrets | None = None,
        clean: Clean = one_line_of,
        trace: Mapping[str, str] = NO_HEADERS,
        connected: Callable[[], None] | None = None,
    ) -> None:
        """`by_lines`: the provider streams lines of JSON, also under another content type."""
        self.transport = transport
        self.connect_s, self.tick_s = connect_s, tick_s
        self.frame_bytes, self.answer_bytes = frame_bytes, answer_bytes
        self.by_lines = by_lines
        self.secrets = Secrets() if secrets is None else secrets
        self.clean = clean
        self.trace, self.connected = trace, connected
        self.sent = False
        self.abandoned = False  # the client has left, so it must not even connect
        self.origin = ""
        self.response: Response | None = None
        self.first = b""  # what has been read of the body
        self.wire = LITELLM
        self.guard: LineGuard | None = None
        self.body: _Body | None = None

    @property
    def has_end_sentinel(self) -> bool:
        """Whether the protocol's end sentinel has come. litellm does not pass it on."""
        return self.guard is not None and self.guard.done

    @property
    def finish_reason(self) -> str:
        """The provider's own finish reason, if it has come."""
        return self.guard.finish_reason if self.guard is not None else ""

    @property
    def status(self) -> int | None:
        return self.response.status if self.response is not None else None

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers if self.response is not None else {}

    def decoder(self) -> Decoder | None:
        """What reads the answer's body from `first` on; `None` if litellm has to, or has begun to."""
        make = DECODERS.get(self.wire)
        if make is None or self.body is None or self.body.begun:
            return None
        return make(self.frame_bytes, self.clean)

    def close(self) -> None:
        """Close the connection, unless its answer has been read to the end. Idempotent."""
        if self.response is not None:
            self.response.close()


CURRENT_CALL: ContextVar[UpstreamCall | None] = ContextVar("litellm_call", default=None)
"""Set in the context in which litellm runs. A request outside of one is litellm's own idea, and is refused."""


class UpstreamTransport(httpx.AsyncBaseTransport):
    """A transport for httpx's clients: sends requests over that of the current `UpstreamCall`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = CURRENT_CALL.get()
        if call is None or call.abandoned:
            raise httpx.ConnectError("no client has asked for this request", request=request)
        call.sent = True
        outgoing = await _outgoing(request, call)
        call.origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        call.secrets.learn(value for name, value in outgoing.headers.items() if name in _CREDENTIALS)
        response = call.response = await call.transport.open(outgoing)
        try:
            return await _answer(request, response, call, own_tool=_JSON_TOOL in outgoing.body)
        except BaseException:
            response.close()
            raise


async def _answer(request: httpx.Request, response: Response, call: UpstreamCall, *, own_tool: bool) -> httpx.Response:
    """The answer for litellm. Raises for redirects, web pages, and errors with a status of 2xx."""
    status = response.status
    if 300 <= status < 400:
        raise UpstreamRedirect(f"the upstream answered with a redirect ({status}), which is never followed")
    headers = [(name, value) for name, value in response.headers.items() if name not in _UNDONE]
    if status >= 400:
        body = await error_body(response)
        response.close()
        return httpx.Response(status, headers=headers, content=body, request=request)
    kind = content_type(response)
    is_stream, first = await sniff(response)
    if is_stream:
        wire, first = await _wire(response, first)
        call.wire = LITELLM if own_tool else wire
    elif is_stream is None and kind == "text/html":
        raise UpstreamMalformed("the upstream answered with a web page; check the backend's api_base")
    elif is_stream is False and not call.by_lines and kind not in _LINES:
        body = await read_json(response, first, call.answer_bytes)
        if detail := parse_error(body):
            raise upstream_error(detail, clean=call.clean, retry_after=retry_after(response.headers, time()))
        call.wire, first = LITELLM if own_tool else wire_of_json(body), body
        if call.wire not in DECODERS:
            return httpx.Response(status, headers=headers, content=body, request=request)
    call.first = first
    if is_stream is not None:
        call.guard = LineGuard(call.frame_bytes, call.clean)
    call.body = _Body(response, call)
    return httpx.Response(status, headers=headers, stream=call.body, request=request)


async def _wire(response: Response, first: bytes) -> tuple[str, bytes]:
    """The wire of an event stream that begins with `first`, and what had to be read to tell."""
    while not (wire := wire_of(first)) and len(first) <= _TELL_WITHIN:
        data = await response.read()
        if not data:
            return openai.DIALECT, first  # nothing but comments: its decoder calls that a cut
        first += data
    return wire or LITELLM, first


class _Body(httpx.AsyncByteStream):
    """An answer's body as httpx reads one."""

    def __init__(self, response: Response, call: UpstreamCall) -> None:
        self._response, self._guard, self._left = response, call.guard, call.answer_bytes
        self._call = call
        self.begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        guard = self._guard
        data, self._call.first = self._call.first, b""
        while data or (data := await self._response.read()):
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
            data = b""
        if guard is not None:
            if data := guard.finish():
                yield data
            if guard.error is not None:
                raise guard.error

    async def aclose(self) -> None:
        """Read the body's end after the end sentinel, so that the connection can be used again."""
        if self._guard is not None and self._guard.done:
            await read_last_bytes(self._response)
        self._response.close()


async def _outgoing(request: httpx.Request, call: UpstreamCall) -> Request:
    headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_CONNECTION}
    return Request(
        method=request.method,
        url=str(request.url),
        headers={**headers, "accept-encoding": "identity", **call.trace},
        body=await request.aread(),
        connect_s=call.connect_s,
        tick_s=call.tick_s,
        connected=call.connected,
    )


class SharedClients:
    """The HTTP clients that litellm uses in place of its own. They live until the last backend of the kind closes."""

    def __init__(self) -> None:
        self._users = 0

    def set_up(self, litellm: Any) -> Any:
        """Prepare litellm for one more backend; returns the handler for the providers of `TAKES_HANDLER`."""
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # noqa: PLC0415  (takes seconds at first)

        self._users += 1
        if litellm.aclient_session is None or litellm.aclient_session.is_closed:
            litellm.aclient_session = httpx.AsyncClient(transport=UpstreamTransport(), trust_env=False)
        return AsyncHTTPHandler(transport=UpstreamTransport(), follow_redirects=False)

    async def release(self, litellm: Any) -> None:
        """One backend less. The last one also closes the clients that litellm opened by itself."""
        self._users -= 1
        if self._users == 0:
            await litellm.close_litellm_async_clients()
            litellm.in_memory_llm_clients_cache.flush_cache()


SHARED_CLIENTS = SharedClients()
