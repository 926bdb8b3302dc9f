"""How the clients of each contract ask, and what they read in frames. Shares no code with the package."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

End = Literal["", "done", "error"]
Read = Callable[[str, Any], tuple[str, End]]
"""From an event's name and data: its text, and the end that it is."""


class Contract(msgspec.Struct, frozen=True):
    name: str
    path: str
    body: Callable[[str, int], dict[str, Any]]
    read: Read
    separator: bytes = b"\n\n"
    numbered: bool = True  # frames that are resumed have `id` lines


class Heard(msgspec.Struct):
    """What the frames of an answer say. `ends` has every end mark, so that a second one is seen."""

    text: str = ""
    ends: list[End] = []
    after_end: bool = False


def heard(contract: Contract, frames: Sequence[bytes]) -> Heard:
    """Read all frames of an answer."""
    found = Heard()
    for frame in frames:
        name, data = _parsed(contract, frame)
        text, end = contract.read(name, data)
        found.after_end = found.after_end or bool(found.ends and text)
        found.text += text
        if end and not (end == "error" == (found.ends or [""])[-1]):  # some tell an error in two forms
            found.ends.append(end)
    return found


def _parsed(contract: Contract, frame: bytes) -> tuple[str, Any]:
    if contract.separator != b"\n\n":
        return "", json.loads(frame) if contract.separator else frame.decode()
    fields = [line.partition(b":")[::2] for line in frame.split(b"\n")]
    name = b"".join(value.strip() for field, value in fields if field == b"event").decode()
    data = b"\n".join(value for field, value in fields if field == b"data").decode()
    return name, json.loads(data) if data.lstrip().startswith("{") else data


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _chat(name: str, data: Any) -> tuple[str, End]:
    if name in {"done", "error"}:
        return "", name  # type: ignore[return-value]
    return (data["token"] if isinstance(data, dict) and "token" in data else "" if name else str(data)), ""


def _openai(_: str, data: Any) -> tuple[str, End]:
    if data.__class__ is str:
        return "", "done" if data.strip() == "[DONE]" else ""
    if "error" in data:
        return "", "error"
    return "".join(choice["delta"].get("content") or "" for choice in data["choices"]), ""


def _responses(name: str, data: Any) -> tuple[str, End]:
    ends: dict[str, End] = {"response.completed": "done", "response.failed": "error", "error": "error"}
    return data.get("delta", "") if name == "response.output_text.delta" else "", ends.get(name, "")


def _anthropic(name: str, data: Any) -> tuple[str, End]:
    ends: dict[str, End] = {"message_stop": "done", "error": "error"}
    return data.get("delta", {}).get("text", "") if name == "content_block_delta" else "", ends.get(name, "")


def _ollama(_: str, data: Any) -> tuple[str, End]:
    if "error" in data:
        return "", "error"
    return data["message"]["content"], "done" if data["done"] else ""


def _ag_ui(_: str, data: Any) -> tuple[str, End]:
    ends: dict[str, End] = {"RUN_FINISHED": "done", "RUN_ERROR": "error"}
    return data["delta"] if data["type"] == "TEXT_MESSAGE_CONTENT" else "", ends.get(data["type"], "")


def _ai_sdk(_: str, data: Any) -> tuple[str, End]:
    if isinstance(data, str):
        return "", ""
    ends: dict[str, End] = {"finish": "done", "error": "error", "abort": "error"}
    return data["delta"] if data["type"] == "text-delta" else "", ends.get(data["type"], "")


def _own(_: str, data: Any) -> tuple[str, End]:
    return data.get("text", ""), data["type"] if data["type"] in {"done", "error"} else ""


def _bare(_: str, data: Any) -> tuple[str, End]:
    return data, ""


def _chat_body(question: str, _: int) -> dict[str, Any]:
    return {"messages": _messages(question)}


def _openai_body(question: str, _: int) -> dict[str, Any]:
    return {"model": "m", "stream": True, "max_tokens": 500, "messages": _messages(question)}


def _parts(question: str, number: int) -> dict[str, Any]:
    message = {"id": "1", "role": "user", "parts": [{"type": "text", "text": question}]}
    return {"id": f"chat-{number}", "trigger": "submit-message", "messages": [message]}


def _run(question: str, number: int) -> dict[str, Any]:
    return {"threadId": f"t-{number}", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {},
            "messages": [{"id": "1", "role": "user", "content": question}]}  # fmt: skip


def _input(question: str, _: int) -> dict[str, Any]:
    return {"model": "m", "input": question, "stream": True}


CONTRACTS = [
    Contract("chat, json", "/chat?dialect=json", _chat_body, _chat),
    Contract("chat, sse", "/chat?dialect=sse", _chat_body, _chat),
    Contract("openai", "/v1/chat/completions", _openai_body, _openai),
    Contract("responses", "/v1/responses", _input, _responses),
    Contract("anthropic", "/v1/messages", _openai_body, _anthropic),
    Contract("ollama", "/ollama/api/chat", _openai_body, _ollama, b"\n"),
    Contract("ag-ui", "/agui", _run, _ag_ui),
    Contract("ai-sdk", "/api/chat", _parts, _ai_sdk),
    Contract("declared", "/own", _chat_body, _own),
    Contract("ai-text", "/api/chat?contract=ai-text", _parts, _bare, b""),
]


def split(contract: Contract, data: bytes) -> tuple[list[bytes], bytes]:
    """Whole frames without comments, and what is left. Bare text is a frame for each byte."""
    if not contract.separator:
        return [bytes([byte]) for byte in data], b""
    *frames, rest = data.split(contract.separator)
    return [frame for frame in frames if frame and not frame.startswith(b":")], rest


def number_of(frame: bytes) -> int | None:
    """The `id` of a frame."""
    found = re.match(rb"id: (\d+)\n", frame)
    return None if found is None else int(found[1])
