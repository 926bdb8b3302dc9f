"""With several workers the page shows the requests of all of them, whichever it asks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, openai_config
from tests.support.clients import RawClient
from tests.support.workers import WORKERS, Serve, ask, logged
from tests.web.following import LOCAL, follow


async def look(proxy: Process, path: str, body: Any = b"") -> tuple[int, bytes]:
    """Over a connection of its own, so that any worker may get it."""
    async with await RawClient.connect(proxy.port) as client:
        await client.request("POST" if body else "GET", path, body, LOCAL)
        return (await client.read_head()).status, await client.read_body()


async def test_all_workers_are_shown_by_each(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2")
    upstream.always(*openai_stream(["hi"]))
    for _ in range(20):
        await ask(proxy)
    ends = await logged(proxy, "request_end", 20)
    assert {line["worker"] for line in ends} == {1, 2}
    asked = {line["request_id"] for line in ends}
    for _ in range(8):
        async with asyncio.timeout(60):  # on a busy machine a worker may be too late for one page
            while {row["id"] for row in json.loads((await look(proxy, "/status/requests"))[1])} != asked:
                pass
    for line in ends:
        code, body = await look(proxy, f"/status/requests/{line['request_id']}")
        assert (code, json.loads(body)["why"]) == (200, ["default: takes it"])
    config = proxy.config.read_text().replace("far/scripted-1", "far/scripted-2")
    code, body = await look(proxy, "/explain/diff", {"config": config})
    judged = json.loads(body)
    assert (code, judged["requests"], len(judged["differs"])) == (200, 20, 20)
    async with await RawClient.connect(proxy.port) as page:
        events = await follow(page)
        assert len(await events.next("snapshot")) == 20
        for _ in range(6):
            await ask(proxy)
        seen: set[str] = set()
        async with asyncio.timeout(60):
            while len(seen) < 6:
                seen |= {row["id"] for row in await events.next("requests")}
