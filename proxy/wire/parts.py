"""Parts of messages in the forms of every contract, as clients mix them. No I/O.

Programs that speak to several vendors put Anthropic's blocks into chats, parts of Responses into both, and what their
tools gave (MCP) or what their framework keeps (LangChain, the AI SDK) into either. Where the meaning of a part is plain it
is read, whatever contract the request came by. A type that is not known is kept as `Other`, with its place.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from proxy.errors import BadRequest
from proxy.request import Audio, File, Image, Other, Part, Text
from proxy.wire.attachments import inline, linked
from proxy.wire.json_body import cache_mark, get_array, get_string, missing, need_object, need_string, objects, wrong

Object = dict[str, Any]
Parts = tuple[Part, ...]

_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "summary_text": "text", "refusal": "refusal"}
"""Types of parts that are text, with the field that holds it. To the next model, an earlier refusal is text too."""
_DATA = ("data", "base64", "image")
_MEDIA_TYPES = ("media_type", "mediaType", "mime_type", "mimeType")
_NAMES = ("filename", "title", "name")


def read_content(content: Any, path: str, *, required: bool = True, mark: Mapping[str, Any] | None = None) -> Parts:
    """A message's content: a string, which `mark` belongs to, or a list of parts."""
    if type(content) is str:
        return (Text(content, mark),)
    if type(content) is list:
        return tuple([part for value, at in objects(content, path) for part in read_part(value, at)])
    if content is None and not required:
        return ()
    raise wrong(path, "a string or a list of parts", content)


def read_part(part: Object, path: str) -> Parts:
    """What one part says: one value, or two for a document with a context. Raises `BadRequest` naming what is wrong."""
    kind = need_string(part, "type", path)
    if name := _TEXTS.get(kind):
        return (Text(need_string(part, name, path), cache_mark(part)),)
    read = _READERS.get(kind)
    found = read(part, path) if read else (Other(kind[:64], path),)
    mark = cache_mark(part)
    return (*found[:-1], _marked(found[-1], mark)) if mark and found else found


def with_mark(parts: Parts, mark: Mapping[str, Any] | None) -> Parts:
    """The parts with the mark of what holds them, which stands at their end."""
    if not mark or not parts or getattr(parts[-1], "cache", None):
        return parts
    return (*parts[:-1], _marked(parts[-1], mark))


def _marked(part: Part, mark: Mapping[str, Any]) -> Part:
    return part if isinstance(part, Audio | Other) else replace(part, cache=mark)


# -- images ----------------------------------------------------------------------------------------------------


def _image(part: Object, path: str) -> Parts:
    """An image: Anthropic's and AG-UI's `source`, or the address or data themselves."""
    if "source" in part:
        return _of_source(part, path, "image/*")
    return _image_by_url(part, path) if "image_url" in part else _attached(part, path, "image/*")


def _image_by_url(part: Object, path: str) -> Parts:
    """OpenAI's forms: the address in an object in Chat Completions, and as a string in Responses."""
    given, at = part.get("image_url"), f"{path}.image_url"
    if type(given) is str:
        return (Image(given, detail=get_string(part, "detail", path)),)
    if given is None and part.get("file_id") is not None:
        raise BadRequest(f"{at}: required, a data: URL or an address; this server keeps no uploaded files", param=at)
    image = need_object(part, "image_url", path)
    return (Image(need_string(image, "url", at), detail=get_string(image, "detail", at)),)


# -- documents and sounds --------------------------------------------------------------------------------------


def _document(part: Object, path: str) -> Parts:
    """A document of Anthropic's or AG-UI's, behind what is said about it."""
    context = get_string(part, "context", path)
    return (*([Text(context)] if context else ()), *_of_source(part, path, ""))


def _file(part: Object, path: str) -> Parts:
    """A file: OpenAI's object, or fields of the part itself, as in Responses and elsewhere."""
    if "file" in part:
        return (_openai_file(need_object(part, "file", path), f"{path}.file"),)
    if url := get_string(part, "file_url", path):
        return (File(url=url, name=get_string(part, "filename", path)),)
    if part["type"] == "input_file" or "file_data" in part or "file_id" in part:
        return (_openai_file(part, path),)
    return _attached(part, path, "")


def _openai_file(file: Mapping[str, Any], path: str) -> File:
    """A file under OpenAI's names. Inline data comes as a `data:` URL, which is split into media type and base64."""
    data, media_type = get_string(file, "file_data", path), None
    identity = get_string(file, "file_id", path)
    if data is None and identity is None:
        raise missing(path, "an object with file_data or file_id")
    if data is not None and data.startswith("data:"):
        media_type, _, data = data.removeprefix("data:").partition(",")
        media_type = media_type.removesuffix(";base64") or None
    return File(data=data, id=identity, name=get_string(file, "filename", path), media_type=media_type)


def _document_by_url(part: Object, path: str) -> Parts:
    """Mistral's form."""
    name, at = get_string(part, "document_name", path), f"{path}.document_url"
    return (linked("", need_string(part, "document_url", path), name, at),)


def _audio(part: Object, path: str) -> Parts:
    """Sounds: OpenAI's object, Mistral's string, AG-UI's source, or the fields of an MCP tool's result."""
    if "source" in part:
        return _of_source(part, path, "audio/*")
    given, at = part.get("input_audio"), f"{path}.input_audio"
    if type(given) is str:
        return (linked("audio/*", given, None, at) if given.startswith("data:") else inline("audio/*", given, None),)
    if given is None and part["type"] == "audio":
        return _attached(part, path, "audio/*")
    audio = need_object(part, "input_audio", path)
    return (Audio(need_string(audio, "data", at), need_string(audio, "format", at)),)


# -- forms of several ------------------------------------------------------------------------------------------


def _of_source(part: Object, path: str, family: str) -> Parts:
    """What a `source` holds: Anthropic's kinds, and AG-UI's."""
    name = get_string(part, "title", path)
    source, path = need_object(part, "source", path), f"{path}.source"
    kind = need_string(source, "type", path)
    match kind:
        case "base64":
            # An image needs its type; a document without one is a PDF.
            media_type = need_string(source, "media_type", path) if family else get_string(source, "media_type", path)
            return (inline(media_type or "", need_string(source, "data", path), name),)
        case "data":
            return (inline(need_string(source, "mimeType", path), need_string(source, "value", path), name),)
        case "url":
            at = "value" if "value" in source else "url"
            media_type = get_string(source, "mimeType", path) or family
            return (linked(media_type, need_string(source, at, path), name, f"{path}.{at}"),)
        case "text" if not family:  # plain text, which every model reads
            text = need_string(source, "data", path)
            return (Text(f"{name}\n\n{text}" if name else text),)
        case "content" if not family:
            return read_content(source.get("content"), f"{path}.content")
        case "file" if not family:
            return (File(id=need_string(source, "file_id", path), name=name),)
        case _:
            return (Other(f"{family.partition('/')[0] or 'document'} by {kind[:32]}", path),)


def _attached(part: Object, path: str, family: str) -> Parts:
    """What a part holds in its own fields: an address, or base64 data and a media type."""
    url, data = get_string(part, "url", path), _first(part, _DATA, path)
    given = data if url is None else url
    if given is None:
        raise missing(f"{path}.data", "a string, or an address as url")
    media_type, name = _first(part, _MEDIA_TYPES, path) or family, _first(part, _NAMES, path)
    if url is not None or "://" in given[:16] or given.startswith("data:"):
        return (linked(media_type, given, name, path),)
    return (inline(media_type, given, name),)


def _first(part: Object, names: tuple[str, ...], path: str) -> str | None:
    return next((value for name in names if (value := get_string(part, name, path)) is not None), None)


def _tool_reference(part: Object, path: str) -> Parts:
    """A tool that a search of the client's found."""
    return (Text(f"[tool: {need_string(part, 'tool_name', path)}]"),)


def _search_result(part: Object, path: str) -> Parts:
    """A search result as text that begins with its title and source."""
    texts = [
        need_string(inner, "text", at)
        for inner, at in objects(get_array(part, "content", path) or [], f"{path}.content")
    ]
    head = [get_string(part, "title", path) or "", get_string(part, "source", path) or ""]
    return (Text("\n".join(text for text in (*head, *texts) if text)),)


_READERS: Mapping[str, Callable[[Object, str], Parts]] = {
    "image": _image,
    "image_url": _image_by_url,
    "input_image": _image_by_url,
    "computer_screenshot": _image_by_url,
    "document": _document,
    "document_url": _document_by_url,
    "file": _file,
    "input_file": _file,
    "input_audio": _audio,
    "audio": _audio,
    "tool_reference": _tool_reference,
    "search_result": _search_result,
}
