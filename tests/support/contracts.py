"""Every contract: a request in it, how its answers are written, how its clients read them and what they learn.

The readers take the bytes in any pieces. Where the proxy has a decoder of its own, because an upstream speaks the
contract too, that is the reader; the others stand in this folder, written from the clients and sharing no code with
the package.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence

import msgspec

from proxy.contracts.ag_ui import writer as ag_ui_writer
from proxy.contracts.ai_sdk import text_writer as ai_text
from proxy.contracts.ai_sdk import writer as ai_sdk_writer
from proxy.contracts.anthropic import writer as anthropic_writer
from proxy.contracts.chat import writer as chat_writer
from proxy.contracts.declared import frontend as declared_frontend
from proxy.contracts.ollama import writer as ollama_writer
from proxy.contracts.openai import writer as openai_writer
from proxy.contracts.responses import objects as openai_responses_object
from proxy.contracts.responses import tools as openai_responses_tools
from proxy.contracts.responses import writer as openai_responses_writer
from proxy.errors import ProxyError
from proxy.events import (
    Batch,
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
from proxy.request import ChatRequest, Message, Text, Tool, ToolCall, Usage
from proxy.testing.contract import ONLY_TEXT, ContractCase, Understood, carrying
from proxy.wire.text import error_line
from tests.matrix import asking, reading
from tests.support import declared
from tests.support.answers import for_the_hook, with_lf
from tests.support.readers import event_text, read, seed_text
from tests.support.ui_readers import RunReader

Events = Sequence[StreamEvent]
Pieces = list[bytes]


class Contract(msgspec.Struct, frozen=True):
    """The case of the conformance suite; and for golden transcripts a writer with fixed ids and times."""

    case: ContractCase
    suffix: str
    writer: Callable[[], Callable[[Batch], bytes]]

    def write(self, events: Events) -> bytes:
        return self.writer()(Batch(list(events)))


PLAIN = ChatRequest(
    id="req-1",
    contract="any",
    dialect="any",
    messages=(
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hm?"),)),
        Message("assistant", (Text("Yes?"),)),
        Message("user", (Text("Rain in Oslo?"),)),
    ),
    params={"temperature": 0.5, "max_tokens": 9},
    wants_usage=True,
)
RICH = msgspec.structs.replace(
    PLAIN,
    messages=(
        *PLAIN.messages,
        Message("assistant", tool_calls=(ToolCall("call_1", "weather", '{"city": "Oslo"}'),)),
        Message("tool", (Text("wet"),), tool_call_id="call_1", name="weather"),
        Message("user", (Text("And there?"),)),
    ),
    tools=(Tool("weather", "tells the weather", {"type": "object", "properties": {"city": {"type": "string"}}}),),
)


def said(contract: str, request: ChatRequest) -> bytes:
    """The request in the contract's own words."""
    _, say = asking.SAID[contract]
    return json.dumps(say(request)).encode()


ALL = carrying(ReasoningDelta, ReasoningSignature, ToolCallStart, ToolCallDelta, Source, Media, Notice)
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

    def carries(event: StreamEvent) -> StreamEvent | None:
        """Readers of named events get notices, and one notice for all images that were left out."""
        if dialect in ("sse", "json") and isinstance(event, (Media, Notice)):
            notice = LOST_MEDIA if isinstance(event, Media) else event
            return Notice("", error_line(ProxyError(notice.message, code=""))) if dialect == "sse" else notice
        return ONLY_TEXT(event)

    def seen(answer: Understood) -> Understood:
        text = "".join(text for _, text in answer.content)
        if dialect != "json":
            text = for_the_hook(text) if dialect == "text" else with_lf(text)
        end = answer.end if answer.failed else "stop"
        lost = [notice for notice in answer.notices if notice.message == LOST_MEDIA.message]
        notices = [notice for notice in answer.notices if notice not in lost] + ([] if answer.failed else lost[:1])
        return answer.but(content=[(TextDelta, text)] if text else [], notices=notices, end=end, usage=None)

    return Contract(
        ContractCase(
            "chat",
            said("chat", PLAIN),
            reading.chat if dialect == "json" else read_it,
            carries,
            seen,
            query={"dialect": dialect},
        ),
        "txt",
        lambda: chat_writer.ChatWriter(dialect, request_id="req-1").feed,
    )


def _seen_in_bare_text(answer: Understood) -> Understood:
    """Everything is text, and only the connection says how the answer ended."""
    text = "".join(text for _, text in answer.content)
    return answer.but(content=[(TextDelta, text)], end="stop", failed=False, usage=None)


# -- openai, responses, anthropic ------------------------------------------------------------------------------------


def _carried_by_openai(event: StreamEvent) -> StreamEvent | None:
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


def _carried_by_responses(event: StreamEvent) -> StreamEvent | None:
    if isinstance(event, Media) and not event.url.startswith("data:"):
        return Source(event.url, event.media_type)  # what is no image is a link
    return None if isinstance(event, Notice) else event


def _seen_in_responses(answer: Understood) -> Understood:
    end = "tool_calls" if answer.calls else "stop"
    return answer if answer.failed or answer.end in ("length", "content_filter") else answer.but(end=end)


def _seen_in_chunks(answer: Understood) -> Understood:
    return answer.but(end="tool_calls") if answer.calls and answer.end == "stop" else answer


def _anthropic_writer() -> Callable[[Batch], bytes]:
    return anthropic_writer.AnthropicWriter(id="msg_7", request_id="r7", model="asked-for", input_tokens=lambda: 9).feed


def _seen_in_messages(answer: Understood) -> Understood:
    """A refusal is text, and the reason to stop. Cached tokens are not part of the input's other tokens."""
    usage = answer.usage
    if usage is not None:
        usage = msgspec.structs.replace(usage, input_tokens=max(usage.input_tokens, usage.cached_tokens))
    end = answer.end
    if end == "stop":
        refused = any(kind is RefusalDelta for kind, _ in answer.content)
        end = "content_filter" if refused else "tool_calls" if answer.calls else "stop"
    content = [(TextDelta if kind is RefusalDelta else kind, text) for kind, text in answer.content]
    runs = [(kind, "".join(text for _, text in run)) for kind, run in itertools.groupby(content, lambda one: one[0])]
    return answer.but(content=runs, usage=usage, end=end)


# -- ollama ----------------------------------------------------------------------------------------------------------

TEN_O_CLOCK = 1_795_255_200 * 10**9  # 2026-11-21T10:00:00Z


GENERATES = {
    "model": "any",
    "prompt": "Hm?",
    "system": "Be brief.",
    "images": ["iVBORw0KGgo="],
    "options": {"temperature": 0.5, "num_predict": 9, "stop": ["\n"]},
    "stream": True,
    "think": True,
}


def _ollama(form: ollama_writer.Form) -> Contract:
    generates = form is ollama_writer.GENERATE
    request = ChatRequest(
        id="7", contract="ollama", dialect="ollama", messages=(Message("user", (Text("Hm?"),)),), model="asked-for"
    )

    def seen(answer: Understood) -> Understood:
        """Text and thinking stand in fields of their own, and calls come at the end, if they are whole."""
        fields = {
            kind: "".join(text for one, text in answer.content if one is kind) for kind in (ReasoningDelta, TextDelta)
        }
        calls = [] if answer.failed or generates else answer.calls
        calls = [(id_, name, json.dumps(json.loads(arguments))) for id_, name, arguments in calls]
        end = "stop" if answer.end == "tool_calls" else answer.end
        usage = answer.usage and Usage(answer.usage.input_tokens, answer.usage.output_tokens)
        return answer.but(content=[field for field in fields.items() if field[1]], calls=calls, end=end, usage=usage)

    return Contract(
        ContractCase(
            "ollama",
            json.dumps(GENERATES).encode() if generates else said("ollama", RICH),
            lambda pieces: reading.ollama(pieces, generate=generates),
            carrying(ReasoningDelta, ToolCallStart, ToolCallDelta),
            seen,
            path="/ollama/api/generate" if generates else "/ollama/api/chat",
            estimates_usage=True,
        ),
        "ndjson",
        lambda: ollama_writer.OllamaWriter(form, request, now_ns=TEN_O_CLOCK, clock=lambda: 5 * 10**9).feed,
    )


# -- ag-ui, declared -------------------------------------------------------------------------------------------------


def _ag_ui(version: str | None, *, reasoning: bool = True, signature: bool = True) -> Contract:
    run = ag_ui_writer.Run(thread_id="thread-1", run_id="run-1", version=version)

    def seen(answer: Understood) -> Understood:
        if version == "1.0":
            return answer
        return answer.but(end=answer.end if answer.failed else "stop", usage=None)

    thoughts = (*((ReasoningDelta,) if reasoning else ()), *((ReasoningSignature,) if signature else ()))
    body = json.loads(said("ag-ui", RICH))
    body.pop("protocolVersion")
    return Contract(
        ContractCase(
            "ag-ui",
            json.dumps(body).encode(),
            lambda pieces: reading.fed(RunReader(version), pieces).events,
            carrying(*thoughts, ToolCallStart, ToolCallDelta, Source, Media, Notice),
            seen,
            query={"protocolVersion": version} if version else {},
            streams_only=True,
        ),
        "sse",
        lambda: ag_ui_writer.AGUIWriter(run, message_id="msg-1").feed,
    )


CONTRACTS: Mapping[str, Contract] = {
    **{f"chat-{dialect}": _chat(dialect) for dialect in chat_writer.DIALECTS},
    "openai": Contract(
        ContractCase("openai", said("openai", RICH), reading.openai, _carried_by_openai, _seen_in_chunks),
        "sse",
        lambda: openai_writer.OpenAIWriter(id="chatcmpl-7", model="asked-for", created=1793000000, usage=True).feed,
    ),
    "responses": Contract(
        ContractCase(
            "responses", said("responses", RICH), reading.responses, _carried_by_responses, _seen_in_responses
        ),
        "sse",
        _responses_writer,
    ),
    "anthropic": Contract(
        ContractCase(
            "anthropic",
            said("anthropic", RICH),
            reading.anthropic,
            carrying(ReasoningDelta, ReasoningSignature, ToolCallStart, ToolCallDelta, refusals=True),
            _seen_in_messages,
            estimates_usage=True,
            hides_calls_of_failed_answers=True,
        ),
        "sse",
        _anthropic_writer,
    ),
    "ollama": _ollama(ollama_writer.CHAT),
    "ollama-generate": _ollama(ollama_writer.GENERATE),
    "ai-sdk": Contract(
        ContractCase("ai-sdk", said("ai-sdk", RICH), reading.ai_sdk, ALL),
        "sse",
        lambda: ai_sdk_writer.AISDKWriter(id="req-1", usage=True).feed,
    ),
    "ai-text": Contract(
        ContractCase("ai-text", said("ai-sdk", PLAIN), reading.ai_text, ONLY_TEXT, _seen_in_bare_text),
        "txt",
        lambda: ai_text.AITextWriter().feed,
    ),
    "ag-ui": _ag_ui("1.0"),
    "ag-ui-0.0.59": _ag_ui("0.0.59"),
    "ag-ui-0.0.40": _ag_ui("0.0.40", signature=False),
    "ag-ui-0.0": _ag_ui(None, reasoning=False, signature=False),
    "declared": Contract(
        ContractCase(
            "own",
            said("declared", RICH),
            reading.declared,
            carrying(ReasoningDelta, ToolCallStart, ToolCallDelta, Source, Media, Notice),
            frontend=declared_frontend.DeclaredFrontend("own", declared.declared_settings(asking.DECLARED)),
        ),
        "sse",
        lambda: declared.writer(declared.contract(asking.DECLARED)).feed,
    ),
}
