"""Vendors as upstreams: each refuses what its grammar refuses, and else answers turn by turn, with calls of tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.testing.script import LAST_CHUNK, Send, Step, event, json_reply, openai_chunk, sse_head
from proxy.testing.upstream import Seen
from proxy.testing.wires import AnthropicWire
from tests.support.grammars import CHECKS


class Turn(msgspec.Struct, frozen=True):
    """What a model says in one answer: text, and calls as names and arguments."""

    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


class Vendor(msgspec.Struct, frozen=True):
    """A vendor: the row of its backend without an address, a model, and its grammar."""

    row: dict[str, str]
    model: str
    grammar: str

    def config(self, url: str, origin: str) -> str:
        """A configuration in which it answers everything, at `url`, or at `origin` where no path is wanted."""
        address = origin if self.row["kind"] == "anthropic" else url
        row = self.row | {"api_key": "sk-none", "base_url": address}
        routes = [{"name": "all", "to": f"far/{self.model}"}]
        return json.dumps({"server": {"breaker": {"failures": 0}}, "backends": {"far": row}, "routes": routes})

    def refusal(self, body: dict[str, Any]) -> list[Step] | None:
        """The answer 400 to what it does not take."""
        wrong = CHECKS[self.grammar](body)
        return (
            json_reply(400, {"error": {"message": "; ".join(wrong), "type": "invalid_request_error"}})
            if wrong
            else None
        )

    def says(self, turn: Turn) -> list[Step]:
        """An answer as a stream of its own."""
        return _messages(turn) if self.grammar == "anthropic" else self._chat(turn)

    def _chat(self, turn: Turn) -> list[Step]:
        deltas: list[dict[str, Any]] = [{"reasoning_content": "I must look."}] if self.grammar == "deepseek" else []
        deltas.append({"content": turn.text})
        for index, (name, arguments) in enumerate(turn.calls):
            # The same ids in every answer: some servers count anew.
            function = {"name": name, "arguments": json.dumps(arguments)}
            deltas.append(
                {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": function}]}
            )
        finish = "tool_calls" if turn.calls else "stop"
        frames = [*map(openai_chunk, deltas), openai_chunk({}, finish=finish)]
        return [Send(sse_head()), *[Send(event(one)) for one in frames], Send(event("[DONE]")), Send(LAST_CHUNK)]


def _messages(turn: Turn) -> list[Step]:
    wire = AnthropicWire()
    steps = wire.begun([turn.text])
    for index, (name, arguments) in enumerate(turn.calls, 1):
        block = {"type": "tool_use", "id": f"call_{index}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        steps += [
            wire.event("content_block_stop", index=index - 1),
            wire.event("content_block_start", index=index, content_block=block),
            wire.event("content_block_delta", index=index, delta=delta),
        ]
    stop, delta, *rest = wire.end("tool_use" if turn.calls else "end_turn")
    return [*steps, wire.event("content_block_stop", index=len(turn.calls)), delta, *rest] if stop else []


VENDORS = {
    "Mistral": Vendor({"kind": "openai-compatible", "preset": "mistral"}, "mistral-large-latest", "mistral"),
    "DeepSeek": Vendor({"kind": "openai-compatible", "preset": "deepseek"}, "deepseek-v4-pro", "deepseek"),
    "Gemini": Vendor({"kind": "openai-compatible", "preset": "gemini"}, "gemini-3-pro-preview", "gemini"),
    "Anthropic": Vendor({"kind": "anthropic"}, "claude-sonnet-4-5", "anthropic"),
}


class Conversation:
    """A vendor that goes through `turns`, one for each request with tools that it takes."""

    def __init__(self, vendor: Vendor, turns: Sequence[Turn]) -> None:
        self._vendor, self._turns = vendor, iter(turns)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, seen: Seen) -> list[Step]:
        body = seen.json()
        self.bodies.append(body)
        if refused := self._vendor.refusal(body):
            return refused
        return self._vendor.says(next(self._turns) if body.get("tools") else Turn("A title"))
