"""The features of the matrix: a request or an answer in normal form, and what tells that it got there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from proxy.events import (
    Finish,
    Media,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Audio, ChatRequest, File, Image, Message, Text, Tool, ToolCall, Usage
from tests.matrix.reading import Read

Sent = dict[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4 one page").decode()
NOTES = base64.b64encode(b"Remember the milk").decode()
SOUND = base64.b64encode(b"RIFF and so on").decode()
PICTURE = Image(f"data:image/png;base64,{PNG}")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "What it is like outside", SCHEMA)
CLOCK = Tool("clock", "What time it is", SCHEMA)

USER = Message("user", (Text("Where is it raining?"),))
CALLS = (ToolCall("call_a", "weather", '{"city":"Oslo"}'), ToolCall("call_b", "clock", '{"city":"Rome"}'))


def request(*messages: Message, **more: Any) -> ChatRequest:
    return ChatRequest(id="", contract="", dialect="", messages=messages or (USER,), **more)


def asking(**params: Any) -> ChatRequest:
    return request(params=params)


def with_tools(**params: Any) -> ChatRequest:
    return request(tools=(WEATHER,), params=params)


def showing(part: Any) -> ChatRequest:
    return request(Message("user", (Text("What is this?"), part)))


def used(*results: Message) -> ChatRequest:
    calls = CALLS[: len(results)]
    return request(USER, Message("assistant", tool_calls=calls), *results, tools=(WEATHER, CLOCK))


def result(call: ToolCall, *parts: Any, **more: Any) -> Message:
    return Message("tool", parts, tool_call_id=call.id, name=call.name, **more)


class Asked(msgspec.Struct, frozen=True):
    """Something a client may ask, and how each wire says that it has arrived."""

    request: ChatRequest
    openai: Callable[[Sent], bool]
    anthropic: Callable[[Sent], bool]


def holds(*texts: str) -> Callable[[Sent], bool]:
    """Whether one of the texts is sent."""
    return lambda sent: any(text in json.dumps(sent) for text in texts)


def never(_: Sent) -> bool:
    return False


def _blocks(sent: Sent, kind: str) -> list[Sent]:
    contents = [message["content"] for message in sent["messages"] if type(message.get("content")) is list]
    blocks = [block for content in contents for block in content]
    inner = [block for one in blocks if type(one.get("content")) is list for block in one["content"]]
    return [block for block in blocks + inner if block["type"] == kind]


def _has(kind: str, field: str, **value: Any) -> Callable[[Sent], bool]:
    return lambda sent: any(value.items() <= block[field].items() for block in _blocks(sent, kind))


def _same(name: str, value: Any) -> Callable[[Sent], bool]:
    return lambda sent: sent.get(name) == value


def _max_tokens(sent: Sent) -> bool:
    return 77 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))


def _openai_results(sent: Sent) -> bool:
    """Both calls in one message, and right behind it the result of each."""
    _, asked, *results = sent["messages"]
    made = [(call["id"], call["function"]["name"]) for call in asked["tool_calls"]]
    told = [(one["role"], one["tool_call_id"], one["content"]) for one in results]
    names = [name for _, name in made] == ["weather", "clock"]
    return names and told == [("tool", id_, text) for (id_, _), text in zip(made, ("7 degrees", "noon"), strict=True)]


def _text(content: Any) -> str:
    return content if type(content) is str else "".join(block["text"] for block in content)


def _anthropic_results(sent: Sent) -> bool:
    _, asked, told = sent["messages"]
    calls = [block for block in asked["content"] if block["type"] == "tool_use"]
    results = [(block["tool_use_id"], _text(block["content"])) for block in told["content"]]
    return [call["input"] for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}] and results == [
        (call["id"], text) for call, text in zip(calls, ("7 degrees", "noon"), strict=True)
    ]


def _conversation(sent: Sent) -> bool:
    turns = [message for message in sent["messages"] if message["role"] != "system"]
    told = [(message["role"], _text(message["content"])) for message in turns]
    return told == [("user", "Where is it raining?"), ("assistant", "In Oslo."), ("user", "And now?")]


def _thinks(sent: Mapping[str, Any]) -> bool:
    """An effort to think, in the words of one vendor or another."""
    switched = sent.get("thinking") == {"type": "enabled"} or sent.get("enable_thinking") is True
    return switched or "reasoning_effort" in sent or "effort" in sent.get("reasoning", {})


ASKED = {
    "system prompt": Asked(
        request(Message("system", (Text("Be brief."),)), USER),
        openai=lambda sent: (sent["messages"][0]["role"], sent["messages"][0]["content"]) == ("system", "Be brief."),
        anthropic=lambda sent: _text(sent["system"]) == "Be brief.",
    ),
    "`developer` message": Asked(
        request(Message("developer", (Text("Be brief."),)), USER),
        openai=lambda sent: sent["messages"][0]["role"] in ("system", "developer"),
        anthropic=lambda sent: _text(sent["system"]) == "Be brief.",
    ),
    "earlier turns": Asked(
        request(USER, Message("assistant", (Text("In Oslo."),)), Message("user", (Text("And now?"),))),
        openai=_conversation,
        anthropic=_conversation,
    ),
    "earlier reasoning": Asked(
        request(USER, Message("assistant", (Text("In Oslo."),), reasoning="Norway is wet."), USER),
        openai=holds("Norway is wet."),
        anthropic=holds("Norway is wet."),
    ),
    "earlier reasoning, sealed": Asked(
        request(
            USER,
            Message("assistant", (Text("In Oslo."),), reasoning="Norway is wet.", reasoning_signature="c2VhbA=="),
            USER,
        ),
        openai=holds("c2VhbA=="),
        anthropic=lambda sent: any(block["signature"] == "c2VhbA==" for block in _blocks(sent, "thinking")),
    ),
    "tools": Asked(
        with_tools(),
        openai=lambda sent: sent["tools"][0]["function"]["parameters"] == SCHEMA,
        anthropic=lambda sent: SCHEMA.items() <= sent["tools"][0]["input_schema"].items(),
    ),
    "`tool_choice`": Asked(
        with_tools(tool_choice="required"),
        openai=_same("tool_choice", "required"),
        anthropic=lambda sent: sent.get("tool_choice", {}).get("type") == "any",
    ),
    "one call at a time": Asked(
        with_tools(parallel_tool_calls=False),
        openai=_same("parallel_tool_calls", False),
        anthropic=lambda sent: sent.get("tool_choice", {}).get("disable_parallel_tool_use") is True,
    ),
    "search by the upstream": Asked(
        request(hosted_tools=("web search",)), openai=holds("web_search"), anthropic=holds("web_search")
    ),
    "calls and their results": Asked(
        used(result(CALLS[0], Text("7 degrees")), result(CALLS[1], Text("noon"))),
        openai=_openai_results,
        anthropic=_anthropic_results,
    ),
    "that a tool failed": Asked(
        used(result(CALLS[0], Text("no such city"), failed=True)),
        openai=holds("is_error"),
        anthropic=lambda sent: any(block.get("is_error") is True for block in _blocks(sent, "tool_result")),
    ),
    "image in a result": Asked(
        used(result(CALLS[0], Text("see"), PICTURE)),
        openai=_has("image_url", "image_url", url=PICTURE.url),
        anthropic=_has("image", "source", data=PNG),
    ),
    "image, data": Asked(
        showing(PICTURE),
        openai=_has("image_url", "image_url", url=PICTURE.url),
        anthropic=_has("image", "source", data=PNG, media_type="image/png"),
    ),
    "image, address": Asked(
        showing(Image("https://example.test/a.png")),
        openai=_has("image_url", "image_url", url="https://example.test/a.png"),
        anthropic=_has("image", "source", type="url", url="https://example.test/a.png"),
    ),
    "PDF, data": Asked(
        showing(File(data=PDF, name="a.pdf", media_type="application/pdf")),
        openai=holds(f"data:application/pdf;base64,{PDF}"),
        anthropic=_has("document", "source", data=PDF),
    ),
    "PDF, address": Asked(
        showing(File(url="https://example.test/a.pdf", name="a.pdf", media_type="application/pdf")),
        openai=holds("https://example.test/a.pdf"),
        anthropic=_has("document", "source", type="url", url="https://example.test/a.pdf"),
    ),
    "file by its id": Asked(
        showing(File(id="file-1", media_type="application/pdf")),
        openai=_has("file", "file", file_id="file-1"),
        anthropic=_has("document", "source", file_id="file-1"),
    ),
    "text file, data": Asked(
        showing(File(data=NOTES, name="notes.txt", media_type="text/plain")),
        openai=holds(NOTES, "Remember the milk"),
        anthropic=holds("Remember the milk"),
    ),
    "audio": Asked(
        showing(Audio(SOUND, "wav")),
        openai=_has("input_audio", "input_audio", data=SOUND, format="wav"),
        anthropic=never,
    ),
    "JSON Schema": Asked(
        asking(response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        openai=lambda sent: sent["response_format"].get("json_schema", {}).get("schema") == SCHEMA,
        anthropic=lambda sent: (
            SCHEMA in (sent.get("output_config", sent).get("format") or sent["output_format"]).values()
        ),
    ),
    "JSON, no schema": Asked(
        asking(response_format={"type": "json_object"}),
        openai=_same("response_format", {"type": "json_object"}),
        anthropic=never,
    ),
    "`temperature`": Asked(asking(temperature=0.5), _same("temperature", 0.5), _same("temperature", 0.5)),
    "`top_p`": Asked(asking(top_p=0.5), _same("top_p", 0.5), _same("top_p", 0.5)),
    "`top_k`": Asked(asking(top_k=5), _same("top_k", 5), _same("top_k", 5)),
    "`stop`": Asked(asking(stop=["END"]), _same("stop", ["END"]), _same("stop_sequences", ["END"])),
    "`seed`": Asked(asking(seed=7), _same("seed", 7), _same("seed", 7)),
    "`max_tokens`": Asked(asking(max_tokens=77), _max_tokens, _max_tokens),
    "`frequency_penalty`": Asked(
        asking(frequency_penalty=0.5), _same("frequency_penalty", 0.5), _same("frequency_penalty", 0.5)
    ),
    "`reasoning_effort`": Asked(
        asking(reasoning_effort="low"),
        openai=_thinks,
        anthropic=lambda sent: sent.get("thinking", {}).get("type") == "enabled",
    ),
    "several answers, `n`": Asked(asking(n=2), _same("n", 2), never),
    "`logprobs`": Asked(asking(logprobs=True), _same("logprobs", True), never),
    "who asks": Asked(
        request(user="ada"), _same("user", "ada"), lambda sent: sent.get("metadata", {}).get("user_id") == "ada"
    ),
}


# -- answers


class Answered(msgspec.Struct, frozen=True):
    """Something an upstream may answer, and what tells that a client has read it."""

    events: tuple[StreamEvent, ...]
    seen: Callable[[Read], bool]
    otherwise: Callable[[Read], bool] = lambda _: False
    """Read in another form, in which nothing is lost that was said."""


COUNTS = Usage(11, 7)
OSLO, ROME = {"city": "Oslo"}, {"city": "Rome"}


def answered(*events: StreamEvent, end: str = "stop", usage: Usage = COUNTS) -> tuple[StreamEvent, ...]:
    return (*events, Finish(end, usage))


SAID = TextDelta("It rains.")

ANSWERED = {
    "text": Answered(
        answered(TextDelta("It"), TextDelta(" rains\n\nin 東京 😀")),
        lambda read: (read.answer.text, type(read.end)) == ("It rains\n\nin 東京 😀", Finish),
    ),
    "reasoning": Answered(
        answered(ReasoningDelta("Norway"), ReasoningDelta(" is wet."), SAID),
        lambda read: (read.answer.reasoning, read.answer.text) == ("Norway is wet.", "It rains."),
    ),
    "its seal": Answered(
        answered(ReasoningDelta("Norway is wet."), ReasoningSignature("c2VhbA=="), SAID),
        lambda read: read.answer.reasoning_signature == "c2VhbA==",
    ),
    "refusal": Answered(
        answered(RefusalDelta("I must not"), RefusalDelta(" say.")),
        lambda read: read.answer.refusal == "I must not say.",
        lambda read: read.answer.text == "I must not say.",
    ),
    "tool call": Answered(
        answered(
            SAID,
            ToolCallStart(0, "call_a", "weather"),
            ToolCallDelta(0, '{"city":'),
            ToolCallDelta(0, '"Oslo"}'),
            end="tool_calls",
        ),
        lambda read: read.calls == [("weather", OSLO)],
    ),
    "parallel calls": Answered(
        answered(
            ToolCallStart(0, "call_a", "weather"),
            ToolCallDelta(0, '{"city":"Oslo"}'),
            ToolCallStart(1, "call_b", "clock"),
            ToolCallDelta(1, '{"city":"Rome"}'),
            end="tool_calls",
        ),
        lambda read: read.calls == [("weather", OSLO), ("clock", ROME)],
    ),
    "sources": Answered(
        answered(SAID, Source("https://example.test/rain", "Rain")),
        lambda read: read.answer.sources == (("https://example.test/rain", "Rain"),),
    ),
    "images": Answered(
        answered(SAID, Media("image/png", PICTURE.url)), lambda read: read.answer.media == (("image/png", PICTURE.url),)
    ),
    "nothing but images": Answered(
        answered(Media("image/png", PICTURE.url)), lambda read: read.answer.media == (("image/png", PICTURE.url),)
    ),
    "end: `length`": Answered(answered(SAID, end="length"), lambda read: read.answer.finish_reason == "length"),
    "end: `tool_calls`": Answered(
        answered(
            ToolCallStart(0, "call_a", "weather"),
            ToolCallDelta(0, '{"city":"Oslo"}'),
            end="tool_calls",
        ),
        lambda read: read.answer.finish_reason == "tool_calls",
    ),
    "end: `content_filter`": Answered(
        answered(SAID, end="content_filter"), lambda read: read.answer.finish_reason == "content_filter"
    ),
    "usage": Answered(
        answered(SAID),
        lambda read: (
            read.answer.usage is not None
            and (read.answer.usage.input_tokens, read.answer.usage.output_tokens) == (11, 7)
        ),
    ),
    "cached tokens": Answered(
        answered(SAID, usage=Usage(11, 7, 4)),
        lambda read: read.answer.usage is not None and read.answer.usage.cached_tokens == 4,
    ),
    "reasoning tokens": Answered(
        answered(SAID, usage=Usage(11, 7, 0, 3)),
        lambda read: read.answer.usage is not None and read.answer.usage.reasoning_tokens == 3,
    ),
}

ARGUMENTS_IN_PIECES = Answered(ANSWERED["tool call"].events, lambda read: read.pieces > 1)
"""Streamed alone: whole answers have whole arguments."""
