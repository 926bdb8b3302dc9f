"""Parts of messages, written for upstreams that speak OpenAI Chat Completions, each in its own form."""

from collections.abc import Callable, Mapping
from typing import Any, assert_never

from proxy.errors import Unsupported
from proxy.request import Audio, File, Image, Other, Part, Text
from proxy.wire.vocabulary import PartForms

PartObject = dict[str, Any]
PartWriter = Callable[[Part], PartObject]

_DOCUMENT = {"text/plain": "document.txt", "text/markdown": "document.md", "text/csv": "document.csv"}


def _of_openai(part: Part) -> PartObject:
    fields = _unmarked(part)
    return fields | {"cache_control": mark} if (mark := getattr(part, "cache", None)) else fields


def _unmarked(part: Part) -> PartObject:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url, detail):
            return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
        case Audio(data, format_):
            return {"type": "input_audio", "input_audio": {"data": data, "format": format_}}
        case File():
            return {"type": "file", "file": _file(part)}
        case Other(kind, at):
            where = f"{at}: " if at else ""
            raise Unsupported(f"{where}this target takes no content part of type {kind!r}", param=at or None)
        case _:
            assert_never(part)


def _file(file: File) -> PartObject:
    fields: dict[str, Any] = {"filename": file.name} if file.name else {}
    if file.id is not None:
        return fields | {"file_id": file.id}
    if file.data is not None:
        data = f"data:{file.media_type};base64,{file.data}" if file.media_type else file.data
        # OpenAI refuses a file without a name, and tells by its ending what is in it.
        return {"filename": _name_of(file), **fields, "file_data": data}
    raise Unsupported("this target takes files as data or by id, not by address")


def _name_of(file: File) -> str:
    kind = (file.media_type or "application/pdf").partition(";")[0]
    return _DOCUMENT.get(kind, f"document.{kind.rpartition('/')[2]}")


def _of_mistral(part: Part) -> PartObject:
    """docs.mistral.ai: Document QnA has `document_url`, an address or a `data:` URL; Audio has sounds as base64 alone."""
    match part:
        case File(data=data, url=url, id=None):
            address = url or f"data:{part.media_type or 'application/pdf'};base64,{data}"
            return {"type": "document_url", "document_url": address} | (
                {"document_name": part.name} if part.name else {}
            )
        case Audio(data):
            return {"type": "input_audio", "input_audio": data}
        case _:
            return _of_openai(part)


PART_WRITERS: Mapping[PartForms, PartWriter] = {"": _of_openai, "mistral": _of_mistral}
