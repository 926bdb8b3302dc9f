"""A long model name leaves the other cells of a table their room."""

from __future__ import annotations

import aiohttp
import pytest

from tests.clients.browser import chromium
from tests.support.app import StartProxy
from tests.web.tab import Tab

pytestmark = pytest.mark.browser

LONG = "organisation/" + "a-part-of-the-name-" * 8


async def test_the_health_of_a_target_is_not_broken_within_a_word(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(f"{{backends: {{echo: {{kind: echo}}}}, routes: [{{name: default, to: echo/{LONG}}}]}}")
    async with aiohttp.ClientSession() as client:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        async with client.post(f"{proxy.url}/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.view("#/now")
        for width in (1280, 360):
            await tab.size(width, 800)
            await tab.until("document.querySelector('main td .good')?.textContent === 'healthy'")
            assert await tab.run("document.querySelector('main td .good').getClientRects().length") == 1
            assert await tab.run("document.documentElement.scrollWidth") <= width
