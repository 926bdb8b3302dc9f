"""Events for clients of the same dialect, written anew where the upstream's own would mislead an official SDK."""

import msgspec

from proxy.wire.json_text import json_string


def with_index(data: bytes, index: int) -> bytes:
    """An event's data with the index of the block that it belongs to."""
    return msgspec.json.encode(msgspec.json.decode(data) | {"index": index})


def with_empty_input(data: bytes) -> bytes:
    """The start of a call without arguments: they follow as a delta."""
    event = msgspec.json.decode(data)
    event["content_block"]["input"] = {}
    return msgspec.json.encode(event)


def arguments_event(index: int, arguments: str) -> bytes:
    """All arguments of a call in one delta."""
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"input_json_delta","partial_json":%b}}\n\n' % (index, json_string(arguments))
    )


def stop_event(index: int) -> bytes:
    """The end of a block."""
    return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index


def with_object_inputs(body: bytes) -> bytes:
    """A whole message with the arguments of its calls as objects where they are JSON texts of objects."""
    message = msgspec.json.decode(body)
    for block in message["content"]:
        if isinstance(block, dict) and block.get("type") == "tool_use" and isinstance(block.get("input"), str):
            block["input"] = _object(block["input"])
    return msgspec.json.encode(message)


def _object(text: str) -> object:
    try:
        value = msgspec.json.decode(text or "{}")
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
