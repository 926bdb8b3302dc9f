"""What is open in a streamed answer of OpenAI Responses: items that are not done, and the text they gather."""

from __future__ import annotations

import msgspec

from proxy.contracts.responses.objects import (
    Status,
    call_item,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_part,
)
from proxy.contracts.responses.tools import Origin, custom_input
from proxy.wire.json_text import json_string


class Strand:
    """Text that comes in pieces: what its delta events begin with, and the JSON written so far, without quotes."""

    __slots__ = ("head", "place", "written")

    def __init__(self, type: bytes, place: bytes, more: bytes = b"") -> None:
        self.place = place
        self.head = b'event: %b\ndata: {"type":"%b",%b%b,"sequence_number":' % (type, type, place, more)
        self.written = bytearray()

    @property
    def text(self) -> bytes:
        return b'"%b"' % bytes(self.written)


class Item:
    """An item of the output that is not done yet."""

    __slots__ = ("id", "index", "place")

    def __init__(self, id: bytes, index: int) -> None:
        self.id, self.index = id, index
        self.place = b'"item_id":%b,"output_index":%d' % (id, index)


class Message(Item):
    __slots__ = ("annotations", "is_refusal", "parts", "strand")

    def __init__(self, id: bytes, index: int) -> None:
        super().__init__(id, index)
        self.parts: list[bytes] = []  # that are done
        self.strand: Strand | None = None  # the part that is open
        self.is_refusal = False
        self.annotations: list[bytes] = []

    @property
    def part(self) -> bytes:
        """The open part as it stands."""
        assert self.strand is not None
        text = self.strand.text
        return refusal_part(text) if self.is_refusal else text_part(text, self.annotations)

    def write(self, status: Status) -> bytes:
        return message_item(self.id, [*self.parts, self.part] if self.strand else self.parts, status)


class Reasoning(Item):
    __slots__ = ("strand",)

    def __init__(self, id: bytes, index: int) -> None:
        super().__init__(id, index)
        self.strand = Strand(b"response.reasoning_summary_text.delta", self.place, b',"summary_index":0')

    def write(self, status: Status, signature: str = "") -> bytes:
        return reasoning_item(self.id, [summary_part(self.strand.text)], signature, status)


class Call(Item):
    __slots__ = ("call_id", "origin", "strand")

    def __init__(self, id: bytes, index: int, call_id: str, origin: Origin) -> None:
        super().__init__(id, index)
        self.call_id, self.origin = call_id, origin
        self.strand = Strand(b"response.function_call_arguments.delta", self.place)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are JSON from end to end."""
        try:
            msgspec.json.decode(self._arguments())
        except (ValueError, RecursionError):
            return False
        return True

    def value(self) -> bytes:
        """The arguments, or a custom tool's input, as they are told at the end."""
        arguments = self._arguments()
        return json_string(custom_input(arguments) if self.origin.custom else arguments)

    def write(self, status: Status) -> bytes:
        return call_item(self.id, self.call_id, self.origin, self.value(), status)

    def _arguments(self) -> str:
        text: str = msgspec.json.decode(self.strand.text)
        return text or "{}"  # what some models write for a function without parameters, and no JSON
