"""The OpenAI SDK of Python: Chat Completions and Responses, each streamed, by its helper, and in one piece."""

from __future__ import annotations

from typing import Any

import openai
from drive import Ask, Seen


def client(ask: Ask) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{ask['url']}/v1", api_key="none", max_retries=0, timeout=60)


# -- Chat Completions


def chat_request(ask: Ask, **more: Any) -> dict[str, Any]:
    content: Any = ask["question"]
    if image := ask.get("image"):
        url = f"data:image/png;base64,{image}"
        content = [{"type": "text", "text": content}, {"type": "image_url", "image_url": {"url": url}}]
    request = {"model": ask["model"], "messages": [{"role": "user", "content": content}], **more}
    if tools := ask.get("tools"):
        request["tools"] = [{"type": "function", "function": {**tool, "strict": True}} for tool in tools]
    return request


def take_chat_tools(seen: Seen, calls: Any) -> None:
    seen.tools = [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments} for call in calls or []
    ]


async def chat_streamed(ask: Ask, seen: Seen) -> None:
    request = chat_request(ask, stream=True, stream_options={"include_usage": True})
    async with client(ask) as sdk, await sdk.chat.completions.create(**request) as stream:
        async for chunk in stream:
            take_chat_chunk(seen, chunk)


def take_chat_chunk(seen: Seen, chunk: Any) -> None:
    if chunk.usage:
        seen.used(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    for choice in chunk.choices:
        seen.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        seen.finish = choice.finish_reason or seen.finish
        for piece in choice.delta.tool_calls or []:
            if piece.index == len(seen.tools):
                seen.tools.append({"id": piece.id, "name": piece.function.name, "arguments": ""})
            seen.tools[piece.index]["arguments"] += piece.function.arguments or ""
        seen.say(choice.delta.content)


async def chat_helped(ask: Ask, seen: Seen) -> None:
    request = chat_request(ask, stream_options={"include_usage": True})
    async with client(ask) as sdk, sdk.chat.completions.stream(**request) as stream:
        async for event in stream:
            if event.type == "content.delta":
                seen.say(event.delta)
        take_chat_completion(seen, await stream.get_final_completion())


async def chat_whole(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk:
        take_chat_completion(seen, await sdk.chat.completions.create(**chat_request(ask)))


def take_chat_completion(seen: Seen, whole: Any) -> None:
    choice = whole.choices[0]
    seen.text = choice.message.content or ""
    seen.reasoning = getattr(choice.message, "reasoning_content", None) or ""
    seen.finish = choice.finish_reason
    take_chat_tools(seen, choice.message.tool_calls)
    if whole.usage:
        seen.used(whole.usage.prompt_tokens, whole.usage.completion_tokens)


# -- Responses


def response_request(ask: Ask) -> dict[str, Any]:
    content: Any = ask["question"]
    if image := ask.get("image"):
        url = f"data:image/png;base64,{image}"
        parts = [{"type": "input_text", "text": content}, {"type": "input_image", "detail": "auto", "image_url": url}]
        content = [{"role": "user", "content": parts}]
    request = {"model": ask["model"], "input": content, "store": False}
    if tools := ask.get("tools"):
        request["tools"] = [{"type": "function", "strict": True, **tool} for tool in tools]
    return request


def take_response(seen: Seen, whole: Any) -> None:
    seen.finish = whole.incomplete_details.reason if whole.incomplete_details else whole.status
    calls = [item for item in whole.output if item.type == "function_call"]
    seen.tools = [{"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in calls]
    if whole.usage:
        seen.used(whole.usage.input_tokens, whole.usage.output_tokens)
    if whole.error:
        seen.error = {"name": f"response.{whole.status}", "status": None, "message": whole.error.message}


def reasoning_of(whole: Any) -> str:
    items = [item for item in whole.output if item.type == "reasoning"]
    return "".join(part.text for item in items for part in [*item.summary, *(item.content or [])])


def take_response_event(seen: Seen, event: Any) -> None:
    match event.type:
        case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
            seen.reasoning += event.delta
        case "response.completed" | "response.incomplete" | "response.failed":
            take_response(seen, event.response)
        case "error":
            seen.error = {"name": "error", "status": None, "message": event.message}
        case "response.output_text.delta":
            seen.say(event.delta)


async def response_streamed(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk, await sdk.responses.create(**response_request(ask), stream=True) as stream:
        async for event in stream:
            take_response_event(seen, event)


async def response_helped(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk, sdk.responses.stream(**response_request(ask)) as stream:
        async for event in stream:
            take_response_event(seen, event)
        if seen.error is None:
            whole = await stream.get_final_response()
            seen.text = whole.output_text
            take_response(seen, whole)


async def response_whole(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk:
        whole = await sdk.responses.create(**response_request(ask))
        seen.text, seen.reasoning = whole.output_text, reasoning_of(whole)
        take_response(seen, whole)


async def models(ask: Ask, seen: Seen) -> None:
    async with client(ask) as sdk:
        seen.text = " ".join([model.id async for model in sdk.models.list()])


CLIENTS = {
    "openai models": models,
    "openai chat, streamed": chat_streamed,
    "openai chat, helper": chat_helped,
    "openai chat, whole": chat_whole,
    "openai responses, streamed": response_streamed,
    "openai responses, helper": response_helped,
    "openai responses, whole": response_whole,
}
