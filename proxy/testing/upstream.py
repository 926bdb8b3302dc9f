"""An upstream that does exactly what a test tells it to: raw sockets that play a script per request.

It is no web framework on purpose: it can cut a chunk in half, reset, stall, or answer before it has read
the question, and it keeps what it saw as evidence (requests, FIN or RST with the time, bytes written).

    async with ScriptedUpstream() as upstream:
        upstream.play(Send(sse_head()), Send(chunked(b"data: 1\\n\\n")), Rst())
        ...                                     # talk to upstream.url
        await upstream.peer_gone(1, within=1.0)

A script that runs to its end leaves the connection open for the next request. A request for which no
script is queued is answered 501 and says so.
"""

import asyncio
import contextlib
import fcntl
import json
import socket
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

from proxy.testing.script import (
    PATIENCE_S,
    Fin,
    NeverRead,
    Rst,
    Script,
    Send,
    Sleep,
    Split,
    Stall,
    Step,
    Steps,
    Wait,
    json_reply,
    script,
)

# -- evidence ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A request as it came. Header names are in lower case; `raw_head` is every byte before the body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection_number: int  # 1 for the first connection accepted
    raw_head: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Closed:
    """The peer left: how, when (time.monotonic), and how many bytes of ours the socket had taken by then."""

    connection_number: int
    how: str  # "FIN" or "RST"
    at: float
    bytes_written: int


class ScriptedUpstream:
    """The upstream: listens on a free port of 127.0.0.1, plays scripts, keeps evidence."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        name: str = "",
        send_buffer: int | None = None,
    ) -> None:
        self._tls, self._host, self._name, self._send_buffer = tls, host, name or host, send_buffer
        self._queue: deque[Script] = deque()
        self._standing: Script | Callable[[Seen], Steps] | None = None
        self._live: set[_Connection] = set()
        self._changed = asyncio.Event()
        self._written_before = 0
        self.port = 0
        self.requests: list[Seen] = []
        self.closed: list[Closed] = []
        self.connections = 0

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._name}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL an OpenAI-compatible backend is given."""
        return self.origin + "/v1"

    @property
    def open_connections(self) -> int:
        return len(self._live)

    @property
    def bytes_written(self) -> int:
        """Bytes the sockets have taken, on all connections so far."""
        return self._written_before + sum(connection.bytes_written for connection in self._live)

    @property
    def blocked(self) -> bool:
        """Whether a write waits for the peer to read."""
        return any(connection.write_blocked for connection in self._live)

    def play(self, *steps: Steps, times: int = 1) -> None:
        """Queue the script of the next request, or of the next `times` requests."""
        self._queue.extend([script(*steps)] * times)

    def always(self, *steps: Steps) -> None:
        """Play this for every request that has no queued script."""
        self._standing = script(*steps)

    def decide(self, answer: Callable[[Seen], Steps]) -> None:
        """Let a function choose the script of each request that has no queued one."""
        self._standing = answer

    async def peer_gone(self, count: int = 1, within: float = PATIENCE_S) -> list[Closed]:
        """Wait until the peer has closed `count` connections; fails the test when it does not in time."""
        await self._until(lambda: len(self.closed) >= count, within, f"{count} connection(s) closed by the peer")
        return self.closed

    async def received(self, count: int = 1, within: float = PATIENCE_S) -> list[Seen]:
        """Wait until `count` requests have come."""
        await self._until(lambda: len(self.requests) >= count, within, f"{count} request(s)")
        return self.requests

    async def stuck(self, *, still_s: float = 0.1, within: float = PATIENCE_S) -> int:
        """Wait until a write has made no progress for `still_s`, or all have left; returns the bytes written until then."""
        async with asyncio.timeout(within):
            while True:
                before = self.bytes_written
                await asyncio.sleep(still_s)
                if (self.blocked and self.bytes_written == before) or (self.closed and not self.open_connections):
                    return before

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), self._host, 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for connection in list(self._live):
            connection.drop()
        await self._until(lambda: not self._live, PATIENCE_S, "the harness's own connections closed")
        await self._server.wait_closed()

    async def stop_listening(self) -> None:
        """Refuse new connections from now on; those that are open go on."""
        self._server.close()
        await asyncio.sleep(0)

    def drop_connections(self) -> None:
        """Reset every open connection."""
        for connection in list(self._live):
            connection.drop()

    # what connections call

    def _accepted(self, connection: "_Connection") -> int:
        self.connections += 1
        self._live.add(connection)
        self._notify()
        return self.connections

    def _gone(self, connection: "_Connection") -> None:
        self._written_before += connection.bytes_written
        self._live.discard(connection)
        self._notify()

    def _peer_closed(self, closed: Closed) -> None:
        self.closed.append(closed)
        self._notify()

    def _script_for_head(self) -> Script | None:
        """The queued script, if it plays before the body is read."""
        if self._queue and self._queue[0] and isinstance(self._queue[0][0], NeverRead):
            return self._queue.popleft()
        standing = self._standing
        if not self._queue and isinstance(standing, tuple) and standing and isinstance(standing[0], NeverRead):
            return standing
        return None

    def _script_for(self, seen: Seen) -> Script:
        if self._queue:
            return self._queue.popleft()
        if self._standing is None:
            return script(json_reply(501, {"error": {"message": "the test queued no script for this request"}}))
        return script(self._standing(seen)) if callable(self._standing) else self._standing

    def _saw(self, seen: Seen) -> None:
        self.requests.append(seen)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, true: Callable[[], bool], within: float, what: str) -> None:
        try:
            async with asyncio.timeout(within):
                while not true():
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {within} s: {what}; accepted {self.connections}, open {self.open_connections}, "
                f"requests {len(self.requests)}, closed by the peer {self.closed}"
            ) from None


class _Connection(asyncio.Protocol):
    """One accepted connection: reads requests and plays their scripts, in a task of its own."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._buffer = bytearray()
        self._data = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._handed = 0
        self._left_in_buffer = 0
        self._ours = False  # we closed it
        self._peer_closed = False
        self._lost = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type
        transport.set_write_buffer_limits(high=1, low=0)  # what the socket did not take counts as blocked
        if self._upstream._send_buffer is not None:
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, self._upstream._send_buffer
            )
        self._number = self._upstream._accepted(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._data.set()

    def eof_received(self) -> bool:
        self._note("FIN")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._left_in_buffer = self._transport.get_write_buffer_size()
        self._lost = True
        self._note("RST" if exc is not None else "FIN")
        self._writable.set()
        self._task.cancel()
        self._upstream._gone(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # evidence

    @property
    def bytes_written(self) -> int:
        left = self._left_in_buffer if self._lost else self._transport.get_write_buffer_size()
        return max(0, self._handed - left)

    @property
    def write_blocked(self) -> bool:
        return not self._writable.is_set()

    def _note(self, how: str) -> None:
        if not self._ours and not self._peer_closed:
            self._peer_closed = True
            self._upstream._peer_closed(Closed(self._number, how, time.monotonic(), self.bytes_written))

    # serving

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            while not self._transport.is_closing():
                raw_head = await self._take_until(b"\r\n\r\n")
                request_line, *lines = raw_head.decode("latin-1").rstrip("\r\n").split("\r\n")
                method, path, _ = request_line.split(" ", 2)
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                steps = self._upstream._script_for_head()
                if steps is not None:
                    self._transport.pause_reading()
                    body = bytes(self._buffer)
                else:
                    body = await self._body(headers)
                seen = Seen(method, path, headers, body, self._number, raw_head)
                self._upstream._saw(seen)
                for step in steps if steps is not None else self._upstream._script_for(seen):
                    await self._play(step)

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while size := int((await self._take_until(b"\r\n")).split(b";")[0], 16):
                body += (await self._take(size + 2))[:-2]
            while (await self._take_until(b"\r\n")) != b"\r\n":
                pass  # trailers
            return body
        return await self._take(int(headers.get("content-length", "0")))

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _take_until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            await self._more()
        return await self._take(at + len(mark))

    async def _more(self) -> None:
        self._data.clear()
        await self._data.wait()

    async def _play(self, step: Step) -> None:
        match step:
            case Send(data, times):
                for _ in range(times):
                    await self._write(data)
            case Split(data, size, pause_s):
                for start in range(0, len(data), size):
                    await self._write(data[start : start + size])
                    await asyncio.sleep(pause_s)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Wait(event):
                await event.wait()
            case Stall():
                await asyncio.Event().wait()
            case Fin(half=True):
                self._transport.write_eof()
            case Fin():
                self._ours = True
                self._transport.close()
                await asyncio.Event().wait()  # connection_lost ends this task
            case Rst():
                await self._all_left()
                self.drop()
                await asyncio.Event().wait()
            case NeverRead():
                pass

    async def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError
        self._handed += len(data)
        self._transport.write(data)
        await self._writable.wait()

    async def _all_left(self) -> None:
        """Wait until the peer's side has all that was written, for a reset discards the rest; or until it takes no more."""
        fd, none = self._transport.get_extra_info("socket").fileno(), bytes(4)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S / 10):
                while self._transport.get_write_buffer_size() or fcntl.ioctl(fd, termios.TIOCOUTQ, none) != none:
                    await asyncio.sleep(0.001)

    def drop(self) -> None:
        """Close with a reset."""
        self._ours = True
        with contextlib.suppress(OSError, AttributeError):
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._transport.abort()


async def eventually(true: Callable[[], bool], within: float = PATIENCE_S) -> None:
    """Wait until `true()` holds; for states that nothing announces, such as a count going back to zero."""
    try:
        async with asyncio.timeout(within):
            while not true():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not true within {within} s") from None
