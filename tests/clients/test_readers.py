"""Readers that people use, in Node, against the running proxy: every answer arrives, whatever it is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.testing.upstream import ScriptedUpstream
from tests.clients.answering import (
    HOW_MANY,
    answer_by_number,
    asks,
    assert_heard,
    heard_by_events,
    heard_by_fetch_event_source,
    heard_by_the_hook,
    heard_in_json,
)
from tests.clients.asking import ask_in_node
from tests.support.app import Process, openai_config

QUIET = "{log: {level: error}}"


READERS = [
    ("chat hook", "", heard_by_the_hook),
    ("chat hook", "?dialect=both", heard_by_the_hook),
    ("eventsource-parser", "", heard_by_events),
    ("eventsource-parser", "?dialect=both", heard_by_events),
    ("eventsource-parser, JSON", "?dialect=json", heard_in_json),
    ("fetch-event-source", "", heard_by_fetch_event_source),
    ("fetch-event-source", "?dialect=both", heard_by_fetch_event_source),
    ("fetch-event-source, JSON", "?dialect=json", heard_in_json),
]


@pytest.mark.browser
@HOW_MANY
async def test_every_answer_arrives_exactly(
    serve: Callable[..., Awaitable[Process]], upstream: ScriptedUpstream, every: int
) -> None:
    answer_by_number(upstream)
    proxy = await serve(openai_config(upstream.url, server=QUIET))
    for reader, query, heard in READERS:
        asked = asks(reader, f"{proxy.url}/api/chat{query}", every)
        assert_heard(await ask_in_node(asked), asked, heard)
