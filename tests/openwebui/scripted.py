"""A model that answers by what it is asked last."""

from __future__ import annotations

from typing import Any

from proxy.testing.script import Fin, Send, Stall, event, json_reply, openai_chunk, openai_stream, sse_head
from proxy.testing.upstream import Seen

WORDS = ["A whole answer", " ends in", " its last", " word."]
TOOL = "what_time_is_it"


def answer(seen: Seen) -> list[Any]:
    body = seen.json()
    if seen.path.endswith("/embeddings"):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": at, "embedding": [1.0, 0.5, 0.25]} for at in range(len(texts))]
        return json_reply(200, {"object": "list", "data": data, "model": "embed"})
    last = body["messages"][-1]
    said = last["content"]
    if last["role"] == "tool":
        return [*openai_stream(["The tool says ", said])]
    if said == "stop":
        return [*openai_stream(["Begun", " and never ended"])[:3], Stall()]
    if said == "cut":
        return [*openai_stream(["Half", " an answer"])[:4], Fin()]
    if said in {"time", "failed time"}:
        return _call_of_a_tool(fails=said != "time")
    return [*openai_stream(WORDS)]


def _call_of_a_tool(*, fails: bool) -> list[Any]:
    """A whole call, and then the answer's end, or an error."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": "{}"}}
    begun, ended = openai_chunk(None), openai_chunk(None)
    begun["choices"] = [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": None}]
    ended["choices"] = [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    rest = [event({"error": {"message": "out of memory"}})] if fails else [event(ended), event("[DONE]")]
    return [Send(sse_head()), event(begun), *rest, Fin()]
