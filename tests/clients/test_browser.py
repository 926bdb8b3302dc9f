"""The same readers in Chromium, on a page of another origin than the proxy's."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from tests.clients.answering import answer_by_number, assert_heard, heard_by_events, heard_by_the_hook, questions
from tests.clients.browser import chromium
from tests.support.house import Process, openai_config
from tests.support.upstream import ScriptedUpstream

Server = Callable[..., Awaitable[Process]]

pytestmark = pytest.mark.browser


def allowing(page_url: str) -> str:
    """Server settings under which a page may call."""
    return f"{{log: {{level: error}}, cors: {{origins: ['{page_url.removesuffix('/page.html')}']}}}}"


@pytest.mark.parametrize(
    ("reader", "query", "heard", "every"),
    [
        ("founding hook", "", heard_by_the_hook, 1),
        ("founding hook", "?dialect=both", heard_by_the_hook, 1),
        ("fetch-event-source, JSON", "?dialect=json", heard_by_events, 4),
    ],
)
async def test_every_answer_arrives_exactly(
    serve: Server, upstream: ScriptedUpstream, page_url: str, reader: str, query: str,
    heard: Callable[[str], str], every: int,
) -> None:  # fmt: skip
    answer_by_number(upstream)
    proxy = await serve(openai_config(upstream.url, server=allowing(page_url)))
    asked = questions(every)
    task = {"reader": reader, "url": f"{proxy.url}/api/chat{query}", "questions": asked}
    async with chromium() as page:
        await page.open(page_url)
        assert_heard(await page.run(f"askAll({json.dumps(task)})"), asked, heard)
