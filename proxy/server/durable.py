"""The reading side of the Durable Streams protocol on `/streams/{id}`: `?offset=-1|now|X&live=sse|long-poll`.

An offset is the number of the next frame, written so that offsets sort as text. It is opaque to clients. Writing is
not offered: a stream is made by asking a question.
"""

import asyncio
import base64
import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Self

from aiohttp import web

from proxy.contracts.base import Reply
from proxy.errors import BadRequest, Gone
from proxy.events import Batch
from proxy.pipeline.client import ClientGone
from proxy.server.client import Encoded, StreamingClient
from proxy.server.context import RequestContext
from proxy.streams.log import StreamLog

LONG_POLL_S = 20.0
"""How long a long poll waits for something to come."""

CURSOR_S = 20
"""How long a cursor stays the same, so that caches answer requests of that time as one."""

_OFFSET = re.compile(r"-1|now|\d{16}")
SAFE = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "cross-origin"}


def asks(context: RequestContext) -> bool:
    """Whether a request for a stream speaks this protocol."""
    return context.head.method == "HEAD" or not context.head.query.keys().isdisjoint({"offset", "live"})


async def answer(context: RequestContext, log: StreamLog) -> web.StreamResponse:
    """Send what a log has from an offset on. Raises `BadRequest`, `Gone`, `ConnectionResetError`."""
    query = context.http.query
    offset, live = query.get("offset", "-1"), query.get("live")
    if len(query.getall("offset", [])) > 1 or not _OFFSET.fullmatch(offset):
        raise BadRequest("query parameter offset: expected one of -1, now, a Stream-Next-Offset", param="offset")
    if live not in {None, "sse", "long-poll"} or (live and "offset" not in query):
        raise BadRequest("query parameter live: expected sse or long-poll, with an offset", param="live")
    context.reads(log.record)
    with _Reader(log) as reader:
        await reader.until(lambda: log.begun or log.closed)
        if log.failure is not None:
            raise log.failure
        position = {"-1": 0, "now": log.length}[offset] if offset in {"-1", "now"} else int(offset)
        log.check(position)
        await reader.until(lambda: log.length >= position or log.closed)
        log.check(position)
        reader.position = position
        if context.head.method == "HEAD":
            return _reply(context, log, b"", log.length, {})
        if live == "sse":
            return await _events(context, reader, position)
        if live == "long-poll":
            await reader.until(lambda: log.length > position or log.closed, LONG_POLL_S)
        data, after = (b"", log.length) if offset == "now" and live is None else log.read(position)
        if log.aborted and not data:
            raise Gone("This answer was cut off: nothing follows.", code="stream_cut")
        more = {"Stream-Cursor": _cursor(query.get("cursor"))} if live else {}
        return _reply(context, log, data, after, more)


def _reply(context: RequestContext, log: StreamLog, data: bytes, after: int, more: Mapping[str, str]) -> web.Response:
    headers = {"Content-Type": log.headers.get("Content-Type", ""), "Stream-Next-Offset": _offset(after), **more}
    if after >= log.length:
        headers["Stream-Up-To-Date"] = "true"
        if log.closed and not log.aborted:
            headers["Stream-Closed"] = "true"
    return context.reply(Reply(204 if more and not data else 200, data, headers), record=False)


async def _events(context: RequestContext, reader: "_Reader", position: int) -> web.StreamResponse:
    """`data` events with what came, each followed by a `control` event with the next offset."""
    log = reader.log
    media_type = log.headers.get("Content-Type", "")
    binary = not media_type.startswith(("text/", "application/json"))
    encoding = {"Stream-SSE-Data-Encoding": "base64"} if binary else {}
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **encoding}
    client = StreamingClient(context, Encoded(headers))
    cursor = _cursor(context.http.query.get("cursor"))
    try:
        while True:
            data, position = log.read(position)
            reader.position = position
            log.reader_moved()
            up_to_date = position >= log.length
            closed = up_to_date and log.closed
            client.faulted = closed and log.aborted
            if not client.faulted:
                control: dict[str, object] = {"streamNextOffset": _offset(position)}
                control |= {"streamClosed": True} if closed else {"streamCursor": cursor}
                control |= {"upToDate": True} if up_to_date else {}
                text = base64.b64encode(data).decode() if binary else data.decode("utf-8", "replace")
                data = _event("data", text) if data else b""
                data += _event("control", json.dumps(control, separators=(",", ":")))
            await client.send(Batch([], whole=data))
            if closed:
                break
            await reader.until(lambda at=position: log.length > at or log.closed)  # type: ignore[misc]  # mypy infers no type for a default
        await client.end()
    except ClientGone:
        client.abort()
    else:
        return client.response
    finally:
        context.begun = client.begun
    raise ConnectionResetError  # not while `ClientGone` is handled, whose timer's error keeps this task


def _event(name: str, text: str) -> bytes:
    lines = re.split("\r\n|\r|\n", text)
    return "".join(
        [f"event: {name}\n", *(f"data:{' ' if line.startswith(' ') else ''}{line}\n" for line in lines), "\n"]
    ).encode()


def _offset(position: int) -> str:
    return f"{position:016}"


def _cursor(last: str | None) -> str:
    """A number of the present time, and always another one than the client's last."""
    now = int(time.time()) // CURSOR_S
    if last is not None and last.isdecimal() and int(last[:18]) >= now:
        return str(int(last[:18]) + random.randint(1, 180))  # noqa: S311 - it only spreads caches
    return str(now)


class _Reader:
    """Waits for a log to grow, as one of its readers."""

    def __init__(self, log: StreamLog) -> None:
        self.log, self.position = log, log.length
        self._grown = asyncio.Event()

    def __enter__(self) -> Self:
        self.log.readers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.log.readers.discard(self)
        self.log.reader_left()

    def push(self, data: bytes) -> None:  # noqa: ARG002 - see `Reader`
        self.wake()

    def wake(self) -> None:
        self._grown.set()

    async def until(self, true: Callable[[], bool], within: float | None = None) -> None:
        """Wait until something is true of the log, or until `within` seconds are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not true():
                    self._grown.clear()
                    await self._grown.wait()
