"""What a message has to say, in whatever words: its place, and the names and numbers that its reader needs."""

from __future__ import annotations

from collections.abc import Sequence


def says(message: str, expected: str) -> bool:
    """Whether the message begins with the first word of `expected` and holds each of the others after it."""
    place, *facts = expected.split()
    return message.startswith(place) and all(fact in message[len(place) :] for fact in facts)


def assert_said(messages: Sequence[str], expected: Sequence[str]) -> None:
    """One message for each of the expected, in their order."""
    assert len(messages) == len(expected), messages
    for message, wanted in zip(messages, expected, strict=True):
        assert says(message, wanted), f"{wanted!r} is not what {message!r} says"
