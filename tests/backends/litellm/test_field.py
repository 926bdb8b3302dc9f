"""Streams met in the field, through litellm: what its own readers drop is read all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import product
from typing import Any

import msgspec
import pytest

from proxy.backends.base import Resources
from proxy.backends.litellm.backend import LiteLLMBackend
from proxy.backends.litellm.settings import LiteLLMSettings
from proxy.backends.litellm.wires import LITELLM, wire_of
from proxy.errors import UpstreamError
from proxy.events import Fault, Finish, ReasoningDelta, Source, ToolCallDelta, ToolCallStart
from proxy.request import ChatRequest, Message, Text
from proxy.routing.plan import Target
from proxy.testing.backend import CANARY
from proxy.testing.outcome import Outcome, outcome
from proxy.testing.script import LAST_CHUNK, Send, Split, Step, chunked, head, json_reply, openai_chunk
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire
from proxy.transport import HttpTransport

pytestmark = [
    pytest.mark.xdist_group("litellm"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning"),
]

SPEAK_OPENAI = [
    "openai", "azure", "hosted_vllm", "groq", "deepseek", "mistral", "xai", "together_ai", "fireworks_ai", "openrouter",
    "perplexity", "moonshot", "cerebras", "zai",
]  # fmt: skip
OTHERS = ["gemini", "ollama_chat", "ollama"]


@pytest.fixture
async def backend(upstream: ScriptedUpstream) -> AsyncIterator[LiteLLMBackend]:
    transport = HttpTransport()
    row = {"kind": "litellm", "api_key": CANARY, "api_base": upstream.url, "api_version": "2024-10-21"}
    made = LiteLLMBackend("any", LiteLLMSettings.model_validate(row), Resources(transport))
    await made.open()
    yield made
    await made.aclose()
    await transport.aclose()


def sse(*events: object, end: bool = True) -> bytes:
    frames = [b"data: " + (one if isinstance(one, bytes) else msgspec.json.encode(one)) + b"\n\n" for one in events]
    return b"".join(frames) + (b"data: [DONE]\n\n" if end else b"")


def streamed(body: bytes, kind: str = "text/event-stream") -> list[Step]:
    """One write, so that one read brings all of it."""
    return [head(200, {"transfer-encoding": "chunked", "content-type": kind}), Send(chunked(body) + LAST_CHUNK)]


async def ask(backend: LiteLLMBackend, model: str) -> Outcome:
    request = ChatRequest(id="r1", contract="chat", dialect="chat", messages=(Message("user", (Text("hi"),)),))
    return await outcome(backend, Target("any", model), request)


def only(got: Outcome, *kinds: type) -> list[Any]:
    return [event for event in got.events if isinstance(event, kinds)]


def gemini(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}]}


def begun(provider: str) -> tuple[list[object], bytes, str]:
    """A piece of an answer as this provider streams it, what ends its streams, and its content type."""
    match provider:
        case "gemini":
            return [gemini("Half ")], b"", "text/event-stream"
        case "ollama_chat":
            return (
                [{"model": "m", "message": {"role": "assistant", "content": "Half "}, "done": False}],
                b"",
                "application/x-ndjson",
            )
        case "ollama":
            return [{"model": "m", "response": "Half ", "done": False}], b"", "application/x-ndjson"
        case _:
            return [openai_chunk({"role": "assistant", "content": "Half "})], b"data: [DONE]\n\n", "text/event-stream"


ERRORS: list[tuple[object, int, str]] = [
    ({"error": {"message": "engine queue full", "type": "server_error", "code": 503}}, 503, "engine queue full"),
    ({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}, 429, "slow down"),
    ({"error": "an error was encountered while running the model: CUDA"}, 502, "CUDA"),
    (
        {"object": "error", "message": "EngineCore died", "type": "InternalServerError", "param": None, "code": 500},
        500,
        "died",
    ),
    ({"message": "Too many requests", "__type": "ThrottlingException"}, 502, "Too many"),
]


@pytest.mark.parametrize("provider", [*SPEAK_OPENAI, *OTHERS])
async def test_U1_an_error_before_the_end_mark_is_an_error(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, provider: str
) -> None:
    pieces, end, kind = begun(provider)
    for (error, status, words), before in product(ERRORS, ([], pieces)):
        events = [*before, error]
        if kind == "text/event-stream":
            body = sse(*events, end=False) + end
        else:
            body = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
        upstream.play(*streamed(body, kind))
        got = await ask(backend, f"{provider}/m")
        assert not only(got, Finish), (error, before)
        assert isinstance(got.error, UpstreamError)
        assert got.text == ("Half " if before else "")
        assert got.error.status == status, (error, before)
        assert words in got.error.message
        assert got.error.fallback


@pytest.mark.parametrize(
    ("reason", "meant"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", None),
        ("UNEXPECTED_TOOL_CALL", None),
    ],
)
async def test_U4_a_reason_that_litellm_calls_stop_keeps_its_meaning(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, reason: str, meant: str | None
) -> None:
    upstream.play(*streamed(sse(gemini("Half "), gemini("and", finishReason=reason), end=False)))
    got = await ask(backend, "gemini/m")
    assert [end.reason for end in only(got, Finish)] == ([meant] if meant else [])
    assert meant is not None or isinstance(got.error, UpstreamError)


@pytest.mark.parametrize("provider", ["zai", "openai", "groq"])
async def test_U4_an_upstream_that_gave_up_is_an_error(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, provider: str
) -> None:
    upstream.play(*streamed(sse(openai_chunk({"content": "Half"}), openai_chunk({}, finish="network_error"))))
    got = await ask(backend, f"{provider}/m")
    assert not only(got, Finish)
    assert isinstance(got.error, UpstreamError)


async def test_U5_numbers_in_text_are_text_as_written(upstream: ScriptedUpstream, backend: LiteLLMBackend) -> None:
    chunks = b'data: {"choices":[{"index":0,"delta":{"content":0.50}}]}\n\n'
    upstream.play(*streamed(chunks + sse(openai_chunk({}, finish="stop"))))
    assert (await ask(backend, "openai/m")).text == "0.50"


async def test_U10_sources_at_the_top_of_a_chunk_are_told(upstream: ScriptedUpstream, backend: LiteLLMBackend) -> None:
    found = {"search_results": [{"title": "A", "url": "https://a.example/1"}], "citations": ["https://a.example/1"]}
    chunks = [{**openai_chunk({"content": "So [1]."}), **found}, {**openai_chunk({}, finish="stop"), **found}]
    upstream.play(*streamed(sse(*chunks)))
    got = await ask(backend, "perplexity/m")
    assert [source.url for source in only(got, Source)] == ["https://a.example/1"]


@pytest.mark.parametrize("provider", ["openai", "zai", "databricks"])
@pytest.mark.parametrize("size", [0, 1, 7])
async def test_U5_text_in_parts_is_not_lost(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, provider: str, size: int
) -> None:
    body = sse(
        openai_chunk({"role": "assistant", "content": [{"type": "text", "text": "Answer"}]}),
        openai_chunk({"content": " is 4"}),
        openai_chunk({}, finish="stop"),
    )
    steps: Sequence[Any] = streamed(body)
    if size:
        steps = [steps[0], Split(chunked(body) + LAST_CHUNK, size)]
    upstream.play(*steps)
    got = await ask(backend, f"{provider}/m")
    assert got.text == "Answer is 4"
    assert only(got, Finish)


@pytest.mark.parametrize("keep_alive", [b": ping\n\n", b"data:\n\n", b"data: \n\n", b"\n\n"])
async def test_U6_keep_alives_are_no_events(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, keep_alive: bytes
) -> None:
    chunks = [openai_chunk({"content": "Hi "}), openai_chunk({"content": "there"}), openai_chunk({}, finish="stop")]
    body = keep_alive + b"".join(sse(chunk, end=False) + keep_alive for chunk in chunks) + b"data: [DONE]\n\n"
    upstream.play(*streamed(body))
    got = await ask(backend, "openai/m")
    assert got.text == "Hi there"
    assert only(got, Finish)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
async def test_U7_a_stream_is_known_whatever_its_label_says(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, kind: str
) -> None:
    upstream.play(*streamed(sse(openai_chunk({"content": "ok"}), openai_chunk({}, finish="stop")), kind))
    assert (await ask(backend, "openai/m")).text == "ok"
    upstream.play(
        *streamed(b'{"model":"m","message":{"role":"assistant","content":"ok"},"done":false}\n'
                  b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n', kind)
    )  # fmt: skip
    assert (await ask(backend, "ollama_chat/m")).text == "ok"


WHOLE = {"id": "c", "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", ""])
@pytest.mark.parametrize(
    "body",
    [
        msgspec.json.encode(WHOLE),
        msgspec.json.format(msgspec.json.encode(WHOLE)),
        b"".join(
            msgspec.json.encode(one) + b"\n"
            for one in (openai_chunk({"content": "o"}), openai_chunk({"content": "k"}), openai_chunk({}, finish="stop"))
        ),
    ],
    ids=["whole", "pretty", "lines"],
)
async def test_U7_an_answer_in_json_where_a_stream_was_asked_is_read(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, kind: str, body: bytes
) -> None:
    upstream.play(json_reply(200, body, {"content-type": kind}))
    got = await ask(backend, "hosted_vllm/m")
    assert got.text == "ok"
    assert only(got, Finish)


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (b'{"choices":[{"index":0,"text":"ok"}]}', "ok"),
        (b'{"choices":[{"index":0,"delta":{"content":"ok"},"logprobs":NaN}]}', "ok"),
        (b'{"choices":[{"index":0,"delta":{"content":"a\tb"}}]}', "a\tb"),
        (b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\ndata: {"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}', "\U0001f600"),
    ],
)  # fmt: skip
async def test_U5_an_odd_first_chunk_is_read_by_the_same_decoder(
    upstream: ScriptedUpstream, backend: LiteLLMBackend, first: bytes, text: str
) -> None:
    upstream.play(*streamed(b"data: " + first + b"\n\n" + sse(openai_chunk({}, finish="stop"))))
    got = await ask(backend, "hosted_vllm/m")
    assert got.text == text
    assert only(got, Finish)


async def test_U13_the_input_of_a_call_that_comes_at_its_start_is_kept_once(
    upstream: ScriptedUpstream, backend: LiteLLMBackend
) -> None:
    wire = AnthropicWire()
    block = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block=block),
        wire.event("content_block_stop", index=0),
        wire.end("tool_use"),
    )
    got = await ask(backend, "anthropic/m")
    assert [call.name for call in only(got, ToolCallStart)] == ["get_weather"]
    assert msgspec.json.decode("".join(piece.arguments for piece in only(got, ToolCallDelta))) == {"city": "Oslo"}


async def test_U14_a_tool_that_the_upstream_runs_is_no_call_of_the_client(
    upstream: ScriptedUpstream, backend: LiteLLMBackend
) -> None:
    wire = AnthropicWire()
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_result", "title": "A", "url": "https://a.example/1", "encrypted_content": "e"}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [found]}
    cited = {"type": "web_search_result_location", "cited_text": "c", "url": "https://a.example/1", "title": "A"}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block=use),
        wire.event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"query":"x"}'}),
        wire.event("content_block_stop", index=0),
        wire.event("content_block_start", index=1, content_block=result),
        wire.event("content_block_stop", index=1),
        wire.event("content_block_start", index=2, content_block={"type": "text", "text": "", "citations": []}),
        wire.event("content_block_delta", index=2, delta={"type": "citations_delta", "citation": cited}),
        wire.event("content_block_delta", index=2, delta={"type": "text_delta", "text": "Found."}),
        wire.event("content_block_stop", index=2),
        wire.end("end_turn"),
    )
    got = await ask(backend, "anthropic/m")
    assert got.text == "Found."
    assert not only(got, ToolCallStart, ToolCallDelta)
    assert only(got, Source) == [Source("https://a.example/1", "A")]
    assert [end.reason for end in only(got, Finish)] == ["stop"]


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


async def test_U15_overloaded_is_529_before_and_inside_the_stream(
    upstream: ScriptedUpstream, backend: LiteLLMBackend
) -> None:
    upstream.play(*json_reply(529, OVERLOADED))
    assert (await ask(backend, "anthropic/m")).error.status == 529
    frame = b"event: error\ndata: " + msgspec.json.encode(OVERLOADED) + b"\n\n"
    upstream.play(*streamed(frame))
    assert (await ask(backend, "anthropic/m")).error.status == 529
    upstream.play(AnthropicWire().opened(), Send(chunked(frame) + LAST_CHUNK))
    got = await ask(backend, "anthropic/m")
    assert isinstance(got.events[-1], Fault)
    assert got.error.status == 529


async def test_a_tool_that_litellm_made_of_a_response_format_is_read_back_by_it(
    upstream: ScriptedUpstream, backend: LiteLLMBackend
) -> None:
    wire = AnthropicWire()
    block = {"type": "tool_use", "id": "toolu_1", "name": "json_tool_call", "input": {}}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block=block),
        wire.event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a":1}'}),
        wire.event("content_block_stop", index=0),
        wire.end("tool_use"),
    )
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}
    request = ChatRequest(
        id="r1",
        contract="chat",
        dialect="chat",
        messages=(Message("user", (Text("hi"),)),),
        params={"response_format": schema},
    )
    got = await outcome(backend, Target("any", "anthropic/claude-3-haiku-20240307"), request)
    if b"json_tool_call" in upstream.requests[-1].body:
        assert msgspec.json.decode(got.text) == {"a": 1}
        assert not only(got, ToolCallStart)


@pytest.mark.parametrize(
    ("stream", "wire"),
    [
        (b"", ""),
        (b": hi\n\ndata:\n\n", ""),
        (b"data: {}\n\n", ""),
        (b'data: {"type":"keepalive"}\n\n', ""),
        (b'data: {"usage":{"total_tokens":1}}\n\n', ""),
        (b'data: {"choices":[]}\n\n', ""),
        (b'data: {"choices":null}\n\n', ""),
        (b'data: {"choices":[{"delta":{}}]}', ""),
        (b'data: {"choices":[{"delta":{}}]}\r', "openai-chat"),
        (b'data: {}\n\ndata: {"choices":[{"delta":{}}]}\n', "openai-chat"),
        (b"data: [DONE]\n\n", "openai-chat"),
        (b'data: {"error":"x"}\n\n', "openai-chat"),
        (b'event: message_start\ndata: {"type":"message_start"}\n', "anthropic-messages"),
        (b'data: {"type":"error","error":{}}\n', "anthropic-messages"),
        (b'data: {"choices":[{"text":"a"}]}\n', "openai-chat"),
        (b'data: {"candidates":[]}\n', LITELLM),
        (b'data: {"type":[],"candidates":[]}\n', LITELLM),
        (b"data: {nonsense\n", LITELLM),
        (b"data: 5\n", LITELLM),
    ],
)
def test_the_first_event_that_tells_decides_the_wire(stream: bytes, wire: str) -> None:
    assert wire_of(stream) == wire


async def test_reasoning_is_read_by_the_same_decoder(upstream: ScriptedUpstream, backend: LiteLLMBackend) -> None:
    upstream.play(
        *streamed(sse(openai_chunk({"reasoning_content": "hm"}), openai_chunk({"content": "ok"}, finish="stop")))
    )
    assert only(await ask(backend, "deepseek/m"), ReasoningDelta) == [ReasoningDelta("hm")]
