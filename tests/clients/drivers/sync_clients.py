"""The classes of the same SDKs for programs without an event loop, each in a thread: `OpenAI`, `Anthropic`, `Client`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anthropic
import anthropic_sdk
import ollama
import ollama_client
import openai
import openai_sdk
from drive import Ask, Seen


def openai_chat(ask: Ask, seen: Seen) -> None:
    request = openai_sdk.chat_request(ask, stream=True, stream_options={"include_usage": True})
    sdk = openai.OpenAI(base_url=f"{ask['url']}/v1", api_key="none", max_retries=0, timeout=60)
    with sdk, sdk.chat.completions.create(**request) as stream:
        for chunk in stream:
            openai_sdk.take_chat_chunk(seen, chunk)


def openai_responses(ask: Ask, seen: Seen) -> None:
    sdk = openai.OpenAI(base_url=f"{ask['url']}/v1", api_key="none", max_retries=0, timeout=60)
    with sdk, sdk.responses.create(**openai_sdk.response_request(ask), stream=True) as stream:
        for event in stream:
            openai_sdk.take_response_event(seen, event)


def anthropic_messages(ask: Ask, seen: Seen) -> None:
    sdk = anthropic.Anthropic(base_url=ask["url"], api_key="none", max_retries=0, timeout=60)
    with sdk, sdk.messages.create(**anthropic_sdk.request(ask), stream=True) as stream:
        for event in stream:
            anthropic_sdk.take_event(seen, event)


def ollama_chat(ask: Ask, seen: Seen) -> None:
    parts = ollama.Client(host=f"{ask['url']}/ollama").chat(**ollama_client.chat_request(ask), stream=True)
    try:
        for part in parts:
            ollama_client.take_chat(seen, part)
    finally:
        parts.close()


def in_a_thread(program: Callable[[Ask, Seen], None]) -> Callable[[Ask, Seen], Awaitable[None]]:
    return lambda ask, seen: asyncio.to_thread(program, ask, seen)


CLIENTS = {
    "openai chat, sync": in_a_thread(openai_chat),
    "openai responses, sync": in_a_thread(openai_responses),
    "anthropic, sync": in_a_thread(anthropic_messages),
    "ollama chat, sync": in_a_thread(ollama_chat),
}
