"""The view of usage at the page, in Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from datetime import UTC, datetime, timedelta
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
    with contextlib.closing(sqlite3.connect(tmp_path / "usage.db")) as ledger, ledger:
        ago = datetime.now(UTC) - timedelta(days=3)
        ledger.execute("UPDATE chat_proxy_usage SET day = ? WHERE user = 'bert'", [ago.strftime("%Y-%m-%d")])
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.view("#/usage")
        await tab.until("document.querySelectorAll('#usage tbody tr').length === 1")
        heights = re.findall(
            r"[ML][\d.]+ ([\d.]+)", await tab.run("document.querySelectorAll('#usage .a')[2].getAttribute('d')")
        )
        assert [at for at, height in enumerate(reversed(heights)) if height != "29.00"] == [0, 3], (
            "a point for each day"
        )
        assert len(heights) == 8
        assert "anonymous" in await tab.text("#usage tbody")
        await tab.fill("f-by", "user")
        await tab.until("document.querySelectorAll('#usage tbody tr').length === 2")
        table = await tab.text("#usage tbody")
        assert "<b>anna</b>\t1\t2\t2\t$0.00600" in table
        assert "bert\t1\t2\t2\tunknown" in table
        assert await tab.text("#usage tfoot") == "Total\t2\t4\t4\tat least $0.00600"
        axe = (node.modules("page") / "node_modules" / "axe-core" / "axe.min.js").read_text()
        for scheme in ("light", "dark"):
            await tab.scheme(scheme)
            assert await tab.accessibility(axe) == []
        await tab.size(360, 740)
        assert await tab.run("document.documentElement.scrollWidth") <= 360
        assert await tab.run("document.querySelector('#usage .scroll').scrollWidth") <= 360
        assert await tab.text("#usage tfoot") == "Total\t2\tat least $0.00600"
        await tab.picture(tmp_path / "usage.png")
        assert await tab.complaints() == []


async def test_without_a_ledger_the_view_says_so(start_proxy: StartProxy) -> None:
    proxy = await start_proxy("{backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}")
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.view("#/usage")
        await tab.until("document.querySelector('#usage .note')")
        assert "`usage: {}`" in await tab.text("#usage")


async def test_a_ledger_that_cannot_be_read_is_told(start_proxy: StartProxy, tmp_path: Path) -> None:
    (tmp_path / "usage.db").mkdir()
    proxy = await start_proxy(CONFIG.replace("FOLDER", str(tmp_path)))
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.view("#/usage")
        await tab.until("document.querySelector('#usage .fault')")
        assert "cannot be reached" in await tab.text("#usage")
        page_of_another = "new Response('<html><h1>Bad Gateway</h1></html>', {status: STATUS})"
        for by, status in (("user", 502), ("route", 200)):
            answer = page_of_another.replace("STATUS", str(status))
            await tab.run(f"(window.fetch = () => Promise.resolve({answer}), 0)")
            await tab.fill("f-by", by)
            told = f"Something in front of the proxy answered, with status {status} "
            await tab.until(f"document.querySelector('#usage .fault')?.textContent.startsWith('{told}')")
        await tab.run("(window.fetch = () => Promise.reject(new TypeError('Failed to fetch')), 0)")
        await tab.fill("f-by", "model")
        await tab.until("document.querySelector('#usage .fault').textContent === 'The proxy does not answer.'")
