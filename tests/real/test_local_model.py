"""A real small model behind the proxy: answers in both contracts, a cancel that reaches it, a swap while serving."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import openai
import pytest

from tests.support.local_model import MODEL, ROOT, ModelServer, model_server
from tests.support.transcript import Transcript

pytestmark = pytest.mark.real

CONFIG = """\
server: {{reload: auto}}
backends:
  echo: {{kind: echo}}
  local: {{kind: openai-compatible, base_url: "{url}"}}
routes:
  - name: default
    to: {to}
    set: {{temperature: 0}}
"""
CAPITAL = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
STORY = {"messages": [{"role": "user", "content": "Write a very long story about a lighthouse."}], "max_tokens": 1500}


@pytest.fixture(scope="module")
def transcript() -> Iterator[Transcript]:
    record = Transcript(
        "local-model",
        "A real model behind the proxy",
        "What `make test-real TRANSCRIPT=1` did: SmolLM2 135M on llama.cpp's server, on one core, and `chat-proxy serve` "
        "before it.",
    )
    yield record
    record.write()


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    log = ROOT / ".make" / "real" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    async with model_server(log) as running:
        yield running


def config(server: ModelServer, to: str) -> str:
    return CONFIG.format(url=server.url, to=to)


def local(server: ModelServer) -> str:
    return config(server, f"local/{MODEL}")


def shown(server: ModelServer, text: str) -> str:
    return text.replace(f":{server.port}/", ":8000/")


async def chat(url: str, body: object) -> str:
    async with aiohttp.ClientSession() as http, http.post(f"{url}/chat", json=body) as answer:
        assert answer.status == 200
        return await answer.text()


def tokens(stream: str) -> str:
    """Join the tokens of a `/chat` stream the way its readers do."""
    frames = [frame for frame in stream.split("\n\n") if frame.startswith("data:")]
    return "".join(line.removeprefix("data:") for frame in frames for line in frame.split("\n"))


async def test_a_real_answer_is_streamed_in_the_chat_contract(server, serve, transcript):
    proxy = await serve(local(server))
    started = time.perf_counter()
    stream = await chat(proxy.url, CAPITAL)
    seconds = time.perf_counter() - started
    transcript.heading("POST /chat")
    transcript.command("cat config.yaml", shown(server, local(server)))
    transcript.command(
        f"curl -N -d '{json.dumps(CAPITAL)}' -H 'content-type: application/json' localhost:8080/chat", stream
    )
    transcript.say(f"{stream.count('data:') - 1} tokens in {seconds:.2f} s.")
    assert stream.endswith("event: done\ndata:[DONE]\n\n")
    assert "Paris" in tokens(stream)


async def test_the_openai_client_streams_from_it_and_asks_for_a_whole_answer(server, serve, transcript):
    proxy = await serve(local(server))
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none") as client:
        pieces, ends = [], []
        async for chunk in await client.chat.completions.create(model=MODEL, stream=True, **CAPITAL):
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            ends += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
        whole = await client.chat.completions.create(model=MODEL, **CAPITAL)
    streamed = "".join(pieces)
    assert "Paris" in streamed
    assert ends == ["stop"]
    assert whole.choices[0].message.content == streamed  # temperature 0: the same answer, streamed or not
    assert whole.usage
    assert whole.usage.completion_tokens > 3
    transcript.heading("POST /v1/chat/completions, by the `openai` package")
    transcript.say(f"Streamed, in {len(pieces)} chunks, ended by `{ends[0]}`:\n\n> {streamed}")
    transcript.say(f"Whole, the same words, with usage `{whole.usage.model_dump_json(exclude_none=True)}`.")


async def test_leaving_in_the_middle_stops_the_model(server, serve, transcript):
    proxy = await serve(local(server))
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{proxy.url}/chat", json=STORY) as answer:
            seen = await first_tokens(answer, 12)
            assert server.connections() > 0
            busy = await cpu_used(server, over_s=1.0)
            answer.close()
        left = time.perf_counter()
        await until_idle(server, within_s=3.0)
        stopped = time.perf_counter() - left
    idle = await cpu_used(server, over_s=1.0)
    transcript.heading("A client that leaves in the middle")
    transcript.say(
        f"The client asked for up to {STORY['max_tokens']} tokens and left after reading: “{seen.strip()}”\n\n"
        f"- while it was reading, the model server used {busy:.2f} s of CPU time in 1 s;\n"
        f"- {stopped:.2f} s after it left, the server had no connection left;\n"
        f"- and used {idle:.2f} s of CPU time in the next second: it had stopped generating."
    )
    assert busy > 0.5
    assert idle < 0.1
    again = await chat(proxy.url, CAPITAL)  # and is free for the next
    assert "Paris" in tokens(again)


async def test_echo_is_swapped_for_the_model_while_serving(server, serve, transcript):
    proxy = await serve(config(server, "echo"))
    before = await chat(proxy.url, CAPITAL)
    assert tokens(before).startswith("What is the capital of France?")
    proxy.rewrite(local(server))
    started = time.perf_counter()
    async with asyncio.timeout(60):
        while "Paris" not in tokens(after := await chat(proxy.url, CAPITAL)):
            await asyncio.sleep(0.05)
    seconds = time.perf_counter() - started
    transcript.heading("Swapping the model of a running proxy")
    transcript.command("curl … localhost:8080/chat", before)
    transcript.command(f"sed -i 's|to: echo|to: local/{MODEL}|' config.yaml    # the proxy goes on running", "")
    transcript.command("curl … localhost:8080/chat", after)
    transcript.say(f"The first answer of the model was complete {seconds:.2f} s after the edit.")
    assert proxy.process.returncode is None


async def first_tokens(answer: aiohttp.ClientResponse, count: int) -> str:
    stream = ""
    async for chunk in answer.content.iter_any():
        stream += chunk.decode()
        if stream.count("\n\n") >= count:
            return tokens(stream)
    raise AssertionError(f"the answer ended too early: {stream}")


async def cpu_used(server: ModelServer, *, over_s: float) -> float:
    before = server.cpu_seconds()
    await asyncio.sleep(over_s)
    return server.cpu_seconds() - before


async def until_idle(server: ModelServer, *, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while server.connections():
            await asyncio.sleep(0.01)
