"""Asks real Python clients: a line of JSON on standard input is a question, a line on standard output what came of it.

    python drive.py openai_sdk anthropic_sdk …

    {"id": 1, "client": "openai chat, streamed", "url": "http://127.0.0.1:8080", "question": "hi", …}
    {"id": 1, "text": "hi", "reasoning": "", "tools": [], "finish": "stop", "usage": {…}, "error": null}
    {"give_up": 2}

It runs in the environment of the clients, which need not have the proxy's packages. Questions are asked side by
side. The process lives until its input ends, so that a client that was left must close its connection itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
from typing import Any

Ask = dict[str, Any]


class Left(Exception):
    """The program has read enough."""


class Seen:
    """What a program saw of an answer."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.text = self.reasoning = ""
        self.tools: list[dict[str, Any]] = []
        self.finish: str | None = None
        self.usage: dict[str, int] | None = None
        self.error: dict[str, Any] | None = None

    def say(self, text: str | None) -> None:
        """Take in a piece of text; raises `Left` when this was all the program wanted to hear."""
        self.text += text or ""
        if self.text and self._ask.get("leave"):
            raise Left

    def fail(self, error: BaseException) -> None:
        status = getattr(error, "status_code", None)
        self.error = {"name": type(error).__name__, "status": status, "message": str(error)}

    def used(self, read: int | None, written: int | None) -> None:
        self.usage = {"input": read or 0, "output": written or 0}


async def answer(ask: Ask, clients: dict[str, Any]) -> None:
    seen = Seen(ask)
    try:
        await clients[ask["client"]](ask, seen)
    except (Left, asyncio.CancelledError):
        pass
    except BaseException as error:
        seen.fail(error)
    told = {name: value for name, value in vars(seen).items() if not name.startswith("_")}
    print(json.dumps({"id": ask["id"], **told}), flush=True)


async def main() -> None:
    clients: dict[str, Any] = {}
    for name in sys.argv[1:]:
        clients |= importlib.import_module(name).CLIENTS
    print(json.dumps({"ready": sorted(clients)}), flush=True)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    asking: dict[int, asyncio.Task[None]] = {}
    async for line in lines:
        ask = json.loads(line)
        if number := ask.get("give_up"):
            asking[number].cancel()
        else:
            asking[ask["id"]] = asyncio.create_task(answer(ask, clients))


if __name__ == "__main__":
    sys.modules["drive"] = sys.modules["__main__"]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
