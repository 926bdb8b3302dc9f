"""litellm's stream as OpenAI chunks, without what litellm adds to it.

Iterating litellm's stream wrapper to its end is not possible: at a clean end of the connection it invents a finish
reason, so that a cut answer looks complete (BerriAI/litellm#42140); it counts tokens without need; and its success
handlers may call the upstream again, blocking. So the provider's own stream is iterated, which ends when the
provider's bytes do, and the wrapper only translates one chunk at a time.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from proxy.wire.finish import meaning

_TURN = 16
"""Chunks after which other streams get a turn: buffered chunks are returned without waiting."""

Payload = dict[str, Any]


async def payloads(wrapper: Any, model: str, reason: Callable[[], str] = str) -> AsyncGenerator[bytes, None]:
    """Each chunk as JSON, in the form of a `chat.completion.chunk`. Ends where the provider's stream does.

    A finish reason is in it only if the provider gave one. `model` is the name of the model where the provider gives
    none. `reason` returns the provider's own finish reason as far as it is known (see `own_reason`).
    """
    count = 0
    source = _translated(wrapper) if hasattr(wrapper.completion_stream, "__aiter__") else _iterated(wrapper)
    async with aclosing(source):
        async for raw, chunk in source:
            payload = _payload(raw, chunk, model)
            if payload is not None:
                own_reason(payload, reason())
                yield msgspec.json.encode(payload)
            count += 1
            if count % _TURN == 0:
                await asyncio.sleep(0)


def own_reason(payload: Payload, reason: str) -> None:
    """Put the provider's own finish reason in the place of litellm's, which turns failures into `stop` (U4)."""
    if reason and meaning(reason) not in {"none", "stop", "tool_calls"}:
        for choice in payload.get("choices") or ():
            if choice.get("finish_reason"):
                choice["finish_reason"] = reason


def last_chunk(wrapper: Any, reason: str = "") -> bytes | None:
    """A chunk with the finish reason that the provider gave, however its stream ended; `None` if it gave none.

    Needed because litellm takes the reason off a chunk that also has content, to send it at the end.
    """
    if not _given_reason(wrapper):
        return None
    payload: Payload = _dumped(wrapper.finish_reason_handler())
    own_reason(payload, reason)
    return msgspec.json.encode(payload)


def _given_reason(wrapper: Any) -> bool:
    return bool(wrapper.received_finish_reason or wrapper.intermittent_finish_reason)


async def _translated(wrapper: Any) -> AsyncGenerator[tuple[Any, Any], None]:
    """The provider's chunks and what they mean; nothing for those that mean nothing."""
    async for raw in wrapper.completion_stream:
        if raw is None or raw == "None":
            continue
        try:
            chunk = wrapper.chunk_creator(chunk=raw)
        except StopIteration:  # its way to say that what comes after a finish reason does not matter
            continue
        yield raw, chunk


async def _iterated(wrapper: Any) -> AsyncGenerator[tuple[Any, Any], None]:
    """The wrapper's own chunks, for the few providers without an asynchronous stream: less its invented end."""
    async for chunk in wrapper:
        if any(choice.finish_reason for choice in chunk.choices) and not _given_reason(wrapper):
            return
        yield chunk, chunk


def _payload(raw: Any, chunk: Any, model: str) -> Payload | None:
    """A chunk and the usage that came with it. litellm drops chunks that hold nothing but usage."""
    payload: Payload | None = _dumped(chunk) if chunk is not None else None
    usage = _dumped(_field(raw, "usage"))
    usage = usage if isinstance(usage, dict) else None
    if payload is None:
        return {"choices": [], "usage": usage} if usage else None
    if usage:
        payload["usage"] = usage
    payload["model"] = _field(raw, "model") or model  # the wrapper puts the requested name in its place
    return payload


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _dumped(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_none=True) if hasattr(value, "model_dump") else value
