"""What is left out of a request on its way is announced: once, before the answer, in each contract's own place."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import ollama
import openai
import pytest

from proxy.testing.script import json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire, answer
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient
from tests.support.readers import ConformantReader

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


def to_anthropic(upstream: ScriptedUpstream, **route: Any) -> str:
    return f"""
        backends:
          far: {{kind: anthropic, base_url: "{upstream.origin}"}}
          near: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes: [{json.dumps({"name": "default", "to": ["far/claude-sonnet-4-5"]} | route)}]
    """


async def asked(proxy: Running, path: str, body: Any) -> tuple[Any, bytes]:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, body)
        head = await client.read_head()
        return head, await client.read_body()


@asynccontextmanager
async def ollama_sdk(proxy: Running) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(f"{proxy.url}/ollama")
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_the_header_says_it_in_every_contract_and_the_log_too(
    start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.always(*answer(AnthropicWire(), ["Hi"]) if stream else AnthropicWire().whole("Hi"))
    proxy = await start_proxy(to_anthropic(upstream))
    head, _ = await asked(
        proxy, "/v1/chat/completions", {"messages": MESSAGES, "stream": stream, "seed": 1, "logit_bias": {"5": 1}}
    )
    assert [told.split()[0] for told in head["x-chat-notice"].split("; ")] == ["seed", "logit_bias"]
    (record,) = await proxy.ended()
    assert [(notice.code, notice.param) for notice in record.notices] == [
        ("ignored_setting", "seed"),
        ("ignored_setting", "logit_bias"),
    ]


async def test_nothing_is_announced_where_nothing_was_asked_for(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(*answer(AnthropicWire(), ["Hi"]))
    proxy = await start_proxy(
        to_anthropic(upstream, set={"temperature": 0.7, "seed": 3}, default={"logit_bias": {"5": 1}})
    )
    head, body = await asked(proxy, "/chat?dialect=json", {"messages": MESSAGES, "n": 1})
    assert "x-chat-notice" not in head.headers
    assert b"notice" not in body


async def test_only_what_the_target_that_answers_leaves_out_is_announced(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.play(json_reply(529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    upstream.play(openai_stream(["Hi"]))
    proxy = await start_proxy(to_anthropic(upstream, to=["far/claude-sonnet-4-5", "near/m"]))
    head, _ = await asked(proxy, "/chat?dialect=json", {"messages": MESSAGES, "seed": 1, "top_k": 5})
    assert head["x-chat-notice"].startswith("top_k ")
    assert "seed" in upstream.requests[1].json()


async def test_a_reader_of_events_gets_it_once_before_the_first_token(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(*answer(AnthropicWire(), ["Hi", " there"]))
    proxy = await start_proxy(to_anthropic(upstream))
    _, body = await asked(proxy, "/chat?dialect=sse", {"messages": MESSAGES, "seed": 1})
    events = ConformantReader().feed(body)
    assert (events[0][0], events[0][1].split()[0]) == ("notice", "seed")
    assert [name for name, _ in events].count("notice") == 1


async def test_the_chat_hook_sees_a_comment_and_no_other_byte(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(*answer(AnthropicWire(), ["Hi"]))
    proxy = await start_proxy(to_anthropic(upstream))
    _, body = await asked(proxy, "/chat", {"messages": MESSAGES, "seed": 1})
    assert re.fullmatch(rb": notice: seed [^\n]+\n\ndata:Hi\n\nevent: done\ndata:\[DONE\]\n\n", body)


async def test_tools_that_a_responses_client_wants_run_are_announced(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(*openai_stream(["Hi"]))
    proxy = await start_proxy(to_anthropic(upstream, to="near/m"))
    tools = [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": {}}]
    head, _ = await asked(proxy, "/v1/responses", {"input": "hi", "stream": True, "tools": tools})
    assert head["x-chat-notice"].startswith("web_search ")


async def test_tools_that_anthropic_runs_are_announced_where_it_is_not_asked(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(*openai_stream(["Hi"]))
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    body = {"model": "m", "max_tokens": 9, "messages": MESSAGES, "stream": True, "tools": tools}
    body |= {"mcp_servers": [{"type": "url", "url": "https://a.test", "name": "a"}]}
    head, _ = await asked(await start_proxy(to_anthropic(upstream, to="near/m")), "/v1/messages", body)
    assert [told.split()[0] for told in head["x-chat-notice"].split("; ")] == ["web_search_20250305", "mcp_servers"]


async def test_openais_sdk_reads_answers_and_header(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.always(*answer(AnthropicWire(), ["Hi"]))
    proxy = await start_proxy(to_anthropic(upstream))
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True, seed=1)
        assert raw.headers["x-chat-notice"].startswith("seed ")
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in raw.parse()]) == "Hi"
        events = await client.responses.with_raw_response.create(
            model="m", input="hi", stream=True, tools=[{"type": "web_search"}]
        )
        assert "web_search" in events.headers["x-chat-notice"]
        assert [event.type async for event in events.parse()][-1] == "response.completed"


async def test_anthropics_sdk_reads_answers_and_header(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.always(*openai_stream(["Hi"]))
    proxy = await start_proxy(to_anthropic(upstream, to="near/m"))
    async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key="none", max_retries=0, timeout=60) as client:
        raw = await client.messages.with_raw_response.create(
            model="m",
            max_tokens=9,
            messages=MESSAGES,
            stream=True,
            extra_body={"top_k": 5},
        )
        assert raw.headers["x-chat-notice"].startswith("top_k ")
        assert [event.type async for event in await raw.parse()][-1] == "message_stop"


async def test_ollamas_sdk_reads_answers(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.always(*openai_stream(["Hi"]))
    proxy = await start_proxy(to_anthropic(upstream, to="near/m"))
    async with ollama_sdk(proxy) as client:
        told = await client.chat(model="m", messages=MESSAGES, stream=True, options={"top_k": 5})
        assert "".join([line.message.content async for line in told]) == "Hi"
    (record,) = await proxy.ended()
    assert [notice.param for notice in record.notices] == ["top_k"]


IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


async def test_sdks_raise_for_an_answer_of_nothing_but_an_image_and_ask_once(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    message = {"role": "assistant", "content": "", "images": IMAGE}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
    upstream.always(*json_reply(200, body))
    proxy = await start_proxy(to_anthropic(upstream, to="near/m"))
    async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key="none", timeout=60) as client:
        with pytest.raises(anthropic.UnprocessableEntityError):
            await client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
        assert len(upstream.requests) == 1, "an image that was paid for is not asked for again"
        with pytest.raises(anthropic.APIStatusError):
            async with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
                await stream.get_final_message()
    async with ollama_sdk(proxy) as client:
        with pytest.raises(ollama.ResponseError):
            await client.chat(model="m", messages=MESSAGES)
    assert [record.end for record in await proxy.ended(3)] == ["rejected"] * 3
