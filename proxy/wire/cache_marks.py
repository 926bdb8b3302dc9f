"""Marks of what an upstream is to keep in its prompt cache (Anthropic's `cache_control`). No I/O."""

from collections.abc import Iterator

from msgspec.structs import replace

from proxy.events import Notice
from proxy.request import ChatRequest, Message, Part
from proxy.wire.omissions import ignored


def marked(
    request: ChatRequest, messages: tuple[Message, ...], longest: int, notices: list[Notice]
) -> tuple[ChatRequest, tuple[Message, ...]]:
    """The request and its messages with as many marks as the target takes: the first and the last ones.

    The first marks stand behind tools and system text, which never change, and the last behind what is new. A notice
    tells of marks that are all left out.
    """
    count = sum(1 for tool in request.tools if tool.cache) + sum(1 for _ in _marked_parts(messages))
    if count <= longest:
        return request, messages
    if not longest:
        notices.append(ignored("cache_control", "this target has no marks for its prompt cache"))
    places = iter(range(count))

    def keeps() -> bool:
        place = next(places)
        return longest > 0 and (place == 0 or place > count - longest)

    tools = tuple(replace(tool, cache=None) if tool.cache and not keeps() else tool for tool in request.tools)
    kept = []
    for message in messages:
        parts = tuple(replace(part, cache=None) if _mark(part) and not keeps() else part for part in message.parts)
        kept.append(message if parts == message.parts else replace(message, parts=parts))
    return replace(request, tools=tools), tuple(kept)


def _mark(part: Part) -> object:
    return getattr(part, "cache", None)


def _marked_parts(messages: tuple[Message, ...]) -> Iterator[Part]:
    return (part for message in messages for part in message.parts if _mark(part))
