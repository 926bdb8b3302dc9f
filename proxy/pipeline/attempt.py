"""One try at one target, in two halves: up to the commit point, and from there to the client.

`lead` reads until the first meaningful event and shows the client nothing, so another target can still be tried.
`flow` sends what was held back and all that follows, and writes the one end (docs/reliability.md R1, R2).
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

import msgspec
import structlog

from proxy.backends.base import Backend, begin
from proxy.errors import (
    InternalError,
    Limit,
    ModelRefused,
    ProxyError,
    TargetBusy,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from proxy.events import Batch, Fault, Finish
from proxy.pipeline.client import Client, ClientGone
from proxy.pipeline.clock import RequestClock
from proxy.pipeline.closing import close
from proxy.pipeline.held import about_tokens, notices_in, weight
from proxy.pipeline.slots import Slots
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.telemetry.record import AttemptRecord, AttemptRole, StreamRecord
from proxy.telemetry.trace import new_span_id

HOLD_BYTES = 8 * 1024
"""How much may be held back before the commit point. With more than that, what came is shown without a token."""

T = TypeVar("T")

log = structlog.get_logger("proxy.pipeline")


class Attempt:
    """One try at one target.

    `streaming` says whether the client can be shown anything before the end. If not, the whole answer is the commit
    point.
    """

    __slots__ = (
        "_answer_bytes", "_behind", "_client", "_clock", "_context", "_given_up", "_held", "_held_bytes", "_led",
        "_now", "_record", "_slots", "_states", "_stream", "_streaming", "drained", "target", "tried",
        "withholds_fault",
    )  # fmt: skip

    def __init__(
        self,
        backend: Backend,
        target: Target,
        request: ChatRequest,
        *,
        clock: RequestClock,
        record: StreamRecord,
        states: TargetStates,
        streaming: bool,
        answer_bytes: int,
        role: AttemptRole = "answer",
    ) -> None:
        self.target = target
        self.withholds_fault = False  # another attempt may go on, so `flow` returns a fault and does not send it
        self.drained = 0  # content events of an answer that nobody was shown
        self._slots: Slots | None = None  # of the target, while the attempt holds one
        self._given_up: tuple[str, ProxyError | None] | None = None
        self._led: tuple[float, int] | None = None  # when content reached the commit point, and how much
        self._clock = clock
        self._record = record
        self._states = states
        self._streaming = streaming
        self._answer_bytes = answer_bytes
        self._held: list[Batch] = []
        self._held_bytes = 0
        self._client: Client | None = None  # set by `flow`
        self._behind = False  # the client has room for no more than what was written last
        self._now = asyncio.get_running_loop().time
        # The events of an SDK come to the task that waits for them. A task of its own spares each token the way through
        # all our callers, and keeps what the SDK sets in its context apart. Backends with a dialect relay from the
        # callback that reads the socket.
        self._context = copy_context() if streaming and not backend.dialect else None
        self.tried = AttemptRecord(backend=target.backend, model=target.model, role=role)
        trace = request.trace
        if record.trace is not None:
            self.tried.span_id = new_span_id()
            trace = record.trace.headers(self.tried.span_id)
        request = msgspec.structs.replace(request, trace=trace, connected=self.tried.connected)
        self._stream = begin(backend, request, target, self._relayed if streaming else None)

    async def lead(self) -> None:
        """Read up to the commit point and hold back what was read. The client is never touched.

        Raises a `ProxyError` when the target failed before it. The upstream is closed then.
        """
        self._record.attempts.append(self.tried)
        if self.target.limit is not None:
            await self._take_slot(self._states.slots(self.target.limit))
        self.tried.started_at = self._now()
        self._states.begin(self.target)
        try:
            await self._in_context(self._read_to_commit_point())
        except BaseException as raised:
            self._held.clear()  # megabytes, perhaps: the error below refers to this frame, and so to this object
            error = self._failure(raised)
            if isinstance(error, ModelRefused) and not self.target.asked:
                error.fallback = True
            await self._over(error, gone=error is None)
            if error is None:
                raise
            raise error from error.__cause__
        self.tried.committed_at = at = self._now()
        first_token_s = at - self.tried.started_at if self._streaming else None
        self._states.first_token(self.target, first_token_s)
        if self._slots is not None and first_token_s is not None:
            self._slots.answered(first_token_s)

    async def flow(self, client: Client) -> Finish | Fault:
        """Send the answer and its end to `client`, and return that end. To be called once, after `lead`.

        Raises `ClientGone`, or `CancelledError`, when nobody is there to read the answer.
        """
        self._client = client
        self._record.backend, self._record.upstream_model = self.target.backend, self.target.model
        try:
            end = await self._in_context(self._send_all(client))
        except BaseException as raised:
            error = self._failure(raised)
            await self._over(error, gone=error is None)
            if error is None:
                raise
            end = Fault(error)
            await self.write_end(Batch([end]), end, client)
        else:
            await self._over(end.error if isinstance(end, Fault) else None)
        return end

    def give_up(self, why: str, error: ProxyError | None = None) -> None:
        """Say what a cancellation means from now on: `error`, or else that nobody needs the attempt, and `why`."""
        self._given_up = why, error

    async def drain(self, *, read: bool) -> None:
        """End an attempt that began to answer and is not needed: at once, or read to its end, for its usage."""
        error: ProxyError | None = None
        try:
            end = self._held[-1].terminal
            while read and end is None:
                batch = await anext(self._stream)
                end, self.drained = batch.terminal, self.drained + batch.content
        except BaseException as raised:
            error = self._failure(raised)
            await self._over(error, gone=error is None)
            if error is None and not isinstance(raised, StopAsyncIteration):
                raise
            return
        if end is not None:
            self.tried.usage = end.usage
            error = end.error if isinstance(end, Fault) else None
        elif self._given_up:
            error = self._given_up[1]
        await self._over(error, gone=end is None and error is None)

    async def aclose(self) -> None:
        """Close the upstream. May be called at any time, and more than once."""
        await close(self._stream)

    def _in_context(self, step: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """`step` itself, or a task for it where the backend is to have one. Both halves share one context."""
        return step if self._context is None else asyncio.create_task(step, context=self._context)

    async def _take_slot(self, slots: Slots) -> None:
        """Wait for the target's queue. Raises `TargetBusy` when that takes too long; the target was not asked then."""
        began = self._now()
        try:
            await slots.take(self._record.key)
        except BaseException as raised:
            error = self._failure(raised)
            if error is None:
                self.tried.left(self._now(), self._given_up[0] if self._given_up else "client_gone")
                raise
            if isinstance(error, UpstreamTimeout):
                error = TargetBusy(error.retry_after or 1.0)
            self.tried.end(self._now(), error)
            raise error from None
        self._slots = slots
        self.tried.queued_s = self._now() - began

    # -- before the commit point -------------------------------------------------------------------------------

    async def _read_to_commit_point(self) -> None:
        now, record, clock = self._now, self._record, self._clock
        async for batch in self._stream:
            if batch.text_only:
                end, content = None, len(batch.events)
            else:
                end, content = batch.terminal, batch.content
            if content:
                clock.content_at = at = now()
                if self._streaming:
                    self._led = at, content  # not yet in the record: of two hedged attempts only one answers
                else:  # in few pieces, perhaps in one: without the upstream's count it is estimated by its length
                    record.content(at, content if end is not None and end.usage is not None else about_tokens(batch))
            if isinstance(end, Fault) and not (content and self._streaming):
                raise end.error
            self._held.append(batch)
            if self._is_commit_point(batch, end, content):
                return
        raise UpstreamTruncated

    def _is_commit_point(self, batch: Batch, end: Finish | Fault | None, content: int) -> bool:
        """Whether everything held back is to be shown now."""
        if self._streaming:
            if content or end is not None:
                return True
            self._held_bytes += weight(batch)
            return self._held_bytes > HOLD_BYTES
        self._held_bytes += weight(batch)
        if self._held_bytes > self._answer_bytes:
            raise _too_long(self._answer_bytes)
        return end is not None

    # -- after it ----------------------------------------------------------------------------------------------

    async def _send_all(self, client: Client) -> Finish | Fault:
        now, record, clock = self._now, self._record, self._clock
        longest = self._answer_bytes
        if self._led is not None:
            clock.content_at = self._led[0]
            record.content(*self._led)
        clock.commit()
        clock.sending = True
        last = await self._send_held(client)
        if (end := last.terminal) is not None:
            return await self.write_end(last, end, client)
        await client.send(last)
        clock.sending = False
        if last.has_content:
            clock.content_at = now()  # the pause begins when we are ready for more
        async for batch in self._stream:
            if batch.text_only:
                end, content = None, len(batch.events)
            else:
                end, content = batch.terminal, batch.content
            if content:
                clock.content_at = at = now()
                record.content(at, content)
            if client.bytes_out > longest:
                raise _too_long(longest)
            if end is not None:
                return await self.write_end(batch, end, client)
            if client.write(batch):
                clock.sending = True
                await client.caught_up()
                clock.sending = False
                if content:
                    clock.content_at = now()
        raise UpstreamTruncated

    def _relayed(self, batch: Batch) -> bool:
        """Send a batch from the callback that read it, as `_send_all` would; false if that takes more than a write."""
        client = self._client
        if self._behind or client is None:
            self._behind = False
            return False
        if batch.text_only:
            content = len(batch.events)
        elif batch.terminal is None:
            content = batch.content
        else:
            return False
        if client.bytes_out > self._answer_bytes:
            return False
        if content:
            self._clock.content_at = at = self._now()
            self._record.content(at, content)
        self._behind = client.write(batch)
        return True

    async def _send_held(self, client: Client) -> Batch:
        """Send what was held back, except for its last batch, which is returned. None of it is kept."""
        held, self._held = self._held, []
        if notices := [*self._record.notices, *notices_in(held)]:
            self._record.notices = notices
            client.announce(notices)
        last = held.pop()
        for batch in held:
            await client.send(batch)
        return last

    async def write_end(self, batch: Batch, end: Finish | Fault, client: Client) -> Finish | Fault:
        """Write the end. No timer may interrupt it. Only a client that leaves can still change the reason."""
        if end.usage is not None:
            self.tried.usage = end.usage
        if self.withholds_fault and isinstance(end, Fault):
            if content := batch.events[:-1]:
                await client.send(Batch(content))
            return end
        self._clock.disarm()
        record = self._record
        if end.usage is not None:
            record.usage = end.usage
        await client.send(batch)
        match end:
            case Finish():
                record.has_finish_reason, self.tried.finish_reason = end.has_finish_reason, end.reason
                record.finish("done", self._now())
            case Fault(error):
                record.finish(error.end, self._now(), error_code=error.code)
        return end

    # -- how it ended ------------------------------------------------------------------------------------------

    def _failure(self, raised: BaseException) -> ProxyError | None:
        """The error that an exception stands for; `None` for a client that left."""
        if isinstance(raised, ProxyError):
            return raised
        if isinstance(raised, asyncio.CancelledError | StopAsyncIteration):
            return self._given_up[1] if self._given_up else self._clock.cancelled_for()
        if isinstance(raised, ClientGone) or not isinstance(raised, Exception):
            return None
        record, backend = self._record, self.target.backend
        log.error("backend_failed", **record.ids, backend=backend, exc_info=raised)
        return InternalError(
            f"backend {backend} failed on our side: see request {record.request_id} in the proxy's log"
        )

    async def _over(self, error: ProxyError | None, *, gone: bool = False) -> None:
        """Close the upstream and record how the attempt ended: with `error`, well, or because nobody needs it (`gone`)."""
        try:
            await self.aclose()
        finally:
            if self._slots is not None:
                if isinstance(error, UpstreamError) and error.status == 429:
                    self._slots.refused()
                self._slots.give()
                self._slots = None
            if gone:
                now, why = self._now(), self._given_up[0] if self._given_up else "client_gone"
                self.tried.left(now, why)
                waited_s = now - self.tried.started_at if self.tried.committed_at is None else 0.0
                self._states.left(self.target, waited_s if why == "hedge_lost" else 0.0)
            else:
                self.tried.end(self._now(), error)
                self._states.end(self.target, error)


def _too_long(limit: int) -> Limit:
    return Limit(f"the answer grew past {limit / 1_000_000:g} MB (server.limits.answer_mb)")
