"""The page without a mouse and without eyes: where the focus goes, what keys do, what is read out."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.testing.script import Stall, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.browser import chromium
from tests.support.app import StartProxy
from tests.web.tab import Tab

pytestmark = pytest.mark.browser

CONFIG = """
    backends: {far: {kind: openai-compatible, base_url: "URL", discover: "off"}}
    routes: [{name: default, to: far/model}]
"""

OUTLINE = "getComputedStyle(document.activeElement).outlineStyle === 'solid'"
LISTEN = """(() => {
    window.heard = [];
    const say = ({ target }) => {
        const region = (target.closest ? target : target.parentElement)?.closest("[role=status], [role=alert], [aria-live]");
        if (region && region.textContent) heard.push(region.textContent);
    };
    new MutationObserver((all) => all.forEach(say)).observe(document.body, { childList: true, characterData: true, subtree: true });
})()"""


async def tabbed(tab: Tab, most: int = 30) -> list[str]:
    """Everything that Tab comes to, in its order, until it leaves the page. Each of it shows that it has the focus."""
    found: list[str] = []
    for _ in range(most):
        await tab.press("Tab")
        where = await tab.focus()
        if where.startswith("body") or where in found:
            return found
        assert await tab.run(OUTLINE), f"the focus is not seen on {where}"
        found.append(where)
    raise AssertionError(found)


async def test_all_is_done_by_keys(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(CONFIG.replace("URL", upstream.url))
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.until("document.getElementById('heard').textContent === 'connected'")
        await tab.run(LISTEN)
        top = ["a Skip to the content", "a chat-proxy", "a Try", "a Requests", "a Now", "a Usage", "a Explain"]
        snippets = ["for-0", "snippet", "button Copy"]
        first = ["contract", "model", "text", "send", "ol Frames as they come", *snippets]
        assert await tabbed(tab) == [*top, *first]

        # skip to the content, say something in two lines
        await tab.run("document.activeElement.blur()")
        await tab.press("Tab")
        await tab.press("Enter")
        assert await tab.focus() == "main"
        for _ in range(3):
            await tab.press("Tab")
        assert await tab.focus() == "text"
        await tab.type("one")
        await tab.press("Enter", shift=True)
        await tab.type("two")
        assert await tab.run("document.activeElement.value") == "one\ntwo"
        upstream.play(*openai_stream(["A whole answer"]))
        await tab.press("Enter")
        await tab.until("document.querySelector('.outcome a')")
        assert upstream.requests[-1].json()["messages"][-1]["content"] == "one\ntwo"
        assert await tab.focus() == "text"

        # again, and stopped by Escape: the focus is never lost
        await tab.press("Tab")
        await tab.press("Tab")
        assert await tab.focus() == "again"
        upstream.play(openai_stream(["No", " end"])[:3], Stall())
        await tab.press("Space")
        assert await tab.focus() == "send"
        await tab.until("document.querySelector('.turn.assistant')?.innerText.includes('No')")
        await tab.press("Escape")
        await tab.until("document.querySelector('.outcome a')")
        assert (await tab.text(".outcome")).startswith("stopped")
        assert await tab.focus() == "send"
        await tab.press("Tab")
        await tab.press("Tab")
        assert await tab.focus() == "button Clear"
        await tab.press("Enter")
        assert await tab.focus() == "text"

        # tabs turn with the arrows
        await tab.run("document.querySelector('[role=tab][aria-selected=true]').focus()")
        for key, wanted in (("ArrowDown", "fetch"), ("ArrowLeft", "curl"), ("ArrowUp", "Claude Code"), ("ArrowRight", "curl"), ("End", "Claude Code"), ("Home", "curl")):  # fmt: skip
            await tab.press(key)
            assert await tab.run("document.activeElement.textContent") == wanted
            assert await tab.run("document.activeElement.getAttribute('aria-selected')") == "true"
            assert await tab.run("document.querySelectorAll('[role=tab][tabindex=\"0\"]').length") == 1
        assert (await tab.text("#snippet")).startswith("curl")

        # to a request, by links alone
        await tab.view("#/requests")
        assert await tab.focus() == "main"
        await tab.until("document.querySelector('#rows a')")
        await tab.run("document.querySelector('#rows a').focus()")
        await tab.press("Enter")
        await tab.until("document.getElementById('replay')")
        assert await tab.focus() == "main"
        found = await tabbed(tab)
        assert found[:3] == ["replay", "ask-why", "a close the one above"]

        heard: list[Any] = await tab.run("heard")
        assert any("done" in words for words in heard)
        assert any("stopped" in words for words in heard)
        assert not any("active stream" in words for words in heard), "a count that changes all the time is not read out"
        assert await tab.complaints() == []


async def test_a_broken_link_leads_to_a_view(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(CONFIG.replace("URL", upstream.url))
    async with chromium() as page:
        for link, heading in (
            ("requests/%E0%A4", "One request"),
            ("requests/gone", "One request"),
            ("toString", "Try it"),
        ):
            await page.open("about:blank", title="")
            tab = await Tab.open(page, f"{proxy.url}/#/{link}")
            assert await tab.text("h1") == heading
            await tab.until("document.getElementById('pulse').className.includes('live')")
            if heading != "Try it":
                await tab.until("document.querySelector('.open-request').innerText.includes('not among the last')")


async def test_the_focus_stays_while_the_page_is_drawn_anew(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(CONFIG.replace("URL", upstream.url))
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.run(LISTEN)
        proxy.rewrite(CONFIG.replace("URL", upstream.url).replace("to: far/", "to: fra/"))
        await proxy.app.reload()
        await tab.until("document.querySelector('#alert a')")
        await tab.run("document.querySelector('#alert a').focus()")
        upstream.play(openai_stream(["No", " end"])[:3], Stall())
        await tab.fill("text", "Hello")
        await tab.run("document.getElementById('send').form.requestSubmit()")
        await tab.until("document.getElementById('pulse').textContent.startsWith('1 active')")
        assert await tab.focus() == "a See where."
        await tab.press("Enter")
        await tab.until("document.querySelector('#rejected .lines')")
        await tab.run("document.querySelector('#rejected .lines').focus()")
        await tab.until(
            "document.getElementById('pulse').textContent.startsWith('0 active')"
        )  # leaving the view stops it
        assert (await tab.focus()).startswith("div Around line")
        heard = await tab.run("heard")
        assert sum("has 1 error" in words for words in heard) <= 2, "once at the top, once in its own view"
        assert await tab.complaints() == []
