"""HTTP/1.1 clients on bare sockets: they read only when told to, see how a body ended, and can be rude.

    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", {"messages": [...]})
        head = await client.read_head()
        text = await client.read_until(b"first")
        client.rst()

Nothing is read ahead but what came with it in one `recv`, so a client that stops calling `read_…` is a
client that reads nothing: give it a small `receive_buffer` to make that felt soon.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

End = Literal[
    "",  # not yet
    "final chunk",
    "length",
    "none",  # the answer has no body
    "close",  # delimited by the close: complete or not, nobody can tell
    "cut",  # the connection ended before the body did
]

WITHIN_S = 60.0  # a wait for what must happen: only a failing test waits as long


@dataclass(frozen=True)
class Head:
    """A status line and headers; names in lower case, a repeated one in a list of its own in `all`."""

    version: str
    status: int
    reason: str
    headers: dict[str, str]
    all: list[tuple[str, str]]
    raw: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


class RawClient:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.end: End = ""  # how the last body ended
        self.gone = ""  # "FIN" or "RST" once the upstream has closed
        self.received = 0  # bytes taken off the socket
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._method = ""
        self._left: int | None = None  # bytes to come, for a body with a length
        self._framing: Literal["chunked", "length", "close"] = "close"

    @classmethod
    async def connect(
        cls, port: int, *, host: str = "127.0.0.1", source: str | None = None, receive_buffer: int | None = None
    ) -> RawClient:
        """Connect from the address `source`. A `receive_buffer` of a few KB makes a client that does not read block its server soon."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                sock.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.fin()

    @property
    def local(self) -> tuple[str, int]:
        """Our address and port, to be recognised by."""
        host, port, *_ = self.sock.getsockname()
        return host, port

    # -- sending

    async def send(self, data: bytes) -> None:
        """These bytes, as they are."""
        await self._loop.sock_sendall(self.sock, data)

    async def drip(self, data: bytes, *, size: int = 1, pause_s: float = 0.01) -> None:
        """These bytes, a few at a time."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(pause_s)

    async def request(self, method: str, path: str, body: Any = b"", headers: Headers = ()) -> None:
        """A request. A body that is not bytes is sent as JSON; `Host` and `Content-Length` are added if not given."""
        self._method = method
        await self.send(request_bytes(method, path, body, headers))

    async def post(self, path: str, body: Any = b"", headers: Headers = ()) -> None:
        await self.request("POST", path, body, headers)

    async def get(self, path: str, headers: Headers = ()) -> None:
        await self.request("GET", path, b"", headers)

    # -- reading

    async def read_head(self, *, within: float = WITHIN_S) -> Head:
        """The next head, also that of a `100 Continue`."""
        raw = await self._take_until(b"\r\n\r\n", within)
        lines = raw.decode("latin-1").split("\r\n")
        version, status, *reason = lines[0].split(" ", 2)
        fields = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)
        ]
        head = Head(version, int(status), reason[0] if reason else "", dict(fields), fields, raw)
        self._expect_body(head)
        return head

    async def read_chunk(self, *, within: float = WITHIN_S) -> bytes:
        """The next piece of the body: a whole HTTP chunk, or what has come. `b""` once `end` says how it ended."""
        if self.end:
            return b""
        if self._framing == "chunked":
            return await self._read_http_chunk(within)
        if not self._buffer and not await self._receive(within):
            self.end = "close" if self._framing == "close" and self.gone == "FIN" else "cut"
            return b""
        piece, self._buffer = self._buffer[: self._left], self._buffer[len(self._buffer[: self._left]) :]
        if self._left is not None:
            self._left -= len(piece)
            if not self._left:
                self.end = "length"
        return piece

    async def read_body(self, *, within: float = WITHIN_S) -> bytes:
        """The rest of the body, to whatever end it has; look at `end`."""
        body = b""
        async with asyncio.timeout(within):
            while not self.end:
                body += await self.read_chunk(within=within)
        return body

    async def read_until(self, marker: bytes, *, within: float = WITHIN_S) -> bytes:
        """The body up to the piece that has `marker`; fails when it ends before."""
        body = b""
        async with asyncio.timeout(within):
            while marker not in body:
                body += await self.read_chunk(within=within)
                assert not self.end or marker in body, f"the body ended ({self.end}) before {marker!r}: {body!r}"
        return body

    async def read_some(self, most: int = 1024, *, within: float = WITHIN_S) -> bytes:
        """Raw bytes off the socket, head, framing and all; `b""` when the upstream has closed."""
        if not self._buffer:
            await self._receive(within, most)
        taken, self._buffer = self._buffer[:most], self._buffer[most:]
        return taken

    async def closed(self, *, within: float = WITHIN_S) -> str:
        """Wait until the upstream closes; returns "FIN" or "RST". Whatever else comes is thrown away."""
        async with asyncio.timeout(within):
            while not self.gone:
                await self._receive(within)
                self._buffer = b""
        return self.gone

    # -- leaving

    def fin(self) -> None:
        """Close. With bytes of theirs unread the kernel makes a reset of it."""
        self.sock.close()

    def rst(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    # -- inside

    def _expect_body(self, head: Head) -> None:
        self.end = ""
        self._left = None
        if head.status < 200 or head.status in {204, 304} or self._method == "HEAD":
            self.end = "none"
        elif head.headers.get("transfer-encoding", "").lower() == "chunked":
            self._framing = "chunked"
        elif "content-length" in head.headers:
            self._framing, self._left = "length", int(head["content-length"])
            if not self._left:
                self.end = "length"
        else:
            self._framing = "close"

    async def _read_http_chunk(self, within: float) -> bytes:
        try:
            size = int((await self._take_until(b"\r\n", within)).split(b";")[0], 16)
            data = await self._take(size + 2, within)
        except ConnectionError:
            self.end = "cut"
            return b""
        assert data.endswith(b"\r\n"), f"a chunk of {size} bytes is followed by {data[-2:]!r}"
        if not size:
            self.end = "final chunk"
        return data[:-2]

    async def _take_until(self, marker: bytes, within: float) -> bytes:
        while marker not in self._buffer:
            if not await self._receive(within):
                raise ConnectionResetError(f"{self.gone} before {marker!r}; came: {self._buffer!r}")
        taken, _, self._buffer = self._buffer.partition(marker)
        return taken + marker

    async def _take(self, count: int, within: float) -> bytes:
        while len(self._buffer) < count:
            if not await self._receive(within):
                raise ConnectionResetError(f"{self.gone} with {count - len(self._buffer)} bytes to come")
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    async def _receive(self, within: float, most: int = 65536) -> bool:
        """More bytes into the buffer; False when the upstream has closed."""
        try:
            async with asyncio.timeout(within):
                data = await self._loop.sock_recv(self.sock, most)
        except TimeoutError:
            raise AssertionError(f"nothing came within {within} s; unread: {self._buffer[-500:]!r}") from None
        except ConnectionError:
            self.gone = "RST"
            return False
        if not data:
            self.gone = "FIN"
        self._buffer += data
        self.received += len(data)
        return bool(data)


def request_bytes(method: str, path: str, body: Any = b"", headers: Headers = ()) -> bytes:
    """A request as bytes, for tests that send it in pieces or change it first."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name.lower() for name, _ in fields}
    if not isinstance(body, bytes) and "content-type" not in given:
        fields.append(("Content-Type", "application/json"))
    if data and not given & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(data))))
    if "host" not in given:
        fields.insert(0, ("Host", "proxy.test"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape") + data
