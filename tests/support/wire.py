"""A wire backend at a scripted upstream, over the real transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from proxy.backends.base import Resources, kind
from proxy.backends.http import HttpBackend
from proxy.errors import ProxyError
from proxy.events import Batch, Fault, StreamEvent, check_order
from proxy.request import ChatRequest, Message, Text
from proxy.routing.plan import Target
from proxy.transport.http1 import HttpTransport

HI = Message("user", (Text("hi"),))


def chat(**more: Any) -> ChatRequest:
    """A request of the chat contract."""
    return ChatRequest(**{"id": "r1", "contract": "chat", "dialect": "chat", "messages": (HI,), **more})


@asynccontextmanager
async def backend(row: Mapping[str, Any], **limits: int) -> AsyncIterator[HttpBackend]:
    """The backend of a config row, open; gone after the test with its connections."""
    transport = HttpTransport()
    found = kind(row["kind"])
    built = found.build("far", found.settings.model_validate(row), Resources(transport=transport, **limits))
    try:
        await built.open()
        assert isinstance(built, HttpBackend)
        yield built
    finally:
        await built.aclose()
        await transport.aclose()


async def batches(built: HttpBackend, request: ChatRequest | None = None, model: str = "m") -> list[Batch]:
    """All that one answer brings."""
    async with aclosing(built.stream(request or chat(), Target("far", model))) as stream:
        return [batch async for batch in stream]


async def events(built: HttpBackend, request: ChatRequest | None = None) -> list[StreamEvent]:
    """All events of one answer, in their order."""
    found = [event for batch in await batches(built, request) for event in batch.events]
    check_order(found)
    return found


async def failure(built: HttpBackend, request: ChatRequest | None = None) -> ProxyError:
    """The error that an answer fails with before anything was said."""
    try:
        got = await batches(built, request)
    except ProxyError as error:
        return error
    if isinstance(end := got[-1].terminal, Fault) and not any(batch.has_content for batch in got):
        return end.error
    raise AssertionError(f"it answered: {got}")
