"""The items of a streamed OpenAI Responses answer that are not done yet, and the text that they gather."""

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
from proxy.contracts.responses.tools import Origin
from proxy.wire.custom_tools import custom_input
from proxy.wire.json_text import json_string


class TextPart:
    """A text that comes in pieces: how its delta events begin, and the JSON string so far, without its quotes."""

    __slots__ = ("head", "place", "written")

    def __init__(self, type: bytes, place: bytes, more: bytes = b"") -> None:
        self.place = place
        self.head = b'event: %b\ndata: {"type":"%b",%b%b,"sequence_number":' % (type, type, place, more)
        self.written = bytearray()

    @property
    def json(self) -> bytes:
        """The text so far, as a JSON string."""
        return b'"%b"' % bytes(self.written)


class OpenItem:
    """An item of the output that is not done yet."""

    __slots__ = ("id", "index", "place")

    def __init__(self, id: bytes, index: int) -> None:
        self.id, self.index = id, index
        self.place = b'"item_id":%b,"output_index":%d' % (id, index)


class OpenMessage(OpenItem):
    """A message: the parts that are done, and the one that is open."""

    __slots__ = ("annotations", "is_refusal", "parts", "text")

    def __init__(self, id: bytes, index: int) -> None:
        super().__init__(id, index)
        self.parts: list[bytes] = []  # those that are done
        self.text: TextPart | None = None  # of the part that is open
        self.is_refusal = False
        self.annotations: list[bytes] = []

    @property
    def part(self) -> bytes:
        """The open part so far."""
        assert self.text is not None
        text = self.text.json
        return refusal_part(text) if self.is_refusal else text_part(text, self.annotations)

    def write(self, status: Status) -> bytes:
        return message_item(self.id, [*self.parts, self.part] if self.text else self.parts, status)


class OpenReasoning(OpenItem):
    """What the model thinks, as the summary of a reasoning item."""

    __slots__ = ("text",)

    def __init__(self, id: bytes, index: int) -> None:
        super().__init__(id, index)
        self.text = TextPart(b"response.reasoning_summary_text.delta", self.place, b',"summary_index":0')

    def write(self, status: Status, signature: str = "") -> bytes:
        return reasoning_item(self.id, [summary_part(self.text.json)], signature, status)


class OpenCall(OpenItem):
    """A call. `origin` is its tool as the client knows it."""

    __slots__ = ("arguments", "call_id", "origin")

    def __init__(self, id: bytes, index: int, call_id: str, origin: Origin) -> None:
        super().__init__(id, index)
        self.call_id, self.origin = call_id, origin
        self.arguments = TextPart(b"response.function_call_arguments.delta", self.place)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are complete JSON."""
        try:
            msgspec.json.decode(self._text())
        except (ValueError, RecursionError):
            return False
        return True

    def value(self) -> bytes:
        """The complete arguments, or a custom tool's input, as a JSON string."""
        arguments = self._text()
        return json_string(custom_input(arguments) if self.origin.custom else arguments)

    def write(self, status: Status) -> bytes:
        return call_item(self.id, self.call_id, self.origin, self.value(), status)

    def _text(self) -> str:
        text: str = msgspec.json.decode(self.arguments.json)
        return text or "{}"  # some models write nothing for a function without parameters
