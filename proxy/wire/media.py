"""What messages hold besides text, in a target's vocabulary. No I/O.

An image that the target does not take is refused where the user shows it, because the answer would not be about it.
Where a tool or an earlier answer has shown it, its place in the conversation says so: that can go on without it.
"""

import binascii
from base64 import b64decode

from msgspec.structs import replace

from proxy.errors import Unsupported
from proxy.events import Notice
from proxy.request import Audio, File, Image, Message, Part, Text
from proxy.wire.vocabulary import Vocabulary

_REGISTERED = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Names that clients use for media types, with those that servers know (RFC 2046, IANA)."""

_UNSAID = frozenset({"", "image/*", "application/octet-stream"})
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}

_OF_ANTHROPIC = "file_"  # OpenAI's ids begin with `file-`, and Azure's with `assistant-` too

_TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})

_KINDS: dict[type, str] = {Image: "image", File: "file", Audio: "audio"}


def with_media(messages: tuple[Message, ...], vocabulary: Vocabulary, notices: list[Notice]) -> tuple[Message, ...]:
    """The messages with what the target takes. Raises `Unsupported` for what it does not and the user has shown."""
    if not any(type(part) in _KINDS for message in messages for part in message.parts):
        return messages
    found = []
    for message in messages:
        parts = []
        for part in message.parts:
            kept, refusal = _taken(part, vocabulary)
            if refusal and message.role == "user":
                raise Unsupported(f"this target takes no {refusal}")
            if refusal:
                kept = Text(f"[{_KINDS[type(part)]}: this model takes no {refusal}]")
                why = f"this target takes no {refusal}"
                notices.append(Notice("ignored_setting", f"what was shown earlier was left out: {why}", "messages"))
            parts.append(kept)
        found.append(replace(message, parts=tuple(parts)))
    return tuple(found)


def _taken(part: Part, vocabulary: Vocabulary) -> tuple[Part, str]:
    """The part under its registered media type, and what of it the target does not take, or nothing."""
    if isinstance(part, File) and (read := _as_text(part, vocabulary)):
        return read, ""
    kind = _KINDS.get(type(part))
    if kind is not None and kind not in vocabulary.media:
        return part, "audio" if kind == "audio" else f"{kind}s"
    if isinstance(part, File) and part.id is not None:
        keeper = "anthropic" if part.id.startswith(_OF_ANTHROPIC) else "openai"
        return part, "" if keeper == vocabulary.file_ids else "files by this id: send the data instead"
    if isinstance(part, File) and vocabulary.files and part.url is None and _type_of(part) not in vocabulary.files:
        return part, f"files of type {_type_of(part)[:64]}"
    if not isinstance(part, Image):
        return part, ""
    if not part.url.startswith("data:"):
        return part, "" if vocabulary.image_addresses else "images by address"
    media_type, separator, rest = part.url.removeprefix("data:").partition(";")
    media_type = _REGISTERED.get(media_type.lower(), media_type.lower())
    if media_type in _UNSAID:
        media_type = image_type(rest.partition(",")[2]) or media_type
    if vocabulary.images and media_type not in vocabulary.images:
        return part, f"images of type {media_type[:64]}"
    url = f"data:{media_type}{separator}{rest}"
    return part if url == part.url else replace(part, url=url), ""


def _type_of(file: File) -> str:
    return (file.media_type or "application/pdf").partition(";")[0].strip().lower()


def _as_text(file: File, vocabulary: Vocabulary) -> Text | None:
    """The text of a file where the target takes none of that type: every model reads text."""
    kind = _type_of(file)
    takes = "file" in vocabulary.media and (not vocabulary.files or kind in vocabulary.files)
    if takes or file.data is None or not (kind.startswith("text/") or kind in _TEXTS):
        return None
    try:
        text = b64decode(file.data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return Text(f"{file.name}\n\n{text}" if file.name else text, file.cache)


def image_type(data: str) -> str | None:
    """The media type of an image in base64, by its first bytes."""
    try:
        start = b64decode(data[:16], validate=True)
    except (binascii.Error, ValueError):
        return None
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    return next((name for magic, name in _BEGINNINGS.items() if start.startswith(magic)), None)
