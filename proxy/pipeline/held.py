"""What an attempt holds back before the commit point."""

from collections.abc import Sequence

from proxy.events import Batch, Media, Notice, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, ToolCallStart


def notices_in(held: Sequence[Batch]) -> list[Notice]:
    """What the backend announced before the content."""
    found: list[Notice] = []
    for batch in held:
        found += [event for event in batch.events if type(event) is Notice]
        if batch.has_content:
            break
    return found


def weight(batch: Batch) -> int:
    """About how many bytes a batch holds."""
    size = len(batch.whole) + sum(map(len, batch.payloads))
    if size:
        return size
    for event in batch.events:
        match event:
            case TextDelta(text) | ReasoningDelta(text) | RefusalDelta(text):
                size += len(text)
            case ToolCallDelta(_, arguments):
                size += len(arguments)
            case Media(_, url):
                size += len(url)
            case _:
                size += 64  # a small event, such as the start of a call
    return size


def about_tokens(batch: Batch) -> int:
    """About how many tokens of content a batch holds: one for each piece, or for four characters where pieces are larger."""
    tokens = 0
    for event in batch.events:
        match event:
            case TextDelta(text) | ReasoningDelta(text) | RefusalDelta(text) | ToolCallDelta(_, text):
                tokens += max(1, len(text) // 4)
            case ToolCallStart() | Media():
                tokens += 1
            case _:
                pass  # no content
    return tokens
