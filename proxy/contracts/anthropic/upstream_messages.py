"""Messages of other dialects in Anthropic's form: a system prompt, then user and assistant in turns.

Anthropic refuses empty texts and an unfinished answer that ends in white space; both are left out. Content that it
has no block for is refused here, so that another target can be tried.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from proxy.errors import BadRequest, Unsupported
from proxy.request import Audio, File, Image, Message, Other, Part, Text
from proxy.wire.json_text import object_text

_BlockObject = dict[str, Any]


def encode_messages(messages: Sequence[Message]) -> tuple[str | list[_BlockObject], list[dict[str, Any]]]:
    """The system prompt, in blocks where it has marks, and the turns. Raises `Unsupported` for content that Messages has no block for."""
    system: list[_BlockObject] = []
    turns: list[tuple[str, list[_BlockObject]]] = []
    for message in messages:
        if message.role in {"system", "developer"}:
            if not turns:
                system += _blocks(message.parts)
                continue
            role, blocks = "system", _blocks(message.parts)
        elif message.role == "assistant":
            role, blocks = "assistant", _answer(message)
        else:
            role, blocks = "user", _input(message)
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
        system if any("cache_control" in block for block in system) else "\n\n".join(one["text"] for one in system),
        [{"role": role, "content": _content(blocks)} for role, blocks in turns],
    )


def _answer(message: Message) -> list[_BlockObject]:
    """An earlier answer. Anthropic refuses reasoning without a signature, so that is left out."""
    blocks: list[_BlockObject] = []
    if message.reasoning_signature:
        signature = message.reasoning_signature
        blocks.append({"type": "thinking", "thinking": message.reasoning or "", "signature": signature})
    blocks += _blocks(message.parts)
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _object(call.arguments)}
        for call in message.tool_calls
    ]
    return blocks


def _input(message: Message) -> list[_BlockObject]:
    blocks = _blocks(message.parts)
    if message.role != "tool":
        return blocks
    result: _BlockObject = {"type": "tool_result", "tool_use_id": message.tool_call_id or ""}
    if blocks:
        result["content"] = _content(blocks)
    if message.failed:
        result["is_error"] = True
    return [result]


def _blocks(parts: Sequence[Part]) -> list[_BlockObject]:
    return [_part(part) for part in parts if not (isinstance(part, Text) and not part.text.strip())]


def _content(blocks: list[_BlockObject]) -> str | list[_BlockObject]:
    """A string if the content is one text, which is easier to read in a log; else the blocks."""
    match blocks:
        case [{"type": "text", "text": str(text), **more}] if not more:
            return text
        case _:
            return blocks


def _part(part: Part) -> _BlockObject:
    block = _unmarked(part)
    return block | {"cache_control": mark} if (mark := getattr(part, "cache", None)) else block


def _unmarked(part: Part) -> _BlockObject:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url):
            return {"type": "image", "source": _image_source(url)}
        case File():
            return _file(part)
        case Audio():
            raise Unsupported("this target takes no audio")
        case Other(kind, at):
            where = f"{at}: " if at else ""
            raise Unsupported(f"{where}this target takes no content part of type {kind!r}", param=at or None)
        case _:
            assert_never(part)


def _image_source(url: str) -> _BlockObject:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, _, coding = head.partition(";")
    if coding.rpartition(";")[2] != "base64":
        raise Unsupported("this target takes images as base64 or by address")
    return {"type": "base64", "media_type": media_type, "data": data}


def _file(file: File) -> _BlockObject:
    """A document. An image that came as a file becomes an image block."""
    kind = (file.media_type or "application/pdf").partition(";")[0].strip().lower()
    if not kind.startswith(("image/", "text/")) and kind != "application/pdf":
        raise Unsupported(f"this target takes PDF and text files, not {kind[:64]}")
    if file.data is not None and kind.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": file.data}}
    source: _BlockObject
    if file.id is not None:
        source = {"type": "file", "file_id": file.id}
    elif file.url is not None:
        source = {"type": "url", "url": file.url}
    elif kind == "application/pdf":
        source = {"type": "base64", "media_type": kind, "data": file.data or ""}
    else:
        source = {"type": "text", "media_type": "text/plain", "data": _plain_text(file.data or "")}
    return {"type": "document", "source": source} | ({"title": file.name} if file.name else {})


def _plain_text(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("a text file among the messages is not UTF-8 in base64") from error


def _trim(blocks: list[_BlockObject]) -> None:
    """Cut the white space at the end of an answer that the model is to continue."""
    last = blocks[-1]
    if last["type"] == "text":
        blocks[-1] = last | {"text": last["text"].rstrip()}


def _object(arguments: str) -> dict[str, Any]:
    """A call's arguments as a JSON object. Anything else is kept as the value of `arguments` in an object."""
    value: dict[str, Any] = msgspec.json.decode(object_text(arguments))
    return value
