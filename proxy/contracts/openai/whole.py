"""Reading whole completions of OpenAI Chat Completions into events."""

from collections.abc import Callable

from proxy.contracts.openai.chunks import Chunk, Delta, decode_chunk, read_usage, usage_in
from proxy.contracts.openai.deltas import DeltaReader
from proxy.contracts.openai.lenient import decode_leniently
from proxy.contracts.openai.stream import DIALECT
from proxy.errors import UpstreamMalformed
from proxy.events import CONTENT, Batch, Finish, FinishReason, Start, StreamEvent, TextDelta
from proxy.wire.finish import Ending, gave_up, is_reason, meaning, verdict
from proxy.wire.stream_end import error_in, text_of
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean

_PLAIN_ENDS: tuple[FinishReason, ...] = ("stop", "length")


def decode_whole(
    body: bytes,
    *,
    keep: bool,
    choices: int = 1,
    clean: Clean = one_line_of,
    dialect: str = DIALECT,
    decode: Callable[[bytes], Chunk] = decode_chunk,
) -> Batch:
    """A completion that came in one piece, as one batch with all its events.

    `keep` makes the body the batch's `whole`, for a client that asked for just that; without it only the events
    count. `choices`, `dialect` and `decode` are those of `StreamDecoder`. Raises the mapped error for an error object,
    and `UpstreamMalformed` for anything else.
    """
    try:
        chunk = decode(body)
    except (ValueError, RecursionError):
        try:
            chunk = decode_leniently(body, skip_broken=keep)
        except ValueError:
            chunk = Chunk()
    if (plain := _plain(chunk)) is not None:
        return Batch(plain, dialect, whole=body) if keep else Batch(plain)
    found = sorted(chunk.choices or (), key=lambda choice: choice.index or 0)
    if chunk.failed or not found:
        raise error_in(body, clean) or UpstreamMalformed("the upstream's answer is no chat completion")
    events: list[StreamEvent] = [Start(text_of(chunk.id), text_of(chunk.model))]
    deltas, ending = DeltaReader(text_of(chunk.id)), Ending()
    for choice in found if choices == 1 else found[:1]:
        if (reason := choice.reason) is not None and meaning(reason) == "error":
            raise gave_up(reason)
        deltas.read(choice, events, streamed=False)
        ending.add(choice.index or 0, reason, content=True, plain=False)
    deltas.cited(chunk, events)
    deltas.finish(events)
    has_content = not CONTENT.isdisjoint(map(type, events))
    told = verdict(ending.reason, has_content=has_content or keep, has_calls=bool(deltas.calls.told))
    usage = read_usage(usage_in(chunk), has_content=has_content)
    reasoned = is_reason(ending.reason)
    events.append(Finish(told.reason, usage, has_finish_reason=reasoned, upstream_reason=told.upstream_reason))
    return Batch(events, dialect, whole=body) if keep else Batch(events)


def _plain(chunk: Chunk) -> list[StreamEvent] | None:
    """The events of a completion that is one text with a common end, as nearly all are; None for any other.

    Reading it as one that may be anything costs 100 µs more.
    """
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.names_pages or chunk.failed:
        return None
    choice = choices[0]
    message, reason = choice.message, choice.reason
    if message is None or choice.delta is not None or reason not in _PLAIN_ENDS or not (text := message.content):
        return None
    if message != Delta(content=text):
        return None
    usage = read_usage(usage_in(chunk), has_content=True)
    start = Start(text_of(chunk.id), text_of(chunk.model))
    return [start, TextDelta(text), Finish(reason, usage, has_finish_reason=True)]
