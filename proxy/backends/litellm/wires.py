"""Which wire an answer that litellm asked for is in, so that our own decoders read it where they can.

litellm's readers drop what they do not expect: errors before `[DONE]`, text in parts, numbers, the input of a tool
call that comes at once, citations (U1, U5, U10, U13). Most of its providers speak one of two wires that we read
ourselves; then litellm only writes the request.
"""

from collections.abc import Callable
from typing import Any

from proxy.backends.streaming import Decoder, in_pieces
from proxy.contracts.anthropic import stream as anthropic
from proxy.contracts.anthropic.events import DIALECT as ANTHROPIC
from proxy.contracts.openai import stream as openai
from proxy.wire import lenient_json
from proxy.wire.upstream_errors import Clean

LITELLM = "litellm"
"""A wire that only litellm reads."""

_ANTHROPIC = ("message_", "content_block_")

DECODERS: dict[str, Callable[[int, Clean], Decoder]] = {
    openai.DIALECT: lambda event_bytes, clean: openai.StreamDecoder(event_bytes, keep=False, clean=clean),
    ANTHROPIC: lambda event_bytes, clean: anthropic.StreamDecoder(event_bytes, keep=False, clean=clean),
}
"""How to read each wire: from the most bytes of an event and what cleans texts for clients."""


def wire_of(stream: bytes) -> str:
    """The wire of an event stream by its first event that tells; "" if more has to come."""
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for line in lines[:-1]:
        if line.removeprefix(b"\xef\xbb\xbf").startswith(b"data:") and (wire := _wire_of_data(line.partition(b":")[2])):
            return wire
    return ""


def wire_of_json(body: bytes) -> str:
    """The wire of an answer in JSON where a stream was asked for: chunks on lines of their own, or a whole completion."""
    return _wire_of_data(body.partition(b"\n")[0] if in_pieces(body) else body)


def _wire_of_data(data: bytes) -> str:
    data = data.strip()
    if not data:
        return ""
    if data == openai.DONE:
        return openai.DIALECT
    try:
        value = lenient_json.loads(data)
    except (ValueError, RecursionError):
        return LITELLM
    if not isinstance(value, dict):
        return LITELLM
    type_ = value.get("type")
    if isinstance(type_, str) and (type_.startswith(_ANTHROPIC) or (type_ == "error" and "error" in value)):
        return ANTHROPIC
    if value.get("error") or value.get("object") == "error":
        return openai.DIALECT  # its decoder reads errors of all forms
    if "choices" in value:
        return openai.DIALECT if value["choices"] and isinstance(value["choices"], list) else ""
    return "" if _tells_nothing(value) else LITELLM


def _tells_nothing(value: dict[str, Any]) -> bool:
    """Whether an event is a keep-alive, or holds nothing but usage."""
    return (
        not value or value.get("type") in ("ping", "keepalive", "keep-alive", "heartbeat") or value.keys() <= {"usage"}
    )
