"""Ollama's Python client: `chat` streamed and in one piece, and `generate`."""

from __future__ import annotations

from typing import Any

import ollama
from drive import Ask, Seen


def client(ask: Ask) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=f"{ask['url']}/ollama")


def chat_request(ask: Ask) -> dict[str, Any]:
    message = {"role": "user", "content": ask["question"]}
    if image := ask.get("image"):
        message["images"] = [image]
    request: dict[str, Any] = {"model": ask["model"], "messages": [message]}
    if tools := ask.get("tools"):
        request["tools"] = [{"type": "function", "function": tool} for tool in tools]
    return request


def take(seen: Seen, part: Any, text: str | None, thinking: str | None) -> None:
    if part.done:
        seen.finish = part.done_reason
        seen.used(part.prompt_eval_count, part.eval_count)
    seen.reasoning += thinking or ""
    seen.say(text)


def take_chat(seen: Seen, part: Any) -> None:
    calls = part.message.tool_calls or []
    seen.tools += [
        {"id": None, "name": call.function.name, "arguments": dict(call.function.arguments)} for call in calls
    ]
    take(seen, part, part.message.content, part.message.thinking)


async def chat_streamed(ask: Ask, seen: Seen) -> None:
    parts = await client(ask).chat(**chat_request(ask), stream=True)
    try:
        async for part in parts:
            take_chat(seen, part)
    finally:
        await parts.aclose()


async def chat_whole(ask: Ask, seen: Seen) -> None:
    take_chat(seen, await client(ask).chat(**chat_request(ask)))


async def generate_streamed(ask: Ask, seen: Seen) -> None:
    images = [ask["image"]] if ask.get("image") else None
    parts = await client(ask).generate(model=ask["model"], prompt=ask["question"], images=images, stream=True)
    try:
        async for part in parts:
            take(seen, part, part.response, part.thinking)
    finally:
        await parts.aclose()


async def models(ask: Ask, seen: Seen) -> None:
    listed = await client(ask).list()
    for model in listed.models:
        await client(ask).show(model.model)
    await client(ask).ps()
    seen.text = " ".join(model.model.removesuffix(":latest") for model in listed.models)


CLIENTS = {
    "ollama models": models,
    "ollama chat, streamed": chat_streamed,
    "ollama chat, whole": chat_whole,
    "ollama generate, streamed": generate_streamed,
}
