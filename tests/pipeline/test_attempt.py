"""An attempt's two halves, and what becomes of one that nobody wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar

import pytest

from proxy.backends.base import Relay
from proxy.errors import UpstreamTruncated
from proxy.events import Batch
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.clock import RequestClock
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest
from proxy.routing.plan import Target, Timers
from proxy.telemetry.record import StreamRecord
from tests.pipeline.test_exchange import HELLO, Taker, Told


def attempt(backend: Told, clock: RequestClock) -> Attempt:
    now = asyncio.get_running_loop().time
    return Attempt(
        backend,
        Target("b0", "m"),
        ChatRequest(id="r1", contract="chat", dialect="chat", messages=()),
        clock=clock,
        record=StreamRecord(request_id="r1", started_at=now()),
        states=TargetStates(now),
        streaming=True,
        answer_bytes=1 << 20,
    )


async def test_leading_reads_up_to_the_first_content_and_flowing_does_the_rest() -> None:
    client = Taker()
    with RequestClock(Timers(), 0, client.heartbeat) as clock:
        one = attempt(Told(*HELLO), clock)
        await one.lead()
        assert client.events == []
        assert await one.flow(client) == HELLO[-1]
    assert client.events == list(HELLO)


async def test_an_attempt_that_led_and_is_not_wanted_closes_its_upstream() -> None:
    backend = Told(*HELLO)
    with RequestClock(Timers(), 0, lambda: None) as clock:
        one = attempt(backend, clock)
        await one.lead()
        assert backend.closed == 0
        await one.aclose()
        await one.aclose()
    assert backend.closed == 1


async def test_an_attempt_that_fails_to_lead_has_closed_its_upstream_already() -> None:
    backend = Told(HELLO[0], UpstreamTruncated("cut"))
    with RequestClock(Timers(), 0, lambda: None) as clock, pytest.raises(UpstreamTruncated):
        await attempt(backend, clock).lead()
    assert backend.closed == 1


SEEN: ContextVar[str] = ContextVar("seen", default="")


class Marking(Told):
    """As SDKs do, it sets a context variable before its answer and reads it while the answer goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        SEEN.set(request.id)
        for event in HELLO:
            yield Batch([event])
            self.read.append(SEEN.get())


async def test_what_an_sdk_sets_in_its_context_is_there_until_its_answer_ends_and_nowhere_else() -> None:
    backend, client = Marking(), Taker()
    with RequestClock(Timers(), 0, client.heartbeat) as clock:
        one = attempt(backend, clock)
        await one.lead()
        await one.flow(client)
    assert backend.read[:2] == ["r1", "r1"]
    assert SEEN.get() == ""
