"""Answers that outlive their connection: the app runs them, and HTTP handlers read their logs.

A request on a route with `resume` gets a `DetachedAnswer`: a task asks the upstream and appends what the encoder
writes to a log. The client that asked is the log's first reader. Others join by the answer's id, by a name that the
contract has for it, or by an idempotency key. No reader ever starts an upstream call.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web

from proxy.contracts.base import MOST_DIGITS, Encoder, Reply, Resumes
from proxy.contracts.notices import NOTICE_HEADER, notice_header
from proxy.errors import BadRequest, Conflict, NotFound, ProxyError, Stopped
from proxy.events import Batch, Fault, Notice
from proxy.pipeline.client import ClientGone
from proxy.pipeline.exchange import Exchange
from proxy.routing.plan import Resume
from proxy.server import durable
from proxy.server.client import Encoded, StreamingClient
from proxy.server.context import RequestContext
from proxy.server.endpoints import Binding
from proxy.streams.log import EVENTS, StreamLog, numbered
from proxy.streams.registry import Name, Streams

STREAM_ID = "X-Stream-Id"
STREAMS = "/streams/"


class DetachedAnswer:
    """One answer that needs no connection: its log, its task, and when it stops because nobody reads it."""

    def __init__(self, streams: Streams, log: StreamLog, resume: Resume, exchange: Exchange) -> None:
        self._streams, self._log, self._resume, self._exchange = streams, log, resume, exchange
        self._task: asyncio.Task[None]
        self._grace: asyncio.TimerHandle | None = None
        log.on_stop, log.on_left = self._stop, self._left

    def start(self, context: RequestContext, encoder: Encoder) -> None:
        """Run the exchange in a task. From now on the task ends the request's record, whoever reads the answer."""
        answer = LoggedAnswer(self._log, encoder)
        if encoder.early:
            answer.begin()
        context.hand_over()
        self._task = asyncio.create_task(self._run(context, answer))

    def _stop(self) -> None:
        self._exchange.interrupt(Stopped())

    def _left(self) -> None:
        """A reader left. After the last one, the answer goes on for `grace_s`, if it can be resumed at all."""
        if self._grace is None and not self._log.readers:
            self._wait_for_readers(0.0 if self._log.headless else self._resume.grace_s)

    def _wait_for_readers(self, seconds: float) -> None:
        """Stop the answer after so many seconds, unless somebody reads it by then, here or on another replica."""
        log, self._grace = self._log, None
        if log.closed or log.readers:
            return
        if seconds := max(seconds, log.read_elsewhere_s):
            self._grace = asyncio.get_running_loop().call_later(seconds, self._wait_for_readers, 0.0)
        else:
            self._streams.forget(log)
            self._task.cancel()

    async def _run(self, context: RequestContext, answer: "LoggedAnswer") -> None:
        log, failure = self._log, None
        try:
            await context.run(self._exchange, answer)
        except ProxyError as error:
            failure = error
            if log.begun:
                await answer.send(Batch([Fault(error)]))
            else:
                self._streams.forget(log)
                log.fail(error)
        except (asyncio.CancelledError, ClientGone):
            self._streams.forget(log)  # nobody reads it
        finally:
            if self._grace is not None:
                self._grace.cancel()
            if not log.closed:
                log.close(aborted=True)
            self._streams.keep(log, self._resume.keep_s)
            if log.begun:
                context.ended(200, answer.bytes_out, failure)
            elif failure is not None:
                context.ended(failure.status, 0, failure)
            context.end()


class LoggedAnswer:
    """The client of a detached answer, as the pipeline sees it: what it is sent goes to the log."""

    streaming = True

    def __init__(self, log: StreamLog, encoder: Encoder) -> None:
        self.bytes_out = 0
        self._log, self._encoder = log, encoder
        self._headers = {**encoder.headers, STREAM_ID: log.id}
        self._faulted = False

    def begin(self) -> None:
        self._log.begin(self._headers)

    def announce(self, notices: Sequence[Notice]) -> None:
        if not self._log.begun:
            self._headers[NOTICE_HEADER] = notice_header(notices)

    async def send(self, batch: Batch) -> None:
        end = batch.terminal
        self._faulted = self._faulted or isinstance(end, Fault)
        data = self._encoder.feed(batch)
        if not self._log.begun:
            self.begin()
        if data:
            self._append(data)
        if end is not None:
            self._log.close(aborted=self._faulted and self._encoder.abort_on_fault)
        elif self._log.full:
            await self.caught_up()

    def write(self, batch: Batch) -> bool:
        data = self._encoder.feed(batch)
        return self._append(data) if data else False

    async def caught_up(self) -> None:
        await self._log.room()

    def heartbeat(self) -> None:
        """Send a comment to the readers that wait now. A contract's own event is a frame like any other."""
        log = self._log
        if not log.begun:
            return
        ping = self._encoder.ping()
        if not ping:
            return
        if ping.startswith(b":") or log.separator != EVENTS:
            for reader in log.readers:
                reader.push(ping)
        else:
            self._append(ping)

    def _append(self, data: bytes) -> bool:
        self.bytes_out += len(data)
        return self._log.append(data)


class LogReader:
    """One client that reads a log, from the frame `position` to the end.

    While it keeps up, frames are pushed to it by the callback that appended them. A reader that is behind reads from
    the log, so it costs no memory of its own. With `numbers`, each event has its number as `id`.
    """

    def __init__(self, log: StreamLog, position: int, *, numbers: bool = False) -> None:
        self._log, self._numbers = log, numbers
        self._position = position  # while frames are pushed without numbers, it is the end of the log
        self._client: StreamingClient | None = None  # there is one when the answer begins
        self._pushing = False
        self._woken: asyncio.Future[None] | None = None

    @property
    def position(self) -> int:
        return self._log.length if self._pushing else self._position

    def push(self, data: bytes) -> None:
        if not self._pushing:
            self.wake()  # it may wait for frames that it has already
            return
        assert self._client is not None
        if self._numbers:
            data, self._position = numbered(data, self._position), self._log.length
        try:
            behind = self._client.write_encoded(data)
        except ClientGone:
            behind = True  # `caught_up` raises it again where it is handled
        if behind:
            self.wake()

    def wake(self) -> None:
        self._position, self._pushing = self.position, False
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def run(self, context: RequestContext) -> web.StreamResponse:
        """Send it all. Raises the `ProxyError` of an answer that does not begin; `ConnectionResetError`."""
        log = self._log
        log.readers.add(self)
        try:
            await self._begun()
            # Readers of bare tokens would take an `id` line for text.
            if log.separator != EVENTS or log.headers.get("X-Chat-Dialect") in {"text", "both"}:
                self._numbers = False
            self._client = client = StreamingClient(context, Encoded(log.headers))
            try:
                await self._send_all(client)
            except ClientGone:
                client.abort()
            else:
                return client.response
            finally:
                context.begun = client.begun
            raise ConnectionResetError  # not inside `except ClientGone`: the timer's error behind it would keep this task
        finally:
            self._pushing = False
            log.readers.discard(self)
            log.reader_left()

    async def _begun(self) -> None:
        log = self._log
        while not log.begun:
            if log.failure is not None:
                raise log.failure
            if log.closed:
                raise NotFound("This stream was stopped before it began.", code="stream_not_found")
            await self._wait()

    async def _send_all(self, client: StreamingClient) -> None:
        log = self._log
        while True:
            data, after = log.read(self._position)
            if data:
                if self._numbers:
                    data = numbered(data, self._position)
                self._position = after
                log.reader_moved()
                await client.send(Batch([], whole=data))
            elif log.closed:
                break
            elif self._position > log.length:  # another replica's: the client has frames that are on their way here
                await self._wait()
            elif not client.begun:
                await client.begin(flush=True)
            else:
                self._pushing = True
                await self._wait()
                await client.caught_up()
        if not client.begun:
            if not log.aborted:
                log.check(self._position)
            await client.begin(flush=False)
        client.faulted = log.aborted
        await client.end()

    async def _wait(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken


# -- what requests ask ---------------------------------------------------------------------------------------------


class Resumed(NamedTuple):
    """What a request is answered with: a log, from a frame on."""

    log: StreamLog
    position: int = 0


async def join(context: RequestContext, body: bytes) -> Resumed | None:
    """The answer that the request's `Idempotency-Key` started already. It costs nothing, so no limit counts it.

    Raises `Conflict` if that key came with another request, `NotFound` if it is another API key's.
    """
    streams, name = context.app.streams, _name_by_key(context)
    if name is None or (log := await streams.named(name)) is None:
        return None
    await streams.find(log.id, _owner(context))
    if log.asked != _asked(context, body):
        raise Conflict("This Idempotency-Key came with another request. Use a new key for a new request.")
    return Resumed(log)


async def begin(context: RequestContext, exchange: Exchange, encoder: Encoder, body: bytes) -> Resumed:
    """Start the answer to a request whose plan has `resume`."""
    resume, binding, streams, who = exchange.plan.resume, context.binding, context.app.streams, _owner(context)
    assert resume is not None
    assert binding is not None
    names = []
    if isinstance(binding.frontend, Resumes) and (name := binding.frontend.stream_name(exchange.request)):
        names.append((f"{binding.frontend.name} of {who}", name))
    running = await join(context, body)  # it may have begun while the limits of this request were checked
    if running is None:
        record = context.record
        unique = _name_by_key(context)
        asked = _asked(context, body) if unique else ""
        log = await streams.open(who, names, unique=unique, asked=asked, most_bytes=resume.bytes, record=record)
        if log.record is record:
            context.begin_answer(encoder)
            DetachedAnswer(streams, log, resume, exchange).start(context, encoder)
            return Resumed(log)
        running = await join(context, body) or Resumed(log)  # another replica was first
    if context.lease is not None:
        context.lease.settle(context.record)
    return running


def _name_by_key(context: RequestContext) -> Name | None:
    """The name that an `Idempotency-Key` gives an answer."""
    key = context.head.headers.get("idempotency-key")
    return ("idempotency-key", key) if key else None


def _asked(context: RequestContext, body: bytes) -> str:
    """A digest of this very request. Its query may choose the form of the answer."""
    url = f"{context.path}?{context.http.rel_url.raw_query_string}\0"
    return hashlib.sha256(url.encode() + body).hexdigest()


async def by_name(context: RequestContext, binding: Binding, name: str) -> Resumed | Reply | None:
    """What a contract's own address for an answer gives: `None` if there is no such answer."""
    frontend = binding.frontend
    log = await context.app.streams.named((f"{frontend.name} of {_owner(context)}", name))
    if log is None or not isinstance(frontend, Resumes):
        return None
    if binding.endpoint.action == "stop":
        log.stop()
        return frontend.stopped(log, context.head)
    position = frontend.resume(log, context.head)
    return position if isinstance(position, Reply) else Resumed(log, position)


async def answer(context: RequestContext) -> web.StreamResponse:
    """`/streams/{id}`: GET goes on after a frame, DELETE stops. Raises `NotFound`, `Gone`, `BadRequest`."""
    context.allow_only("GET", "DELETE")
    if durable.asks(context):
        context.headers |= durable.SAFE
    log = await context.app.streams.find(context.path.removeprefix(STREAMS), _owner(context))
    if context.head.method == "DELETE":
        log.stop()
        return context.reply(Reply(204, b"", {}), record=False)
    if durable.asks(context):
        return await durable.answer(context, log)
    after = context.head.query.get("after") or context.head.headers.get("last-event-id") or "-1"
    if len(after) > MOST_DIGITS or not after.removeprefix("-").isdecimal():
        raise BadRequest("query parameter after: expected the number of a frame", param="after")
    return await read(context, log, max(0, int(after) + 1), numbers=True)


async def read(context: RequestContext, log: StreamLog, position: int, *, numbers: bool = False) -> web.StreamResponse:
    """Send a client the frames of a log from `position` on, to its end. Raises `Gone` if they are not all here."""
    log.check(position)
    context.reads(log.record)
    return await LogReader(log, position, numbers=numbers).run(context)


def _owner(context: RequestContext) -> str:
    """Whose answers these are: the name of the API key."""
    assert context.principal is not None
    return context.principal.name
