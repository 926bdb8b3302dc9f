"""A headless Chromium and a page in it, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import debian

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
]  # root needs --no-sandbox; the rest keeps it from calling home


class ScriptFailed(Exception):
    """What the page threw, as it was thrown."""


class ProtocolError(Exception):
    """Chromium could not do what it was told."""


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session = ""
        self.events: list[dict[str, Any]] = []  # what Chromium told beside its answers, of what `enable` asked for

    async def open(self, url: str, *, title: str = "ready") -> None:
        """Load a page, and wait until it has that title. Scripts of test pages set `ready`."""
        target = await self._send("Target.createTarget", url=url)
        attached = await self._send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        await self.titled(title)

    async def titled(self, title: str) -> None:
        """Wait until the page has that title."""
        async with asyncio.timeout(60):
            while await self._title() != title:
                await asyncio.sleep(0.02)

    async def _title(self) -> str:
        try:
            return str(await self.run("document.title"))
        except ProtocolError:  # between about:blank and the page
            return ""

    async def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; a promise is waited for. Raises `ScriptFailed` when it throws."""
        answer = await self._send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise ScriptFailed(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"].get("value")

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol to the tab."""
        return await self._send(method, **params)

    async def close_browser(self) -> None:
        self._session = ""
        with contextlib.suppress(ConnectionError):
            await self._send("Browser.close")

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        async for message in self._socket:
            answer = message.json()
            if answer.get("id") == number:
                if "error" in answer:
                    raise ProtocolError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
        raise ConnectionError("Chromium closed the connection")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Page]:
    """Start Chromium with a new profile; stop the test where it cannot be had."""
    debian.require("chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            "chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            address = await _address(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                yield page
                await page.close_browser()
            await asyncio.wait_for(process.wait(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _address(written_here: Path) -> str:
    """Where Chromium listens: it writes port and path into its profile once it does."""
    async with asyncio.timeout(60):
        while not written_here.exists() or written_here.read_text().count("\n") < 1:
            await asyncio.sleep(0.02)
    port, path = written_here.read_text().split("\n")[:2]
    return f"ws://127.0.0.1:{port}{path}"
