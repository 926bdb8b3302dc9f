"""Files in the messages of UI contracts: a media type and an address, or the bytes themselves."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote_to_bytes

from proxy.errors import BadRequest
from proxy.request import Audio, File, Image

Attachment = Image | Audio | File

_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "x-m4a": "m4a"}
"""What APIs call a sound whose media type has another name."""


def linked(media_type: str, url: str, name: str | None, at: str) -> Attachment:
    """What a part with an address refers to; a `data:` URL holds it. `at` is where the address stands."""
    if media_type.startswith("image"):
        return Image(url)  # all upstreams take images by `data:` URL too
    if not url.startswith("data:"):
        return File(url=url, name=name, media_type=media_type or None)
    head, comma, data = url.removeprefix("data:").partition(",")
    if not comma:
        raise BadRequest(f"{at}: a data: URL without a comma holds no data", param=at)
    if not head.endswith(";base64"):
        data = b64encode(unquote_to_bytes(data)).decode()
    return inline(media_type or head.partition(";")[0], data, name)


def inline(media_type: str, data: str, name: str | None) -> Attachment:
    """What bytes in base64 are, by their media type."""
    family, _, subtype = media_type.partition(";")[0].partition("/")
    match family:
        case "image":
            return Image(f"data:{media_type};base64,{data}")
        case "audio":
            return Audio(data, _AUDIO_FORMATS.get(subtype, subtype))
        case _:
            return File(data=data, name=name, media_type=media_type or None)
