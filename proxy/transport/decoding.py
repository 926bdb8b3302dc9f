"""Undo Content-Encoding as the bytes come.

Requests ask for `identity`; some upstreams compress all the same. Flushed bytes are delivered at once, and a
small body that unpacks into a huge one is delivered in pieces of bounded size (B12).
"""

import asyncio
import zlib
from collections.abc import Mapping

from proxy.errors import UpstreamMalformed, UpstreamTruncated
from proxy.transport.base import Response, Sink, read_all

_UNREADABLE = frozenset({"br", "zstd", "compress", "lz4", "lzma", "xz", "snappy", "dcb", "dcz", "aes128gcm", "exi"})
"""Codings that cannot be undone here. Other words, such as `utf-8` and `none`, are no codings: the body is as it stands."""

STEP = 64 * 1024  # most bytes one read() unpacks
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Inflater:
    """gzip or deflate, without I/O: `feed` bytes, then call `step` until it returns nothing."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._machine: zlib._Decompress | None = None
        self._rest = b""
        self._ended = False  # at least one member has ended
        self.full = False  # the last step was as large as it may be: there may be more

    @property
    def finished(self) -> bool:
        """Whether the data so far may end here: not inside a compressed stream."""
        return self._machine is None and not self._rest

    def feed(self, data: bytes) -> None:
        self._rest += data

    def step(self) -> bytes:
        """At most `STEP` bytes; empty when more input is needed. Raises `zlib.error`."""
        while self._rest or self.full:
            machine = self._machine or self._next_member()
            if machine is None:
                return b""
            piece = machine.decompress(self._rest, STEP)
            self._rest = machine.unconsumed_tail
            self.full = len(piece) == STEP
            if machine.eof:
                self._rest, self._ended = machine.unused_data, True
                self._machine, self.full = None, False
            if piece:
                return piece
        return b""

    def _next_member(self) -> "zlib._Decompress | None":
        """A decompressor for what follows: gzip allows several members, with zeros between them."""
        if self._ended:
            self._rest = self._rest.lstrip(b"\0")
        if self._rest:
            self._machine = zlib.decompressobj(self._window())
        return self._machine

    def _window(self) -> int:
        if self._gzip:
            return _GZIP
        return _ZLIB if self._rest[0] & 0x0F == 8 else _RAW  # "deflate" is sent with and without zlib's header


class Decoded:
    """A response whose body is decompressed as it is read."""

    __slots__ = ("_coding", "_inflater", "_origin", "_response", "headers", "status")

    def __init__(self, response: Response, coding: str, origin: str) -> None:
        self._response = response
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._coding, self._origin = coding, origin
        self._inflater = Inflater(coding)

    @property
    def at_end(self) -> bool:
        return self._response.at_end and self._inflater.finished and not self._inflater.full

    async def read(self) -> bytes:
        inflater = self._inflater
        if inflater.full:
            await asyncio.sleep(0)  # a bomb must not keep the loop for itself
        try:
            while not (piece := inflater.step()):
                packed = await self._response.read()
                if not packed:
                    break
                inflater.feed(packed)
        except zlib.error:
            raise UpstreamMalformed(
                f"{self._origin} sent a body that is not {self._coding} as its Content-Encoding says"
            ) from None
        if not piece and not inflater.finished:
            raise UpstreamTruncated(f"{self._origin} ended its answer in the middle of the {self._coding} data")
        return piece

    async def push(self, sink: Sink) -> None:
        """Return at once: one socket read of a compressed body may unpack into a thousand reads."""

    def pace(self, on: bool) -> None:
        self._response.pace(on)

    async def read_all(self, limit: int) -> bytes:
        return await read_all(self, limit)

    def close(self) -> None:
        self._response.close()


def decoded(response: Response, origin: str) -> Response:
    """`response` itself, or wrapped if its body is compressed. Raises `UpstreamMalformed` if that cannot be undone."""
    label = response.headers.get("content-encoding", "").strip().lower()
    if label in {"", "identity"}:
        return response
    named = [coding.strip().removeprefix("x-") for coding in label.split(",")]
    codings = [coding for coding in named if coding in {"gzip", "deflate"} or coding in _UNREADABLE]
    if len(codings) > 1 or not _UNREADABLE.isdisjoint(codings):
        raise UpstreamMalformed(
            f"{origin} sent an answer compressed as {label[:40]!r}: not asked for, and neither gzip nor deflate"
        )
    return Decoded(response, codings[0], origin) if codings else response
