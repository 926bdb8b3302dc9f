"""What the upstream of the clients' tests does, by the first word of the question: answer, and fail in many ways.

A question is `"cut 17"`: the scenario, and a number that no other question has, to find its request by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Send,
    Sleep,
    Stall,
    Step,
    Steps,
    chunked,
    event,
    head,
    json_reply,
    openai_chunk,
    sse_head,
)
from proxy.testing.upstream import Seen

HARD = [
    *(
        "Two",
        "\n\n",
        "  lines,",
        " 😀",
        " 👩‍👩‍👧‍👦",
        " e\u0301",
        "\n",
        "[DONE]",
        "\n",
        "data: x",
        "\n\n",
        "event: done",
    ),
    *("\n\n", "```\n    code\n```\n", '{"error":', ' "no"}', "</script>", "\u2028", "x" * 100_000, " The", " end."),
]
"""Tokens that break framings, among them a very long one."""

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}

PIECES = [
    {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"in'}},
    {"index": 0, "function": {"arguments": '":"Ulm 😀"}'}},
    {"index": 1, "id": "call_b", "type": "function", "function": {"name": "time", "arguments": '{"zo'}},
    {"index": 1, "function": {"arguments": 'ne":1}'}},
]
IN_TURNS = [PIECES[at] for at in (0, 3, 1, 4, 2)]
ONE_CALL = [
    {"index": 0, "id": "call_w", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city": "Ulm'}},
    {"index": 0, "function": {"arguments": ' 😀"}'}},
]
TURNED = ["It", " rains."]
"""What is said to the result of the one call."""

CALLS = [("call_a", "weather", {"in": "Ulm 😀"}), ("call_b", "time", {"zone": 1})]

MIDWAY = ["One", " two"]
"""What has been said when an answer breaks off."""

BUSY = "the model is too busy to go on"
REFUSALS = {400: "that is no question", 429: "slow down, please", 503: "closed for today"}


def answer(seen: Seen) -> Steps:
    """Play the scenario that the question asks for, streamed or whole as the request says."""
    body = seen.json()
    name = question(body).split()[0]
    if name == "turns" and body["messages"][-1]["role"] == "tool":
        name = "turned"
    if name.startswith("refused-"):
        status = int(name.removeprefix("refused-"))
        return json_reply(status, {"error": {"message": REFUSALS[status]}})
    return (STREAMED if body.get("stream") else WHOLE)[name]()


def question(body: dict[str, Any]) -> str:
    """The text of the last user message in a Chat Completions request."""
    content = [message for message in body["messages"] if message["role"] == "user"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


# -- in a stream


def chunks(*deltas: dict[str, Any], finish: str | None = "stop", gap_s: float = 0.0) -> list[Step]:
    steps: list[Step] = [Send(sse_head()), Send(event(openai_chunk({"role": "assistant", "content": ""})))]
    for delta in deltas:
        if gap_s:
            steps.append(Sleep(gap_s))
        steps.append(Send(event(openai_chunk(delta))))
    if finish is not None:
        steps += [Send(event(openai_chunk({}, finish=finish))), Send(event(openai_chunk(None, usage=USAGE)))]
        steps += [Send(event("[DONE]")), Send(LAST_CHUNK)]
    return steps


def said(*tokens: str) -> Iterator[dict[str, Any]]:
    return ({"content": token} for token in tokens)


def midway() -> list[Step]:
    """So far so good; a pause, so that what has been said is read before it fails."""
    return [*chunks(*said(*MIDWAY), finish=None), Sleep(0.05)]


REASONED = [{"reasoning_content": "Hm,"}, {"reasoning_content": " well.\n"}, *said("So", " be it.")]

STREAMED: dict[str, Callable[[], Steps]] = {
    "text": lambda: chunks(*said(*HARD)),
    "length": lambda: chunks(*said("Too", " long"), finish="length"),
    "tools": lambda: chunks(*({"tool_calls": [piece]} for piece in PIECES), finish="tool_calls"),
    "tools-in-turns": lambda: chunks(*({"tool_calls": [piece]} for piece in IN_TURNS), finish="tool_calls"),
    "reasoning": lambda: chunks(*REASONED),
    "turns": lambda: chunks(*({"tool_calls": [piece]} for piece in ONE_CALL), finish="tool_calls"),
    "turned": lambda: chunks(*said(*TURNED)),
    "turns-failed": lambda: [
        *chunks(*said(*MIDWAY), *({"tool_calls": [piece]} for piece in ONE_CALL), finish=None),
        Sleep(0.05),
        Fin(),
    ],
    "turns-cut": lambda: [
        *chunks(*({"tool_calls": [piece]} for piece in ONE_CALL[:2]), finish=None),
        Sleep(0.05),
        Fin(),
    ],
    "slow": lambda: chunks(*said("a", " \n", "b"), gap_s=0.2),
    "picture": lambda: chunks(*said("A picture.")),
    "leave": lambda: [*chunks(*said("One"), finish=None), Stall()],
    "called": lambda: [
        *chunks(*said(*MIDWAY), *({"tool_calls": [piece]} for piece in PIECES), finish=None),
        Sleep(0.05),
        Fin(),
    ],
    "cut": lambda: [*midway(), Send(b"1f\r\ndata: {"), Fin()],
    "unfinished": lambda: [*midway(), Send(LAST_CHUNK)],
    "stalled": lambda: [*midway(), Stall()],
    "malformed": lambda: [*midway(), Send(chunked(b'data: {"choices": [{"delta"\n\n')), Stall()],
    "failed": lambda: [*midway(), event({"error": {"message": BUSY, "type": "server_error"}}), LAST_CHUNK],
}


# -- in one piece


def whole(message: dict[str, Any], finish: str = "stop") -> bytes:
    said = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": None}
    completion = {**openai_chunk(None), "object": "chat.completion", "choices": [choice], "usage": USAGE}
    return json.dumps(completion).encode()


def cut_whole() -> list[Step]:
    body = whole({"content": "".join(MIDWAY)})
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    return [Send(head(200, fields) + body[:-40])]


_CALLS = [
    {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}
    for id_, name, arguments in CALLS
]

_WEATHER = {"name": "weather", "arguments": '{"city": "Ulm 😀"}'}
_ONE_CALL = [{"id": "call_w", "type": "function", "function": _WEATHER}]

WHOLE: dict[str, Callable[[], Steps]] = {
    "text": lambda: json_reply(200, whole({"content": "".join(HARD)})),
    "length": lambda: json_reply(200, whole({"content": "Too long"}, "length")),
    "tools": lambda: json_reply(200, whole({"tool_calls": _CALLS}, "tool_calls")),
    "tools-in-turns": lambda: json_reply(200, whole({"tool_calls": _CALLS}, "tool_calls")),
    "turns": lambda: json_reply(200, whole({"tool_calls": _ONE_CALL}, "tool_calls")),
    "turned": lambda: json_reply(200, whole({"content": "".join(TURNED)})),
    "reasoning": lambda: json_reply(200, whole({"reasoning_content": "Hm, well.\n", "content": "So be it."})),
    "picture": lambda: json_reply(200, whole({"content": "A picture."})),
    "leave": lambda: [*cut_whole(), Stall()],
    "cut": lambda: [*cut_whole(), Fin()],
    "unfinished": lambda: json_reply(200, b""),
    "stalled": lambda: [*cut_whole(), Stall()],
    "malformed": lambda: json_reply(200, whole({"content": "".join(MIDWAY)})[:-40]),
    "failed": lambda: json_reply(200, {"error": {"message": BUSY, "type": "server_error"}}),
}
