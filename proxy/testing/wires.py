"""How upstreams of different vendors phrase the same answer, the same cut and the same error."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from proxy.testing.script import LAST_CHUNK, Send, Step, chunked, event, head, json_reply, openai_stream, sse_head

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Wire(Protocol):
    """One wire format of streamed answers, as scripts of a `ScriptedUpstream`."""

    def begun(self, tokens: Iterable[str]) -> list[Step]:
        """The answer up to and with these tokens, not its end."""

    def end(self, finish: str = "stop") -> list[Step]:
        """What follows `begun`: the finish reason, the usage of `USAGE`, the end of the body."""

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> list[Step]:
        """A refusal before the stream."""

    def error_inside(self, message: str) -> list[Step]:
        """An error that the upstream reports inside the stream."""

    def malformed(self) -> list[Step]:
        """Something inside the stream that is not an event of this wire."""

    def whole(self, text: str) -> list[Step]:
        """The answer to a request that does not ask for a stream."""


def answer(wire: Wire, tokens: Iterable[str]) -> list[Step]:
    """A complete streamed answer of these tokens."""
    return [*wire.begun(tokens), *wire.end()]


class OpenAIWire:
    """Chat Completions."""

    def begun(self, tokens: Iterable[str]) -> list[Step]:
        return openai_stream(tokens, finish=None, done=False)[:-1]

    def end(self, finish: str = "stop") -> list[Step]:
        return openai_stream((), finish=finish, usage=USAGE)[2:]

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> list[Step]:
        return json_reply(
            status, {"error": {"message": message, "type": "some_error", "param": None, "code": None}}, headers
        )

    def error_inside(self, message: str) -> list[Step]:
        return [Send(event({"error": {"message": message, "type": "server_error", "code": None}}))]

    def malformed(self) -> list[Step]:
        return [Send(event("{nonsense"))]

    def whole(self, text: str) -> list[Step]:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return json_reply(
            200,
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "scripted-1",
                "choices": [choice],
                "usage": USAGE,
            },
        )


class AnthropicWire:
    """Messages, always streamed."""

    def begun(self, tokens: Iterable[str]) -> list[Step]:
        return [
            *self.opened(),
            self.event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            self.event("ping"),
            *(
                self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
                for text in tokens
            ),
        ]

    def end(self, finish: str = "end_turn") -> list[Step]:
        return [
            self.event("content_block_stop", index=0),
            self.event(
                "message_delta",
                delta={"stop_reason": finish, "stop_sequence": None},
                usage={"output_tokens": USAGE["completion_tokens"]},
            ),
            self.event("message_stop"),
            Send(LAST_CHUNK),
        ]

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> list[Step]:
        return json_reply(status, {"type": "error", "error": {"type": "some_error", "message": message}}, headers)

    def error_inside(self, message: str) -> list[Step]:
        return [self.event("error", error={"type": "overloaded_error", "message": message})]

    def malformed(self) -> list[Step]:
        return [Send(event("{nonsense", "content_block_delta"))]

    def whole(self, text: str) -> list[Step]:
        return json_reply(200, self.message(content=[{"type": "text", "text": text}], stop_reason="end_turn"))

    @staticmethod
    def message(**fields: Any) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "scripted-1",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": USAGE["prompt_tokens"], "output_tokens": 1},
            **fields,
        }

    @staticmethod
    def opened() -> list[Step]:
        return [Send(sse_head()), AnthropicWire.event("message_start", message=AnthropicWire.message())]

    @staticmethod
    def event(name: str, **fields: Any) -> Step:
        return Send(event({"type": name, **fields}, name))


class OllamaWire:
    """`/api/chat`, always streamed."""

    def begun(self, tokens: Iterable[str]) -> list[Step]:
        stream_head = head(200, {"content-type": "application/x-ndjson", "transfer-encoding": "chunked"})
        return [Send(stream_head), *(self.line({"content": token}) for token in tokens)]

    def end(self, finish: str = "stop") -> list[Step]:
        counts = {"prompt_eval_count": USAGE["prompt_tokens"], "eval_count": USAGE["completion_tokens"]}
        return [self.line({"content": ""}, done=True, done_reason=finish, **counts), Send(LAST_CHUNK)]

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> list[Step]:
        return json_reply(status, {"error": message}, headers)

    def error_inside(self, message: str) -> list[Step]:
        return [Send(chunked(json.dumps({"error": message}).encode() + b"\n"))]

    def malformed(self) -> list[Step]:
        return [Send(chunked(b"{nonsense\n"))]

    def whole(self, text: str) -> list[Step]:
        return answer(self, [text])

    @staticmethod
    def line(message: Mapping[str, Any], *, done: bool = False, **fields: Any) -> Step:
        value = {
            "model": "scripted-1",
            "created_at": "2026-11-22T10:00:00.000000Z",
            "message": {"role": "assistant", **message},
            "done": done,
            **fields,
        }
        return Send(chunked(json.dumps(value).encode() + b"\n"))
