"""Reads the event stream of OpenAI Responses back into events, and holds it to the contract on the way.

Written from the contract, sharing no code with the package's writer: numbering, what must come before what, that
all that is repeated at the end is what came in pieces. A stream that breaks a rule fails an assertion.
"""

from __future__ import annotations

import json
from typing import Any

from proxy.errors import ProxyError
from proxy.events import (
    Fault,
    Finish,
    Media,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Usage
from tests.support.readers import ConformantReader

PART_DELTAS = {"response.output_text.delta": (TextDelta, "text"), "response.refusal.delta": (RefusalDelta, "refusal")}
TERMINAL = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}


class ResponsesReader:
    """Bytes in, events out. `told` keeps what every event said; `response` is the object of the last one with one."""

    def __init__(self) -> None:
        self._sse = ConformantReader()
        self._items: list[dict[str, Any]] = []  # as far as their events have told
        self._done: set[int] = set()
        self._calls: dict[int, int] = {}  # output index -> which call
        self.told: list[dict[str, Any]] = []
        self.response: dict[str, Any] = {}
        self.ended = False
        self.failed = False  # an `error` event has to come, and nothing else

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        return [event for name, data in self._sse.feed(chunk) for event in self._take(name, json.loads(data))]

    @property
    def types(self) -> list[str]:
        return [told["type"] for told in self.told]

    def _take(self, name: str, told: dict[str, Any]) -> list[StreamEvent]:
        assert not self.ended, f"{name} after the end"
        assert name == told["type"]
        assert told["sequence_number"] == len(self.told)
        assert "name" not in told or name == "response.function_call_arguments.done"
        self.told.append(told)
        kind = told["type"]
        assert self.failed == (kind == "error"), f"{kind} where an error has to be told in two events"
        if self.failed:
            self.ended = True
            assert told["error"]["message"] == told["message"] == self.response["error"]["message"]
            return [self._fault]
        if len(self.told) <= 2:
            assert kind == ("response.created", "response.in_progress")[len(self.told) - 1]
        if "response" in told:
            return self._state(kind, told["response"])
        if kind == "response.output_item.added":
            return self._added(told["output_index"], told["item"])
        if kind == "response.output_item.done":
            return self._item_done(told["output_index"], told["item"])
        index = told["output_index"]
        item = self._items[index]
        assert index not in self._done, f"{kind} for an item that is done"
        assert told["item_id"] == item["id"]
        return self._inside(kind, told, item)

    def _state(self, kind: str, response: dict[str, Any]) -> list[StreamEvent]:
        before, self.response = self.response, response
        if not before:
            assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
            return [Start("", response["model"])]
        assert response["id"] == before["id"]
        if kind == "response.in_progress":
            assert response == before
            return []
        assert response["status"] == TERMINAL[kind]
        usage = _usage(response["usage"])
        if kind == "response.failed":
            assert all(item["type"] not in {"function_call", "custom_tool_call"} for item in response["output"])
            self.failed = True
            error = response["error"]
            self._fault = Fault(ProxyError(error["message"], code=error["code"]), usage)
            return []
        self.ended = True
        assert [item["id"] for item in response["output"]] == [item["id"] for item in self._items]
        for index, item in enumerate(response["output"]):
            assert item["status"] in {"completed", "incomplete"}
            if kind == "response.completed" or item["status"] == "completed":
                assert index in self._done
                assert item["status"] == "completed"
            assert item == self._items[index] | {"status": item["status"]}
        assert response["error"] is None
        if kind == "response.incomplete":
            reason = response["incomplete_details"]["reason"]
            return [Finish("length" if reason == "max_output_tokens" else reason, usage)]
        assert response["incomplete_details"] is None
        return [Finish("tool_calls" if self._calls else "stop", usage)]

    def _added(self, index: int, item: dict[str, Any]) -> list[StreamEvent]:
        assert index == len(self._items)
        assert item["id"] not in {other["id"] for other in self._items}
        assert item["status"] == "in_progress"
        self._items.append(item)
        match item["type"]:
            case "message":
                assert (item["role"], item["content"]) == ("assistant", [])
            case "reasoning":
                assert (item["summary"], item["encrypted_content"]) == ([], None)
            case "function_call":
                assert item["arguments"] == ""
                return [self._called(index, item)]
            case "custom_tool_call":
                assert item["input"] == ""
                return [self._called(index, item)]
            case "image_generation_call":
                assert item["result"] is None
            case other:
                raise AssertionError(f"an item of type {other}")
        return []

    def _called(self, index: int, item: dict[str, Any]) -> ToolCallStart:
        self._calls[index] = len(self._calls)
        name = f"{item['namespace']}__{item['name']}" if "namespace" in item else item["name"]
        return ToolCallStart(self._calls[index], item["call_id"], name)

    def _item_done(self, index: int, item: dict[str, Any]) -> list[StreamEvent]:
        assert index not in self._done
        self._done.add(index)
        built = self._items[index]
        assert all(not part.get("open") for part in built.get("content", ()))
        events: list[StreamEvent] = []
        if item["type"] == "reasoning" and item["encrypted_content"] is not None:
            assert item["encrypted_content"].startswith("chat-proxy:")
            events = [ReasoningSignature(item["encrypted_content"].removeprefix("chat-proxy:"))]
            built["encrypted_content"] = item["encrypted_content"]
        elif item["type"] == "image_generation_call":
            events = [Media("image/png", f"data:image/png;base64,{item['result']}")]
            built["result"] = item["result"]
        elif item["type"] == "function_call" and built["arguments"] == "":
            built["arguments"] = "{}"
        for part in built.get("content", ()):
            part.pop("open", None)
        built["status"] = item["status"]
        assert item == built
        return events

    def _inside(self, kind: str, told: dict[str, Any], item: dict[str, Any]) -> list[StreamEvent]:
        match kind:
            case "response.content_part.added":
                assert all(not part["open"] for part in item["content"])
                assert told["content_index"] == len(item["content"])
                assert told["part"].get("text", told["part"].get("refusal")) == ""
                item["content"].append({**told["part"], "open": True})
            case "response.output_text.delta" | "response.refusal.delta":
                event, field = PART_DELTAS[kind]
                part = item["content"][told["content_index"]]
                assert part["open"]
                part[field] += told["delta"]
                return [event(told["delta"])]
            case "response.output_text.annotation.added":
                part = item["content"][told["content_index"]]
                assert part["open"]
                assert told["annotation_index"] == len(part["annotations"])
                citation = told["annotation"]
                assert citation["type"] == "url_citation"
                assert citation["start_index"] == citation["end_index"] == len(part["text"])
                part["annotations"].append(citation)
                return [Source(citation["url"], citation["title"])]
            case "response.output_text.done" | "response.refusal.done":
                field = kind.split(".")[1].removeprefix("output_")
                assert told[field] == item["content"][told["content_index"]][field]
            case "response.content_part.done":
                part = item["content"][told["content_index"]]
                assert part.pop("open") is True
                assert told["part"] == part
                part["open"] = False
            case "response.reasoning_summary_part.added":
                assert told["summary_index"] == len(item["summary"])
                item["summary"].append(told["part"])
            case "response.reasoning_summary_text.delta":
                item["summary"][told["summary_index"]]["text"] += told["delta"]
                return [ReasoningDelta(told["delta"])]
            case "response.reasoning_summary_text.done":
                assert told["text"] == item["summary"][told["summary_index"]]["text"]
            case "response.reasoning_summary_part.done":
                assert told["part"] == item["summary"][told["summary_index"]]
            case "response.function_call_arguments.delta":
                item["arguments"] += told["delta"]
                return [ToolCallDelta(self._calls[told["output_index"]], told["delta"])]
            case "response.function_call_arguments.done":
                assert told["name"] == item["name"]
                assert told["arguments"] == (item["arguments"] or "{}")
            case "response.custom_tool_call_input.delta":
                item["input"] += told["delta"]
            case "response.custom_tool_call_input.done":
                assert told["input"] == item["input"]
                return [ToolCallDelta(self._calls[told["output_index"]], json.dumps({"input": told["input"]}))]
            case "response.image_generation_call.completed":
                assert item["type"] == "image_generation_call"
            case other:
                raise AssertionError(f"an event of type {other}")
        return []


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    if usage is None:
        return None
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    return Usage(
        usage["input_tokens"],
        usage["output_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )


def read_responses(stream: bytes, *, size: int = 0) -> ResponsesReader:
    """A reader that has read all of `stream`, in pieces of `size` bytes."""
    reader = ResponsesReader()
    for at in range(0, len(stream), size or len(stream) or 1):
        reader.feed(stream[at : at + (size or len(stream))])
    return reader
