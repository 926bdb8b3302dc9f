"""The Anthropic SDK of Python: Messages streamed, by its helper, and in one piece."""

from __future__ import annotations

from typing import Any

import anthropic
from drive import Ask, Seen


def client(ask: Ask) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=ask["url"], api_key="none", max_retries=0, timeout=60)


def request(ask: Ask) -> dict[str, Any]:
    content: Any = ask["question"]
    if image := ask.get("image"):
        source = {"type": "base64", "media_type": "image/png", "data": image}
        content = [{"type": "text", "text": content}, {"type": "image", "source": source}]
    asked = {"model": ask["model"], "max_tokens": 4096, "messages": [{"role": "user", "content": content}]}
    if tools := ask.get("tools"):
        asked["tools"] = [
            {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
            for tool in tools
        ]
    return asked


def take_message(seen: Seen, message: Any) -> None:
    blocks = message.content
    seen.text = "".join(block.text for block in blocks if block.type == "text")
    seen.reasoning = "".join(block.thinking for block in blocks if block.type == "thinking")
    calls = [block for block in blocks if block.type == "tool_use"]
    seen.tools = [{"id": call.id, "name": call.name, "arguments": call.input} for call in calls]
    seen.finish = message.stop_reason
    seen.used(message.usage.input_tokens, message.usage.output_tokens)


async def streamed(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk, await sdk.messages.create(**request(ask), stream=True) as stream:
        async for event in stream:
            take_event(seen, event)


def take_event(seen: Seen, event: Any) -> None:
    match event.type:
        case "message_start":
            seen.used(event.message.usage.input_tokens, 0)
        case "content_block_start" if event.content_block.type == "tool_use":
            block = event.content_block
            seen.tools.append({"id": block.id, "name": block.name, "arguments": ""})
        case "message_delta":
            seen.finish = event.delta.stop_reason
            counted = seen.usage or {"input": 0}
            seen.used(event.usage.input_tokens or counted["input"], event.usage.output_tokens)
        case "content_block_delta":
            match event.delta.type:
                case "text_delta":
                    seen.say(event.delta.text)
                case "thinking_delta":
                    seen.reasoning += event.delta.thinking
                case "input_json_delta":
                    seen.tools[-1]["arguments"] += event.delta.partial_json


async def helped(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk, sdk.messages.stream(**request(ask)) as stream:
        async for text in stream.text_stream:
            seen.say(text)
        take_message(seen, await stream.get_final_message())


async def whole(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk:
        take_message(seen, await sdk.messages.create(**request(ask)))


async def models(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk:
        seen.text = " ".join([model.id async for model in sdk.models.list()])


async def count(ask: Ask, seen: Seen) -> None:
    asked = {key: value for key, value in request(ask).items() if key != "max_tokens"}
    async with client(ask) as sdk:
        seen.used((await sdk.messages.count_tokens(**asked)).input_tokens, 0)


CLIENTS = {
    "anthropic models": models,
    "anthropic count": count,
    "anthropic, streamed": streamed,
    "anthropic, helper": helped,
    "anthropic, whole": whole,
}
