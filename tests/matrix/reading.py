"""What clients read: an answer in each contract, streamed or whole, back in events. A stream may come in pieces.

The readers are the ones in `tests/support`, written from the contracts. Those of OpenAI and Anthropic are the
package's own decoders for upstreams, which have tests of their own; against the official SDKs too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from proxy.contracts.anthropic import stream as anthropic_stream
from proxy.contracts.openai import stream as openai_stream
from proxy.contracts.openai import whole as openai_whole_answer
from proxy.errors import ProxyError
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Usage
from tests.support.ollama_reader import OllamaReader
from tests.support.readers import ConformantReader, read
from tests.support.responses_reader import ResponsesReader
from tests.support.ui_readers import REASONS, RunReader, UiMessageReader

Events = list[StreamEvent]
Stream = bytes | list[bytes]

MAX_EVENT = 1_000_000


def chat(stream: Stream) -> Events:
    """The dialect `json`, which says the most."""
    events: Events = []
    for name, data in read(ConformantReader, stream):
        match name:
            case "message":
                events.append(TextDelta(json.loads(data)["token"]))
            case "notice":
                events.append(Notice(**json.loads(data)["notice"]))
            case "done":
                events.append(Finish())
            case "error":
                error = json.loads(data)["error"]
                events.append(Fault(ProxyError(error["message"], code=error["code"])))
    return events


def chat_whole(body: bytes) -> Events:
    return [TextDelta(json.loads(body)["text"]), Finish()]


def openai(stream: Stream) -> Events:
    return _decoded(openai_stream.StreamDecoder(MAX_EVENT), stream)


def openai_whole(body: bytes) -> Events:
    return openai_whole_answer.decode_whole(body, keep=False).events


def anthropic(stream: Stream) -> Events:
    return _decoded(anthropic_stream.StreamDecoder(MAX_EVENT), stream)


def anthropic_whole(body: bytes) -> Events:
    return anthropic_stream.decode_whole(body, keep=False).events


def _decoded(decoder: Any, stream: Stream) -> Events:
    events = [event for piece in _pieces(stream) for event in decoder.feed(piece).events]
    return events if decoder.done else events + decoder.finish().events


def responses(stream: Stream) -> Events:
    return read(ResponsesReader, stream)


def responses_whole(body: bytes) -> Events:
    """What there is of a response object."""
    response = json.loads(body)
    events: Events = []
    for item in response["output"]:
        match item["type"]:
            case "reasoning":
                events += [ReasoningDelta(part["text"]) for part in item["summary"]]
                if seal := item["encrypted_content"]:
                    events.append(ReasoningSignature(seal.removeprefix("chat-proxy:")))
            case "message":
                for part in item["content"]:
                    refused = part["type"] == "refusal"
                    events.append(RefusalDelta(part["refusal"]) if refused else TextDelta(part["text"]))
                    events += [Source(one["url"], one["title"]) for one in part.get("annotations", ())]
            case "function_call":
                events += _call(events, item["call_id"], item["name"], item["arguments"])
            case "image_generation_call":
                events.append(Media("image/png", f"data:image/png;base64,{item['result']}"))
    called = any(item["type"] == "function_call" for item in response["output"])
    reason = (response["incomplete_details"] or {"reason": "tool_calls" if called else "stop"})["reason"]
    counts = response["usage"]
    usage = counts and Usage(
        counts["input_tokens"],
        counts["output_tokens"],
        counts["input_tokens_details"]["cached_tokens"],
        counts["output_tokens_details"]["reasoning_tokens"],
    )
    return [*events, Finish("length" if reason == "max_output_tokens" else reason, usage)]


def ollama(stream: Stream, *, generate: bool = False) -> Events:
    reader = fed(OllamaReader(generate), stream)
    events: Events = [ReasoningDelta(text) for text in reader.thoughts] + [TextDelta(text) for text in reader.texts]
    for call in reader.calls:
        function = call["function"]
        events += _call(events, call.get("id", ""), function["name"], json.dumps(function["arguments"]))
    if reader.error is not None:
        return [*events, Fault(ProxyError(reader.error))]
    assert reader.done is not None
    counts = Usage(reader.done["prompt_eval_count"], reader.done["eval_count"])
    return [*events, Finish(reader.done["done_reason"], counts)]


def ai_sdk(stream: Stream) -> Events:
    return fed(UiMessageReader(), stream).events


def ai_sdk_whole(body: bytes) -> Events:
    message = json.loads(body)
    events: Events = []
    for part in message["parts"]:
        match part["type"]:
            case "text":
                events.append(TextDelta(part["text"]))
            case "reasoning":
                events.append(ReasoningDelta(part["text"]))
                if metadata := part.get("providerMetadata"):
                    events.append(ReasoningSignature(metadata["chatProxy"]["signature"]))
            case "source-url":
                events.append(Source(part["url"], part.get("title", "")))
            case "file":
                events.append(Media(part["mediaType"], part["url"]))
            case kind if kind.startswith("tool-"):
                events += _call(events, part["toolCallId"], kind.removeprefix("tool-"), json.dumps(part["input"]))
    counts = message["metadata"].get("usage", {})
    names = ("inputTokens", "outputTokens", "cachedInputTokens", "reasoningTokens")
    usage = Usage(*[counts.get(name, 0) for name in names])
    return [*events, Finish(REASONS[message["metadata"]["finishReason"]], usage)]


def ai_text(stream: Stream) -> Events:
    text = b"".join(_pieces(stream)).decode()
    return [TextDelta(text), Finish()]


def ag_ui(stream: Stream) -> Events:
    return fed(RunReader("1.0"), stream).events


def declared(stream: Stream) -> Events:
    """The contract `asking.DECLARED`."""
    events: Events = []
    usage = None
    for _, data in read(ConformantReader, stream):
        match json.loads(data):
            case {"text": text}:
                events.append(TextDelta(text))
            case {"thought": text}:
                events.append(ReasoningDelta(text))
            case {"call": id_, "number": number, "name": name}:
                events.append(ToolCallStart(number, id_, name))
            case {"number": number, "arguments": text}:
                events.append(ToolCallDelta(number, text))
            case {"source": url, "title": title}:
                events.append(Source(url, title))
            case {"media": url, "type": media_type}:
                events.append(Media(media_type, url))
            case {"notice": message, "code": code, "param": param}:
                events.append(Notice(code, message, param))
            case {"input": said, "output": made, "cached": cached, "thought_tokens": thought}:
                usage = Usage(said, made, cached, thought)
            case {"done": reason}:
                events.append(Finish(reason, usage))
            case {"error": message}:
                events.append(Fault(ProxyError(message)))
    return events


def declared_whole(body: bytes) -> Events:
    told = json.loads(body)
    events: Events = [ReasoningDelta(told["reasoning"]), TextDelta(told["text"])]
    events += [Source(one["source"], one["title"]) for one in told["sources"]]
    events += [Media(one["type"], one["media"]) for one in told["media"]]
    for call in told["calls"]:
        events += _call(events, call["called"], call["name"], json.dumps(call["arguments"]))
    usage = Usage(told["input"], told["output"], told["cached"], told["thought_tokens"])
    return [*events, Finish(told["done"], usage)]


def _pieces(stream: Stream) -> list[bytes]:
    return [stream] if isinstance(stream, bytes) else stream


def fed(reader: Any, stream: Stream) -> Any:
    """A reader that gathers what it reads, after all of a stream."""
    for piece in _pieces(stream):
        reader.feed(piece)
    return reader


def _call(before: Events, id_: str, name: str, arguments: str) -> Events:
    index = sum(isinstance(event, ToolCallStart) for event in before)
    return [ToolCallStart(index, id_, name), ToolCallDelta(index, arguments)]


class Read:
    """What a client made of an answer."""

    def __init__(self, events: Events) -> None:
        self.events = events
        collector = Collector()
        self.end = collector.add(Batch(events))
        self.answer = collector.answer()

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Names and arguments. Ollama's upstreams have no ids, and what JSON looks like is not the point."""
        return [(call.name, json.loads(call.arguments or "{}")) for call in self.answer.tool_calls]

    @property
    def pieces(self) -> int:
        """In how many pieces the arguments came."""
        return sum(isinstance(event, ToolCallDelta) for event in self.events)


Reader = Callable[[bytes], Events]

READ: Mapping[str, tuple[Reader, Reader | None]] = {
    "chat": (chat, chat_whole),
    "openai": (openai, openai_whole),
    "responses": (responses, responses_whole),
    "anthropic": (anthropic, anthropic_whole),
    "ollama": (ollama, lambda body: ollama(body + b"\n")),
    "ai-sdk": (ai_sdk, ai_sdk_whole),
    "ai-text": (ai_text, ai_text),
    "ag-ui": (ag_ui, None),
    "declared": (declared, declared_whole),
}
"""How each contract's clients read an answer that is streamed, and one that is whole."""
