"""Lists of models, as clients see them."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy import app
from proxy.testing.script import json_reply
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import StartProxy
from tests.support.clients import RawClient


async def listed(port: int) -> bytes:
    async with await RawClient.connect(port) as client:
        await client.get("/v1/models", {})
        await client.read_head()
        return await client.read_body()


async def test_N1_a_rule_that_takes_any_model_lists_what_its_upstream_lists_unasked(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ASK_FOR_MODELS_AFTER_S", 0.0)
    upstream.play(*json_reply(200, {"data": [{"id": "llama3", "max_model_len": 8192}, {"id": "qwen"}]}))
    house = await start_proxy(f"""
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
          fixed: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: fast, match: {{model: fast}}, to: fixed/m}}
          - {{name: default, to: far}}
    """)
    async with asyncio.timeout(60):
        while b"qwen" not in (body := await listed(house.port)):
            await asyncio.sleep(0.01)
    assert b"llama3" in body
    assert b"fast" in body
    assert [seen.path for seen in upstream.requests] == ["/v1/models"]
    for name, tokens in (("llama3", 8192), ("qwen", None), ("fast", None)):
        async with await RawClient.connect(house.port) as client:
            await client.post("/ollama/api/show", {"model": name})
            await client.read_head()
            told = json.loads(await client.read_body())
        assert told["model_info"].get("unknown.context_length") == tokens


async def test_N1_a_config_that_is_loaded_anew_keeps_the_lists_of_the_backends_that_stay(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.play(*json_reply(200, {"data": [{"id": "llama3"}]}))
    upstream.always(*json_reply(503, {"error": "loading"}))

    def config(base_url: str, discover: str = "{every_s: 10}") -> str:
        return f"""
            backends: {{far: {{kind: openai-compatible, base_url: "{base_url}", discover: {discover}}}}}
            routes: [{{name: default, to: far}}]
        """

    house = await start_proxy(config(upstream.url))
    async with asyncio.timeout(60):
        while b"llama3" not in await listed(house.port):
            await asyncio.sleep(0.01)
    for text, kept in (
        (config(upstream.url), True),
        (config(f"{upstream.url}/other"), False),
        (config(upstream.url, '"off"'), False),
        (config(upstream.url), True),
    ):
        house.rewrite(text)
        assert await house.app.reload()
        assert (b"llama3" in await listed(house.port)) == kept
