"""The one path of a request: try targets, answer with the first that begins, end truthfully.

Until the first meaningful event nothing reaches the client, so statuses are real and falling back is free
(the commit point, docs/reliability.md R1). After it there is one attempt and one end: done, an error, or the
client is gone (R2). Every way out closes the upstream (R4).
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from proxy.backends.base import Backend, prefills
from proxy.backends.issuers import Issuers
from proxy.errors import ProxyError, UpstreamError
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.client import Client, ClientGone, ClientSlow
from proxy.pipeline.clock import RequestClock
from proxy.pipeline.guards import guarded
from proxy.pipeline.hedge import Hedged, repeatable
from proxy.pipeline.on_cut import Continue, continuable
from proxy.pipeline.select import Fallback, Select
from proxy.pipeline.smooth import smoothed
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest, Usage
from proxy.routing.params import output_limit, prepared, with_shorter_output
from proxy.routing.plan import Hedge, Plan, Target
from proxy.telemetry.record import AttemptRecord, AttemptRole, StreamRecord

FALLBACK = Fallback()


class Pipeline(msgspec.Struct, frozen=True):
    """What all requests of one config share."""

    backends: Mapping[str, Backend]
    answer_bytes: int
    states: TargetStates
    issuers: Issuers = msgspec.field(default_factory=Issuers)
    losers: set[asyncio.Task[None]] = msgspec.field(default_factory=set)  # of hedges, until they are closed


class Exchange:
    """One request on its way, and the one place that can stop it from outside."""

    __slots__ = ("_asked_first", "_clock", "_pipeline", "_stopped", "_tokens_asked", "plan", "record", "request")

    def __init__(self, pipeline: Pipeline, request: ChatRequest, plan: Plan, record: StreamRecord) -> None:
        self._pipeline = pipeline
        self.request = request
        self.plan = plan
        self.record = record
        self._clock: RequestClock | None = None
        self._stopped: ProxyError | None = None
        self._tokens_asked = 0
        self._asked_first = ""  # the backend that pays for extra work

    def interrupt(self, error: ProxyError) -> None:
        """End it with `error`: an error frame if the answer has begun, else an error status."""
        self._stopped = self._stopped or error
        if self._clock is not None:
            self._clock.interrupt(error)

    async def run(self, client: Client) -> None:
        """Answer the request.

        Returns when the client has had its one end. Raises `ProxyError` when nothing was sent, so that the
        frontend can answer with a status; `ClientGone` or `CancelledError` when nobody is left to answer.
        """
        record, now = self.record, asyncio.get_running_loop().time
        select: Select = FALLBACK
        if self.plan.hedge is not None and client.streaming and repeatable(self.request, self.plan):
            select = self._hedged(self.plan.hedge)
        smooth = smoothed(client, self.plan, self.request)
        client = smooth or client
        try:
            with RequestClock(self.plan.timers, self.plan.heartbeat_s, client.heartbeat) as self._clock:
                try:
                    winner = await select.first(self._attempts(client.streaming, self._clock), self._clock)
                except UpstreamError as error:
                    if record.without_budget:
                        error.retryable = False  # a client that tried again would cause what the budget forbids
                    raise
                if client.streaming and not self.plan.keeps_request:
                    self._free_request()
                if self.plan.on_cut == "continue" and client.streaming and continuable(self.request, self.plan):
                    await self._continuing(self._clock).flow(winner, client, self._clock)
                else:
                    await winner.flow(client)
        except ProxyError as error:
            record.finish(error.end, now(), error_code=error.code)
            raise
        except ClientSlow:
            record.finish("client_slow", now(), error_code="client_slow")
            raise
        except (asyncio.CancelledError, ClientGone):
            if self._stopped is not None:  # the client did not take its error frame in time
                record.finish(self._stopped.end, now(), error_code=self._stopped.code)
            record.finish("client_gone", now(), error_code="client_gone")
            raise
        finally:
            self._clock = None
            if smooth is not None:
                smooth.close()
            if record.usage is None and record.first_content_at is not None:  # not counted, or cut before it was
                record.estimate(Usage(self._estimated_tokens(), record.content_events, estimated=True))

    def _attempts(self, streaming: bool, clock: RequestClock) -> Iterator[Attempt]:
        """An attempt at each target, begun when it is asked for: in the order of the plan, those held back last.

        After the first, each draws from the budget for extra work. Without a budget none that is held back is asked.
        """
        pipeline, record = self._pipeline, self.record
        extra, held_back = pipeline.states.extra, pipeline.states.held_back
        role: AttemptRole = "answer"
        for target, share in self._in_order():
            if self._stopped is not None:
                raise self._stopped
            is_extra = role == "retry" and record.asked
            if is_extra and not extra.draw(self._asked_first) and held_back(target) not in {"", "slow_start"}:
                record.attempts.append(AttemptRecord(target.backend, target.model, error_code="no_budget", role=role))
                continue
            backend = pipeline.backends[target.backend]
            if not clock.start_attempt(self._first_timer(backend), share):
                return
            record.backend, record.upstream_model = target.backend, target.model
            if role == "answer":
                self._asked_first = target.backend
                extra.first_attempt(target.backend)
            yield self._attempt(self.plan, target, self.request, streaming, clock=clock, role=role)
            role = "retry"

    def _attempt(
        self,
        plan: Plan,
        target: Target,
        request: ChatRequest,
        streaming: bool,
        *,
        clock: RequestClock,
        role: AttemptRole,
    ) -> Attempt:
        pipeline = self._pipeline
        backend = pipeline.issuers.sorting(pipeline.backends[target.backend], plan.route, request, target)
        return Attempt(
            guarded(backend, plan),
            target,
            prepared(request, plan, target),
            clock=clock,
            record=self.record,
            states=pipeline.states,
            streaming=streaming,
            answer_bytes=pipeline.answer_bytes,
            role=role,
        )

    def _continuing(self, clock: RequestClock) -> Continue:
        pipeline = self._pipeline

        def attempt(target: Target, request: ChatRequest) -> Attempt:
            limit = output_limit(self.plan, request)  # of the whole answer
            left = None if limit is None else max(1, limit - self.record.content_events)
            plan = with_shorter_output(self.plan, request, left)
            return self._attempt(plan, target, request, True, clock=clock, role="continuation")

        return Continue(
            self.request,
            words=self.plan.continue_with,
            record=self.record,
            budget=lambda: pipeline.states.extra.draw(self._asked_first),
            targets=self.plan.targets,
            attempt=attempt,
            prefills=lambda target: prefills(pipeline.backends[target.backend], target.model),
            held_back=pipeline.states.held_back,
        )

    def _hedged(self, hedge: Hedge) -> Select:
        pipeline = self._pipeline
        return Hedged(
            hedge,
            states=pipeline.states,
            record=self.record,
            losers=pipeline.losers,
            tokens=self._estimated_tokens,
            budget=lambda: pipeline.states.extra.left(self._asked_first),
        )

    def _in_order(self) -> Iterator[tuple[Target, int]]:
        """Each target in the order they are tried, with how many share the time that is left, itself included.

        Targets that are held back get what time the others leave: usually all, as most failures are quick. Those that
        recover answer, so they are the first of them.
        """
        usable: list[Target] = []
        recovering: list[Target] = []
        held_back: list[Target] = []
        for target in self.plan.targets:
            if why := self._pipeline.states.held_back(target):
                self.record.attempts.append(AttemptRecord(target.backend, target.model, error_code=why))
                (recovering if why == "slow_start" else held_back).append(target)
            else:
                usable.append(target)
        for group in (usable, recovering, held_back):
            for position, target in enumerate(group):
                yield target, len(group) - position

    def _first_timer(self, backend: Backend) -> Literal["first_token_s", "whole_s"]:
        """An answer in one piece shows its first token with its last: it may take `whole_s`.

        Backends that speak a wire dialect ask for what the client asked for; the others always for a stream.
        """
        return "whole_s" if not self.request.stream and backend.dialect else "first_token_s"

    def _free_request(self) -> None:
        """Keep of the request only how long it was: it may be megabytes, and the answer may take minutes."""
        self._tokens_asked = self.request.estimated_tokens()
        self.request = msgspec.structs.replace(self.request, messages=(), tools=(), headers={}, raw_body=None)

    def _estimated_tokens(self) -> int:
        return self._tokens_asked or self.request.estimated_tokens()
