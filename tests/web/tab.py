"""The page at `/` in Chromium: what a user does there, and what the browser complains of."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from tests.clients.browser import Page, ScriptFailed

_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "End": 35, "Home": 36,
          "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}  # fmt: skip


class Tab:
    """One tab with the page."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self.origin = page, origin

    @classmethod
    async def open(cls, page: Page, url: str) -> Tab:
        tab = cls(page, url.rstrip("/"))
        await page.open("about:blank", title="")
        for domain in ("Runtime", "Log", "Network", "Page"):
            await page.command(f"{domain}.enable")
        await tab.size(1280, 900)
        await page.command("Page.navigate", url=url)
        await tab.until("document.querySelector('nav a[aria-current]')")
        return tab

    async def run(self, script: str) -> Any:
        return await self.page.run(script)

    async def until(self, condition: str, within: float = 60) -> None:
        """Wait until a condition holds."""
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        if await self.run(f"Boolean({condition})"):
                            return
                    except ScriptFailed:
                        pass
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.run("document.body.innerText.slice(0, 3000)")
            raise AssertionError(f"never came: {condition}\n{shown}") from None

    async def view(self, hash: str) -> None:
        await self.run(f"void (location.hash = {json.dumps(hash)})")
        name = hash.split("/")[1]
        await self.until(f"document.querySelector('nav a[aria-current]').dataset.view === {json.dumps(name)}")

    async def fill(self, id: str, value: str) -> None:
        """What typing does."""
        await self.run(f"""(() => {{
            const field = document.getElementById({json.dumps(id)});
            field.value = {json.dumps(value)};
            field.dispatchEvent(new Event("input", {{ bubbles: true }}));
            field.dispatchEvent(new Event("change", {{ bubbles: true }}));
        }})()""")

    async def press(self, key: str, *, shift: bool = False) -> None:
        """A key, as the keyboard sends it to what has the focus."""
        text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        code = _CODES.get(key, ord(key[0]))
        told = {
            "key": " " if key == "Space" else key,
            "code": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        await self.page.command("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **told)
        await self.page.command("Input.dispatchKeyEvent", type="keyUp", **told)

    async def type(self, text: str) -> None:
        await self.page.command("Input.insertText", text=text)

    async def focus(self) -> str:
        """What has the focus: its id, or its name and what it says."""
        return str(
            await self.run("""(() => {
            const it = document.activeElement;
            return it.id || `${it.localName} ${(it.getAttribute("aria-label") ?? it.innerText).trim()}`;
        })()""")
        )

    async def text(self, selector: str = "main") -> str:
        return str(await self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def size(self, width: int, height: int) -> None:
        await self.page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    async def scheme(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        await self.page.command("Emulation.setEmulatedMedia", features=[feature, still])

    async def picture(self, file: Path, *, whole: bool = False) -> None:
        await self.run("document.fonts.ready.then(() => 0)")
        taken = await self.page.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(taken["data"]))

    async def complaints(self) -> list[str]:
        """Errors and warnings of the console, what was blocked, and requests to anywhere else."""
        await self.run("0")  # what came before this has been heard
        found = []
        for event in self.page.events:
            told = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(json.dumps(told["exceptionDetails"])[:800])
                case "Runtime.consoleAPICalled" if told["type"] in {"error", "warning", "assert"}:
                    found.append(json.dumps(told["args"])[:800])
                case "Log.entryAdded" if told["entry"]["level"] in {"error", "warning"}:
                    found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
                case "Network.requestWillBeSent" if not told["request"]["url"].startswith(self.origin + "/"):
                    found.append(f"request to {told['request']['url']}")
        return found

    async def accessibility(self, axe: str) -> list[str]:
        """What axe-core finds that is serious."""
        await self.run(f"{axe}; 0")
        found = await self.run("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
