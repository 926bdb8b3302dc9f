"""Write answers as the AI SDK's text streams: bare text, without frames.

A client of this contract takes every byte for text, and a clean end for a complete answer. The contract has no word
for an error, so an answer that broke off ends with a cut connection, and nothing is written for a `Fault`.
"""

from collections.abc import Mapping

from proxy.contracts.ai_sdk.writer import failure
from proxy.contracts.base import Reply
from proxy.contracts.replies import LIVE
from proxy.errors import ProxyError, UntoldAnswer
from proxy.events import Batch, Finish, Media, RefusalDelta, TextDelta
from proxy.request import Answer
from proxy.wire.text import utf8

HEADERS: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8", **LIVE}


class AITextWriter:
    """Writes one answer, streamed or whole."""

    headers = HEADERS
    early = False
    abort_on_fault = True

    def __init__(self) -> None:
        self._has_text = False
        self._media = False

    def feed(self, batch: Batch) -> bytes:
        """The text of a batch. Raises `UntoldAnswer` for an answer that holds nothing but images."""
        # A refusal is text too, so that the reader sees why there is no answer.
        text = utf8("".join([event.text for event in batch.events if isinstance(event, (TextDelta, RefusalDelta))]))
        if not self._has_text:
            self._has_text = bool(text)
            self._media = self._media or any(type(event) is Media for event in batch.events)
            if self._media and not self._has_text and isinstance(batch.terminal, Finish):
                raise UntoldAnswer
        return text

    def ping(self) -> bytes:
        """Nothing: the client takes every byte for text."""
        return b""

    def whole(self, answer: Answer) -> Reply:
        """The text of a whole answer. Raises `UntoldAnswer` as `feed` does."""
        if answer.only_media:
            raise UntoldAnswer
        return Reply(200, utf8(answer.text + answer.refusal), HEADERS)

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)
