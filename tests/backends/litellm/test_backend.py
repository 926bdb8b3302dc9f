"""The litellm backend: what it asks of litellm, and what it makes of three providers' real wires."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from proxy.backends.base import Resources
from proxy.backends.litellm import loading
from proxy.backends.litellm.backend import LiteLLMBackend
from proxy.backends.litellm.errors import translate
from proxy.backends.litellm.http import TAKES_HANDLER, UpstreamCall
from proxy.backends.litellm.settings import LiteLLMSettings
from proxy.backends.redact import cleaner
from proxy.contracts.anthropic.request import decode_request
from proxy.contracts.anthropic.writer import AnthropicWriter
from proxy.contracts.openai import completions, embeddings
from proxy.errors import ConfigError, Unsupported, UpstreamFailed, UpstreamMalformed, UpstreamTruncated
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Start,
    ToolCallDelta,
    ToolCallStart,
    collect,
)
from proxy.request import Audio, ChatRequest, File, Image, Message, Text, Tool, ToolCall, Usage
from proxy.routing.plan import Target
from proxy.testing.backend import CANARY
from proxy.testing.outcome import Outcome, outcome
from proxy.testing.script import (
    LAST_CHUNK,
    Rst,
    Send,
    Split,
    Stall,
    chunked,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire, OllamaWire, OpenAIWire, answer
from proxy.transport import HttpTransport, Request, Response
from proxy.wire.secret_shapes import Secrets
from proxy.wire.sse import SSEDecoder

pytestmark = [
    pytest.mark.xdist_group("litellm"),
    # Its types warn when they are first built. It silences that itself, but only as long as the test that imports it.
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning"),
]

OPENAI = Target("any", "openai/scripted-1")
ANTHROPIC = Target("any", "anthropic/claude-sonnet-4-5")
OLLAMA = Target("any", "ollama_chat/scripted-1")

LOOK = Tool("look", "Look something up.", {"type": "object", "properties": {"for": {"type": "string"}}})

Opened = Callable[..., Awaitable[LiteLLMBackend]]


class Counting:
    """The app's transport, with a count of the requests it was given."""

    def __init__(self) -> None:
        self.inner = HttpTransport()
        self.requests: list[Request] = []

    async def open(self, request: Request) -> Response:
        self.requests.append(request)
        return await self.inner.open(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.fixture
async def transport() -> AsyncIterator[Counting]:
    counting = Counting()
    yield counting
    await counting.aclose()


@pytest.fixture
async def opened(upstream: ScriptedUpstream, transport: Counting) -> AsyncIterator[Opened]:
    backends: list[LiteLLMBackend] = []

    async def make(**row: Any) -> LiteLLMBackend:
        row = {"kind": "litellm", "api_key": CANARY, "api_base": upstream.url, **row}
        backend = LiteLLMBackend("any", LiteLLMSettings.model_validate(row), Resources(transport))
        await backend.open()
        backends.append(backend)
        return backend

    yield make
    for backend in backends:
        await backend.aclose()


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    turns = messages or (Message("user", (Text("hi"),)),)
    return ChatRequest(id="r1", contract="chat", dialect="chat", messages=turns, **fields)


def told(got: Outcome, *kinds: type) -> list[Any]:
    return [seen for seen in got.events if isinstance(seen, kinds)]


# -- being there, or not -----------------------------------------------------------------------------------------


def test_importing_the_driver_does_not_import_litellm() -> None:
    code = "import sys, proxy.backends.litellm.backend; assert 'litellm' not in sys.modules, 'it is'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (None, r"pip install 'chat-proxy\[litellm\]'"),
        ("1.82.8", r"1\.82\.8"),
        ("0.9", r"0\.9"),
        ("1.107.0", r"1\.107\.0"),
    ],
)
async def test_a_missing_or_old_litellm_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch, transport: Counting, installed: str | None, said: str
) -> None:
    def version(_: str) -> str:
        if installed is None:
            raise loading.PackageNotFoundError
        return installed

    monkeypatch.setattr(loading, "version", version)
    backend = LiteLLMBackend("any", LiteLLMSettings(kind="litellm"), Resources(transport))
    with pytest.raises(ConfigError, match=said):
        await backend.open()
    await backend.aclose()


def test_nothing_but_the_destination_is_connected_to() -> None:
    """Also not for price lists, tokenizers or model details (J02). Seen from inside a fresh process."""
    code = """
        import asyncio, socket, sys
        asked = []
        def watch(event, args):
            if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
                asked.append((event, args[1] if event == "socket.connect" else args[:2]))
        sys.addaudithook(watch)

        from proxy.backends.base import Resources
        from proxy.backends.litellm.kind import KIND
        from proxy.request import ChatRequest, Message, Text, Tool
        from proxy.events import collect
        from proxy.routing.router import Target
        from proxy.transport import HttpTransport
        from proxy.testing.wires import AnthropicWire, OllamaWire, OpenAIWire, answer
        from proxy.testing.upstream import ScriptedUpstream

        async def main():
            async with ScriptedUpstream() as upstream:
                request = ChatRequest(id="r", contract="", dialect="", messages=(Message("user", (Text("hi"),)),),
                                      tools=(Tool("look", "", {"type": "object", "properties": {}}),))
                for wire, model in ((OpenAIWire(), "openai/unheard-of"), (AnthropicWire(), "anthropic/unheard-of"),
                                    (OllamaWire(), "ollama_chat/unheard-of")):
                    transport = HttpTransport()
                    row = KIND.settings(kind="litellm", api_key="sk-0123456789", api_base=upstream.url)
                    backend = KIND.build("any", row, Resources(transport))
                    await backend.open()
                    upstream.always(answer(wire, ["one", " two"]))
                    got = await collect(backend.stream(request, Target("any", model)))
                    assert got.text == "one two", got
                    await asyncio.sleep(0.05)  # whatever litellm does afterwards
                    await backend.aclose()
                    await transport.aclose()
                assert len(upstream.requests) == 3, [seen.path for seen in upstream.requests]
                others = [what for what in asked if not (what[0] == "socket.connect" and what[1][1] == upstream.port)
                          and what[1][0] not in ("127.0.0.1", None)]
                assert not others, others
                assert asked, "the hook saw nothing"

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", dedent(code)],
        check=False, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == ""


# -- what it asks ------------------------------------------------------------------------------------------------


async def test_messages_tools_and_settings_go_out_as_they_are(upstream: ScriptedUpstream, opened: Opened) -> None:
    upstream.play(openai_stream(["ok"]))
    request = ask(
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("What is"), Image("https://example.org/x.png", "low"), Audio("UklG", "wav"))),
        Message("assistant", tool_calls=(ToolCall("call_1", "look", '{"for": "x"}'),)),
        Message("tool", (Text("nothing"),), tool_call_id="call_1"),
        tools=(LOOK,),
        params={"temperature": 0.7, "max_tokens": 5, "tool_choice": "auto", "stop": ["."], "seed": 7},
    )
    assert (await outcome(await opened(), OPENAI, request)).text == "ok"
    body = upstream.requests[0].json()
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is"},
                {"type": "image_url", "image_url": {"url": "https://example.org/x.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"for": "x"}'}}
            ],
        },
        {"role": "tool", "content": "nothing", "tool_call_id": "call_1"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "look", "description": LOOK.description, "parameters": LOOK.parameters},
        }
    ]
    known = {"temperature": 0.7, "max_tokens": 5, "tool_choice": "auto", "stop": ["."], "seed": 7}
    assert {name: body[name] for name in known} == known
    assert body["stream_options"] == {"include_usage": True}
    assert upstream.requests[0].headers["authorization"] == f"Bearer {CANARY}"


async def test_a_setting_the_provider_does_not_know_is_left_out(upstream: ScriptedUpstream, opened: Opened) -> None:
    upstream.play(answer(AnthropicWire(), ["ok"]))
    await outcome(await opened(), ANTHROPIC, ask(params={"seed": 7, "temperature": 0.5}))
    body = upstream.requests[0].json()
    assert "seed" not in body
    assert body["temperature"] == 0.5
    assert body["max_tokens"] > 0  # Anthropic asks for one


@pytest.mark.parametrize(
    ("target", "wire", "carried", "lost"),
    [
        (ANTHROPIC, AnthropicWire(), {"top_k": 5}, ["seed", "min_p", "response_format"]),
        (
            Target("any", "anthropic/claude-opus-4-7"),
            AnthropicWire(),
            {},
            ["top_k", "seed", "min_p", "response_format"],
        ),
        (OLLAMA, OllamaWire(), {"top_k": 5, "min_p": 0.5, "seed": 7}, []),
        (OPENAI, OpenAIWire(), {"seed": 7, "response_format": {"type": "json_object"}}, ["top_k", "min_p"]),
        (Target("any", "hosted_vllm/m"), OpenAIWire(), {"top_k": 5, "min_p": 0.5, "seed": 7}, []),
    ],
)
async def test_what_goes_on_to_a_provider_and_what_is_announced_as_lost(
    upstream: ScriptedUpstream, opened: Opened, target: Target, wire: Any, carried: dict[str, Any], lost: list[str]
) -> None:
    upstream.play(answer(wire, ["ok"]))
    params = {"top_k": 5, "seed": 7, "min_p": 0.5, "response_format": {"type": "json_object"}}
    asked = ask(params=params, hints=frozenset({"top_k", "min_p"}))
    events = [event async for batch in (await opened()).stream(asked, target) for event in batch.events]
    body = upstream.requests[0].json()
    body = body | body.get("options", {})
    assert {name: body.get(name) for name in carried} == carried
    assert [event.param for event in events if isinstance(event, Notice)] == lost
    assert not {name for name in lost if name in body}
    assert isinstance(events[0], Start)
    assert all(isinstance(event, Notice) for event in events[1 : 1 + len(lost)])


async def test_where_nothing_is_to_be_dropped_a_setting_no_provider_is_known_to_take_is_refused(
    upstream: ScriptedUpstream, opened: Opened
) -> None:
    upstream.always(openai_stream(["ok"]))
    backend = await opened(drop_params=False)
    with pytest.raises(Unsupported, match="top_k"):
        await collect(backend.stream(ask(params={"top_k": 5}), OPENAI))
    hint = ask(params={"top_k": 5}, hints=frozenset({"top_k"}))
    assert (await collect(backend.stream(hint, OPENAI))).text == "ok"


async def test_the_pages_that_claude_cites_are_reported(upstream: ScriptedUpstream, opened: Opened) -> None:
    wire = AnthropicWire()
    cited = {"type": "web_search_result_location", "url": "https://a.test/", "title": "A", "cited_text": "x"}
    text = {"type": "text", "text": ""}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block=text),
        wire.event("content_block_delta", index=0, delta={"type": "text_delta", "text": "It rains."}),
        wire.event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": cited}),
        wire.end(),
    )
    collected = await collect((await opened()).stream(ask(), ANTHROPIC))
    assert (collected.text, collected.sources) == ("It rains.", (("https://a.test/", "A"),))


async def test_options_of_the_config_go_along(upstream: ScriptedUpstream, opened: Opened) -> None:
    upstream.always(openai_stream(["ok"]))
    backend = await opened(options={"extra_headers": {"x-team": "blue"}})
    for _ in range(2):
        await outcome(backend, OPENAI, ask())
    assert [seen.headers["x-team"] for seen in upstream.requests] == ["blue", "blue"]


@pytest.mark.parametrize(
    "name", ["api_base", "mock_response", "fallbacks", "callbacks", "num_retries", "_skip_x", "stream"]
)
def test_options_may_not_take_the_leash_off(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        LiteLLMSettings(kind="litellm", options={name: 1})


def test_options_are_not_shown() -> None:
    settings = LiteLLMSettings(kind="litellm", options={"aws_secret_access_key": "shhh-0123456789"})
    assert "shhh" not in f"{settings!r} {settings}"


async def test_a_client_names_only_models_that_the_config_lists(upstream: ScriptedUpstream, opened: Opened) -> None:
    upstream.always(openai_stream(["ok"]))
    backend = await opened(models=[OPENAI.model])
    assert (await outcome(backend, Target("any", OPENAI.model, asked=True), ask())).text == "ok"
    for model in ("ollama_chat/llama", "openai/other", "openai/http://127.0.0.1:1/x", "replicate/x"):
        refused = await outcome(backend, Target("any", model, asked=True), ask())
        assert isinstance(refused.raised, Unsupported)
    assert len(upstream.requests) == 1


async def test_a_model_of_no_known_provider_says_so(opened: Opened) -> None:
    refused = await outcome(await opened(), Target("any", "nobody-has-heard-of-this"), ask())
    assert isinstance(refused.raised, Unsupported)
    assert "provider/model" in refused.raised.message


@pytest.mark.parametrize(
    "part",
    [
        Image("http://127.0.0.1:{port}/x.png"),
        Image("file:///etc/passwd"),
        File(data="http://127.0.0.1:{port}/x.pdf"),
        File(id="https://127.0.0.1:{port}/x.pdf"),
        File(url="http://127.0.0.1:{port}/x.pdf"),
    ],
)
@pytest.mark.parametrize("target", [ANTHROPIC, OLLAMA], ids=str)
async def test_addresses_in_messages_are_never_fetched(
    upstream: ScriptedUpstream, opened: Opened, target: Target, part: Image | File
) -> None:
    changes = {
        name: value.format(port=upstream.port)
        for name in ("url", "data", "id")
        if isinstance(value := getattr(part, name, None), str)
    }
    pointed = type(part)(**changes)
    refused = await outcome(await opened(), target, ask(Message("user", (Text("see"), pointed))))
    assert isinstance(refused.raised, Unsupported)
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "part",
    [Audio("AAAA", "wav"), File(data="AAAA", media_type="application/zip"), File(id="file-1")],
    ids=["audio", "zip", "id"],
)
async def test_what_litellm_would_lose_on_the_way_is_refused(
    upstream: ScriptedUpstream, opened: Opened, part: Audio | File
) -> None:
    refused = await outcome(await opened(), ANTHROPIC, ask(Message("user", (Text("see"), part))))
    assert isinstance(refused.raised, Unsupported)
    assert upstream.connections == 0


async def test_log_probabilities_are_refused(upstream: ScriptedUpstream, opened: Opened) -> None:
    refused = await outcome(await opened(), OPENAI, ask(params={"logprobs": True}))
    assert isinstance(refused.raised, Unsupported)
    assert refused.raised.param == "logprobs"
    assert upstream.connections == 0


async def test_a_refusal_is_reported_though_litellm_knows_none(upstream: ScriptedUpstream, opened: Opened) -> None:
    refusal = [Send(event(openai_chunk({"refusal": piece}))) for piece in ("I must", " not.")]
    upstream.play(openai_stream((), finish=None, done=False)[:2], refusal, openai_stream((), finish="stop")[2:])
    got = await outcome(await opened(), OPENAI, ask())
    assert [one.text for one in got.events if isinstance(one, RefusalDelta)] == ["I must", " not."]
    assert isinstance(got.events[-1], Finish)


async def test_several_answers_are_refused_before_anything_is_sent(upstream: ScriptedUpstream, opened: Opened) -> None:
    refused = await outcome(await opened(), OPENAI, ask(params={"n": 2}))
    assert isinstance(refused.raised, Unsupported)
    assert refused.raised.param == "n"
    assert upstream.connections == 0


@pytest.mark.parametrize("provider", [*sorted(TAKES_HANDLER), "openai", "azure", "perplexity", "moonshot", "cerebras"])
async def test_providers_use_the_house_s_connections(
    upstream: ScriptedUpstream, opened: Opened, transport: Counting, provider: str
) -> None:
    upstream.always(OpenAIWire().error(400, "the lamp is broken"))
    backend = await opened(api_version="2024-10-21")
    got = await outcome(backend, Target("any", f"{provider}/some-model"), ask())
    assert "the lamp is broken" in got.error.message
    assert len(transport.requests) == len(upstream.requests) == 1


async def test_a_connection_is_used_again_after_a_complete_answer(
    upstream: ScriptedUpstream, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.streaming.LAST_BYTES_S", 10.0)  # a busy machine may be late
    backend = await opened()
    for target, wire in ((OPENAI, OpenAIWire()), (ANTHROPIC, AnthropicWire()), (OLLAMA, OllamaWire())):
        for _ in range(2):
            upstream.play(answer(wire, ["ok"]))
            assert (await outcome(backend, target, ask())).text == "ok"
    assert upstream.connections == 1


async def test_the_connect_timer_is_the_route_s(
    transport: Counting, upstream: ScriptedUpstream, opened: Opened
) -> None:
    upstream.play(openai_stream(["ok"]))
    await outcome(await opened(), Target("any", OPENAI.model, 3.5), ask())
    assert transport.requests[0].connect_s == 3.5


async def test_one_backend_closing_leaves_another_s_stream_alone(upstream: ScriptedUpstream, opened: Opened) -> None:
    go_on = asyncio.Event()
    upstream.play(*openai_stream(["one"])[:3], *[Stall()])
    first, second = await opened(), await opened()
    async with aclosing(second.stream(ask(), OPENAI)) as stream:
        while not (await anext(stream)).has_content:
            pass
        await first.aclose()
        go_on.set()
        upstream.play(openai_stream(["two"]))
        assert (await outcome(second, OPENAI, ask())).text == "two"
        assert upstream.open_connections == 2


# -- what comes back ---------------------------------------------------------------------------------------------


async def test_openai_reasoning_tool_calls_and_names(upstream: ScriptedUpstream, opened: Opened) -> None:
    def call(index: int, arguments: str, **more: Any) -> Send:
        function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
        return Send(event(openai_chunk({"tool_calls": [{"index": index, "function": function, **more}]})))

    upstream.play(
        Send(sse_head()),
        Send(event(openai_chunk({"role": "assistant", "reasoning_content": "hmm"}))),
        call(0, "", id="call_a", type="function", name="look"),
        call(1, "", id="call_b", type="function", name="see"),
        call(0, '{"a":'),
        call(1, "{}"),
        call(0, "1}"),
        openai_stream((), finish="tool_calls")[2:],
    )
    got = await outcome(await opened(), OPENAI, ask(tools=(LOOK,)))
    assert told(got, Start) == [Start("chatcmpl-scripted", "scripted-1")]
    assert told(got, ReasoningDelta) == [ReasoningDelta("hmm")]
    assert told(got, ToolCallStart) == [ToolCallStart(0, "call_a", "look"), ToolCallStart(1, "call_b", "see")]
    arguments = [(piece.index, piece.arguments) for piece in told(got, ToolCallDelta)]
    assert arguments == [(0, '{"a":'), (1, "{}"), (0, "1}")]
    assert told(got, Finish)[0].reason == "tool_calls"


async def test_anthropic_thinking_and_tool_use(upstream: ScriptedUpstream, opened: Opened) -> None:
    wire = AnthropicWire()
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    upstream.play(
        wire.opened(),
        wire.event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        wire.event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hmm"}),
        wire.event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "s"}),
        wire.event("content_block_stop", index=0),
        wire.event("content_block_start", index=1, content_block=use),
        wire.event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"for":'}),
        wire.event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '"x"}'}),
        wire.end("tool_use"),
    )
    got = await outcome(await opened(), ANTHROPIC, ask(tools=(LOOK,)))
    assert told(got, Start)[0].model == "scripted-1"
    assert told(got, ReasoningDelta) == [ReasoningDelta("hmm")]
    assert told(got, ReasoningSignature) == [ReasoningSignature("s")]
    assert told(got, ToolCallStart) == [ToolCallStart(0, "toolu_1", "look")]
    assert "".join(piece.arguments for piece in told(got, ToolCallDelta)) == '{"for":"x"}'
    assert told(got, Finish)[0].reason == "tool_calls"

    # A client of Anthropic's keeps the thought with its seal, and brings it back beside the tool's answer.
    stream = AnthropicWriter(id="m", request_id="r", model="m", input_tokens=lambda: 1).feed(Batch(got.events))
    parts = [json.loads(data).get("delta", {}) for _, data in SSEDecoder().feed(stream)]
    thought = {
        "type": "thinking",
        "thinking": "".join(part.get("thinking", "") for part in parts),
        "signature": "".join(part.get("signature", "") for part in parts),
    }
    back = {
        "max_tokens": 4000,
        "stream": True,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "look", "input_schema": LOOK.parameters}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [thought, {**use, "input": {"for": "x"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}]},
        ],
    }
    upstream.play(answer(wire, ["ok"]))
    request = decode_request(json.dumps(back).encode(), id="r2")
    assert (await outcome(await opened(), ANTHROPIC, request)).text == "ok"
    body = upstream.requests[-1].json()
    assert body["thinking"]["type"] == "enabled"
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hmm", "signature": "s"}
    assert body["messages"][1]["content"][1]["id"] == "toolu_1"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"


async def test_ollama_thinking_and_two_tool_calls(upstream: ScriptedUpstream, opened: Opened) -> None:
    wire = OllamaWire()
    upstream.play(
        wire.begun([])[:1],
        wire.line({"content": "", "thinking": "hmm"}),
        wire.line({"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"for": "x"}}}]}),
        wire.line({"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"for": "y"}}}]}),
        wire.end(),
    )
    collected = await collect((await opened()).stream(ask(tools=(LOOK,)), OLLAMA))
    assert collected.reasoning == "hmm"
    assert [(call.name, json.loads(call.arguments)) for call in collected.tool_calls] == [
        ("look", {"for": "x"}),
        ("look", {"for": "y"}),
    ]
    assert len({call.id for call in collected.tool_calls}) == 2
    assert collected.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("target", "wire", "theirs", "ours"),
    [
        (OPENAI, OpenAIWire(), "length", "length"),
        (OPENAI, OpenAIWire(), "content_filter", "content_filter"),
        (ANTHROPIC, AnthropicWire(), "max_tokens", "length"),
        (ANTHROPIC, AnthropicWire(), "stop_sequence", "stop"),
        (ANTHROPIC, AnthropicWire(), "refusal", "content_filter"),
        (OLLAMA, OllamaWire(), "length", "length"),
    ],
)
async def test_finish_reasons(
    upstream: ScriptedUpstream, opened: Opened, target: Target, wire: Any, theirs: str, ours: str
) -> None:
    upstream.play(wire.begun(["ok"]), wire.end(theirs))
    finish = told(await outcome(await opened(), target, ask()), Finish)
    assert [end.reason for end in finish] == [ours]


async def test_a_finish_reason_in_the_last_piece_of_text_counts(upstream: ScriptedUpstream, opened: Opened) -> None:
    upstream.play(
        openai_stream(["one"], finish=None, done=False)[:-1],
        Send(event(openai_chunk({"content": " two"}, finish="length"))),
        Send(LAST_CHUNK),
    )
    got = await outcome(await opened(), OPENAI, ask())
    assert got.text == "one two"
    assert [end.reason for end in told(got, Finish)] == ["length"]


@pytest.mark.parametrize("end", [Send(LAST_CHUNK), Rst()], ids=["clean end", "reset"])
async def test_a_finish_reason_without_the_end_sentinel_is_complete(
    upstream: ScriptedUpstream, opened: Opened, end: Any
) -> None:
    upstream.play(openai_stream(["ok"], done=False)[:-1], end)
    assert told(await outcome(await opened(), OPENAI, ask()), Finish, Fault) == [Finish("stop", None)]


async def test_the_end_sentinel_without_a_finish_reason_is_complete_and_noted(
    upstream: ScriptedUpstream, opened: Opened
) -> None:
    upstream.play(openai_stream(["ok"], finish=None))
    assert told(await outcome(await opened(), OPENAI, ask()), Finish, Fault) == [
        Finish("stop", None, has_finish_reason=False)
    ]


async def test_a_cut_tool_call_is_never_finished(upstream: ScriptedUpstream, opened: Opened) -> None:
    piece = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"for'}}
    upstream.play(Send(sse_head()), Send(event(openai_chunk({"tool_calls": [piece]}))), Send(LAST_CHUNK))
    got = await outcome(await opened(), OPENAI, ask(tools=(LOOK,)))
    assert isinstance(got.error, UpstreamTruncated)
    assert told(got, ToolCallStart)


@pytest.mark.parametrize("target", [OPENAI, ANTHROPIC, OLLAMA], ids=str)
async def test_bytes_may_fall_anywhere(upstream: ScriptedUpstream, opened: Opened, target: Target) -> None:
    wire = {OPENAI: OpenAIWire(), ANTHROPIC: AnthropicWire(), OLLAMA: OllamaWire()}[target]
    text = 'naïve 東京 😀 \r\n\n "data: [DONE]" [DONE]\n\n'
    first, *rest = answer(wire, [text, text])
    whole = b"".join(step.data for step in rest)
    upstream.play(first, Split(whole, 7))
    got = await outcome(await opened(), target, ask())
    assert got.text == text * 2
    assert told(got, Finish)


async def test_an_error_in_a_success_s_clothes_is_an_error(upstream: ScriptedUpstream, opened: Opened) -> None:
    upstream.always(json_reply(200, {"error": {"message": "too many", "code": 429}}))
    error = (await outcome(await opened(), OPENAI, ask())).error
    assert isinstance(error, UpstreamFailed)
    assert (error.status, error.message) == (429, "too many")


async def test_a_line_without_end_is_cut_off(upstream: ScriptedUpstream, transport: Counting) -> None:
    settings = LiteLLMSettings(kind="litellm", api_key=CANARY, api_base=upstream.url)
    backend = LiteLLMBackend("any", settings, Resources(transport, frame_bytes=10_000))
    await backend.open()
    upstream.play(openai_stream(["one"])[:3], Send(chunked(b"data: {" + b"x" * 1000), times=1000), Stall())
    got = await outcome(backend, ANTHROPIC, ask())
    assert got.error.code == "frame_too_large"
    await upstream.peer_gone()
    await backend.aclose()


# -- what litellm raises -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"litellm.BadRequestError: XaiException - no such thing {CANARY}", "no such thing [redacted]"),
        ("litellm.APIConnectionError: APIConnectionError: OpenAIException - boom", "boom"),
        ("boom. Handle with `litellm.InternalServerError`.", "boom."),
        ("boom\n\nThis looks like a bug in LiteLLM rather than in your request. File it", "boom"),
        ("boom LiteLLM Retried: 3 times", "boom"),
        ("x" * 100_000, "x" * 400),
    ],
)
def test_messages_are_short_and_clean(transport: Counting, message: str, shown: str) -> None:
    error = translate(Exception(message), _call(transport), who="backend any", clean=cleaner(Secrets([CANARY])))
    assert "\n" not in error.message
    assert len(error.message) < 700
    assert shown in error.message
    for noise in ("litellm.", "LiteLLM", "Exception", CANARY):
        assert noise not in error.message


def test_an_unreadable_event_is_malformed_and_a_quoted_error_is_reported(transport: Counting) -> None:
    call = _call(transport)
    call.response = Answered()
    assert isinstance(translate(KeyError("message"), call, who="any", clean=cleaner(Secrets())), UpstreamMalformed)
    quoted = Exception("KeyError: 'message', Got unexpected response from Ollama: {'error': 'exploded'}")
    quoted.__cause__ = KeyError("message")
    error = translate(quoted, call, who="any", clean=cleaner(Secrets()))
    assert (type(error), error.message) == (UpstreamFailed, "exploded")


class Answered:
    status, headers = 200, {}


def _call(transport: Counting) -> UpstreamCall:
    return UpstreamCall(transport, connect_s=5, frame_bytes=1000, answer_bytes=1000)


async def test_an_upstream_is_told_of_the_trace(opened: Opened, upstream: ScriptedUpstream) -> None:
    upstream.play(openai_stream(["b"]))
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    request = msgspec.structs.replace(ask(Message("user", (Text("a"),))), trace=trace)
    backend = await opened()
    await collect(backend.stream(request, Target("any", "openai/scripted-1")))
    assert upstream.requests[0].headers["traceparent"] == trace["traceparent"]


async def test_embeddings_come_in_openais_form_over_our_transport(opened: Opened, upstream: ScriptedUpstream) -> None:
    vectors = {"object": "list", "model": "up", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
               "usage": {"prompt_tokens": 3, "total_tokens": 3}}  # fmt: skip
    upstream.play(json_reply(200, vectors))
    upstream.play(json_reply(429, {"error": {"message": "slow down"}}))
    backend = await opened()
    body = b'{"input": ["a"], "dimensions": 1, "api_base": "http://elsewhere"}'
    request = embeddings.decode_request(body, id="r1")
    (batch,) = [batch async for batch in backend.stream(request, Target("any", "openai/text-embedding-3-small"))]
    assert msgspec.json.decode(batch.whole)["data"] == vectors["data"]
    assert (batch.dialect, batch.terminal) == (embeddings.DIALECT, Finish("stop", Usage(3, 0)))
    seen = upstream.requests[0]
    assert (seen.path, seen.headers["authorization"]) == ("/v1/embeddings", f"Bearer {CANARY}")
    assert seen.json() == {"input": ["a"], "model": "text-embedding-3-small", "dimensions": 1}
    with pytest.raises(UpstreamFailed, match="slow down"):
        [batch async for batch in backend.stream(request, Target("any", "openai/text-embedding-3-small"))]
    assert len(upstream.requests) == 2  # asked once: the pipeline decides about trying again


async def test_a_completion_is_asked_in_a_chat_where_that_says_all(opened: Opened, upstream: ScriptedUpstream) -> None:
    upstream.play(openai_stream(["b"]))
    backend = await opened()
    request = completions.decode_request(b'{"prompt": "a", "max_tokens": 3, "stream": true}', id="r1")
    answer = await collect(backend.stream(request, Target("any", "openai/scripted-1")))
    assert answer.text == "b"
    assert upstream.requests[0].json()["messages"] == [{"role": "user", "content": "a"}]
    request = completions.decode_request(b'{"prompt": "a", "suffix": "c"}', id="r1")
    with pytest.raises(Unsupported, match="suffix"):
        await collect(backend.stream(request, Target("any", "openai/scripted-1")))


async def test_a_client_names_a_model_where_the_config_says_whose_it_is(
    opened: Opened, upstream: ScriptedUpstream
) -> None:
    upstream.play(openai_stream(["b"]))
    backend = await opened()
    request = ask(Message("user", (Text("a"),)))
    answer = await collect(backend.stream(request, Target("any", "openai/m", asked=True, pattern="openai/$1")))
    assert answer.text == "b"
    with pytest.raises(Unsupported, match="config"):
        await collect(backend.stream(request, Target("any", "openai/m", asked=True, pattern="$1")))
