"""Every contract in a row: how its answers are written, how its clients read them, and what of an answer they tell.

The readers take the bytes in any pieces. Where the proxy has a decoder of its own, because an upstream speaks the
contract too, that is the reader; the others stand in this folder, written from the clients and sharing no code with
the package.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from proxy.contracts.ag_ui import writer as ag_ui_writer
from proxy.contracts.ai_sdk import text_writer as ai_text
from proxy.contracts.ai_sdk import writer as ai_sdk_writer
from proxy.contracts.anthropic import writer as anthropic_writer
from proxy.contracts.chat import writer as chat_writer
from proxy.contracts.ollama import writer as ollama_writer
from proxy.contracts.openai import writer as openai_writer
from proxy.contracts.responses import objects as openai_responses_object
from proxy.contracts.responses import tools as openai_responses_tools
from proxy.contracts.responses import writer as openai_responses_writer
from proxy.errors import ProxyError
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import ChatRequest, Message, Text, Usage
from proxy.wire.text import error_line
from tests.matrix import asking, reading
from tests.support import declared
from tests.support.answers import for_the_hook, with_lf
from tests.support.readers import event_text, read, seed_text
from tests.support.ui_readers import RunReader

Events = Sequence[StreamEvent]
Pieces = list[bytes]


class Told(msgspec.Struct, frozen=True):
    """An answer without what depends on where it was cut into pieces."""

    said: list[tuple[type, Any]]  # runs of text, reasoning, refusal and media, in their order
    sources: list[StreamEvent]
    notices: list[StreamEvent]
    seal: str
    calls: list[tuple[str, str, Any]]
    end: str  # the reason, or what went wrong
    broke_off: bool
    usage: Usage | None

    def but(self, **changed: Any) -> Told:
        return msgspec.structs.replace(self, **changed)


def told(events: Events) -> Told:
    said = [event for event in events if isinstance(event, (TextDelta, ReasoningDelta, RefusalDelta, Media))]
    runs = [
        (kind, list(run) if kind is Media else "".join([event.text for event in run]))
        for kind, run in itertools.groupby(said, type)
    ]
    collector = Collector()
    end = collector.add(Batch(list(events)))
    answer = collector.answer()
    calls = [(call.id, call.name, call.arguments or "{}") for call in answer.tool_calls]
    return Told(
        said=runs,
        sources=[event for event in events if isinstance(event, Source)],
        notices=[event for event in events if isinstance(event, Notice)],
        seal=answer.reasoning_signature,
        calls=calls,
        end=end.error.message if isinstance(end, Fault) else end.reason if end else "none at all",
        broke_off=isinstance(end, Fault),
        usage=answer.usage,
    )


class Contract(msgspec.Struct, frozen=True):
    """`left` is what clients can be told of an event, None for nothing; `seen` what becomes of the answer as a whole.

    `estimates`: tokens that nobody counted are told all the same. `cuts`: of an answer that broke off with calls in it
    only the end is sure, for what waits behind an open call is not told.
    """

    frontend: str
    suffix: str
    writer: Callable[[], Callable[[Batch], bytes]]
    read: Callable[[Pieces], Events]
    left: Callable[[StreamEvent], StreamEvent | None]
    seen: Callable[[Told], Told] = lambda told: told
    estimates: bool = False
    cuts: bool = False

    def write(self, events: Events) -> bytes:
        return self.writer()(Batch(list(events)))

    def check(self, pieces: Pieces, events: Events) -> None:
        """That clients read what these events say."""
        expected = self.seen(told([left for event in events if (left := self.left(event)) is not None]))
        found = told(self.read(pieces))
        if self.estimates and expected.usage is None:
            found = found.but(usage=None)
        if self.cuts and expected.broke_off and expected.calls:
            expected, found = (one.but(said=[], seal="", calls=[]) for one in (expected, found))
        assert found == expected


def losing(*kinds: type, refusals: bool = False) -> Callable[[StreamEvent], StreamEvent | None]:
    """All but these kinds are carried; a refusal as text, unless the contract has `refusals`."""

    def left(event: StreamEvent) -> StreamEvent | None:
        if isinstance(event, kinds):
            return None
        return TextDelta(event.text) if isinstance(event, RefusalDelta) and not refusals else event

    return left


ONLY_TEXT = losing(ReasoningDelta, ReasoningSignature, ToolCallStart, ToolCallDelta, Source, Media, Notice)


LOST_MEDIA = Notice("ignored_media", "an image was left out: this contract has no place for it")


# -- chat, ai-text ---------------------------------------------------------------------------------------------------


def _chat(dialect: chat_writer.Dialect) -> Contract:
    def read_it(pieces: Pieces) -> Events:
        named = [(name, data) for name, data in read(reading.ConformantReader, pieces) if name != "message"]
        notices = [Notice("", data) for name, data in named if name == "notice"]
        text = event_text(pieces)
        if dialect in ("text", "both"):
            hook = with_lf(seed_text(pieces))
            assert dialect == "text" or hook == for_the_hook(text)
            text = hook if dialect == "text" else text
        ((name, data),) = [(name, data) for name, data in named if name != "notice"]
        end = Finish() if name == "done" else Fault(ProxyError(data))
        return [*([TextDelta(text)] if text else []), *notices, end]

    def left(event: StreamEvent) -> StreamEvent | None:
        """Where readers know named events there are notices, and one for all the images that got lost."""
        if dialect in ("sse", "json") and isinstance(event, (Media, Notice)):
            notice = LOST_MEDIA if isinstance(event, Media) else event
            return Notice("", error_line(ProxyError(notice.message, code=""))) if dialect == "sse" else notice
        return ONLY_TEXT(event)

    def seen(told: Told) -> Told:
        text = "".join(text for _, text in told.said)
        text = for_the_hook(text) if dialect == "text" else with_lf(text)
        end = told.end if told.broke_off else "stop"
        lost = [notice for notice in told.notices if notice.message == LOST_MEDIA.message]
        notices = [notice for notice in told.notices if notice not in lost] + ([] if told.broke_off else lost[:1])
        return told.but(said=[(TextDelta, text)] if text else [], notices=notices, end=end, usage=None)

    return Contract(
        "chat",
        "txt",
        lambda: chat_writer.ChatWriter(dialect, request_id="req-1").feed,
        reading.chat if dialect == "json" else read_it,
        left,
        seen,
    )


def _seen_in_bare_text(told: Told) -> Told:
    """How it ended is told by the connection, and all there is of it is text."""
    return told.but(said=[(TextDelta, "".join(text for _, text in told.said))], end="stop", broke_off=False, usage=None)


# -- openai, responses, anthropic ------------------------------------------------------------------------------------


def _left_of_openai(event: StreamEvent) -> StreamEvent | None:
    if isinstance(event, Media):
        return Media("image/png", event.url)  # only the address is told; the examples' images are of this type
    return None if isinstance(event, (ReasoningSignature, Notice)) else event


def _responses_writer() -> Callable[[Batch], bytes]:
    tools = openai_responses_tools.read_tools({})
    response = openai_responses_object.ResponseObject({}, tools, id="resp_7", created=1793000000)
    writer = openai_responses_writer.ResponsesWriter(
        response, tools, id="7", model="asked-for", clock=lambda: 1793000009
    )
    return writer.feed


def _left_in_responses(event: StreamEvent) -> StreamEvent | None:
    if isinstance(event, Media) and not event.url.startswith("data:"):
        return Source(event.url, event.media_type)  # what is no image is a link
    return None if isinstance(event, Notice) else event


def _seen_in_responses(told: Told) -> Told:
    end = "tool_calls" if told.calls else "stop"
    return told if told.broke_off or told.end in ("length", "content_filter") else told.but(end=end)


def _anthropic_writer() -> Callable[[Batch], bytes]:
    return anthropic_writer.AnthropicWriter(id="msg_7", request_id="r7", model="asked-for", input_tokens=lambda: 9).feed


def _seen_in_messages(told: Told) -> Told:
    """A refusal is text, and the reason to stop. Cached tokens are told beside the others of the input."""
    usage = told.usage
    if usage is not None:
        usage = msgspec.structs.replace(usage, input_tokens=max(usage.input_tokens, usage.cached_tokens))
    end = told.end
    if end == "stop":
        refused = any(kind is RefusalDelta for kind, _ in told.said)
        end = "content_filter" if refused else "tool_calls" if told.calls else "stop"
    said = [(TextDelta if kind is RefusalDelta else kind, text) for kind, text in told.said]
    runs = [(kind, "".join(text for _, text in run)) for kind, run in itertools.groupby(said, lambda one: one[0])]
    return told.but(said=runs, usage=usage, end=end)


# -- ollama ----------------------------------------------------------------------------------------------------------

TEN_O_CLOCK = 1_795_255_200 * 10**9  # 2026-11-21T10:00:00Z


def _ollama(form: ollama_writer.Form) -> Contract:
    request = ChatRequest(
        id="7", contract="ollama", dialect="ollama", messages=(Message("user", (Text("Hm?"),)),), model="asked-for"
    )

    def seen(told: Told) -> Told:
        """Text and thinking stand in fields of their own, and calls are told at the end, if they are whole."""
        fields = {kind: "".join(text for one, text in told.said if one is kind) for kind in (ReasoningDelta, TextDelta)}
        calls = [] if told.broke_off or form is ollama_writer.GENERATE else told.calls
        calls = [(id_, name, json.dumps(json.loads(arguments))) for id_, name, arguments in calls]
        end = told.end if told.broke_off or told.end == "length" else "stop"
        usage = told.usage and Usage(told.usage.input_tokens, told.usage.output_tokens)
        return told.but(said=[field for field in fields.items() if field[1]], calls=calls, end=end, usage=usage)

    return Contract(
        "ollama",
        "ndjson",
        lambda: ollama_writer.OllamaWriter(form, request, now_ns=TEN_O_CLOCK, clock=lambda: 5 * 10**9).feed,
        lambda pieces: reading.ollama(pieces, generate=form is ollama_writer.GENERATE),
        losing(ReasoningSignature, Source, Media, Notice),
        seen,
        estimates=True,
    )


# -- ag-ui, declared -------------------------------------------------------------------------------------------------


def _ag_ui(version: str | None, *untold: type) -> Contract:
    run = ag_ui_writer.Run(thread_id="thread-1", run_id="run-1", version=version)

    def seen(told: Told) -> Told:
        if version == "1.0":
            return told
        return told.but(end=told.end if told.broke_off else "stop", usage=None)

    return Contract(
        "ag-ui",
        "sse",
        lambda: ag_ui_writer.AGUIWriter(run, message_id="msg-1").feed,
        lambda pieces: reading.fed(RunReader(version), pieces).events,
        losing(*untold),
        seen,
    )


CONTRACTS: Mapping[str, Contract] = {
    **{f"chat-{dialect}": _chat(dialect) for dialect in chat_writer.DIALECTS},
    "openai": Contract(
        "openai",
        "sse",
        lambda: openai_writer.OpenAIWriter(id="chatcmpl-7", model="asked-for", created=1793000000, usage=True).feed,
        reading.openai,
        _left_of_openai,
    ),
    "responses": Contract(
        "responses", "sse", _responses_writer, reading.responses, _left_in_responses, _seen_in_responses
    ),
    "anthropic": Contract(
        "anthropic",
        "sse",
        _anthropic_writer,
        reading.anthropic,
        losing(Source, Media, Notice, refusals=True),
        _seen_in_messages,
        estimates=True,
        cuts=True,
    ),
    "ollama": _ollama(ollama_writer.CHAT),
    "ollama-generate": _ollama(ollama_writer.GENERATE),
    "ai-sdk": Contract(
        "ai-sdk",
        "sse",
        lambda: ai_sdk_writer.AISDKWriter(id="req-1", usage=True).feed,
        reading.ai_sdk,
        losing(),
    ),
    "ai-text": Contract(
        "ai-text", "txt", lambda: ai_text.AITextWriter().feed, reading.ai_text, ONLY_TEXT, _seen_in_bare_text
    ),
    "ag-ui": _ag_ui("1.0"),
    "ag-ui-0.0.59": _ag_ui("0.0.59"),
    "ag-ui-0.0.40": _ag_ui("0.0.40", ReasoningSignature),
    "ag-ui-0.0": _ag_ui(None, ReasoningDelta, ReasoningSignature),
    "declared": Contract(
        "declared",
        "sse",
        lambda: declared.writer(declared.contract(asking.DECLARED)).feed,
        reading.declared,
        losing(ReasoningSignature),
    ),
}
