"""Turning the deltas of an answer into events: reasoning, then text, sources and images, then tool calls.

A contract holds one answer, so the choices of an upstream that was asked for one are read as one: some put the text
into the first and the tool call into the second. What an upstream repeats is told once: the whole `message` that some
send after the deltas, or with each of them, only adds what is missing.
"""

from collections.abc import Iterator
from typing import Any

from proxy.contracts.openai.calls import CallReader
from proxy.contracts.openai.chunks import Choice, Chunk, Delta, ToolCallPiece, image_address
from proxy.events import Media, ReasoningDelta, ReasoningSignature, RefusalDelta, Source, StreamEvent, TextDelta
from proxy.wire.lenient_json import SurrogateJoiner
from proxy.wire.vocabulary import GEMINI_SEAL

_SETTINGS = frozenset({"effort", "max_tokens", "enabled", "exclude", "generate_summary"})
"""Fields of the settings of reasoning, which some servers echo where others write the reasoning itself."""

_TEXT_KEYS = ("text", "thinking", "reasoning", "summary", "content", "reasoning_content", "reasoning_text")


class DeltaReader:
    """Reads the choices of one answer. `calls.id` is its id; `holds`: half a character waits for the next text."""

    __slots__ = ("_by_delta", "_has_signature", "_messages", "_seen", "_text", "calls", "holds")

    def __init__(self, id_: str = "") -> None:
        self.calls = CallReader()
        self.calls.id = id_
        self.holds = False
        self._has_signature = False
        self._by_delta: set[str] = set()  # kinds of text that deltas brought
        self._messages: dict[str, _Message] = {}
        self._text = {kind: SurrogateJoiner() for kind in _EVENTS}
        self._seen: set[int] = set()  # hashes of the addresses of sources and images

    def read(self, choice: Choice, events: list[StreamEvent], *, streamed: bool = True) -> None:
        """One chunk of a choice. Raises `UpstreamMalformed` for a tool call that cannot be told from another."""
        index, delta, message = choice.index or 0, choice.delta, choice.message
        if delta is None and message is None and choice.text:
            delta = Delta(content=choice.text)
        if not streamed:
            delta, message = message or delta, None
            for position, piece in enumerate((delta and delta.tool_calls) or ()):
                piece.index = position  # each is whole, whatever its id
        if delta is not None:
            for kind, text in _texts(delta):
                self._by_delta.add(kind)
                self._tell(kind, text, events)
            self._rest(index, delta, events)
        if message is not None:
            self._message(index, message, events)

    def told_by_delta(self, events: list[StreamEvent]) -> None:
        """Events that the caller made from a delta of nothing but text and reasoning."""
        for event in events:
            self._by_delta.add("text" if type(event) is TextDelta else "reasoning")

    def cited(self, chunk: Chunk, events: list[StreamEvent]) -> None:
        """The pages that a chunk as a whole names, of which some vendors repeat all in each chunk."""
        for source in (*_pages(chunk.search_results), *_pages(chunk.web_search), *_pages(chunk.citations)):
            self._once(source, events)

    def finish(self, events: list[StreamEvent]) -> None:
        """The answer is complete. Raises `UpstreamMalformed` for a call without a name, or for several in one."""
        for kind, joiner in self._text.items():
            if joiner.half:
                events.append(_EVENTS[kind](joiner.flush()))
        self.calls.finish(events)

    def _tell(self, kind: str, text: str, events: list[StreamEvent]) -> None:
        joiner = self._text[kind]
        if text := joiner.join(text):
            events.append(_EVENTS[kind](text))
        if joiner.half or self.holds:
            self.holds = any(joiner.half for joiner in self._text.values())

    def _rest(self, index: int, delta: Delta, events: list[StreamEvent]) -> None:
        """All of a delta but its texts."""
        self._more(delta, events)
        if delta.tool_calls:
            for piece in delta.tool_calls:
                if piece.extra_content is not None:
                    self._signed(piece.extra_content, events)
                self.calls.read(index, piece, events)
        elif delta.function_call is not None:  # the form before tools: one call, without an id
            self.calls.read(index, ToolCallPiece(index=0, function=delta.function_call), events)

    def _more(self, delta: Delta, events: list[StreamEvent]) -> None:
        """Sources and images."""
        if delta.annotations or delta.citations or delta.context or delta.provider_specific_fields:
            for source in _sources(delta):
                self._once(source, events)
        if delta.images:
            for url in _images(delta.images):
                self._once(Media(_media_type(url), url), events)

    def _signed(self, extra: Any, events: list[StreamEvent]) -> None:
        """Gemini's signature of the thought before a call, the first one: later calls of an answer have none."""
        google = extra.get("google") if isinstance(extra, dict) else None
        signature = google.get("thought_signature") if isinstance(google, dict) else None
        if isinstance(signature, str) and signature and not self._has_signature:
            self._has_signature = True
            events.append(ReasoningSignature(GEMINI_SEAL + signature))

    def _once(self, event: Source | Media, events: list[StreamEvent]) -> None:
        key = hash((type(event), event.url))
        if key not in self._seen:
            self._seen.add(key)
            events.append(event)

    def _message(self, index: int, message: Delta, events: list[StreamEvent]) -> None:
        """A whole message in a stream."""
        for kind, text in _texts(message):
            if kind not in self._by_delta and (news := self._messages.setdefault(kind, _Message()).news(text)):
                self._tell(kind, news, events)
        self._more(message, events)
        pieces = message.tool_calls or []
        if not pieces and message.function_call is not None:
            pieces = [ToolCallPiece(index=0, function=message.function_call)]
        if pieces:
            self._signed(pieces[0].extra_content, events)
            self.calls.fill(index, pieces, events)


class _Message:
    """The text of the messages of a stream without deltas: each repeats the ones before it, or goes on with them."""

    __slots__ = ("_goes_on", "_repeated", "_told")

    def __init__(self) -> None:
        self._told = ""
        self._repeated = ""  # what was taken for repeated, until the messages turn out to go on
        self._goes_on = False

    def news(self, text: str) -> str:
        if self._goes_on:
            return text
        told = self._told
        if not text.startswith(told):
            self._goes_on = True
            return self._repeated + text
        self._told = text
        if told and text == told:
            self._repeated += text
        else:
            self._repeated = ""
        return text[len(told) :]


_EVENTS: dict[str, Any] = {
    "reasoning": ReasoningDelta,
    "signature": ReasoningSignature,
    "text": TextDelta,
    "refusal": RefusalDelta,
}


def _texts(delta: Delta) -> Iterator[tuple[str, str]]:
    """The texts of a delta with their kinds, none of them empty."""
    reasoning = (
        delta.reasoning_content
        or (delta.reasoning and _reasoning(delta.reasoning))
        or (delta.reasoning_text and _reasoning(delta.reasoning_text))
        or (delta.thinking and _reasoning(delta.thinking))
        or (delta.reasoning_details and _reasoning(delta.reasoning_details))
        or (delta.thinking_blocks and _reasoning(delta.thinking_blocks))
    )
    if reasoning:
        yield "reasoning", reasoning
    if delta.thinking_blocks or delta.reasoning_details:
        for signature in (*_signatures(delta.thinking_blocks), *_signatures(delta.reasoning_details)):
            yield "signature", signature
    text = delta.content
    if not text and isinstance(delta.audio, dict) and isinstance(delta.audio.get("transcript"), str):
        text = delta.audio["transcript"]
    if text:
        yield "reasoning" if delta.extra_content and _is_thought(delta.extra_content) else "text", text
    if delta.refusal:
        yield "refusal", delta.refusal


def _is_thought(extra: Any) -> bool:
    """Whether Gemini says that a delta's content is a thought."""
    google = extra.get("google") if isinstance(extra, dict) else None
    return isinstance(google, dict) and google.get("thought") is True


def _reasoning(value: Any) -> str:
    """The text of reasoning in whatever form: a string, a piece, or a list of pieces. Settings have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_reasoning, value))
    if isinstance(value, dict) and _SETTINGS.isdisjoint(value):
        return next((text for key in _TEXT_KEYS if (text := _reasoning(value.get(key)))), "")
    return ""


def _signatures(value: Any) -> Iterator[str]:
    """The signatures of pieces of reasoning, or of their summaries."""
    if isinstance(value, list):
        for item in value:
            yield from _signatures(item)
    elif isinstance(value, dict):
        signature = value.get("signature")
        if isinstance(signature, str) and signature:
            yield signature
        yield from _signatures(value.get("summary"))


def _sources(delta: Delta) -> Iterator[Source]:
    for annotation in delta.annotations if isinstance(delta.annotations, list) else ():
        if isinstance(annotation, dict):
            yield from _page(annotation.get("url_citation") or annotation)
    yield from _pages(delta.citations)
    if isinstance(delta.context, dict):
        yield from _pages(delta.context.get("citations"))
    if isinstance(fields := delta.provider_specific_fields, dict):
        yield from _page(fields.get("citation"))


def _pages(values: Any) -> Iterator[Source]:
    for value in values if isinstance(values, list) else ():
        yield from _page(value)


def _page(value: Any) -> Iterator[Source]:
    """A page by its address, or by an object with `url` (or `link`) and `title`."""
    url, title = (value.get("url") or value.get("link"), value.get("title")) if isinstance(value, dict) else (value, "")
    if isinstance(url, str) and url:
        yield Source(url, title if isinstance(title, str) else "")


def _images(values: Any) -> Iterator[str]:
    yield from filter(None, map(image_address, values if isinstance(values, list) else ()))


def _media_type(url: str) -> str:
    """What a `data:` URL says it is; of an address only that it is an image."""
    head = url[5:105].partition(",")[0].partition(";")[0] if url.startswith("data:") else ""
    return head or "image/png"
