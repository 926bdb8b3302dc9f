"""How clients read the contracts of chat interfaces, each written from the client it stands for, and as strict.

- `UiMessageReader`: `processUIMessageStream` of the AI SDK, version 6, whose set of events is the smaller one.
- `RunReader`: the verifier and the reducer of @ag-ui/client; which events there are depends on the version.

Both turn what they read back into the proxy's events, and raise `AssertionError` at what would fail the client.
They share no code with the package.
"""

from __future__ import annotations

import json

from proxy.errors import ProxyError
from proxy.events import (
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Usage
from tests.support.readers import ConformantReader

REASONS = {"stop": "stop", "length": "length", "tool-calls": "tool_calls", "content-filter": "content_filter"}


class _Reader:
    """Frames to JSON; nothing may follow the end."""

    def __init__(self):
        self.frames = ConformantReader()
        self.events = []
        self.types = []
        self.ended = False

    def feed(self, chunk):
        for name, data in self.frames.feed(chunk):
            assert name == "message", "only unnamed events"
            assert not self.ended, f"after the end: {data}"
            self.message(data)

    def read(self, data, size=0):
        """All of a stream, in pieces of `size` bytes."""
        for at in range(0, len(data), size or len(data) or 1):
            self.feed(data[at : at + (size or len(data))])
        return self

    def message(self, data):
        chunk = json.loads(data)
        assert None not in chunk.values(), chunk
        self.types.append(chunk["type"])
        self.chunk(chunk["type"], chunk)

    @property
    def unfinished(self):
        return self.frames.rest or self.frames.data


class UiMessageReader(_Reader):
    def __init__(self):
        super().__init__()
        self.active = {}
        self.calls = {}
        self.finished = False

    def message(self, data):
        if data == "[DONE]":
            self.ended = True
            assert self.finished
            return
        super().message(data)

    def chunk(self, kind, chunk):
        part = chunk.get("id")
        match kind.rpartition("-"):
            case ("text" | "reasoning", _, "start"):
                assert part not in self.active
                self.active[part] = kind[: -len("-start")]
                return
            case ("text" | "reasoning" as name, _, "delta"):
                assert self.active[part] == name
                self.events.append((TextDelta if name == "text" else ReasoningDelta)(chunk["delta"]))
                return
            case ("text" | "reasoning" as name, _, "end"):
                assert self.active.pop(part) == name
                if "providerMetadata" in chunk:
                    assert name == "reasoning"
                    self.events.append(ReasoningSignature(chunk["providerMetadata"]["chatProxy"]["signature"]))
                return
        match kind:
            case "start":
                assert len(self.types) == 1
                self.events.append(Start("", ""))
            case "start-step":
                assert self.types == ["start", "start-step"]
            case "tool-input-start":
                self.calls[chunk["toolCallId"]] = (len(self.calls), [chunk["toolName"], ""])
                self.events.append(ToolCallStart(len(self.calls) - 1, chunk["toolCallId"], chunk["toolName"]))
            case "tool-input-delta":
                index, call = self.calls[chunk["toolCallId"]]
                call[1] += chunk["inputTextDelta"]
                self.events.append(ToolCallDelta(index, chunk["inputTextDelta"]))
            case "tool-input-available" | "tool-input-error":
                _, (name, arguments) = self.calls.pop(chunk["toolCallId"])
                assert chunk["toolName"] == name
                if kind == "tool-input-error":
                    assert chunk["input"] == arguments
                    assert chunk["errorText"]
                else:
                    assert chunk["input"] == json.loads(arguments or "{}")
            case "source-url":
                self.events.append(Source(chunk["url"], chunk.get("title", "")))
                assert chunk["sourceId"]
            case "file":
                self.events.append(Media(chunk["mediaType"], chunk["url"]))
            case "data-notice":
                assert chunk["transient"] is True
                self.events.append(Notice(**chunk["data"]))
            case "finish-step":
                assert not self.active, "parts are still open"
                assert not self.calls, "calls are still open"
            case "finish":
                assert self.types[-2] == "finish-step"
                self.finished = True
                counts = chunk.get("messageMetadata", {}).get("usage")
                self.events.append(Finish(REASONS[chunk["finishReason"]], _usage(counts)))
            case "error":
                assert not self.active, "parts are still open"
                self.events.append(Fault(ProxyError(chunk["errorText"])))
                self.ended = True
            case _:
                raise AssertionError(f"version 6 fails at {kind!r}")


class RunReader(_Reader):
    def __init__(self, version=None):
        super().__init__()
        self.version = version
        self.text = self.span = self.reasoning = None
        self.calls = {}
        self.open_calls = []
        self.run = None
        self.messages = None  # of a snapshot

    def chunk(self, kind, chunk):
        assert self.run or kind in ("RUN_STARTED", "RUN_ERROR"), "the first event starts the run"
        assert chunk.get("delta") != "", "0.0.x refuses empty deltas"
        match kind:
            case "RUN_STARTED":
                assert self.run is None
                self.run = (chunk["threadId"], chunk["runId"])
                self.events.append(Start("", ""))
            case "TEXT_MESSAGE_START":
                assert self.text is None
                assert chunk["role"] == "assistant"
                self.text = chunk["messageId"]
            case "TEXT_MESSAGE_CONTENT":
                assert self.text == chunk["messageId"]
                self.events.append(TextDelta(chunk["delta"]))
            case "TEXT_MESSAGE_END":
                assert self.text == chunk["messageId"]
                self.text = None
            case _ if kind.startswith("REASONING_"):
                assert self.version in ("1.0", "0.0.59")
                self.reasoning_event(kind.removeprefix("REASONING_"), chunk)
            case _ if kind.startswith("THINKING_"):
                assert self.version == "0.0.40"
                kind = kind.removeprefix("THINKING_").replace("TEXT_MESSAGE", "MESSAGE")
                self.reasoning_event(kind, {**chunk, "messageId": "?", "role": "reasoning"})
            case "TOOL_CALL_START":
                assert self.text is None
                assert chunk["parentMessageId"]
                self.calls[chunk["toolCallId"]] = len(self.calls)
                self.open_calls.append(chunk["toolCallId"])
                self.events.append(ToolCallStart(len(self.calls) - 1, chunk["toolCallId"], chunk["toolCallName"]))
            case "TOOL_CALL_ARGS":
                assert chunk["toolCallId"] in self.open_calls
                self.events.append(ToolCallDelta(self.calls[chunk["toolCallId"]], chunk["delta"]))
            case "TOOL_CALL_END":
                self.open_calls.remove(chunk["toolCallId"])
            case "CUSTOM":
                self.custom(chunk["name"], chunk["value"])
            case "RUN_FINISHED":
                assert self.text is None
                assert self.span is None
                assert self.reasoning is None
                assert not self.open_calls
                assert (chunk["threadId"], chunk["runId"]) == self.run
                assert self.version == "1.0" or chunk.keys() == {"type", "threadId", "runId"}
                reason = chunk.get("metadata", {}).get("finishReason", "stop")
                self.events.append(Finish(reason, _usage((chunk.get("usage") or [None])[0])))
                self.ended = True
            case "MESSAGES_SNAPSHOT":  # the reducer replaces its messages, calls and all
                assert self.text is None
                assert self.span is None
                self.messages = chunk["messages"]
            case "RUN_ERROR":
                assert self.text is None
                self.events.append(Fault(ProxyError(chunk["message"], code=chunk["code"])))
                self.ended = True
            case _:
                raise AssertionError(f"no client knows {kind!r}")

    def reasoning_event(self, kind, chunk):
        match kind:
            case "START":
                assert self.span is None
                assert self.text is None
                self.span = chunk["messageId"]
            case "MESSAGE_START":
                assert self.span is not None
                assert self.reasoning is None
                assert chunk["role"] == "reasoning"
                self.reasoning = chunk["messageId"]
            case "MESSAGE_CONTENT":
                assert self.reasoning == chunk["messageId"]
                self.events.append(ReasoningDelta(chunk["delta"]))
            case "MESSAGE_END":
                assert self.reasoning == chunk["messageId"]
                self.reasoning = None
            case "ENCRYPTED_VALUE":
                assert (chunk["subtype"], chunk["entityId"]) == ("message", self.span)
                self.events.append(ReasoningSignature(chunk["encryptedValue"]))
            case "END":
                assert self.span == chunk["messageId"]
                assert self.reasoning is None
                self.span = None
            case _:
                raise AssertionError(f"no client knows {kind!r}")

    def custom(self, name, value):
        match name:
            case "source":
                self.events.append(Source(**value))
            case "file":
                self.events.append(Media(value["mediaType"], value["url"]))
            case "notice":
                self.events.append(Notice(**value))
            case _:
                raise AssertionError(name)


def _usage(counts):
    if counts is None:
        return None
    assert counts["totalTokens"] == counts["inputTokens"] + counts["outputTokens"]
    return Usage(
        counts["inputTokens"],
        counts["outputTokens"],
        counts.get("cachedInputTokens", 0),
        counts.get("reasoningTokens", 0),
    )
