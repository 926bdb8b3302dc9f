"""Asking a backend in a test: one request, and everything that its stream brings."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from proxy.backends.base import Backend
from proxy.errors import ProxyError
from proxy.events import Batch, Fault, Finish, StreamEvent, TextDelta, check_order
from proxy.request import ChatRequest, Message, Text
from proxy.routing.plan import Target
from proxy.testing.script import PATIENCE_S

TOKENS = [" Hello", ",", "  world", "\n\n", "data: x", "\r\n", "naïve 東京 😀", "<s>", "{", '"', "\\n", "[DONE]", " \t"]
TEXT = "".join(TOKENS)


@dataclass
class Outcome:
    """Everything that one stream brought."""

    batches: list[Batch] = field(default_factory=list)
    raised: ProxyError | None = None

    @property
    def events(self) -> list[StreamEvent]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def error(self) -> ProxyError:
        """Raised, or in a `Fault`: before content a backend may do either."""
        if self.raised is not None:
            return self.raised
        end = self.events[-1]
        assert isinstance(end, Fault), f"it ended in {end}"
        return end.error


def ask(text: str = TEXT, *, stream: bool = True, **params: Any) -> ChatRequest:
    return ChatRequest(
        id="r1",
        contract="chat",
        dialect="chat",
        messages=(Message("user", (Text(text),)),),
        stream=stream,
        params=params,
    )


async def outcome(backend: Backend, target: Target, request: ChatRequest | None = None) -> Outcome:
    """Run a stream to its end, and check the order of its events on the way."""
    got = Outcome()
    try:
        async with asyncio.timeout(PATIENCE_S), aclosing(backend.stream(request or ask(), target)) as stream:
            async for batch in stream:
                assert not any(seen.terminal for seen in got.batches), "a batch came after the terminal event"
                got.batches.append(batch)
    except ProxyError as error:
        assert not any(batch.has_content for batch in got.batches), "it raised after content: that takes a Fault"
        got.raised = error
    else:
        assert check_order(got.events) in {Finish, Fault}, "no terminal event"
        end = got.events[-1]
        if isinstance(end, Fault) and not any(batch.has_content for batch in got.batches):
            got.raised = end.error  # before content both ways of failing mean the same
    return got


async def first_content(backend: Backend, target: Target) -> None:
    """Take a stream's first content and leave."""
    async with asyncio.timeout(PATIENCE_S), aclosing(backend.stream(ask(), target)) as stream:
        async for batch in stream:
            if batch.has_content:
                return
