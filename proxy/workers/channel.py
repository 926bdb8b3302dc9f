"""What a parent and its workers say to each other, as bytes and without I/O."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

_LENGTHS = struct.Struct("!II")


class Message(NamedTuple):
    """A word, a few values, and perhaps a load that is passed on unread: a config file, a worker's counts."""

    word: str
    values: dict[str, Any]
    load: bytes = b""


def encode(word: str, load: bytes = b"", /, **values: Any) -> bytes:
    head = json.dumps([word, values]).encode()
    return _LENGTHS.pack(len(head), len(load)) + head + load


class Decoder:
    """Bytes in, messages out, however the bytes fall."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTHS.size:
            head, load = _LENGTHS.unpack_from(buffer)
            middle, end = _LENGTHS.size + head, _LENGTHS.size + head + load
            if len(buffer) < end:
                return
            word, values = json.loads(buffer[_LENGTHS.size : middle])
            message = Message(word, values, bytes(buffer[middle:end]))
            del buffer[:end]
            yield message
