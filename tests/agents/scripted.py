"""The model behind the agents: it wants to read a file, gets it, and says what is in it. Or it breaks off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from proxy.testing.script import LAST_CHUNK, Fin, Send, Sleep, Step, event, json_reply, openai_chunk, sse_head
from proxy.testing.upstream import Seen

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
THOUGHT = "I should look."
HALF = "The file says: marm"
ANSWER = "The file says: marmalade."
NOT_GIVEN_BACK = "The `reasoning_content` in the thinking mode must be passed back to the API."
"""DeepSeek's words, and its status is 400."""

SHELLS: dict[str, dict[str, Any]] = {
    "exec_command": {"cmd": "cat note.txt"},
    "Bash": {"command": "cat note.txt", "description": "Read the note"},
    "bash": {"command": "cat note.txt", "description": "Read the note"},
}
"""What the agents call the tool that runs a command, and what it takes."""


def _stream(*deltas: dict[str, Any], finish: str) -> list[Step]:
    frames = [*map(openai_chunk, deltas), openai_chunk({}, finish=finish), openai_chunk(None, usage=USAGE)]
    return [Send(sse_head()), *[Send(event(one)) for one in frames], Send(event("[DONE]")), Send(LAST_CHUNK)]


def _turn(seen: Seen, *, thinks: bool) -> list[Step]:
    body = seen.json()
    names = {tool["function"]["name"] for tool in body.get("tools", ())}
    if not names:  # some agents have a title written, beside the question
        return _stream({"content": "A title"}, finish="stop")
    called = [message for message in body["messages"] if message.get("tool_calls")]
    if not called:
        name = next(name for name in SHELLS if name in names)
        function = {"name": name, "arguments": json.dumps(SHELLS[name])}
        call = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
        return _stream(*([{"reasoning_content": THOUGHT}] if thinks else []), call, finish="tool_calls")
    if thinks and called[-1].get("reasoning_content") != THOUGHT:
        return json_reply(400, {"error": {"message": NOT_GIVEN_BACK, "type": "invalid_request_error"}})
    assert "marmalade" in json.dumps(body["messages"][-1]), "the tool's result"
    return _stream({"content": ANSWER[:9]}, {"content": ANSWER[9:]}, finish="stop")


def tool_call(seen: Seen) -> list[Step]:
    """A call, and an answer to its result."""
    return _turn(seen, thinks=False)


def deepseek(seen: Seen) -> list[Step]:
    """The same, with reasoning that must come back on the message with the call."""
    return _turn(seen, thinks=True)


def cut(seen: Seen) -> list[Step]:
    """The connection is closed in the middle of a word."""
    if not seen.json().get("tools"):
        return _turn(seen, thinks=False)
    return [Send(sse_head()), Send(event(openai_chunk({"content": HALF}))), Sleep(0.1), Fin()]


Script = Callable[[Seen], list[Step]]
