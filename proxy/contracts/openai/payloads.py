"""Chunks for clients of the same dialect, written anew where the upstream's own would mislead them."""

import msgspec

from proxy.wire import sse


def without_error(data: bytes) -> bytes:
    """A chunk that has content beside an error, without the error: its words go on cleaned, or not at all."""
    try:
        chunk = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return b""
    for part in (chunk, *chunk["choices"]):
        part.pop("error", None)
    return sse.encode(msgspec.json.encode(chunk))


def renumbered(data: bytes, indexes: list[int]) -> bytes:
    """A chunk with these indexes for its tool calls, in order: clients tell calls apart by nothing else."""
    try:
        chunk = msgspec.json.decode(data)
        pieces = [piece for choice in chunk["choices"] for piece in choice["delta"].get("tool_calls") or ()]
        for piece, index in zip(pieces, indexes, strict=True):
            piece["index"] = index
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return sse.encode(data)  # no calls, or in another form
    return sse.encode(msgspec.json.encode(chunk))
