"""The official OpenAI SDK as the client, through the whole proxy, to a scripted far side of the same dialect."""

from contextlib import asynccontextmanager

import openai
import pytest

from tests.support.house import openai_config
from tests.support.upstream import Fin, Stall, event, json_reply, openai_chunk, openai_stream

MESSAGES = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def sdk(running):
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_it_reads_a_stream_and_the_usage_it_asked_for(open_house, upstream):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    upstream.play(openai_stream(["Hel", "lo"], usage=usage))
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        stream = await client.chat.completions.create(
            model="x", messages=MESSAGES, stream=True, stream_options={"include_usage": True}, extra_body={"top_k": 3}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert chunks[-1].usage.total_tokens == 5
    assert upstream.requests[0].json()["top_k"] == 3


async def test_it_reads_a_whole_answer(open_house, upstream):
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "up", "x_vendor": 1,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}  # fmt: skip
    upstream.play(json_reply(200, body))
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        answer = await client.chat.completions.create(model="x", messages=MESSAGES)
    assert (answer.id, answer.choices[0].message.content, answer.x_vendor) == ("c1", "hi", 1)


async def test_it_raises_on_a_stream_that_was_cut(open_house, upstream):
    upstream.play(openai_stream(["a"])[:3], Fin())
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "upstream_truncated"


async def test_it_raises_on_an_error_inside_the_stream(open_house, upstream):
    upstream.play(openai_stream(["a"])[:3], event({"error": {"message": "too busy", "type": "overloaded_error"}}))
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="too busy"):
            async for _ in stream:
                pass


async def test_it_gets_the_status_and_the_words_of_a_refusal(open_house, upstream):
    said = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    upstream.play(json_reply(400, said))
    upstream.play(json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "3"}))
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
    assert (refused.value.code, refused.value.body["message"]) == ("context_length_exceeded", "too long")
    assert limited.value.response.headers["retry-after"] == "3"


async def test_two_choices_interleave_untouched(open_house, upstream):
    steps = openai_stream(["a"], done=False)
    second = {"index": 1, "delta": {"content": "b"}, "finish_reason": "length"}
    upstream.play(steps[:-1], event({**openai_chunk(None), "choices": [second]}), event("[DONE]"), steps[-1])
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True, n=2)
        chunks = [chunk async for chunk in stream]
    assert [(c.choices[0].index, c.choices[0].delta.content) for c in chunks[1:]] == [(0, "a"), (0, None), (1, "b")]


async def test_leaving_the_loop_closes_the_far_side(open_house, upstream):
    upstream.play(openai_stream(["a"])[:3], Stall())
    async with sdk(await open_house(openai_config(upstream.url))) as client:
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content == "a":
                break
        await stream.close()
        await upstream.peer_gone(1, within=1.0)


async def test_it_lists_models_and_finds_one_by_an_id_with_a_slash(open_house):
    config = """
        backends: {far: {kind: echo}}
        routes:
          - {name: named, match: {model: "acme/large"}, to: far}
          - {name: default, to: far}
    """
    async with sdk(await open_house(config)) as client:
        ids = [model.id async for model in client.models.list()]
        assert "acme/large" in ids
        assert (await client.models.with_raw_response.retrieve("acme/large")).parse().id == "acme/large"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody/knows")
