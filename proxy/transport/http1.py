"""The upstream client: HTTP/1.1 over pooled connections, made for many slow streams of small pieces.

Redirects are not followed, cookies not kept, nothing is cached, and after connecting there is no timer:
the caller's policy decides all that.
"""

import re
import ssl
from collections.abc import Mapping

import msgspec

from proxy.errors import InternalError, UpstreamTruncated
from proxy.transport.address import Address, Destination, Ways, parse
from proxy.transport.base import Request, Response
from proxy.transport.connect import Connector
from proxy.transport.connection import Connection
from proxy.transport.decoding import decoded
from proxy.transport.pool import Pool
from proxy.transport.reader import ResponseReader

STALE_WITHIN_S = 2.0
"""A reused connection that closes sooner than this was already being closed while we sent, so the request was not read.
Later it may have been read: a model that crashed after half a minute of thinking is not asked again."""

MOST_HEADS = 256
"""How many request heads are cached. Addresses may hold model names that clients choose, so the number is bounded."""

_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class HttpTransport:
    """The `Transport` of `proxy.transport.base`. Make it where the loop runs; close it there."""

    def __init__(
        self,
        *,
        idle_s: float = 50.0,  # under the 60 or 75 s after which most servers and balancers hang up
        max_idle_per_origin: int = 256,
        high_water: int = 256 * 1024,
        ssl_context: ssl.SSLContext | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        """`proxies` stands in for the environment's HTTP_PROXY and so on, as `urllib.request.getproxies()` has it."""
        self._high_water = high_water
        self._heads: dict[tuple[str, str, int], _CachedHead] = {}
        self._connector = Connector(ssl_context=ssl_context)
        self._ways = Ways(proxies)
        self._pool = Pool(idle_s=idle_s, max_idle_per_origin=max_idle_per_origin)

    @property
    def auto_tick_s(self) -> float:
        """The shortest time between two reads of an answer that is paced by load, in seconds; 0 is unpaced."""
        return self._pool.pacing.auto_tick_s

    async def open(self, request: Request) -> Response:
        """See `Transport.open`. Also raises `UpstreamTruncated` when the upstream hangs up without answering.

        A pooled connection that turns out dead before any byte of an answer is replaced once (A08).
        """
        destination, head = self._head(request)
        connection = self._pool.take(destination)
        if connection is not None:
            reader = self._send(connection, request, head)
            try:
                return await _answer(reader)
            except UpstreamTruncated:
                if not reader.nothing_came or reader.age_s > STALE_WITHIN_S:
                    raise
        connection = await self._connect(destination, request.connect_s)
        return await _answer(self._send(connection, request, head))

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        await self._pool.aclose()
        await self._connector.aclose()

    def _head(self, request: Request) -> tuple[Destination, bytes]:
        """Where to connect, and the request line and headers to send."""
        key = (request.method, request.url, id(request.headers))
        known = self._heads.get(key)
        if known is None or known.headers is not request.headers:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            address = parse(request.url)
            destination = self._ways.to(address.origin)
            lines = _constant_head(request, address, destination)
            known = self._heads[key] = _CachedHead(request.headers, destination, lines)
        head = [known.lines]
        for name, value in request.more.items():
            if name.lower() not in _OURS:
                head.append(_line(name, value, destination=known.destination))
        if request.body or request.method not in {"GET", "HEAD"}:
            head.append(b"Content-Length: %d\r\n" % len(request.body))
        head.append(b"\r\n")
        return known.destination, b"".join(head)

    async def _connect(self, destination: Destination, within_s: float) -> Connection:
        if not self._pool.closed:
            connection = await self._connector.connect(
                destination, lambda: Connection(destination, self._pool), within_s
            )
            self._pool.add(connection)
            if not self._pool.closed:
                return connection
            connection.abort()
        raise InternalError("the upstream transport is closed")

    def _send(self, connection: Connection, request: Request, head: bytes) -> ResponseReader:
        if request.connected is not None:
            request.connected()
        reader = ResponseReader(
            connection,
            method=request.method,
            head_limit=request.head_limit,
            high_water=self._high_water,
            pacer=self._pool.pacing.pacer(request.tick_s),
        )
        connection.send(head, request.body)
        return reader


async def _answer(reader: ResponseReader) -> Response:
    """The answer once its head has come. Closes the connection on any failure."""
    try:
        await reader.head()
        return decoded(reader, reader.origin)
    except BaseException:
        reader.close()
        raise


class _CachedHead(msgspec.Struct, frozen=True):
    """The part of a request's head that depends on its address and its constant headers."""

    headers: Mapping[str, str]
    destination: Destination
    lines: bytes

    def __repr__(self) -> str:
        return f"_CachedHead({self.destination.origin})"  # the rest holds keys


def _constant_head(request: Request, address: Address, destination: Destination) -> bytes:
    """The request line and `request.headers`. The caller's own framing headers are left out."""
    via = destination.via
    tunnelled = address.origin.scheme == "https"
    target = f"{address.origin}{address.target}" if via is not None and not tunnelled else address.target
    if not _TOKEN.fullmatch(request.method):
        raise InternalError("the request's method is not a word")
    lines = [f"{request.method} {target} HTTP/1.1\r\nHost: {address.origin.authority}\r\n".encode("latin-1")]
    given = {name.lower() for name in request.headers}
    lines += [
        _line(name, value, destination=destination)
        for name, value in request.headers.items()
        if name.lower() not in _OURS
    ]
    if "accept-encoding" not in given:
        lines.append(b"Accept-Encoding: identity\r\n")
    if address.authorization and "authorization" not in given:
        lines.append(_line("Authorization", address.authorization, destination=destination))
    if via is not None and via.authorization and not tunnelled:
        lines.append(_line("Proxy-Authorization", via.authorization, destination=destination))
    return b"".join(lines)


def _line(name: str, value: str, *, destination: Destination) -> bytes:
    if not _TOKEN.fullmatch(name) or _UNSAFE_IN_VALUE.search(value):
        raise InternalError(
            f"a header for {destination.origin} cannot be sent: {name!r} holds a line break, another control "
            "character or one outside Latin-1; does a key end in a line break?"
        )
    return f"{name}: {value}\r\n".encode("latin-1")
