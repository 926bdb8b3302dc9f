"""Any conversation of any contract, as it is written for each target: what its vendor would refuse, and what was lost."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from proxy.backends.base import Resources, kind
from proxy.contracts.base import Head
from proxy.errors import BadRequest, Unsupported
from proxy.request import ChatRequest, Image, Message, Part, Text, Tool, ToolCall
from proxy.routing.plan import Target
from proxy.wire import conversation
from proxy.wire.json_body import PARAMETERS
from proxy.wire.translation import translated
from proxy.wire.vocabulary import Vocabulary
from tests.matrix.asking import SAID, NoWords
from tests.support.grammars import CHECKS
from tests.support.rich_requests import REQUESTS, URL

AZURE = {"endpoint": "https://example.openai.azure.com", "api_version": "2025-04-01-preview"}
LOCAL = {"kind": "openai-compatible", "base_url": "http://localhost:1/v1"}


def preset(name: str) -> dict[str, Any]:
    return {"kind": "openai-compatible", "preset": name, "api_key": "k"}


ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "openai": ({"kind": "openai", "api_key": "k"}, "gpt-5", "openai"),
    "openai, tools without thinking": ({"kind": "openai", "api_key": "k"}, "gpt-5.6-luna", "openai"),
    "azure": ({"kind": "openai", "api_key": "k", "azure": AZURE}, "gpt-5", "openai"),
    "groq": (preset("groq"), "qwen/qwen3-32b", "groq"),
    "ollama": (preset("ollama"), "qwen3", "ollama"),
    "lmstudio": (preset("lmstudio"), "qwen3", "lmstudio"),
    "qwen": (preset("qwen"), "qwen3-max", "qwen"),
    "zai": (preset("zai"), "glm-4.6", "zai"),
    "a local server": (LOCAL, "qwen3", "compatible"),
    "mistral": (preset("mistral"), "mistral-medium-latest", "mistral"),
    "moonshot": (preset("moonshot"), "kimi-k2-thinking", "moonshot"),
    "kimi 3": (preset("moonshot"), "kimi-k3", "moonshot"),
    "deepseek": (preset("deepseek"), "deepseek-reasoner", "deepseek"),
    "gemini": (preset("gemini"), "gemini-2.5-flash", "gemini"),
    "gemini 3": (preset("gemini"), "gemini-3-pro-preview", "gemini"),
    "claude 4.5": ({"kind": "anthropic", "api_key": "k"}, "claude-sonnet-4-5", "anthropic"),
    "claude 4.6": ({"kind": "anthropic", "api_key": "k"}, "claude-sonnet-4-6", "anthropic"),
    "claude sonnet 5": ({"kind": "anthropic", "api_key": "k"}, "claude-sonnet-5", "anthropic"),
    "claude opus 4.8": ({"kind": "anthropic", "api_key": "k"}, "claude-opus-4-8", "anthropic"),
    "claude on Bedrock": ({"kind": "litellm"}, "bedrock/anthropic.claude-sonnet-4-5-v1:0", "bedrock"),
    "nova on Bedrock": ({"kind": "litellm"}, "bedrock/amazon.nova-pro-v1:0", "bedrock"),
}
"""Targets: the row of the backend, the model, and the grammar of its vendor."""


@dataclasses.dataclass(frozen=True)
class Far:
    """A target that is only asked what it would send."""

    backend: Any
    target: Target
    check: Callable[[Any], list[str]]

    def sent(self, request: ChatRequest) -> dict[str, Any]:
        return json.loads(json.dumps(self.backend.written(request, self.target)[0]))

    def words(self) -> Vocabulary:
        return self.backend._vocabulary(self.target.model)


class ByLiteLLM(Far):
    """A target that litellm asks: what it is given about the conversation and the settings."""

    def sent(self, request: ChatRequest) -> dict[str, Any]:
        given = self.backend._arguments(self.backend._translation(request, self.target).request, self.target)
        return {
            name: one
            for name, one in given.items()
            if name in {"model", "messages", "tools", "user", "thinking", *PARAMETERS}
        }

    def words(self) -> Vocabulary:
        return self.backend._vocabulary(self.target)


def built(name: str) -> Far:
    row, model, grammar = ROWS[name]
    made = kind(row["kind"])
    backend = made.build(name, made.settings.model_validate(row), Resources(None))  # type: ignore[arg-type]  # asks nobody
    return (ByLiteLLM if row["kind"] == "litellm" else Far)(backend, Target(name, model), CHECKS[grammar])


FAR = {name: built(name) for name in ROWS}

ABLE = {
    "chat": "late developer image reasoning",
    "openai": "late developer image reasoning",
    "responses": "late developer image reasoning signature",
    "anthropic": "late image signature failed result-image",
    "ollama": "late image reasoning",
    "ai-sdk": "late image reasoning signature failed",
    "ai-text": "late image reasoning signature failed",
    "ag-ui": "late developer image reasoning signature failed",
    "declared": "late developer image reasoning",
    "openai, Anthropic's messages": "late image signature failed result-image",
    "openai, items of Responses": "late image reasoning",
    "anthropic, Chat Completions' messages": "late image reasoning",
    "responses, Chat Completions' messages": "late developer image reasoning",
}
"""What the conversations of each contract may hold, besides text, calls and results. Some clients mix two of them."""

IDS = st.sampled_from(["a", "call_1", "functions.f:0", "x" * 60, "ü", "toolu_01"])
NAMES = st.sampled_from(["f", "g", "page.navigate", "1st", "t" * 75, "fü r", "_x"])
RICH_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"A": {"const": 1}},
    "anyOf": [
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/A", "description": "d"}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": ["string", "null"]}}},
    ],
}
SETTINGS = {
    "temperature": 1.5,
    "top_p": 0.5,
    "seed": 7,
    "stop": ["a", "b", "c", "d", "e", "\n"],
    "frequency_penalty": 0.1,
    "reasoning_effort": "low",
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_tokens": 5000,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    },
}
_WITHOUT_TOOLS = {"chat", "ai-text", "declared"}


@st.composite
def conversations(draw: Any, contract: str) -> ChatRequest:
    """A request that the contract can say, whether or not a vendor would take it."""
    able = ABLE[contract].split()
    kinds = ["user", "user", "assistant", "calls", "calls", "result", "result"]
    kinds += ["system"] if "late" in able else []
    kinds += ["developer"] if "developer" in able else []
    messages: list[Message] = [Message("system", (Text("text-head"),))] if draw(st.booleans()) else []
    for number, role in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=9))):
        messages.append(_message(draw, role, number, able))
    names = {call.name for message in messages for call in message.tool_calls} | draw(st.sets(NAMES, max_size=2))
    schemas = st.sampled_from([None, {}, {"type": "object", "properties": {}}, {"properties": {"a": {}}}, RICH_SCHEMA])
    tools = (
        ()
        if contract in _WITHOUT_TOOLS
        else tuple(Tool(name, "d", draw(schemas), draw(st.sampled_from([None, True]))) for name in sorted(names))
    )
    asked = draw(st.sets(st.sampled_from(sorted(SETTINGS)), max_size=3))
    return ChatRequest(
        id="1",
        contract="",
        dialect="",
        messages=tuple(messages),
        tools=tools,
        params={name: SETTINGS[name] for name in sorted(asked)},
        stream=True,
    )


def _message(draw: Any, role: str, number: int, able: list[str]) -> Message:
    texts = draw(st.lists(st.sampled_from([f"text-{number}", f"text-{number} ", "", " "]), max_size=2))
    parts: list[Part] = [
        Text(text and f"{text.rstrip()}.{at}{' ' * text.endswith(' ')}") for at, text in enumerate(texts)
    ]
    reasoning = draw(st.sampled_from([None, "think"])) if {"reasoning", "signature"} & {*able} else None
    seal = "seal" if reasoning and "signature" in able and (draw(st.booleans()) or "reasoning" not in able) else None
    match role:
        case "user":
            shown = [Image(URL)] if "image" in able and draw(st.booleans()) else []
            return Message("user", (*parts, *shown) or (Text(""),))
        case "assistant":
            return Message("assistant", tuple(parts), reasoning=reasoning, reasoning_signature=seal)
        case "calls":
            calls = draw(st.lists(st.tuples(IDS, NAMES), min_size=1, max_size=3))
            made = tuple(ToolCall(id_, name, f'{{"n":{number * 10 + at}}}') for at, (id_, name) in enumerate(calls))
            return Message("assistant", tuple(parts), made, reasoning=reasoning, reasoning_signature=seal)
        case "result":
            shown = [Image(URL)] if "result-image" in able and draw(st.booleans()) else []
            failed = "failed" in able and draw(st.booleans())
            told = (Text(f"text-{number}"),) if draw(st.sampled_from([True, True, False])) else ()
            return Message("tool", (*told, *shown), tool_call_id=draw(IDS), name=draw(NAMES), failed=failed)
        case _:
            return Message("system" if role == "system" else "developer", (Text(f"text-{number}"),))


def mixed(own: str, other: str, request: ChatRequest) -> dict[str, Any]:
    """The body of one contract with the messages as another one has them."""
    theirs = SAID[other][1](request)
    head = theirs.get("system") or theirs.get("instructions")
    messages = [{"role": "system", "content": head}] if head else []
    messages += theirs["input"] if other == "responses" else theirs["messages"]
    simple = msgspec.structs.replace(request, messages=(Message("user", (Text("text"),)),))
    return SAID[own][1](simple) | {"input" if own == "responses" else "messages": messages}


OF_OTHERS = {
    "Anthropic's messages": "anthropic",
    "items of Responses": "responses",
    "Chat Completions' messages": "openai",
}


def decoded(contract: str, request: ChatRequest) -> ChatRequest:
    """The request as the contract's reader has it. One that the contract cannot say, or refuses, is no example."""
    contract, _, form = contract.partition(", ")
    frontend, path, _ = REQUESTS[contract]
    try:
        body = mixed(contract, OF_OTHERS[form], request) if form else SAID[contract][1](request)
        return frontend.decode(json.dumps(body).encode(), Head("1", "POST", path, {}, {}))
    except (NoWords, BadRequest, Unsupported):
        assume(False)
        raise


def ids(body: Any) -> list[str]:
    """The ids of all calls in a body, in order."""
    found = []
    for message in body["messages"]:
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        found += [call["id"] for call in message.get("tool_calls") or []]
        found += [block["id"] for block in blocks if block["type"] == "tool_use"]
    return found


def said(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        yield from (part.text.strip() for part in message.parts if isinstance(part, Text) and part.text.strip())


_NUMBERS = re.compile(r'n\\*": ?(\d+)\\*}')


def one_answers(request: ChatRequest) -> Iterator[set[int]]:
    """The numbers of the calls in messages of one answer, which stand side by side. Signatures may keep them apart."""
    for answers, run in groupby(request.messages, key=lambda message: message.role == "assistant"):
        messages = [*run] if answers else []
        if sum(message.reasoning_signature is not None for message in messages) < 2:
            yield {int(call.arguments[5:-1]) for message in messages for call in message.tool_calls}


def judge(far: Far, request: ChatRequest, asked: ChatRequest) -> None:
    """Raise an `AssertionError` where the target would refuse the body, or something that was asked is lost."""
    try:
        body = far.sent(request)
    except Unsupported as refused:
        if "takes no images" in str(refused):
            assert far.target.backend == "deepseek"
            assert any(isinstance(part, Image) for message in request.messages for part in message.parts)
            return
        spoken = [message for message in request.messages if message.role not in {"system", "developer"}]
        assert not any(message.text.strip() or message.tool_calls for message in spoken), "refused though it could"
        return
    except BadRequest:
        assert not request.tools, "refused though a tool is offered"
        return
    wrong = far.check(body)
    assert not wrong, f"{far.target}: {wrong}: {json.dumps(body['messages'])[:2000]}"
    everything = json.dumps(body, ensure_ascii=False)
    for text in said(asked):
        assert text in everything, f"{text!r} was lost"
    answers = [{*map(int, _NUMBERS.findall(json.dumps(message)))} for message in body["messages"]]
    for together in one_answers(asked):
        assert any(together <= numbers for numbers in answers), f"{far.target}: one answer became several: {answers}"
    assert far.sent(request) == body


LOOK = settings(max_examples=max(60, settings.default.max_examples))
FAR_LOOK = settings(max_examples=2000)


def look(contract: str, data: Any) -> None:
    asked = data.draw(conversations(contract))
    request = decoded(contract, asked)
    for far in FAR.values():
        if far.backend.dialect != request.dialect:
            judge(far, request, asked)


@pytest.mark.parametrize("contract", ABLE)
@LOOK
@given(data=st.data())
def test_R1_R2_R5_what_any_conversation_becomes_is_taken_by_every_vendor(contract: str, data: Any) -> None:
    look(contract, data)


@pytest.mark.heavy
@pytest.mark.parametrize("contract", ABLE)
@FAR_LOOK
@given(data=st.data())
def test_R1_R2_R5_what_any_conversation_becomes_looked_at_for_longer(contract: str, data: Any) -> None:
    look(contract, data)


@pytest.mark.parametrize("contract", ABLE)
@settings(max_examples=30)
@given(data=st.data())
def test_R1_a_conversation_that_grows_keeps_its_ids(contract: str, data: Any) -> None:
    asked = data.draw(conversations(contract))
    grown = msgspec.structs.replace(asked, messages=(*asked.messages, Message("user", (Text("text-more"),))))
    before, after = decoded(contract, asked), decoded(contract, grown)
    for far in FAR.values():
        if far.backend.dialect != before.dialect:
            try:
                begun = ids(far.sent(before))
            except (Unsupported, BadRequest):
                continue
            assert ids(far.sent(after))[: len(begun)] == begun


LEGAL_TURNS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b c"]), st.lists(st.sampled_from("fg"), max_size=2), st.sampled_from(["r", "x y"])
    ),
    max_size=4,
)


def legal(turns: list[tuple[str, list[str], str]]) -> tuple[Message, ...]:
    """A conversation that every vendor takes."""
    messages = [Message("system", (Text("be brief"),)), Message("user", (Text("hi"),))]
    for number, (text, names, result) in enumerate(turns):
        calls = tuple(ToolCall(f"call{number}{at:04}", name, "{}") for at, name in enumerate(names))
        messages.append(Message("assistant", (Text(text),), tool_calls=calls))
        messages += [Message("tool", (Text(result),), tool_call_id=call.id) for call in calls]
        messages += [Message("assistant", (Text("so"),))] if calls else []
        messages.append(Message("user", (Text("and?"),)))
    return tuple(messages)


@given(turns=LEGAL_TURNS)
def test_R1_a_legal_conversation_is_left_as_it_is(turns: list[tuple[str, list[str], str]]) -> None:
    request = ChatRequest(id="1", contract="", dialect="", messages=legal(turns), tools=(Tool("f"), Tool("g")))
    # The first wants a signature of every call, the second to be told not to think.
    for far in (far for name, far in FAR.items() if name not in {"gemini 3", "openai, tools without thinking"}):
        placed = translated(request, far.words())
        assert placed.request == request, far.target
        assert placed.notices == ()


@given(turns=LEGAL_TURNS)
def test_R1_a_body_of_the_same_dialect_is_the_client_s(turns: list[tuple[str, list[str], str]]) -> None:
    asked = ChatRequest(id="1", contract="", dialect="", messages=legal(turns), tools=(Tool("f"), Tool("g")))
    for contract, far in (("openai", FAR["openai"]), ("openai", FAR["mistral"]), ("anthropic", FAR["claude 4.6"])):
        body = SAID[contract][1](asked)
        sent = far.sent(decoded(contract, asked))
        assert json.dumps(sent["messages"]) == json.dumps(body["messages"])
        assert json.dumps(sent["tools"]) == json.dumps(body["tools"])


MUTATIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "no pairing": ("_paired", lambda messages, notices: list(messages)),
    "no merging": ("_one_message_an_answer", lambda messages, vocabulary: list(messages)),
    "no unique ids": ("_with_ids", lambda messages, form: messages),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_property_fails_for_a_stage_without_one_of_its_steps(monkeypatch: Any, mutation: str) -> None:
    name, step = MUTATIONS[mutation]
    monkeypatch.setattr(conversation, name, step)

    @settings(max_examples=300, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    @given(data=st.data())
    def look_at_ag_ui(data: Any) -> None:
        look("ag-ui", data)

    with pytest.raises(AssertionError):
        look_at_ag_ui()
