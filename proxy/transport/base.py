"""The interface of the upstream transport: small enough to be replaced, and to be faked in a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec


class Headers(dict[str, str]):
    """Headers whose values nothing prints: they hold keys."""

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an upstream. `url` is absolute; its headers are all there are but Host and Content-Length.

    `headers` given as the same object each time are checked and encoded once; `more` is for what changes.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    more: Mapping[str, str] = {}
    body: bytes = b""
    connect_s: float = 5.0  # name look-up, TCP, proxy and TLS together
    head_limit: int = 64 * 1024  # bytes of the answer's status line and headers
    tick_s: float | None = 0.0  # once paced: how often its answer is read at most; 0 is no bound, `None` by load

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url.partition('?')[0]})"  # headers hold keys, the body a prompt


Sink = Callable[[bytes], bool]
"""Takes body bytes; false when it wants to be asked before there are more."""


class Response(Protocol):
    """An answer whose head has arrived. Close it whatever happens; leaving it open is leaving a model running."""

    status: int
    headers: Mapping[str, str]  # names in lower case; repeated ones joined with ", "

    @property
    def at_end(self) -> bool:
        """Whether the body's proper end has come and all of it has been read."""

    async def read(self) -> bytes:
        """All body bytes that have come since the last call, at least one; `b""` at the body's proper end.

        Content-Encoding gzip and deflate are undone incrementally. Raises `UpstreamTruncated` when the
        connection ends before the body does (a body that only the connection's end delimits cannot tell,
        unless it is reset), `UpstreamMalformed` for bytes that are not HTTP. While nobody reads, the socket is left unread once
        the high-water mark is reached, so that a slow client slows the upstream down.
        """

    async def push(self, sink: Sink) -> None:
        """Give `sink` what comes in the very callback that reads it, with no task to be woken in between.

        Returns when `sink` wants no more, and for whatever only `read` can tell: what has come already, the end,
        an error; an implementation may return at once. What `sink` raises is raised here.
        """

    def pace(self, on: bool) -> None:
        """From now on read no more often than the request's `tick_s` says, or as it comes again."""

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body; raises `FrameTooLarge` past `limit` bytes."""

    def close(self) -> None:
        """Done with it: the connection goes back to the pool if the body has been read to its end and nothing
        else is buffered; otherwise it is closed at once, which tells the upstream to stop. Idempotent.
        """


class Transport(Protocol):
    """Sends requests. One per process, shared by all backends; it keeps idle connections per origin."""

    @property
    def auto_tick_s(self) -> float:
        """How often those answers are read at most that leave it to the load, in seconds; 0 is as they come."""

    async def open(self, request: Request) -> Response:
        """Send `request`, wait for the answer's head. Cancelling the wait closes the connection.

        Raises `UpstreamConnect` (refused, unknown host, TLS, no connection within `connect_s`),
        `UpstreamTruncated` (it hung up without an answer), `UpstreamMalformed`, or `InternalError` for a
        request that cannot be sent as it is, such as a header with a line break. Redirects are returned as they are. There is no timer after connecting: the
        pipeline owns those.
        """

    async def aclose(self) -> None: ...
