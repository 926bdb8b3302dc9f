"""A page that follows the events, as a test."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from proxy.wire.sse import SSEDecoder
from tests.support.clients import RawClient

LOCAL = {"Host": "127.0.0.1"}


class Events:
    """A page that follows the events."""

    def __init__(self, client: RawClient) -> None:
        self.client, self._decoder = client, SSEDecoder()
        self.waiting: list[tuple[str, Any]] = []

    async def next(self, name: str) -> Any:
        """The next event of that name; those before it are skipped."""
        async with asyncio.timeout(60):
            while True:
                while self.waiting:
                    found, data = self.waiting.pop(0)
                    if found == name:
                        return data
                chunk = await self.client.read_chunk()
                self.waiting += [(one.decode(), json.loads(data)) for one, data in self._decoder.feed(chunk)]


async def follow(client: RawClient) -> Events:
    await client.get("/status/events", LOCAL)
    head = await client.read_head()
    assert (head.status, head["content-type"]) == (200, "text/event-stream; charset=utf-8")
    return Events(client)
