"""A proxy whose Redis stops and comes back: each limit does what its `on_outage` says, and operators see it."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.support import redis
from tests.support.app import StartProxy

CONFIG = """
    store: "{store}"
    backends: {{near: {{kind: echo}}}}
    routes:
      - {{name: deny, match: {{model: deny}}, to: near/echo, limits: {{parallel: 5, on_outage: deny}}}}
      - {{name: local, match: {{model: local}}, to: near/echo, limits: {{requests_per_minute: 4, local_share: 0.5}}}}
      - {{name: allow, to: near/echo, limits: {{requests_per_minute: 1, on_outage: allow}}}}
"""


async def test_each_limit_does_what_it_says_until_the_store_is_back(start_proxy: StartProxy):
    with redis.running() as server:
        proxy = await start_proxy(CONFIG.format(store=server.url))
        async with aiohttp.ClientSession() as session:

            async def ask(model: str) -> tuple[int, str]:
                body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                async with session.post(proxy.url + "/v1/chat/completions", json=body) as answer:
                    return answer.status, await answer.text()

            async def page(path: str) -> str:
                async with session.get(proxy.url + path) as answer:
                    return await answer.text()

            assert [(await ask(model))[0] for model in ("deny", "local", "allow", "allow")] == [200, 200, 200, 429]
            server.stop()
            status, text = await ask("deny")
            assert status == 503
            assert '"limits_unknown"' in text
            assert [(await ask("local"))[0] for _ in range(3)] == [200, 200, 429], "half of four"
            assert [(await ask("allow"))[0] for _ in range(5)] == [200] * 5
            assert '"reachable":false' in await page("/status")
            assert "chat_proxy_store_reachable 0.0" in await page("/metrics")
            server.start()
            async with asyncio.timeout(60):
                while (await ask("deny"))[0] != 200:
                    await asyncio.sleep(0.05)
            assert '"reachable":true' in await page("/status")
            assert [(await ask("local"))[0] for _ in range(5)] == [200] * 4 + [429]
