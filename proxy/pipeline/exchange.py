"""The one path of a request: plan, attempt, fall back, watch the clock, end truthfully.

Until the first meaningful event nothing reaches the client, so statuses are real and falling back is free
(the commit point, docs/reliability.md R1). After it there is one attempt and one end: done, an error, or the
client is gone (R2). Whoever leaves, by whatever door, closes the upstream (R4).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
import structlog

from proxy.backends.base import Backend
from proxy.errors import (
    InternalError,
    Limit,
    ProxyError,
    UpstreamTruncated,
    UpstreamUnavailable,
)
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from proxy.pipeline.client import Client, ClientGone, ClientSlow
from proxy.pipeline.clock import RequestClock
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest, Usage
from proxy.routing.params import prepared
from proxy.routing.plan import Plan, Target
from proxy.routing.router import Router
from proxy.telemetry.record import StreamRecord

HOLD_BYTES = 8 * 1024
"""How much may be held back before the commit point; more than this is an answer, not a preamble (R1)."""

CLOSE_S = 1.0
"""How long a backend may take to let go of its upstream."""

log = structlog.get_logger("proxy.pipeline.exchange")


class Exchange:
    """One request on its way: its plan, and the one place that can stop it from outside."""

    __slots__ = ("_pipeline", "_stopped", "_tokens_asked", "_watch", "plan", "record", "request")

    def __init__(self, pipeline: Pipeline, request: ChatRequest, plan: Plan, record: StreamRecord) -> None:
        self._pipeline = pipeline
        self.request = request
        self.plan = plan
        self.record = record
        self._watch: RequestClock | None = None
        self._stopped: ProxyError | None = None
        self._tokens_asked = 0

    def interrupt(self, error: ProxyError) -> None:
        """End it with `error`: an error frame if the answer has begun, else an error status."""
        self._stopped = self._stopped or error
        if self._watch is not None:
            self._watch.interrupt(error)

    async def run(self, client: Client) -> None:
        """Answer the request.

        Returns when the client has had its one end. Raises `ProxyError` when nothing was sent, so that the
        frontend can answer with a status; `ClientGone` or `CancelledError` when there is nobody left to answer.
        """
        record = self.record
        clock = asyncio.get_running_loop().time
        try:
            with RequestClock(self.plan.timers, self.plan.heartbeat_s, client.heartbeat) as self._watch:
                await self._try_targets(client, self._watch)
        except ProxyError as error:
            record.finish(error.end, clock(), error_code=error.code)
            raise
        except ClientSlow:
            record.finish("client_slow", clock(), error_code="client_slow")
            raise
        except (asyncio.CancelledError, ClientGone):
            if self._stopped is not None:  # it did not take its error frame in time
                record.finish(self._stopped.end, clock(), error_code=self._stopped.code)
            record.finish("client_gone", clock(), error_code="client_gone")
            raise
        finally:
            self._watch = None
            if record.usage is None and record.first_content_at is not None:
                record.usage = Usage(self._tokens_asked, record.content_events, estimated=True)

    async def _try_targets(self, client: Client, watch: RequestClock) -> None:
        targets = self.plan.targets
        health = self._pipeline.health
        failure: ProxyError | None = None
        soonest = float("inf")
        for position, target in enumerate(targets):
            if self._stopped is not None:
                raise self._stopped
            wait = health.admit(target.circuit)
            if wait:
                self.record.attempted(target.backend, "circuit_open")
                soonest = min(soonest, wait)
                continue
            watch.share(self._first_timer(target), len(targets) - position)
            try:
                await self._attempt(target, client, watch)
            except ProxyError as error:
                self.record.attempted(target.backend, error.code, error.detail)
                health.failed(target.circuit, error)
                # An earlier "try again in N seconds" tells the client more than a later connection refused.
                if failure is None or failure.retry_after is None:
                    failure = error
                if not error.fallback:
                    raise
            except BaseException:
                health.unknown(target.circuit)
                raise
            else:
                self.record.attempted(target.backend, self.record.error_code or "ok")
                return
        raise failure or UpstreamUnavailable(
            "every target of this route failed repeatedly and is left alone for a moment; try again",
            retry_after=soonest,
        )

    def _first_timer(self, target: Target) -> Literal["first_token_s", "whole_s"]:
        """An answer in one piece shows its first token with its last: it may take `whole_s`.

        Backends that speak a wire dialect ask for what the client asked for; the others always for a stream.
        """
        in_one_piece = not self.request.stream and self._pipeline.backends[target.backend].dialect
        return "whole_s" if in_one_piece else "first_token_s"

    async def _attempt(self, target: Target, client: Client, watch: RequestClock) -> None:
        """Try one target. Raises `ProxyError` only while nothing has been sent."""
        record = self.record
        record.backend, record.upstream_model = target.backend, target.model
        backend = self._pipeline.backends[target.backend]
        health = self._pipeline.health
        relay = Attempt(client, watch, record, self._pipeline.answer_bytes, began=partial(self._began, target))
        stream = backend.stream(
            prepared(self.request, self.plan, target), target, relay.relayed if client.streaming else None
        )
        error: ProxyError | None = None
        try:
            if client.streaming and not backend.dialect:
                # A task of its own: each token wakes it, and would else have to pass through all who called us.
                # Those that speak a wire dialect wake nobody: they relay from the callback that reads.
                await asyncio.create_task(relay.run(stream))
            else:
                await relay.run(stream)
        except asyncio.CancelledError:
            error = watch.caught()
            if error is None:
                raise
        except ProxyError as raised:
            error = raised
        except ClientGone:
            raise
        except Exception:
            log.exception("backend_failed", request_id=record.request_id, backend=target.backend)
            where = f"request {record.request_id} in the proxy's log"
            error = InternalError(f"backend {target.backend} failed on our side: see {where}")
        finally:
            await _let_go(stream)
        fault = error or relay.fault
        if relay.committed and fault is None:
            health.done(target.circuit)
        elif relay.committed and fault is not None:
            health.failed(target.circuit, fault)
            if fault.detail:
                record.details.append(f"{target.backend}: {fault.detail}")
        if error is not None:
            await relay.fail(error)

    def _began(self, target: Target) -> None:
        """Nobody else will be asked, so what was asked is kept no longer: it may be megabytes, for minutes."""
        self._pipeline.health.answering(target.circuit)
        self._tokens_asked = self.request.estimated_tokens()
        self.request = msgspec.structs.replace(self.request, messages=(), tools=(), headers={}, wire=None)


class Attempt:
    """Moves one attempt's batches to the client, holding them back until the commit point."""

    __slots__ = (
        "_answer_bytes",
        "_began",
        "_behind",
        "_client",
        "_clock",
        "_held",
        "_held_bytes",
        "_record",
        "_watch",
        "committed",
        "fault",
    )

    def __init__(
        self, client: Client, watch: RequestClock, record: StreamRecord, answer_bytes: int, *, began: Callable[[], None]
    ) -> None:
        self._client = client
        self._began = began
        self._watch = watch
        self._record = record
        self._answer_bytes = answer_bytes
        self._held: list[Batch] = []
        self._held_bytes = 0
        self._behind = False  # the client has room for no more than what was written last
        self.committed = False
        self.fault: ProxyError | None = None  # what the backend said the answer broke off with
        self._clock = asyncio.get_running_loop().time

    async def run(self, stream: AsyncGenerator[Batch, None]) -> None:
        clock = self._clock
        client, record, watch = self._client, self._record, self._watch
        longest = self._answer_bytes
        async for batch in stream:
            if batch.text_only:
                end, content = None, len(batch.events)
            else:
                end, content = batch.terminal, batch.content
            if content:
                now = clock()
                record.content(now)
                record.content_events += content
                watch.content_at = now
            if not self.committed:
                if isinstance(end, Fault) and not (client.streaming and content):
                    raise end.error
                if not self._commits(batch, end):
                    continue
                self.committed = True
                self._began()
                watch.begun()
                watch.sending = True
                await self._release()
                if end is None:
                    await client.send(batch)
            elif client.bytes_out > longest:
                raise _too_long(longest)
            elif end is None:
                if not client.write(batch):
                    continue
                watch.sending = True
                await client.caught_up()
            if end is not None:
                await self._end(batch, end)
                return
            watch.sending = False
            if content:
                watch.content_at = clock()  # the pause begins when we are ready for more
        raise UpstreamTruncated("the answer ended without saying that it is complete")

    def relayed(self, batch: Batch) -> bool:
        """Send a batch on from where it was read, as `run` would; false if that takes more than a write."""
        if self._behind or not self.committed:
            self._behind = False
            return False
        client = self._client
        if batch.text_only:
            content = len(batch.events)
        elif batch.terminal is None:
            content = batch.content
        else:
            return False
        if client.bytes_out > self._answer_bytes:
            return False
        if content:
            now = self._clock()
            record = self._record
            record.content(now)
            record.content_events += content
            self._watch.content_at = now
        self._behind = client.write(batch)
        return True

    async def fail(self, error: ProxyError) -> None:
        """The attempt failed: raise while falling back is possible, else tell the client, once."""
        if not self.committed:
            raise error
        fault = Fault(error)
        await self._end(Batch([fault]), fault)

    def _commits(self, batch: Batch, end: Finish | Fault | None) -> bool:
        """Hold the batch back; true when it is time to let everything held go."""
        self._held.append(batch)
        streaming = self._client.streaming
        if streaming and (end is not None or batch.has_content):
            return True
        self._held_bytes += _weight(batch)
        if streaming:
            return self._held_bytes > HOLD_BYTES
        if self._held_bytes > self._answer_bytes:
            raise _too_long(self._answer_bytes)
        return end is not None

    async def _release(self) -> None:
        """Send what was held back before the batch in hand, and keep none of it while the answer goes on."""
        if notices := _notices(self._held):
            self._record.notices = notices
            self._client.announce(notices)
        held, self._held = self._held[:-1], []
        for batch in held:
            await self._client.send(batch)

    async def _end(self, batch: Batch, end: Finish | Fault) -> None:
        """Write the end. From here on no timer may strike; only a client that leaves can still change the reason."""
        self._watch.disarm()
        record = self._record
        if end.usage is not None:
            record.usage = end.usage
        await self._client.send(batch)
        match end:
            case Finish():
                record.has_finish_reason = end.noted
                record.finish("done", self._clock())
            case Fault(error):
                self.fault = error
                record.finish(error.end, self._clock(), error_code=error.code)


class Pipeline:
    """What one generation of the config answers with: a router and its backends."""

    def __init__(
        self, router: Router, backends: Mapping[str, Backend], *, answer_bytes: int, health: TargetStates
    ) -> None:
        self.router = router
        self.backends = backends
        self.health = health
        self.answer_bytes = answer_bytes


def _notices(held: Sequence[Batch]) -> list[Notice]:
    """What was announced before the content."""
    found: list[Notice] = []
    for batch in held:
        found += [event for event in batch.events if type(event) is Notice]
        if batch.has_content:
            break
    return found


def _weight(batch: Batch) -> int:
    """About how many bytes a batch holds on to."""
    size = len(batch.whole) + sum(map(len, batch.payloads))
    if size:
        return size
    for event in batch.events:
        match event:
            case TextDelta(text) | ReasoningDelta(text) | RefusalDelta(text):
                size += len(text)
            case ToolCallDelta(_, arguments):
                size += len(arguments)
            case Media(_, url):
                size += len(url)
            case _:
                size += 64
    return size


def _too_long(limit: int) -> Limit:
    return Limit(f"the answer grew past {limit / 1_000_000:g} MB (server.limits.answer_mb)")


async def _let_go(stream: AsyncGenerator[Batch, None]) -> None:
    """Close a backend's generator; one that does not let go in time is left to its own fate, and said so."""
    closing = stream.aclose()
    try:
        waits_for = closing.send(None)  # most let go at once, and need no timer
    except StopIteration:
        return
    try:
        async with asyncio.timeout(CLOSE_S):
            await _Rest(closing, waits_for)
    except TimeoutError:
        log.warning("backend_slow_to_close", seconds=CLOSE_S)


class _Rest:
    """What is left to await of something that has been started, and waits for its first future."""

    def __init__(self, started: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._started, self._waits_for = started, waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        started, waits_for = self._started, self._waits_for
        while True:
            try:
                got = yield waits_for
            except BaseException as error:
                step = partial(started.throw, error)
            else:
                step = partial(started.send, got)
            try:
                waits_for = step()
            except StopIteration:
                return
