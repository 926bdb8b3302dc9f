"""What upstreams say: one answer's events on each wire, streamed and whole. What a wire cannot say raises `NoWords`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

from proxy.events import (
    Batch,
    Collector,
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
from proxy.request import Usage
from proxy.testing.script import LAST_CHUNK, Send, Step, event, json_reply, openai_chunk, sse_head
from proxy.testing.wires import AnthropicWire
from tests.matrix.asking import NoWords

Events = Iterable[StreamEvent]


class Wire(Protocol):
    def stream(self, events: Events) -> list[Step]: ...

    def whole(self, events: Events) -> list[Step]: ...


class OpenAI:
    """Chat Completions, with the extensions that servers of it have: reasoning, citations, images."""

    def stream(self, events: Events) -> list[Step]:
        steps: list[Step] = [Send(sse_head()), Send(event(openai_chunk({"role": "assistant", "content": ""})))]
        for one in events:
            if isinstance(one, Finish):
                steps.append(Send(event(openai_chunk({}, finish=one.reason))))
                if one.usage:
                    steps.append(Send(event(openai_chunk(None, usage=_openai_usage(one.usage)))))
                steps.append(Send(event("[DONE]")))
            else:
                steps.append(Send(event(openai_chunk(self._delta(one)))))
        return [*steps, Send(LAST_CHUNK)]

    def whole(self, events: Events) -> list[Step]:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        events = list(events)
        for one in events:
            match one:
                case ToolCallStart() | ToolCallDelta() | Finish():
                    continue
            for name, value in self._delta(one).items():
                message[name] = value if not message.get(name) else message[name] + value
        collector = Collector()
        end = collector.add(Batch(events))
        assert isinstance(end, Finish)
        if calls := collector.answer().tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": end.reason}
        body: dict[str, Any] = {"id": "c1", "object": "chat.completion", "created": 1, "model": "scripted-1"}
        usage = {"usage": _openai_usage(end.usage)} if end.usage else {}
        return json_reply(200, body | {"choices": [choice]} | usage)

    @staticmethod
    def _delta(one: StreamEvent) -> dict[str, Any]:
        match one:
            case TextDelta(text):
                return {"content": text}
            case ReasoningDelta(text):
                return {"reasoning_content": text}
            case RefusalDelta(text):
                return {"refusal": text}
            case ToolCallStart(index, id_, name):
                call = {"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
                return {"tool_calls": [call]}
            case ToolCallDelta(index, arguments):
                return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}
            case Source(url, title):
                return {"annotations": [{"type": "url_citation", "url_citation": {"url": url, "title": title}}]}
            case Media(_, url):
                return {"images": [{"type": "image_url", "image_url": {"url": url}}]}
            case _:
                raise NoWords(one)


def _openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class Anthropic:
    """Messages."""

    REASONS: ClassVar = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }

    def stream(self, events: Events) -> list[Step]:
        tell = AnthropicWire.event
        steps = AnthropicWire.opened()
        for index, block in enumerate(self._blocks(events)):
            empty, *deltas = block
            steps.append(tell("content_block_start", index=index, content_block=empty))
            steps += [tell("content_block_delta", index=index, delta=delta) for delta in deltas]
            steps.append(tell("content_block_stop", index=index))
        end = _end(events)
        delta = {"stop_reason": self.REASONS[end.reason], "stop_sequence": None}
        steps.append(tell("message_delta", delta=delta, usage=self._usage(end.usage)))
        return [*steps, tell("message_stop"), Send(LAST_CHUNK)]

    def whole(self, events: Events) -> list[Step]:
        content = []
        for start, *deltas in self._blocks(events):
            block = dict(start)
            for delta in deltas:
                match delta:
                    case {"partial_json": text}:
                        block["json"] = block.get("json", "") + text
                    case {"citation": citation}:
                        block["citations"] = [*block.get("citations", ()), citation]
                    case _:
                        block |= {name: block[name] + value for name, value in delta.items() if name != "type"}
            if "json" in block:
                block["input"] = json.loads(block.pop("json"))
            content.append(block)
        end = _end(events)
        return json_reply(
            200,
            AnthropicWire.message(content=content, stop_reason=self.REASONS[end.reason], usage=self._usage(end.usage)),
        )

    @staticmethod
    def _usage(usage: Usage | None) -> dict[str, Any]:
        if usage is None:
            return {"output_tokens": 1}
        if usage.reasoning_tokens:
            raise NoWords(usage)
        return {
            "input_tokens": usage.input_tokens - usage.cached_tokens,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
        }

    @staticmethod
    def _blocks(events: Events) -> list[list[dict[str, Any]]]:
        """Each block as its empty start and its deltas."""
        blocks: list[list[dict[str, Any]]] = []
        calls: dict[int, list[dict[str, Any]]] = {}

        def block(kind: str, **empty: Any) -> list[dict[str, Any]]:
            if not blocks or blocks[-1][0]["type"] != kind:
                blocks.append([{"type": kind, **empty}])
            return blocks[-1]

        for one in events:
            match one:
                case TextDelta(text):
                    block("text", text="").append({"type": "text_delta", "text": text})
                case ReasoningDelta(text):
                    thought = block("thinking", thinking="", signature="")
                    thought.append({"type": "thinking_delta", "thinking": text})
                case ReasoningSignature(seal):
                    thought = block("thinking", thinking="", signature="")
                    thought.append({"type": "signature_delta", "signature": seal})
                case Source(url, title):
                    cited = {"type": "web_search_result_location", "url": url, "title": title, "cited_text": "x"}
                    block("text", text="").append({"type": "citations_delta", "citation": cited})
                case ToolCallStart(index, id_, name):
                    calls[index] = [{"type": "tool_use", "id": id_, "name": name, "input": {}}]
                    blocks.append(calls[index])
                case ToolCallDelta(index, arguments):
                    calls[index].append({"type": "input_json_delta", "partial_json": arguments})
                case Finish():
                    pass
                case _:
                    raise NoWords(one)
        return blocks


def _end(events: Events) -> Finish:
    return next(one for one in events if isinstance(one, Finish))
