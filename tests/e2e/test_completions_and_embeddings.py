"""What clients ask an OpenAI base URL for beside chats: completions without messages, and embeddings, by the SDK."""

import json
from contextlib import asynccontextmanager

import httpx
import ollama
import openai
import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.testing.script import Fin, Send, chunked, json_reply, sse_head
from tests.support.app import openai_config

VECTORS = {
    "object": "list",
    "model": "up",
    "x_vendor": 1,
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "up",
    "choices": [{"text": " + b", "index": 0, "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
}
FIM = {"prompt": "def add(a, b):\n    return a", "suffix": "\n", "max_tokens": 8, "stop": ["\n\n"]}


def event(data):
    return f"data: {json.dumps(data)}\n\n".encode()


def chunk(text="", reason=None, index=0, **more):
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
    return event(
        {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up", "choices": [choice], **more}
    )


USAGE = event({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up", "choices": [],
               "usage": COMPLETION["usage"]})  # fmt: skip
DONE = b"data: [DONE]\n\n"


def stream(*frames, cut=False):
    steps = [Send(sse_head()), *(Send(chunked(frame)) for frame in frames)]
    return [*steps, Fin()] if cut else [*steps, Send(b"0\r\n\r\n")]


@asynccontextmanager
async def sdk(running):
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


async def raw(running, path, body):
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(running.url + path, json=body)


async def test_a_completion_passes_both_ways_with_the_model_of_its_target(start_proxy, upstream):
    upstream.play(json_reply(200, COMPLETION))
    running = await start_proxy(openai_config(upstream.url))
    async with sdk(running) as client:
        answer = await client.completions.create(model="x", **FIM, extra_body={"api_base": "http://evil", "top_k": 3})
    assert (answer.choices[0].text, answer.usage.completion_tokens) == (" + b", 2)
    seen = upstream.requests[0]
    assert seen.path == "/v1/completions"
    assert seen.json() == {**FIM, "model": "scripted-1", "top_k": 3}
    (record,) = await running.ended()
    assert (record.end, record.contract, record.usage.input_tokens) == ("done", "completions", 4)
    assert (record.model, record.upstream_model) == ("x", "scripted-1")


async def test_the_bytes_of_an_answer_are_the_upstreams(start_proxy, upstream):
    upstream.play(json_reply(200, COMPLETION))
    upstream.play(stream(chunk(" +"), chunk(" b"), chunk("", "stop"), USAGE, DONE))
    upstream.play(json_reply(200, VECTORS))
    running = await start_proxy(openai_config(upstream.url))
    sent = [step.data for step in json_reply(200, COMPLETION)]
    assert b"".join(sent).endswith((await raw(running, "/completions", {"prompt": "a"})).content)
    streamed = await raw(running, "/v1/completions", {"prompt": "a", "stream": True})
    assert streamed.content == chunk(" +") + chunk(" b") + chunk("", "stop") + DONE  # nobody asked for the usage
    vectors = await raw(running, "/embeddings", {"input": "a"})
    assert vectors.json() == VECTORS
    assert [seen.path for seen in upstream.requests] == ["/v1/completions", "/v1/completions", "/v1/embeddings"]
    assert upstream.requests[1].json()["stream_options"] == {"include_usage": True}


async def test_a_stream_of_several_choices_is_whole_when_each_has_its_end(start_proxy, upstream):
    frames = (chunk("a"), chunk("b", index=1), chunk("", "stop"), chunk("", "length", index=1), DONE)
    upstream.play(stream(*frames))
    upstream.play(stream(*frames[:3], cut=True))
    running = await start_proxy(openai_config(upstream.url))
    body = {"prompt": ["one", "two"], "stream": True}
    assert (await raw(running, "/v1/completions", body)).content == b"".join(frames)
    cut = await raw(running, "/v1/completions", body)
    assert DONE not in cut.content
    assert b"upstream_truncated" in cut.content


async def test_a_stream_that_is_cut_ends_in_an_error_and_never_in_done(start_proxy, upstream):
    upstream.play(stream(chunk(" +"), chunk(" b"), cut=True))
    running = await start_proxy(openai_config(upstream.url))
    async with sdk(running) as client:
        told = []
        with pytest.raises(openai.APIError) as raised:
            async for part in await client.completions.create(model="x", prompt="a", stream=True):
                told += [choice.text for choice in part.choices]
    assert (told, raised.value.code) == ([" +", " b"], "upstream_truncated")
    assert await running.end_reason() == "upstream_truncated"


async def test_embeddings_pass_with_the_model_that_the_client_names(start_proxy, upstream):
    upstream.always(*json_reply(200, VECTORS))
    running = await start_proxy(f"""
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: vectors, match: {{contract: embeddings}}, to: far, set: {{temperature: 0, truncate: true}}}}
          - {{name: default, to: far/chat-model}}
    """)
    async with sdk(running) as client:
        answer = await client.embeddings.create(
            model="embed-3", input=["a", "b"], encoding_format="float", dimensions=2
        )
        assert answer.data[0].embedding == [0.25, -0.5]
        await client.embeddings.create(model="embed-3", input=[1, 2, 3])
    assert upstream.requests[0].json() == {
        "model": "embed-3", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2, "truncate": True,
    }  # fmt: skip
    record = (await running.ended(2))[0]
    assert (record.route, record.contract, record.usage.input_tokens) == ("vectors", "embeddings", 3)


async def test_a_target_that_cannot_is_passed_over_for_the_next_and_says_so_where_there_is_none(start_proxy, upstream):
    upstream.always(*json_reply(200, VECTORS))
    backends = f"""
        backends:
          claude: {{kind: anthropic, api_key: sk-ant-canary-123456, base_url: "{upstream.url}"}}
          words: {{kind: echo}}
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
    """
    running = await start_proxy(backends + "    routes: [{name: default, to: [claude/a, words, far/up]}]\n")
    async with sdk(running) as client:
        assert (await client.embeddings.create(model="x", input="a")).data
        assert (await client.completions.create(model="x", prompt="to be")).choices[0].text == "to be"
    running = await start_proxy(backends + "    routes: [{name: default, to: claude/a}]\n")
    async with sdk(running) as client:
        with pytest.raises(openai.BadRequestError, match="claude") as raised:
            await client.embeddings.create(model="x", input="a")
        assert raised.value.code == "unsupported"
        with pytest.raises(openai.BadRequestError, match="claude") as raised:
            await client.completions.create(model="x", prompt="a", stream=True)
        assert raised.value.code == "unsupported"


async def test_echo_completes_a_prompt_with_itself_and_refuses_what_it_cannot_do(start_proxy):
    running = await start_proxy("backends: {words: {kind: echo}}\nroutes: [{name: default, to: words}]\n")
    async with sdk(running) as client:
        parts = await client.completions.create(
            model="x", prompt="to be or", max_tokens=2, stream=True, stream_options={"include_usage": True}
        )
        parts = [part async for part in parts]
        assert "".join(part.choices[0].text for part in parts if part.choices) == "to be"
        assert parts[-2].choices[0].finish_reason == "length"
        assert parts[-1].usage.completion_tokens == 2
        for more, words in (
            ({"n": 2}, "one prompt"),
            ({"prompt": ["a", "b"]}, "one prompt"),
            ({"prompt": [1, 2]}, "not as tokens"),
            ({"suffix": "b"}, "suffix"),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                await client.completions.create(**{"model": "x", "prompt": "a", **more})


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": {"a": 1}}, "prompt"),
        ("/v1/embeddings", {"model": "x"}, "input"),
        ("/v1/embeddings", {"input": [None]}, "input"),
    ],
)
async def test_a_request_that_says_nothing_is_refused_with_its_place(start_proxy, path, body, param):
    running = await start_proxy("backends: {words: {kind: echo}}\nroutes: [{name: default, to: words}]\n")
    answer = await raw(running, path, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "answer", [{"error": {"message": "no such model", "code": "model_not_found"}}, {}, {"data": []}]
)
async def test_an_answer_without_vectors_is_an_error(start_proxy, upstream, answer):
    upstream.play(json_reply(200, answer))
    running = await start_proxy(openai_config(upstream.url))
    reply = await raw(running, "/v1/embeddings", {"input": "a"})
    assert reply.status_code >= 400
    assert reply.json()["error"]["message"]


async def test_ollamas_clients_get_embeddings_and_texts_between(start_proxy, upstream):
    upstream.play(json_reply(200, VECTORS))
    upstream.play(json_reply(200, VECTORS))
    upstream.play(stream(chunk(" +"), chunk(" b"), chunk("", "stop"), USAGE, DONE))
    upstream.play(json_reply(200, COMPLETION))
    upstream.play(stream(chunk(" +"), cut=True))
    running = await start_proxy(openai_config(upstream.url))
    client = ollama.AsyncClient(host=f"{running.url}/ollama")
    try:
        found = await client.embed("x", ["a", "b"], dimensions=2)
        assert (found.embeddings, found.prompt_eval_count) == ([[0.25, -0.5]], 3)
        assert (await client.embeddings("x", "a")).embedding == [0.25, -0.5]
        parts = [
            part async for part in await client.generate("x", "a", suffix="c", stream=True, options={"num_predict": 4})
        ]
        assert ("".join(part.response for part in parts), parts[-1].done_reason) == (" + b", "stop")
        assert (await client.generate("x", "a", suffix="c")).response == " + b"
        with pytest.raises((ollama.ResponseError, httpx.HTTPError)):
            [part async for part in await client.generate("x", "a", suffix="c", stream=True)]
    finally:
        await client._client.aclose()
    bodies = [seen.json() for seen in upstream.requests]
    assert bodies[0] == {"model": "scripted-1", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2}
    assert bodies[1]["input"] == "a"
    assert bodies[2] == {"model": "scripted-1", "prompt": "a", "suffix": "c", "stream": True, "max_tokens": 4,
                         "stream_options": {"include_usage": True}}  # fmt: skip
    assert [seen.path for seen in upstream.requests][1:4] == ["/v1/embeddings", "/v1/completions", "/v1/completions"]


def test_explain_tells_which_target_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "backends: {a: {kind: echo}}\nroutes: [{name: r, match: {contract: [embeddings, completions]}, to: a/m}]\n"
    )
    for path, words in (("embeddings", "a/m: refuses it"), ("completions", "1. a/m")):
        ran = CliRunner().invoke(main, ["explain", "--path", f"/v1/{path}"])
        assert (ran.exit_code, words in ran.output) == (0, True), ran.output


async def test_what_is_not_served_says_so(start_proxy):
    running = await start_proxy("backends: {words: {kind: echo}}\nroutes: [{name: default, to: words}]\n")
    answer = await raw(running, "/v1/audio/speech", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_served")
