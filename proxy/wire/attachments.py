"""Files in the messages of UI contracts: a media type with an address, or with the bytes."""

from base64 import b64encode
from urllib.parse import unquote_to_bytes

from proxy.errors import BadRequest
from proxy.request import Audio, File, Image

Attachment = Image | Audio | File

_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "x-m4a": "m4a"}
"""The format that APIs use for an audio subtype of another name."""

_BEGINNINGS = {"UklGR": "wav", "SUQz": "mp3", "//": "mp3", "T2dnU": "ogg", "ZkxhQ": "flac"}
"""The format of sounds whose media type does not say it, by the first characters of their base64."""


def linked(media_type: str, url: str, name: str | None, at: str) -> Attachment:
    """The attachment at an address, which may be a `data:` URL. `at` is the place of the address, for errors."""
    if media_type.startswith("image"):
        return Image(url)  # all upstreams accept images as `data:` URLs too
    if not url.startswith("data:"):
        return File(url=url, name=name, media_type=media_type or None)
    head, comma, data = url.removeprefix("data:").partition(",")
    if not comma:
        raise BadRequest(f"{at}: a data: URL without a comma holds no data", param=at)
    if not head.endswith(";base64"):
        data = b64encode(unquote_to_bytes(data)).decode()
    unsaid = not media_type or media_type.endswith("/*")
    return inline(head.partition(";")[0] or media_type if unsaid else media_type, data, name)


def inline(media_type: str, data: str, name: str | None) -> Attachment:
    """The attachment that base64 data is, by its media type."""
    family, _, subtype = media_type.partition(";")[0].partition("/")
    match family:
        case "image":
            return Image(f"data:{media_type};base64,{data}")
        case "audio":
            if subtype in {"", "*"}:
                subtype = next((known for start, known in _BEGINNINGS.items() if data.startswith(start)), subtype)
            return Audio(data, _AUDIO_FORMATS.get(subtype, subtype))
        case _:
            return File(data=data, name=name, media_type=media_type or None)
