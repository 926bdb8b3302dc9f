"""The view of usage at the page, in Chromium."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.clients.browser import chromium
from tests.support import node
from tests.support.app import StartProxy
from tests.web.tab import Tab

pytestmark = pytest.mark.browser

CONFIG = """
    usage: {store: "sqlite:///FOLDER/usage.db"}
    prices: {dear: {input_per_million: 1000, output_per_million: 2000}}
    backends: {echo: {kind: echo}}
    routes: [{name: dear, match: {model: dear}, to: echo/dear}, {name: default, to: echo/other}]
"""


async def test_usage_is_shown_by_what_was_chosen(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = await start_proxy(CONFIG.replace("FOLDER", str(tmp_path)))
    async with aiohttp.ClientSession() as client, asyncio.timeout(60):
        for model, user in (("dear", "<b>anna</b>"), ("free", "bert")):
            body = {"model": model, "user": user, "messages": [{"role": "user", "content": "one two"}]}
            async with client.post(f"{proxy.url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
        requests = 0
        while requests < 2:
            async with client.get(f"{proxy.url}/usage") as answer:
                requests = (await answer.json(content_type=None))["total"]["requests"]
            await asyncio.sleep(0.02)
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.view("#/usage")
        await tab.until("document.querySelectorAll('#usage tbody tr').length === 2")
        assert "anonymous" in await tab.text("#usage tbody")
        await tab.fill("f-by", "user")
        await tab.until("document.querySelectorAll('#usage tbody tr').length === 3")
        table = await tab.text("#usage tbody")
        assert "<b>anna</b>\t1\t2\t2\t$0.00600" in table
        assert "bert\t1\t2\t2\tunknown" in table
        assert "total\t2\t4\t4\tat least $0.00600" in table
        axe = (node.modules("page") / "node_modules" / "axe-core" / "axe.min.js").read_text()
        for scheme in ("light", "dark"):
            await tab.scheme(scheme)
            assert await tab.accessibility(axe) == []
        await tab.size(360, 740)
        assert await tab.run("document.documentElement.scrollWidth") <= 360
        await tab.picture(tmp_path / "usage.png")
        assert await tab.complaints() == []


async def test_without_a_ledger_the_view_says_so(start_proxy: StartProxy) -> None:
    proxy = await start_proxy("{backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}")
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.view("#/usage")
        await tab.until("document.querySelector('#usage .fault')")
        assert "no `usage`" in await tab.text("#usage")
