"""The interface of the upstream transport: small enough to be replaced, and to be faked in a test."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from proxy.errors import FrameTooLarge


class Headers(dict[str, str]):
    """Headers whose values nothing prints: they hold keys."""

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an upstream. `url` is absolute. Only Host and Content-Length are added to its headers.

    `headers` that are the same object each time are checked and encoded once; `more` is for those that change.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    more: Mapping[str, str] = {}
    body: bytes = b""
    connect_s: float = 5.0  # name look-up, TCP, proxy and TLS together
    head_limit: int = 64 * 1024  # bytes of the answer's status line and headers
    connected: Callable[[], None] | None = None  # called when there is a connection, and again for one that replaces it
    tick_s: float | None = 0.0  # shortest time between two reads once paced; 0: unpaced, `None`: by load

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url.partition('?')[0]})"  # headers hold keys, the body a prompt


Sink = Callable[[bytes], bool]
"""Takes body bytes. Returns false to stop the pushing."""


class Response(Protocol):
    """An answer whose head has come. Close it in all cases: an open one keeps a model running."""

    status: int
    headers: Mapping[str, str]  # names in lower case; repeated ones joined with ", "

    @property
    def at_end(self) -> bool:
        """Whether the body's proper end has come and all of it has been read."""

    async def read(self) -> bytes:
        """All body bytes that have come since the last call, at least one; `b""` at the body's proper end.

        Content-Encoding gzip and deflate are undone incrementally. Raises `UpstreamTruncated` when the connection ends
        before the body does (a body that only the connection's end delimits cannot tell, unless it is reset),
        `UpstreamMalformed` for bytes that are not HTTP. Without a reader, the socket is left unread once the high-water
        mark is reached, so that a slow client slows the upstream down.
        """

    async def push(self, sink: Sink) -> None:
        """Call `sink` with body bytes inside the callback that reads them from the socket, without waking a task.

        Returns when `sink` returns false, and when there is something for `read`: bytes that came earlier, the end,
        an error. An implementation may return at once. What `sink` raises is raised here.
        """

    def pace(self, on: bool) -> None:
        """Start or stop reading at most once per `tick_s` of the request."""

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body; raises `FrameTooLarge` past `limit` bytes."""

    def close(self) -> None:
        """Release the answer. Its connection returns to the pool if the body has been read to its end and nothing
        else is buffered; otherwise it closes at once, so that the upstream stops. Idempotent.
        """


async def read_all(response: Response, limit: int) -> bytes:
    """The rest of a body, as one piece of at most `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    while piece := await response.read():
        size += len(piece)
        if size > limit:
            raise FrameTooLarge(f"the upstream's answer is larger than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


class Transport(Protocol):
    """Sends requests. One per process, shared by all backends; it keeps idle connections per origin."""

    @property
    def auto_tick_s(self) -> float:
        """The shortest time between two reads of an answer that is paced by load, in seconds; 0 is unpaced."""

    async def open(self, request: Request) -> Response:
        """Send `request`, wait for the answer's head. Cancelling the wait closes the connection.

        Raises `UpstreamConnect` (refused, unknown host, TLS, no connection within `connect_s`), `UpstreamTruncated` (it
        hung up without an answer), `UpstreamMalformed`, or `InternalError` for a request that cannot be sent as it is,
        such as a header with a line break. Redirects are returned as they are. After connecting there is no timer here:
        the pipeline has those.
        """

    async def aclose(self) -> None: ...
