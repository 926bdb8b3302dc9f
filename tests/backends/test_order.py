"""A plug-in's events are checked while it runs; built-in kinds are not."""

from __future__ import annotations

from contextlib import aclosing
from importlib.metadata import EntryPoint

import pytest

from proxy.backends import base, echo, order
from proxy.backends.base import Resources
from proxy.events import Batch, Fault, Finish, OrderError, Start, TextDelta
from proxy.routing.plan import Target
from proxy.transport import HttpTransport
from tests.support.wire import chat

START, TEXT, END = Start("1", "m"), TextDelta("Hel"), Finish()
TARGET = Target("mine", "m")


class Says:
    name, dialect = "mine", ""

    def __init__(self, *events, relayed=()):
        self.batches, self.relayed, self.closed = [Batch([event]) for event in events], relayed, False

    async def open(self): ...

    async def aclose(self): ...

    def omissions(self, request, target):
        return ["nothing"]

    async def stream(self, request, target, relay=None):
        try:
            for batch in self.batches:
                yield batch
            for batch in self.relayed:
                if not relay(batch):
                    yield batch
        finally:
            self.closed = True


async def events(backend, relay=None):
    async with aclosing(backend.stream(chat(), TARGET, relay)) as stream:
        return [event async for batch in stream for event in batch.events]


async def test_events_in_order_pass():
    assert await events(order.OrderChecked(Says(START, TEXT, TEXT, END))) == [START, TEXT, TEXT, END]


@pytest.mark.parametrize("wrong", [[TEXT, END], [START, START], [START, END, TEXT], [START, END, END]])
async def test_a_wrong_event_before_any_content_raises(wrong):
    says = Says(*wrong)
    with pytest.raises(OrderError):
        await events(order.OrderChecked(says))
    assert says.closed


async def test_a_wrong_event_after_content_ends_the_answer_in_a_fault():
    says = Says(START, TEXT, START, TEXT, END)
    *before, end = await events(order.OrderChecked(says))
    assert before == [START, TEXT]
    assert isinstance(end, Fault)
    assert isinstance(end.error, OrderError)
    assert says.closed


async def test_what_is_relayed_is_checked_too():
    taken = []
    says = Says(START, TEXT, relayed=[Batch([TEXT]), Batch([START]), Batch([END])])
    *_, end = await events(order.OrderChecked(says), relay=lambda batch: not taken.append(batch))
    assert isinstance(end, Fault)
    assert [batch.events for batch in taken] == [[TEXT]]


async def test_what_the_relay_does_not_take_is_checked_once():
    says = Says(START, TEXT, relayed=[Batch([TEXT]), Batch([END])])
    assert await events(order.OrderChecked(says), relay=lambda batch: False) == [START, TEXT, TEXT, END]


async def test_only_kinds_that_are_not_built_in_are_checked(monkeypatch):
    row = echo.EchoSettings(kind="echo")
    assert isinstance(order.build(row, "e", Resources(HttpTransport())), echo.EchoBackend)
    plugged = EntryPoint("theirs", "proxy.backends.echo:KIND", "proxy.backends")
    monkeypatch.setattr(order, "kinds", lambda: {"theirs": EntryPoint("theirs", "their_package:KIND", "x")})
    monkeypatch.setattr(base, "kinds", lambda: {"theirs": plugged})
    theirs = order.build(echo.EchoSettings(kind="theirs"), "t", Resources(HttpTransport()))
    assert isinstance(theirs, order.OrderChecked)
    assert theirs.name == "t"
