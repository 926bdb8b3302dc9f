"""The readers of `readers.mjs`, asked from Python: in Node, or in a page of Chromium."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.clients.browser import Page
from tests.support import node

ASK_ALL = Path(__file__).with_name("ask_all.mjs")

Asks = list[dict[str, str]]
Answers = list[dict[str, Any]]


async def ask_in_node(asks: Asks) -> Answers:
    """Have Node ask all of it."""
    done = await asyncio.to_thread(node.run, ASK_ALL, input=json.dumps(asks), timeout_s=240)
    assert done.returncode == 0, done.stderr
    answers: Answers = json.loads(done.stdout)
    return answers


async def ask_in(page: Page, asks: Asks) -> Answers:
    """Have an open `page.html` ask all of it."""
    answers: Answers = await page.run(f"askAll({json.dumps(asks)})")
    return answers
