"""Backends and clients that are made of plain values, and an exchange between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import structs

from proxy.backends.base import Relay
from proxy.events import Batch, Finish, Notice, Start, StreamEvent, TextDelta
from proxy.pipeline.exchange import Exchange, Pipeline
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest, Message, Text, Usage
from proxy.routing.plan import Limit, Plan, Target
from proxy.telemetry.record import StreamRecord

FOREVER = 3600.0
Step = StreamEvent | Batch | BaseException | float | asyncio.Event


class Told:
    """A backend that plays steps: events and batches are yielded, errors raised, numbers slept, events awaited."""

    dialect = ""

    def __init__(self, *steps: Step) -> None:
        self.name, self.steps = "told", steps
        self.asked: list[ChatRequest] = []
        self.closed = 0

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        self.asked.append(request)
        try:
            for step in self.steps:
                match step:
                    case BaseException():
                        raise step
                    case Batch():
                        yield step
                    case float():
                        await asyncio.sleep(step)
                    case asyncio.Event():
                        await step.wait()
                    case _:
                        yield Batch([step])
        finally:
            self.closed += 1


class Relaying(Told):
    """One that speaks a wire dialect: it offers all that follows its first content to `relay`, and yields the rest."""

    dialect = "wire"

    def __init__(self, *steps: Step) -> None:
        super().__init__(*steps)
        self.refused: list[Batch] = []

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        spoken = False
        async with aclosing(super().stream(request, target)) as told:
            async for batch in told:
                if spoken and relay is not None:
                    if relay(batch):
                        continue
                    self.refused.append(batch)
                yield batch
                spoken = spoken or batch.has_content


class Taker:
    """A client that keeps what it gets."""

    def __init__(self, *, streaming: bool = True, fails: BaseException | None = None, fails_at: int = 0) -> None:
        self.streaming, self.bytes_out = streaming, 0
        self.events: list[StreamEvent] = []
        self.beats = self.waits = 0
        self.behind = False
        self.begun = asyncio.Event()
        self._fails, self._fails_at = fails, fails_at

    async def send(self, batch: Batch) -> None:
        if self.write(batch):
            await self.caught_up()

    async def caught_up(self) -> None:
        self.waits += 1

    def write(self, batch: Batch) -> bool:
        if self._fails is not None and len(self.events) >= self._fails_at:
            raise self._fails
        self.events += batch.events
        self.bytes_out += sum(len(event.text) for event in batch.events if isinstance(event, TextDelta))
        self.begun.set()
        return self.behind

    def heartbeat(self) -> None:
        self.beats += 1

    def announce(self, notices: Sequence[Notice]) -> None:
        self.announced = list(notices)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def end(self) -> StreamEvent:
        return self.events[-1]


def exchange(
    *backends: Told,
    answer_bytes: int = 1 << 20,
    stream: bool = True,
    states: TargetStates | None = None,
    asked: dict[str, Any] | None = None,
    limit: Limit | None = None,
    **plan: Any,
) -> Exchange:
    named = {f"b{number}": backend for number, backend in enumerate(backends)}
    targets = tuple(Target(name, "m", limit=limit and structs.replace(limit, target=name)) for name in named)
    messages = (Message("user", (Text("hi " * 40),)),)
    request = ChatRequest(id="r1", contract="chat", dialect="chat", messages=messages, stream=stream, **(asked or {}))
    record = StreamRecord(request_id="r1", started_at=asyncio.get_running_loop().time())
    pipeline = Pipeline(named, answer_bytes, states or TargetStates(asyncio.get_running_loop().time))
    return Exchange(pipeline, request, Plan(route="default", targets=targets, **{"heartbeat_s": 0.0, **plan}), record)


HELLO = (Start("1", "m"), TextDelta("Hello"), Finish("stop", Usage(1, 2)))
