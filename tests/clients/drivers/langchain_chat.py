"""LangChain's `ChatOpenAI`, streamed and in one piece."""

from __future__ import annotations

from typing import Any

from drive import Ask, Seen
from langchain_openai import ChatOpenAI


def model(ask: Ask) -> Any:
    chat = ChatOpenAI(
        base_url=f"{ask['url']}/v1",
        api_key="none",
        model=ask["model"],
        max_retries=0,
        stream_usage=True,
    )
    if tools := ask.get("tools"):
        return chat.bind_tools([{"type": "function", "function": tool} for tool in tools])
    return chat


def messages(ask: Ask) -> list[dict[str, Any]]:
    content: Any = ask["question"]
    if image := ask.get("image"):
        picture = {"type": "image", "base64": image, "mime_type": "image/png"}
        content = [{"type": "text", "text": content}, picture]
    return [{"role": "user", "content": content}]


def take(seen: Seen, message: Any) -> None:
    seen.finish = message.response_metadata.get("finish_reason") or seen.finish
    if message.usage_metadata:
        seen.used(message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"])


async def streamed(ask: Ask, seen: Seen) -> None:
    whole = None
    stream = model(ask).astream(messages(ask))
    try:
        async for piece in stream:
            whole = piece if whole is None else whole + piece
            take(seen, whole)
            seen.tools = [
                {key: call[key] for key in ("id", "name")} | {"arguments": call["args"]} for call in whole.tool_calls
            ]
            seen.say(piece.content)
    finally:
        await stream.aclose()


async def whole(ask: Ask, seen: Seen) -> None:
    message = await model(ask).ainvoke(messages(ask))
    seen.text = message.content
    seen.tools = [
        {key: call[key] for key in ("id", "name")} | {"arguments": call["args"]} for call in message.tool_calls
    ]
    take(seen, message)


CLIENTS = {"langchain, streamed": streamed, "langchain, whole": whole}
