"""The official OpenAI SDK as the client: what both SDKs share is in `tests/clients`, this is the rest."""

from contextlib import asynccontextmanager

import openai
import pytest

from proxy.testing.script import Send, event, json_reply, openai_chunk, openai_stream
from tests.support.app import openai_config

MESSAGES = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def sdk(running):
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


async def test_a_field_that_only_the_upstream_knows_passes_both_ways(start_proxy, upstream):
    message = {"role": "assistant", "content": "hi"}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "up", "x_vendor": 1,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
    upstream.play(json_reply(200, body))
    upstream.play(openai_stream(["hi"]))
    async with sdk(await start_proxy(openai_config(upstream.url))) as client:
        answer = await client.chat.completions.create(model="x", messages=MESSAGES, extra_body={"top_k": 3})
        assert (answer.choices[0].message.content, answer.x_vendor) == ("hi", 1)
        stream = await client.chat.completions.create(
            model="x", messages=MESSAGES, stream=True, extra_body={"top_k": 4}
        )
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "hi"
    assert [seen.json()["top_k"] for seen in upstream.requests] == [3, 4]


async def test_it_lists_models_and_finds_one_by_an_id_with_a_slash(start_proxy):
    config = """
        backends: {far: {kind: echo}}
        routes:
          - {name: named, match: {model: "acme/large"}, to: far}
          - {name: default, to: far}
    """
    async with sdk(await start_proxy(config)) as client:
        ids = [model.id async for model in client.models.list()]
        assert "acme/large" in ids
        assert (await client.models.with_raw_response.retrieve("acme/large")).parse().id == "acme/large"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody/knows")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_comes_in_the_field_that_the_route_says(start_proxy, upstream, field):
    answer = openai_stream(["hi"])
    upstream.always(*answer[:2], Send(event(openai_chunk({"reasoning": "hm"}))), *answer[2:])
    config = f"""
        backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
        routes: [{{name: default, to: far/up, reasoning_field: {field}}}]
    """
    async with sdk(await start_proxy(config)) as client:
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        deltas = [chunk.choices[0].delta.model_dump() async for chunk in stream if chunk.choices]
    told = [(name, delta[name]) for delta in deltas for name in delta if "reasoning" in name]
    assert told == [(field, "hm")]
    assert "".join(delta["content"] or "" for delta in deltas) == "hi"
