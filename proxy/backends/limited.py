"""A backend with limits of its own, such as its vendor's quota: it is not asked for more than they allow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from proxy.backends.base import Backend, Relay, WrappedBackend
from proxy.backends.streaming import announcing
from proxy.config.limits import TargetLimits
from proxy.errors import TargetLimited
from proxy.events import Batch, Finish, Notice, Start
from proxy.request import ChatRequest, Usage
from proxy.routing.params import most_output, shorter_output
from proxy.routing.plan import Plan, Target
from proxy.store.base import Lease, Meter, Room
from proxy.store.rules import Counting, limit_in_words, meters, never_fits, used, wants

SOON_S = 0.25
"""The time between two tries where it is not known when there will be room."""


class Limited(WrappedBackend):
    """Takes room in the limits of its row before `backend` is asked.

    Where there is none within `wait_s` it fails with `TargetLimited`: the next target is tried, and this one is held
    back for its `retry_after`. If no other is left, the client gets that error.
    """

    def __init__(self, backend: Backend, limits: TargetLimits, counting: Counting) -> None:
        super().__init__(backend)
        self._limits = limits
        self._store, self._outputs, self._watcher = counting
        self._own = tuple(meters(limits, "target", self.name))
        per_model = limits.per_model
        caps = (limits.max_output_tokens, per_model.max_output_tokens if per_model else None)
        self._most_output = min([cap for cap in caps if cap is not None], default=None)

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        """See `Backend.stream`."""
        request, notices = self._shortened(request)
        tokens_in = request.estimated_tokens()
        lease = await self._room(request, target, tokens_in)
        seen = 0  # pieces of content, which is about tokens
        usage: Usage | None = None

        def counted(batch: Batch) -> bool:
            nonlocal seen
            assert relay is not None
            if not relay(batch):
                return False
            seen += len(batch.events)
            return True

        answered = False
        try:
            async with aclosing(self._backend.stream(request, target, counted if relay else None)) as stream:
                async for batch in stream:
                    if notices and batch.events and type(batch.events[0]) is Start:
                        batch, notices = announcing(notices, batch), []
                    seen += batch.content
                    if (end := batch.terminal) is not None:
                        usage = end.usage
                        answered = isinstance(end, Finish)
                    yield batch
        except (GeneratorExit, asyncio.CancelledError):  # the client left: the upstream had the request
            usage = usage or Usage(tokens_in, seen)
            raise
        finally:
            if usage is None and (seen or answered):
                usage = Usage(tokens_in, seen)
            if usage is not None and answered:
                self._outputs.seen(f"target:{self.name}", usage.output_tokens)
            if lease.store is not None:
                lease.store.settle(lease, used(lease.wants, usage.total_tokens if usage else 0))

    async def _room(self, request: ChatRequest, target: Target, tokens_in: int) -> Lease:
        """Take room for an attempt, and wait for it if that is soon. Raises `TargetLimited`, `RateLimited` for
        one that is too long, or `LimitsUnknown`.
        """
        ours = [*self._own, *meters(self._limits.per_model, "target", f"{self.name}/{target.model}")]
        expected = self._outputs.expected(f"target:{self.name}", most_output(_NO_PLAN, request))
        now = asyncio.get_running_loop().time
        until = now() + self._limits.wait_s
        while True:
            lease = Lease(target.total_s, wants(ours, tokens_in, expected))
            taken, rooms = await self._store.take(lease)
            self._watcher.rooms(lease.wants, rooms)
            if taken:
                return lease
            short = [(room, want.meter) for want, room in zip(lease.wants, rooms, strict=True) if room.wait_s]
            room, meter = max(short, key=lambda one: _wait_s(one[0]))
            too_long = never_fits(lease.wants)
            if too_long or now() + _wait_s(room) > until:
                self._watcher.denied(meter)
                raise too_long or _limited(meter, room)
            await asyncio.sleep(_wait_s(room))

    def _shortened(self, request: ChatRequest) -> tuple[ChatRequest, list[Notice]]:
        """The request with the longest answer that is allowed, and a notice if that changes something."""
        most = self._most_output
        limit = shorter_output(_NO_PLAN, request, most)
        if not limit:
            return request, []
        (name,) = limit
        notice = Notice("changed_setting", f"{name} is {most}: this target gives no longer answers", name)
        request = msgspec.structs.replace(
            request, params={**request.params, **limit}, routed=request.routed.union(limit)
        )
        return request, [notice]


_NO_PLAN = Plan(route="", targets=())  # a backend's request has the route's parameters already


def _wait_s(room: Room) -> float:
    return room.wait_s if room.wait_s > 0 else SOON_S


def _limited(meter: Meter, room: Room) -> TargetLimited:
    return TargetLimited(
        f"The limit of {limit_in_words(meter)} for `{meter.owner}` is reached.", retry_after=max(1.0, _wait_s(room))
    )
