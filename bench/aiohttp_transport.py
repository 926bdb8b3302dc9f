"""The whole product on aiohttp's client in place of its own upstream transport: what does that cost, and what breaks?

    python -m bench.aiohttp_transport serve -c config.yaml        as `chat-proxy`, for the benchmark
    TRANSPORT=aiohttp pytest tests/e2e                            as the tests start it

It fulfils `proxy.transport.base` as well as aiohttp's public interface allows. What it cannot tell apart is said
where it is mapped. Not for production: see docs/performance.md.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import sys
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from proxy.errors import InternalError, ProxyError, UpstreamConnect, UpstreamMalformed, UpstreamTruncated
from proxy.transport.address import Destination, parse
from proxy.transport.base import Request, Response, Sink, read_all
from proxy.transport.decoding import decoded
from proxy.transport.http1 import STALE_WITHIN_S, _constant_head
from proxy.transport.pacing import Pacing

NO_TIMERS = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
WARNED_OF = 1024 * 1024  # bytes of a larger body make aiohttp issue a warning
NOT_OURS_TO_ADD = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AiohttpTransport:
    """A `Transport` over one `ClientSession`."""

    def __init__(self, *, high_water: int = 256 * 1024, ssl_context: ssl.SSLContext | None = None, **_: Any) -> None:
        self._buffer = high_water // 2  # aiohttp stops reading at twice its limit
        self._ssl_context = ssl_context
        self._opened: aiohttp.ClientSession | None = None
        self._closed = False
        self.pacing = Pacing()
        self._checked: dict[tuple[str, int], Mapping[str, str]] = {}

    @property
    def auto_tick_s(self) -> float:
        """See `Transport.auto_tick_s`."""
        return self.pacing.auto_tick_s

    async def open(self, request: Request) -> Response:
        """See `Transport.open`. A pooled connection that turns out dead is replaced once, as far as that can be told."""
        self._check(request)
        for again in (True, False):
            seen, began = SimpleNamespace(reused=False), time.monotonic()
            try:
                response = await self._send(request, seen)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if again and seen.reused and time.monotonic() - began < STALE_WITHIN_S:
                    continue  # whether a byte of an answer had come cannot be told
                raise _translated(error, request) from error
            except (aiohttp.ClientError, http_exceptions.HttpProcessingError, TimeoutError, OSError) as error:
                raise _translated(error, request) from error
            except ValueError as error:
                raise InternalError(f"the request cannot be sent: {error}") from None
            answer = Answer(response, request, self.pacing)
            try:
                return decoded(answer, answer.origin)
            except BaseException:
                answer.close()
                raise
        raise AssertionError("the second time round never goes on")

    async def aclose(self) -> None:
        self._closed = True
        self.pacing.close()
        if self._opened is not None:
            await self._opened.close()

    def _check(self, request: Request) -> None:
        """Refuse what must not be sent, once for the same address and headers, as ours does."""
        key = (request.url, id(request.headers))
        if self._checked.get(key) is not request.headers:
            address = parse(request.url)
            _constant_head(request, address, Destination(address.origin))
            self._checked[key] = request.headers

    async def _send(self, request: Request, seen: SimpleNamespace) -> aiohttp.ClientResponse:
        return await self._session().request(
            request.method,
            URL(request.url, encoded=True),
            data=None
            if request.method == "GET" and not request.body
            else request.body
            if len(request.body) <= WARNED_OF
            else io.BytesIO(request.body),
            headers={**request.headers, **request.more},
            allow_redirects=False,
            skip_auto_headers=NOT_OURS_TO_ADD,
            max_field_size=request.head_limit,
            timeout=aiohttp.ClientTimeout(total=None, connect=request.connect_s),
            trace_request_ctx=seen,
        )

    def _session(self) -> aiohttp.ClientSession:
        """Made when first needed: it wants a running loop."""
        if self._closed:
            raise InternalError("the upstream transport is closed")
        if self._opened is None:
            noting = aiohttp.TraceConfig()
            noting.on_connection_reuseconn.append(_note_reuse)
            verified: ssl.SSLContext | bool = self._ssl_context or True
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=50, ssl=verified),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=NO_TIMERS,
                auto_decompress=False,
                read_bufsize=self._buffer,
                trace_configs=[noting],
            )
        return self._opened


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


class Answer:
    """A `Response`."""

    def __init__(self, response: aiohttp.ClientResponse, request: Request, pacing: Pacing) -> None:
        self._response, self._request = response, request
        self._pacing, self._pacer = pacing, pacing.pacer(request.tick_s)
        self._paced = self._held = self._released = self._gathered = False
        self._read_at = self._read_before = float("-inf")
        self._clock = asyncio.get_running_loop().time
        self.status = response.status
        self.headers: Mapping[str, str] = _joined(response)
        self.origin = str(URL(request.url, encoded=True).origin())

    async def read(self) -> bytes:
        if self._paced:
            self._hold_if_fast()
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as error:
            raise _translated(error, self._request) from error
        if self._paced:
            self._read_before, self._read_at = self._read_at, self._clock()
            self._gathered = data.count(b"\n\n") > 1  # how many reads it took cannot be told
        return data

    async def read_all(self, limit: int) -> bytes:
        return await read_all(self, limit)

    @property
    def at_end(self) -> bool:
        return self._response.content.at_eof()

    async def push(self, sink: Sink) -> None:
        """See `Response.push`: aiohttp has no place to be called back from."""

    def pace(self, on: bool) -> None:
        """Behind aiohttp's back: it reads on by itself only after it has itself stopped reading."""
        pacer = self._pacer
        if pacer is None or on is self._paced:
            return
        self._paced = on
        if on:
            self._read_at = self._clock()
            self._pacing.began(pacer)
        else:
            self._pacing.ended(pacer)
            self.release()

    def release(self) -> None:
        """Read on: the tick has come, or there is no more waiting for it."""
        if self._held:
            self._held, self._released = False, True
            if transport := self._socket():
                transport.resume_reading()

    def close(self) -> None:
        """aiohttp gives a connection back by itself once the body's end has come; then this does nothing."""
        self.pace(on=False)
        self._response.close()

    def _hold_if_fast(self) -> None:
        pacer = self._pacer
        assert pacer is not None
        fast = self._gathered if self._released else self._read_at - self._read_before < pacer.tick_s
        self._released = False
        if fast and pacer.tick_s and (transport := self._socket()):
            transport.pause_reading()
            self._held = True
            pacer.hold(self)

    def _socket(self) -> asyncio.Transport | None:
        """What the answer comes through; nothing once all of it has come."""
        connection = self._response.connection
        return connection.transport if connection else None  # type: ignore[return-value]  # aiohttp says BaseTransport, for it wraps TLS too


def _joined(response: aiohttp.ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _translated(error: Exception, request: Request) -> ProxyError:
    origin = URL(request.url, encoded=True).origin()
    match error:
        case TimeoutError():  # after connecting there is no timer
            return UpstreamConnect(f"no connection to {origin} within {request.connect_s:g} s", status=504)
        case aiohttp.ClientConnectorError():
            return UpstreamConnect(f"connection to {origin} failed ({type(error).__name__})")
        case aiohttp.ClientPayloadError() if "not completed" in str(error):  # else its kind tells nothing
            return UpstreamTruncated(f"{origin} closed the connection before its answer was complete")
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError() | http_exceptions.HttpProcessingError():
            return UpstreamMalformed(f"{origin} sent what is not HTTP/1.1")
        case aiohttp.InvalidURL():
            return InternalError("the upstream URL cannot be read")
        case _:
            return UpstreamTruncated(f"{origin} closed the connection before it answered")


def main() -> None:
    """`chat-proxy`, with the other transport."""
    from proxy import app, cli  # noqa: PLC0415 - the tests need only the class

    app.HttpTransport = AiohttpTransport  # type: ignore[misc,assignment]  # it has all that is used of the other
    cli.main(sys.argv[1:])


if __name__ == "__main__":
    main()
