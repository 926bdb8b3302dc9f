"""`on_cut: continue`: another attempt goes on with an answer that was cut after the client saw some of it.

The next target gets the conversation and the part of the answer that the client has. Only plain text is continued: a
call, or reasoning, has no place at which two of them can be joined, nor has JSON unless the target goes on letter for
letter. If no target can go on, the client is told the first error, for that is what happened to its answer.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import msgspec

from proxy.errors import Degenerate, Draining, Limit, ProxyError, Stopped, UpstreamError
from proxy.events import Batch, Fault, Finish, Notice, ReasoningDelta, ReasoningSignature, Start, StreamEvent, TextDelta
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.client import Client, ClientGone
from proxy.pipeline.clock import RequestClock
from proxy.pipeline.hedge import repeatable
from proxy.pipeline.joint import Joint
from proxy.pipeline.repetition import without_loop
from proxy.request import ChatRequest, Message, Text, Usage
from proxy.routing.plan import Plan, Target
from proxy.telemetry.record import AttemptRecord, StreamRecord

HELD_S = 0.3
"""How long text is held back at a joint when no more comes."""

CONTINUED = Notice("continued", "the answer was cut off and goes on from another attempt")

OURS = (Draining, Limit, Stopped)
"""Errors after which no other target is asked: they end the answer whoever gives it."""

_JSON = frozenset({"json_object", "json_schema"})


def continuable(request: ChatRequest, plan: Plan) -> bool:
    """Whether an answer to this may be written from its events, and asked for again from some place on."""
    return request.rewritable and repeatable(request, plan)


class JoinedClient:
    """The client of an answer that may come from several attempts, one after another."""

    streaming = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent: list[str] = []
        self._joint: Joint | None = None  # of the attempt that goes on
        self._used: Usage | None = None  # by the attempts before it
        self._told = False  # that it goes on
        self._timer: asyncio.TimerHandle | None = None
        self.text_only = True  # nothing but text was sent, and the last of it is no reasoning
        self.announce, self.caught_up, self.heartbeat = client.announce, client.caught_up, client.heartbeat

    @property
    def bytes_out(self) -> int:
        return self._client.bytes_out

    @property
    def sent(self) -> str:
        """The text that the client has, but for what was a loop."""
        text = "".join(self._sent)
        self._sent = [text]
        return text

    def forget_loop(self, period: int) -> None:
        """Leave the loop at the end of the text out of `sent`, so that no target goes on with it."""
        self._sent = [without_loop(self.sent, period)]

    def goes_on(self, *, exact: bool, used: Usage) -> None:
        """From now on batches come from an attempt that goes on. The attempts before it `used` so much."""
        self._joint, self._used, self._told = Joint(self.sent, exact=exact), used, False

    def drop_held(self) -> None:
        """The attempt is over. What is held back of it is not shown, as the next attempt does not have it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def send(self, batch: Batch) -> None:
        batch = self._to_send(batch)
        if batch.events:
            await self._client.send(batch)

    def write(self, batch: Batch) -> bool:
        batch = self._to_send(batch)
        return bool(batch.events) and self._client.write(batch)

    def _to_send(self, batch: Batch) -> Batch:
        """What the client is sent of a batch: all of the first attempt's, of another's what follows the text so far.

        It never has the upstream's bytes, whose id and numbers of parts are those of one attempt, not of the answer.
        """
        if self._joint is None:
            batch = Batch(batch.events, text_only=batch.text_only)
        else:
            told, self._told = self._told, True
            batch = Batch([*([] if told else [CONTINUED]), *self._following(batch.events, self._joint)])
        for event in batch.events:
            match event:
                case TextDelta(text):
                    self._sent.append(text)
                case ReasoningDelta() | ReasoningSignature():
                    self.text_only = self.text_only and not self._sent
                case Start() | Notice() | Finish() | Fault():
                    pass
                case _:
                    self.text_only = False
        return batch

    def _following(self, events: Sequence[StreamEvent], joint: Joint) -> Iterator[StreamEvent]:
        for event in events:
            match event:
                case TextDelta(text):
                    if following := joint.feed(text):
                        yield TextDelta(following)
                    elif not joint.joined and self._timer is None:
                        self._timer = asyncio.get_running_loop().call_later(HELD_S, self._waited, joint)
                case Start() | Notice() | ReasoningDelta() | ReasoningSignature():
                    pass  # the answer has begun long ago
                case Finish():
                    if following := joint.end():
                        yield TextDelta(following)
                    if event.usage is not None and self._used is not None:  # else the sum is unknown
                        event = msgspec.structs.replace(event, usage=_sum(self._used, event.usage))
                    yield event
                case Fault():
                    yield event
                case _:
                    if following := joint.end():
                        yield TextDelta(following)
                    yield event

    def _waited(self, joint: Joint) -> None:
        self._timer = None
        if joint is self._joint and (following := joint.waited()):
            self._sent.append(following)
            with contextlib.suppress(ClientGone):  # the next batch raises it again, where it is handled
                self._client.write(Batch([TextDelta(following)]))


class Continue:
    """Goes on with an answer that was cut, for one request."""

    def __init__(
        self,
        request: ChatRequest,
        *,
        words: str,
        record: StreamRecord,
        budget: Callable[[], bool],
        targets: Sequence[Target],
        attempt: Callable[[Target, ChatRequest], Attempt],
        prefills: Callable[[Target], bool],
        held_back: Callable[[Target], str],
    ) -> None:
        """`words` ask a model to go on; `attempt` makes an attempt; `prefills`: whether a target goes on by itself.

        `held_back` says why others are asked before a target. `budget` draws from the one for extra work, and says whether
        that is allowed.
        """
        self._request, self._words, self._record, self._budget = request, words, record, budget
        self._targets, self._attempt, self._prefills, self._held_back = targets, attempt, prefills, held_back
        self._counted = 0

    async def flow(self, winner: Attempt, client: Client, clock: RequestClock) -> None:
        """Send the answer and its one end."""
        joined = JoinedClient(client)
        winner.withholds_fault = True
        first = end = await winner.flow(joined)
        targets, latest = self._others(winner.target), winner
        try:
            while isinstance(end, Fault) and isinstance(first, Fault):
                again = None
                try:
                    if not isinstance(end.error, OURS):
                        again = await self._next(end, latest, joined, targets, clock)
                except OURS as error:
                    end = Fault(error)
                if again is None:
                    shown = end if isinstance(end.error, OURS) else first
                    winner.withholds_fault = False
                    await winner.write_end(Batch([shown]), shown, client)
                    return
                latest = again
                end = await again.flow(joined)
        finally:  # the client may have left
            joined.drop_held()
            if latest is not winner:
                self._account(latest)
                self._record.usage = self._used()

    def _others(self, target: Target) -> Iterator[Target]:
        """Who may go on: the targets behind the one that was cut, then those that were only slower to begin than it, each
        held back last; then that one again.
        """
        at = self._targets.index(target) if target in self._targets else len(self._targets) - 1
        lost = {(one.backend, one.model) for one in self._record.attempts if one.role == "hedge_loser"}
        slower = [other for other in self._targets[:at] if (other.backend, other.model) in lost and other != target]
        for others in (self._targets[at + 1 :], slower):
            yield from sorted(others, key=lambda other: bool(self._held_back(other)))
        yield target

    async def _next(
        self, end: Fault, cut: Attempt, joined: JoinedClient, targets: Iterator[Target], clock: RequestClock
    ) -> Attempt | None:
        """An attempt that goes on, with its beginning read; `None` if there is none."""
        joined.drop_held()
        if not isinstance(end.error, UpstreamError) or not joined.text_only:
            return None
        if isinstance(end.error, Degenerate):
            joined.forget_loop(end.error.period)
        if not joined.sent:
            return None
        self._account(cut)
        for target in targets:
            exact = self._prefills(target)
            if self._wants_json() and not exact:
                continue
            if not self._budget():
                unasked = AttemptRecord(target.backend, target.model, error_code="no_budget", role="continuation")
                self._record.attempts.append(unasked)
                return None
            attempt = self._attempt(target, self._continued(joined.sent, exact=exact))
            attempt.withholds_fault = True
            clock.go_on()
            try:
                await attempt.lead()
            except OURS:
                raise
            except ProxyError:
                continue
            joined.goes_on(exact=exact, used=self._used())
            return attempt
        return None

    def _continued(self, sent: str, *, exact: bool) -> ChatRequest:
        """The request with the answer so far. No target takes white space at the end of one that it is to go on with, nor
        an answer of nothing else.
        """
        messages = self._request.messages
        if sent.strip():
            messages = (*messages, Message("assistant", (Text(sent.rstrip() if exact else sent),)))
        if sent.strip() and not exact:
            messages = (*messages, Message("user", (Text(self._words),)))
        return msgspec.structs.replace(self._request, messages=messages, raw_body=None, dialect="")

    def _wants_json(self) -> bool:
        wanted = self._request.params.get("response_format")
        return isinstance(wanted, dict) and wanted.get("type") in _JSON

    def _account(self, attempt: Attempt) -> None:
        """Book what an attempt used. One that was cut rarely says it: then its content is counted."""
        counted, self._counted = self._record.content_events - self._counted, self._record.content_events
        if attempt.tried.usage is None:
            attempt.tried.usage = Usage(self._request.estimated_tokens(), counted, estimated=True)

    def _used(self) -> Usage:
        used = [attempt.usage for attempt in self._record.attempts if attempt.usage and attempt.role != "hedge_loser"]
        return reduce(_sum, used)


def _sum(one: Usage, other: Usage) -> Usage:
    """The usage of two attempts together; an estimate if one of them is."""
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        estimated=one.estimated or other.estimated,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        audio_input_tokens=one.audio_input_tokens + other.audio_input_tokens,
        audio_output_tokens=one.audio_output_tokens + other.audio_output_tokens,
    )
