"""Answers as the bare text of the AI SDK's text streams: no frames, no end but the body's, no word for an error.

A client of this contract takes every byte for text and a clean end for completeness. So an answer that broke off
can only be told by a connection that breaks: nothing is written for a `Fault`.
"""

from __future__ import annotations

from proxy.errors import UntoldAnswer
from proxy.events import Batch, Finish, Media, RefusalDelta, TextDelta
from proxy.request import Answer
from proxy.wire.text import utf8


def text_of(batch: Batch) -> bytes:
    """The text a batch brings; a refusal is all that its reader would get to see."""
    return utf8("".join([event.text for event in batch.events if isinstance(event, (TextDelta, RefusalDelta))]))


class TextWriter:
    """Writes the text of one answer."""

    def __init__(self) -> None:
        self._said = False
        self._media = False

    def feed(self, batch: Batch) -> bytes:
        """The text a batch brings. Raises `UntoldAnswer` for an answer that is nothing but images."""
        text = text_of(batch)
        if not self._said:
            self._said = bool(text)
            self._media = self._media or any(type(event) is Media for event in batch.events)
            if self._media and not self._said and isinstance(batch.terminal, Finish):
                raise UntoldAnswer
        return text


def whole_text(answer: Answer) -> bytes:
    """The text of a whole answer. Raises `UntoldAnswer`, too."""
    if answer.only_media:
        raise UntoldAnswer
    return utf8(answer.text + answer.refusal)
