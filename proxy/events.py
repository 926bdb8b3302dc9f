"""The vocabulary of a stream: what can happen in an answer, in what order, and what it adds up to.

Every backend produces these events and every contract is an encoder of them, so that N frontends and
M backends need N + M codecs. Text travels as the model wrote it; encoders derive "block start" and
"block stop" themselves by remembering the part that is open.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Literal

import msgspec

from proxy.errors import InternalError, ProxyError
from proxy.request import Answer, ToolCall, Usage

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Start(msgspec.Struct, frozen=True, gc=False):
    """The answer has begun. `model` is the upstream's own name for what answers."""

    id: str
    model: str


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer's text, exactly as it came; never empty."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the model's reasoning."""

    text: str


class RefusalDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a refusal, where the upstream tells it apart from text."""

    text: str


class ToolCallStart(msgspec.Struct, frozen=True, gc=False):
    """The model begins to call `name`. `index` tells parallel calls apart."""

    index: int
    id: str
    name: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a call's arguments: JSON text, complete only when the answer finishes."""

    index: int
    arguments: str


class ReasoningSignature(msgspec.Struct, frozen=True, gc=False):
    """The upstream's seal on the reasoning that came before it, opaque to all others.

    Upstreams that think between tool calls refuse a next turn that does not bring it back
    (`Message.reasoning_signature`).
    """

    signature: str


class Source(msgspec.Struct, frozen=True, gc=False):
    """A page the answer relies on."""

    url: str
    title: str = ""


class Media(msgspec.Struct, frozen=True, gc=False):
    """A file the model made, such as an image: by address or as a `data:` URL, whole."""

    media_type: str
    url: str


class Notice(msgspec.Struct, frozen=True, gc=False):
    """Something the reader should know that is not part of the answer, such as a setting that was left out.

    `param` is the setting's name. Backends tell before the first content what of a request they leave out.
    """

    code: str
    message: str
    param: str = ""


class Finish(msgspec.Struct, frozen=True):
    """The answer is complete. Only an upstream that said so leads here (docs/reliability.md R3).

    `has_finish_reason` is False when the end sentinel came without a finish reason (R3: done, but counted).
    `upstream_reason` is the upstream's own word where it means none of ours; contracts with room for it pass it on.
    """

    reason: FinishReason = "stop"
    usage: Usage | None = None
    has_finish_reason: bool = True
    upstream_reason: str = ""


class Fault(msgspec.Struct, frozen=True):
    """The answer broke off. Nothing follows, and it never counts as done."""

    error: ProxyError
    usage: Usage | None = None


StreamEvent = (
    Start | TextDelta | ReasoningDelta | ReasoningSignature | RefusalDelta | ToolCallStart | ToolCallDelta
    | Source | Media | Notice | Finish | Fault
)  # fmt: skip

CONTENT = frozenset({TextDelta, ReasoningDelta, RefusalDelta, ToolCallStart, ToolCallDelta, Media})
"""What moves the content clock (pings, role chunks and empty deltas do not)."""

TERMINAL = frozenset({Finish, Fault})

_OPEN = CONTENT | {ReasoningSignature, Source, Notice}
ORDER: dict[type | None, frozenset[type]] = {
    None: frozenset({Start, Fault}),
    Start: frozenset(_OPEN | TERMINAL),
    **dict.fromkeys(_OPEN, frozenset(_OPEN | TERMINAL)),
    Finish: frozenset(),
    Fault: frozenset(),
}
"""What may follow what. `None` is the beginning."""


class Batch(msgspec.Struct):
    """All that one read from the upstream brought: the events and, where it has one, their wire form.

    `payloads` are the upstream's own messages in dialect `dialect`, framed as that dialect frames them, complete
    and in order, also those that led to no event; one piece may hold several. An encoder of that dialect sends
    these in place of the events, so nothing unknown is lost and nothing is encoded twice.
    """

    events: list[StreamEvent]
    dialect: str = ""
    payloads: list[bytes] = []
    whole: bytes = b""  # the upstream's unstreamed body, in `dialect`
    text_only: bool = False  # every event is a TextDelta, and there is one; set by decoders that know it

    @property
    def content(self) -> int:
        """How many of its events are content, which is about its tokens."""
        events = self.events
        if len(events) == 1:
            return type(events[0]) in CONTENT
        return sum([type(event) in CONTENT for event in events])

    @property
    def has_content(self) -> bool:
        for event in self.events:  # noqa: SIM110 - a generator costs three times as much
            if type(event) in CONTENT:
                return True
        return False

    @property
    def terminal(self) -> Finish | Fault | None:
        """The event that ends the stream, if this batch brings it."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, (Finish, Fault)) else None


Batches = AsyncGenerator[Batch, None]
"""One answer, from its first event to its terminal one. Closing it closes the upstream."""


class OrderError(InternalError):
    """A backend broke the order of events: our bug or a plug-in's, not the upstream's."""


def check_order(events: Iterable[StreamEvent], previous: type | None = None) -> type | None:
    """Raise `OrderError` at the first event that may not stand where it stands; return the last one's type."""
    for event in events:
        if type(event) not in ORDER[previous]:
            before = previous.__name__ if previous else "the beginning"
            raise OrderError(f"{type(event).__name__} may not follow {before}")
        previous = type(event)
    return previous


class Collector:
    """Adds events up to an `Answer`."""

    def __init__(self) -> None:
        self._answer = Answer()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._signature: list[str] = []
        self._sources: list[tuple[str, str]] = []
        self._media: list[tuple[str, str]] = []

    def add(self, batch: Batch) -> Finish | Fault | None:
        """Take a batch in; returns the terminal event once it has come."""
        answer = self._answer
        if batch.whole:
            answer.payload, answer.dialect = batch.whole, batch.dialect
        for event in batch.events:
            match event:
                case TextDelta(text):
                    self._text.append(text)
                case ReasoningDelta(text):
                    self._reasoning.append(text)
                case RefusalDelta(text):
                    self._refusal.append(text)
                case ToolCallStart(index, id_, name):
                    self._calls[index] = (id_, name, [])
                case ToolCallDelta(index, arguments):
                    if index in self._calls:
                        self._calls[index][2].append(arguments)
                case Start(id_, model):
                    answer.id, answer.model = id_, model
                case Finish(reason, usage):
                    answer.finish_reason, answer.usage = reason, usage
                    answer.upstream_reason = event.upstream_reason
                    return event
                case Fault():
                    return event
                case ReasoningSignature(signature):
                    self._signature.append(signature)
                case Source(url, title):
                    self._sources.append((url, title))
                case Media(media_type, url):
                    self._media.append((media_type, url))
                case Notice():
                    pass
        return None

    def answer(self) -> Answer:
        """What has come so far."""
        answer = self._answer
        answer.text = "".join(self._text)
        answer.reasoning = "".join(self._reasoning)
        answer.reasoning_signature = "".join(self._signature)
        answer.refusal = "".join(self._refusal)
        answer.sources, answer.media = tuple(self._sources), tuple(self._media)
        answer.tool_calls = tuple(
            ToolCall(id_, name, "".join(pieces)) for _, (id_, name, pieces) in sorted(self._calls.items())
        )
        return answer


async def collect(batches: AsyncIterator[Batch]) -> Answer:
    """The whole answer of a stream. Raises the error of a `Fault`."""
    collector = Collector()
    async for batch in batches:
        match collector.add(batch):
            case Fault(error):
                raise error
            case Finish():
                return collector.answer()
            case None:
                pass
    raise OrderError("the stream ended without Finish or Fault")
