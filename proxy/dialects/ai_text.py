"""Answers as the bare text of the AI SDK's text streams: no frames, no end but the body's, no word for an error.

A client of this contract takes every byte for text and a clean end for completeness. So an answer that broke off
can only be told by a connection that breaks: nothing is written for a `Fault`.
"""

from __future__ import annotations

from proxy.dialects.plain_frames import utf8
from proxy.events import Batch, RefusalDelta, TextDelta


def text_of(batch: Batch) -> bytes:
    """The text a batch brings; a refusal is all that its reader would get to see."""
    return utf8("".join([event.text for event in batch.events if isinstance(event, (TextDelta, RefusalDelta))]))
