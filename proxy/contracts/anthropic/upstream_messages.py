"""Messages of other dialects in Anthropic's form: a system prompt, and user and assistant in turns.

What Anthropic would refuse and nobody would miss is left out: empty texts, and the white space an unfinished
answer ends in. What would be missed is refused here, so that another target can be tried.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, assert_never

from proxy.contracts.anthropic.writer import arguments_object
from proxy.errors import BadRequest, Unsupported
from proxy.request import Audio, File, Image, Message, Other, Part, Text

_Block = dict[str, Any]

_NO_ID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


def encode_messages(messages: Sequence[Message]) -> tuple[str, list[dict[str, Any]]]:
    """The system prompt, and the turns. Raises `Unsupported` for content that Messages has no block for."""
    system: list[str] = []
    turns: list[tuple[str, list[_Block]]] = []
    for message in messages:
        if message.role in {"system", "developer"}:
            system.append(message.text)
            continue
        role, blocks = ("assistant", _said(message)) if message.role == "assistant" else ("user", _asked(message))
        if not blocks:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if not turns:
        raise Unsupported("this target needs a message that is not empty, besides the system prompt")
    if turns[-1][0] == "assistant":
        _trim(turns[-1][1])
    return (
        "\n\n".join(text for text in system if text),
        [{"role": role, "content": _content(blocks)} for role, blocks in turns],
    )


def _said(message: Message) -> list[_Block]:
    """An earlier answer: its thoughts only if they are sealed, others are refused."""
    blocks: list[_Block] = []
    if message.reasoning_signature:
        seal = message.reasoning_signature
        blocks.append({"type": "thinking", "thinking": message.reasoning or "", "signature": seal})
    blocks += _blocks(message.parts)
    blocks += [
        {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": arguments_object(call.arguments)}
        for call in message.tool_calls
    ]
    return blocks


def _asked(message: Message) -> list[_Block]:
    blocks = _blocks(message.parts)
    if message.role != "tool":
        return blocks
    result: _Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id or "")}
    if blocks:
        result["content"] = _content(blocks)
    if message.failed:
        result["is_error"] = True
    return [result]


def _blocks(parts: Sequence[Part]) -> list[_Block]:
    return [_part(part) for part in parts if not (isinstance(part, Text) and not part.text.strip())]


def _content(blocks: list[_Block]) -> str | list[_Block]:
    """A string where there is only text in one piece, as people read it in a log."""
    match blocks:
        case [{"type": "text", "text": str(text)}]:
            return text
        case _:
            return blocks


def _part(part: Part) -> _Block:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url):
            return {"type": "image", "source": _image_source(url)}
        case File():
            return _file(part)
        case Audio():
            raise Unsupported("this target takes no audio")
        case Other(kind):
            raise Unsupported(f"this target takes no content part of type {kind!r}")
        case _:
            assert_never(part)


def _image_source(url: str) -> _Block:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, _, coding = head.partition(";")
    if coding.rpartition(";")[2] != "base64":
        raise Unsupported("this target takes images as base64 or by address")
    return {"type": "base64", "media_type": media_type, "data": data}


def _file(file: File) -> _Block:
    """A document; images that came as files are images."""
    kind = (file.media_type or "application/pdf").partition(";")[0].strip().lower()
    if file.data is not None and kind.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": file.data}}
    source: _Block
    if file.id is not None:
        source = {"type": "file", "file_id": file.id}
    elif file.url is not None:
        source = {"type": "url", "url": file.url}
    elif kind == "application/pdf":
        source = {"type": "base64", "media_type": kind, "data": file.data or ""}
    elif kind.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _plain_text(file.data or "")}
    else:
        raise Unsupported(f"this target takes PDF and text files, not {kind[:64]}")
    return {"type": "document", "source": source} | ({"title": file.name} if file.name else {})


def _plain_text(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("a text file among the messages is not UTF-8 in base64") from error


def _trim(blocks: list[_Block]) -> None:
    """The answer that the model is to go on with may not end in white space."""
    last = blocks[-1]
    if last["type"] == "text":
        blocks[-1] = last | {"text": last["text"].rstrip()}


def _id(id_: str) -> str:
    """A call's id in the characters Anthropic takes; other makers also write `.` and `:`."""
    return _NO_ID_CHARACTER.sub("_", id_)
