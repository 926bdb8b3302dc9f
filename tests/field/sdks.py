"""What the official SDKs make of an answer when they ask its upstream themselves, read as their documentation says."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai

from proxy.testing.upstream import ScriptedUpstream
from tests.field.recordings import Meaning, Recording

ENDS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}
MESSAGES: Any = [{"role": "user", "content": "hi"}]


async def sdk_reads(one: Recording, upstream: ScriptedUpstream, *, stream: bool) -> Meaning:
    """The text, the calls and the end, or the error, that the program around the SDK sees."""
    said: dict[str, Any] = {"text": "", "reasoning": "", "calls": {}, "end": None}
    ask = {"openai": _openai, "anthropic": _anthropic}[one.wire]
    try:
        await ask(upstream, said, stream=stream)
    except Exception as error:  # whatever it is, the program sees it
        said["error"], said["end"] = str(error) or type(error).__name__, None
    calls = [(name, arguments) for name, arguments in said.pop("calls").values()]
    return Meaning(calls=calls, **said)


async def _openai(upstream: ScriptedUpstream, said: dict[str, Any], *, stream: bool) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=False)  # reading all certificates takes 50 ms
    async with openai.AsyncOpenAI(api_key="k", base_url=upstream.url, max_retries=0, http_client=http) as client:
        if not stream:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES)
            for choice in answer.choices or ():
                _take(said, choice.message, choice.finish_reason)
            return
        async for chunk in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            for choice in chunk.choices or ():
                _take(said, choice.delta, choice.finish_reason)


def _take(said: dict[str, Any], piece: Any, finish: str | None) -> None:
    """As a program that is ready for anything: the SDK checks no types, so a delta may be a list, a text a number."""
    said["end"] = finish or said["end"]
    content = getattr(piece, "content", None)
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    said["text"] += content or ""
    said["reasoning"] += getattr(piece, "reasoning_content", None) or ""
    for position, call in enumerate(getattr(piece, "tool_calls", None) or ()):
        name, arguments = said["calls"].get(index := getattr(call, "index", position), ("", ""))
        function = call.function
        said["calls"][index] = (
            name + (getattr(function, "name", "") or ""),
            arguments + (getattr(function, "arguments", "") or ""),
        )


async def _anthropic(upstream: ScriptedUpstream, said: dict[str, Any], *, stream: bool) -> None:
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=upstream.origin, max_retries=0, http_client=http
    ) as client:
        if not stream:
            message = await client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
        else:
            async with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as answer:
                async for text in answer.text_stream:
                    said["text"] += text
                message = await answer.get_final_message()
    said["text"] = "".join(block.text for block in message.content if block.type == "text")
    for block in message.content:
        if block.type == "tool_use":
            arguments = json.dumps(block.input, separators=(",", ":"), ensure_ascii=False)
            said["calls"][len(said["calls"])] = (block.name, arguments)
    said["end"] = ENDS.get(message.stop_reason or "", message.stop_reason)


UNREAD = "The SDK raises, where the answer can be read"
PASSED_OVER = "The SDK ends as if nothing were wrong; the answer failed, or its calls cannot be told apart"
OTHER_WORDS = "Both fail; the SDK's error has not the upstream's words"
REASON = "The SDK hands on the upstream's own word for the end; the proxy says what it means"
REASONING = "The SDK has no field for reasoning in parts"
CALLS = "The SDK joins, doubles or empties the arguments of calls"


def difference(sdk: Meaning, means: Meaning) -> str:
    """In what the SDK's reading is another than what the answer means, as one of the sentences above; or nothing."""
    if sdk.error is not None or means.error is not None:
        if means.error is None:
            return UNREAD
        if sdk.error is None:
            return PASSED_OVER
        return "" if means.error in sdk.error else OTHER_WORDS
    if sdk.calls != means.calls:
        return CALLS
    if sdk.reasoning != means.reasoning:
        return REASONING
    return "" if (sdk.text, sdk.end) == (means.text, means.end) else REASON
