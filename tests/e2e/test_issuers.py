"""State that belongs to who made it: two vendors that refuse each other's signatures behind one route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy.testing.script import Send, Step, event, json_reply, openai_chunk, sse_head
from proxy.testing.upstream import ScriptedUpstream, Seen
from proxy.testing.wires import AnthropicWire, OpenAIWire
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient

Turn = list[dict[str, Any]]
"""Messages, items or parts of one answer, as a client sends them back."""

WIRE = AnthropicWire()
THINKS = {"type": "enabled", "budget_tokens": 1024}


class Vendor:
    """Signs what it thinks, and answers 400 to what another signed, as Anthropic does."""

    def __init__(self, name: str, upstream: ScriptedUpstream) -> None:
        self.name, self.upstream = name, upstream
        upstream.decide(self._answer)

    @property
    def own(self) -> set[str]:
        return {f"SIG/{self.name}+==", f"RED/{self.name}=="}

    @property
    def got(self) -> list[str]:
        """The state in its latest request."""
        return [*_states(self.upstream.requests[-1].json()["messages"])]

    def _answer(self, seen: Seen) -> list[Step]:
        asked = seen.json()
        if not self.own.issuperset(_states(asked["messages"])):
            return WIRE.error(400, "Invalid `signature` in `thinking` block")
        signature, redacted = f"SIG/{self.name}+==", f"RED/{self.name}=="
        blocks = [
            {"type": "thinking", "thinking": "hm", "signature": signature},
            {"type": "redacted_thinking", "data": redacted},
            {"type": "text", "text": f"I am {self.name}"},
        ]
        if not asked["stream"]:
            return json_reply(200, WIRE.message(content=blocks, stop_reason="end_turn"))
        return [
            *WIRE.opened(),
            WIRE.event("content_block_start", index=0, content_block={**blocks[0], "thinking": "", "signature": ""}),
            WIRE.event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
            WIRE.event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": signature}),
            WIRE.event("content_block_stop", index=0),
            WIRE.event("content_block_start", index=1, content_block=blocks[1]),
            WIRE.event("content_block_stop", index=1),
            WIRE.event("content_block_start", index=2, content_block={"type": "text", "text": ""}),
            WIRE.event("content_block_delta", index=2, delta={"type": "text_delta", "text": blocks[2]["text"]}),
            WIRE.event("content_block_stop", index=2),
            *WIRE.end()[1:],
        ]


def _states(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _states(one)
    elif isinstance(value, dict):
        if value.get("type") in {"thinking", "redacted_thinking"}:
            yield value.get("signature") or value.get("data") or "none"
        for one in value.values():
            yield from _states(one)


@pytest.fixture
async def vendors() -> AsyncIterator[tuple[Vendor, Vendor]]:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(ScriptedUpstream()) for _ in range(2)]
        yield Vendor("one", one), Vendor("two", two)


def config(vendors: tuple[Vendor, Vendor], to: str) -> str:
    one, two = vendors
    return f"""
        backends:
          one: {{kind: anthropic, base_url: "{one.upstream.origin}"}}
          again: {{kind: anthropic, base_url: "{one.upstream.origin}/v1"}}
          two: {{kind: anthropic, base_url: "{two.upstream.origin}"}}
        routes: [{{name: default, to: [{to}]}}]
    """


BOTH, TURNED, ALONE, SAME = "one/m, two/m", "two/m, one/m", "one/m", "one/m, again/m"


async def posted(proxy: Running, path: str, body: dict[str, Any]) -> str:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, body)
        head = await client.read_head()
        answered = (await client.read_body()).decode()
        assert head.status == 200, answered
        return answered


def told(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]


async def messages(proxy: Running, turns: list[Turn]) -> Turn:
    said: list[Any] = [{"role": "user", "content": "hi"}]
    for turn in turns:
        said += [{"role": "assistant", "content": turn}, {"role": "user", "content": "and?"}]
    body = {"model": "m", "max_tokens": 2000, "stream": True, "thinking": THINKS, "messages": said}
    answered = await posted(proxy, "/v1/messages", body)
    blocks: Turn = []
    for one in told(answered):
        if one["type"] == "content_block_start":
            blocks.append(one["content_block"])
        elif one["type"] == "content_block_delta":
            for name in {"text", "thinking", "signature"} & one["delta"].keys():
                blocks[-1][name] += one["delta"][name]
    return blocks


async def whole_messages(proxy: Running, turns: list[Turn]) -> Turn:
    said: list[Any] = [{"role": "user", "content": "hi"}]
    for turn in turns:
        said += [{"role": "assistant", "content": turn}, {"role": "user", "content": "and?"}]
    answered = await posted(proxy, "/v1/messages", {"model": "m", "max_tokens": 2000, "messages": said})
    return json.loads(answered)["content"]


async def responses(proxy: Running, turns: list[Turn]) -> Turn:
    user = {"role": "user", "content": "hi"}
    said = [user, *(item for turn in turns for item in (*turn, user))]
    answered = await posted(proxy, "/v1/responses", {"model": "m", "stream": True, "input": said})
    return [one["item"] for one in told(answered) if one["type"] == "response.output_item.done"]


async def ai_sdk(proxy: Running, turns: list[Turn]) -> Turn:
    user = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    said = [user, *(one for turn in turns for one in ({"id": "a", "role": "assistant", "parts": turn}, user))]
    body = {"id": "c", "model": "m", "trigger": "submit-message", "messages": said}
    answered = await posted(proxy, "/ai-sdk/chat", body)
    parts: Turn = []
    for one in told(answered):
        match one:
            case {"type": "reasoning-end", "providerMetadata": metadata}:
                parts.append({"type": "reasoning", "text": "hm", "providerMetadata": metadata})
            case {"type": "text-delta", "delta": text}:
                parts.append({"type": "text", "text": text})
    return parts


async def ag_ui(proxy: Running, turns: list[Turn]) -> Turn:
    user = {"id": "u", "role": "user", "content": "hi"}
    said = [user, *(one for turn in turns for one in (*turn, user))]
    body = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {"model": "m"}}
    answered = await posted(proxy, "/agui?protocolVersion=1.0", body | {"messages": said})
    turn: Turn = []
    for one in told(answered):
        match one:
            case {"type": "REASONING_ENCRYPTED_VALUE", "entityId": id_, "encryptedValue": value}:
                turn.append({"id": id_, "role": "reasoning", "content": "hm", "encryptedValue": value})
            case {"type": "TEXT_MESSAGE_CONTENT", "messageId": id_, "delta": text}:
                turn.append({"id": id_, "role": "assistant", "content": text})
    return turn


CONTRACTS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "messages": (messages, ["SIG/one+==", "RED/one=="]),
    "messages whole": (whole_messages, ["SIG/one+==", "RED/one=="]),
    "responses": (responses, ["SIG/one+=="]),
    "ai-sdk": (ai_sdk, ["SIG/one+=="]),
    "ag-ui": (ag_ui, ["SIG/one+=="]),
}


@pytest.mark.parametrize("contract", CONTRACTS)
async def test_A12_state_goes_back_to_who_made_it_and_to_nobody_else(
    start_proxy: StartProxy, vendors: tuple[Vendor, Vendor], contract: str
) -> None:
    """Over reloads: what a client holds says all, and nothing is kept here."""
    ask, made = CONTRACTS[contract]
    one, two = vendors
    proxy = await start_proxy(config(vendors, BOTH))
    first = await ask(proxy, [])
    assert "cp1-" in json.dumps(first)
    assert not (await proxy.ended(1))[0].notices
    proxy.rewrite(config(vendors, TURNED))
    assert await proxy.app.reload()
    second = await ask(proxy, [first])
    assert two.got == []
    assert [notice.code for notice in (await proxy.ended(2))[1].notices] == ["ignored_state"]
    assert "I am two" in json.dumps(second)
    for to in (BOTH, ALONE):  # a route with one vendor takes tags back too
        proxy.rewrite(config(vendors, to))
        assert await proxy.app.reload()
        third = await ask(proxy, [first, second])
        assert one.got == made, "the same bytes, without the other's"
        assert "I am one" in json.dumps(third)
    assert "cp1-" not in json.dumps(third), "where one vendor answers nothing is tagged"
    assert {record.end for record in await proxy.ended(4)} == {"done"}


async def test_a_budget_for_thinking_goes_with_the_thoughts_of_a_call(
    start_proxy: StartProxy, vendors: tuple[Vendor, Vendor]
) -> None:
    """Anthropic refuses to think in a turn whose call has lost its thinking."""
    _, two = vendors
    proxy = await start_proxy(config(vendors, BOTH))
    first = await messages(proxy, [])
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"signature": "cp1-aaaaaaaaaa:kept"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "1"}
    proxy.rewrite(config(vendors, TURNED))
    assert await proxy.app.reload()
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [*first, use]},
        {"role": "user", "content": [result]},
    ]
    body = {"model": "m", "max_tokens": 2000, "stream": True, "thinking": THINKS, "messages": said}
    await posted(proxy, "/v1/messages", body)
    got = two.upstream.requests[-1].json()
    assert "thinking" not in got
    assert got["messages"][1]["content"] == [first[2], use]


async def test_history_without_a_tag_stays_as_it_is(start_proxy: StartProxy, vendors: tuple[Vendor, Vendor]) -> None:
    one, _ = vendors
    proxy = await start_proxy(config(vendors, ALONE))
    first = await messages(proxy, [])
    proxy.rewrite(config(vendors, BOTH))
    assert await proxy.app.reload()
    await messages(proxy, [first])
    assert one.got == ["SIG/one+==", "RED/one=="]
    assert not (await proxy.ended(2))[1].notices


async def test_where_one_vendor_answers_bytes_pass_as_they_came(
    start_proxy: StartProxy, vendors: tuple[Vendor, Vendor]
) -> None:
    proxy = await start_proxy(config(vendors, SAME))
    first = await messages(proxy, [])
    assert [*_states(first)] == ["SIG/one+==", "RED/one=="]


async def test_gemini_is_told_that_a_call_was_anothers(start_proxy: StartProxy) -> None:
    """In OpenAI's own dialect, where bodies pass. Gemini refuses a call without a signature."""
    call = {"index": 0, "id": "g1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    async with AsyncExitStack() as stack:
        far = [await stack.enter_async_context(ScriptedUpstream()) for _ in range(2)]
        for number, one in enumerate(far):
            extra = {"extra_content": {"google": {"thought_signature": f"SIG{number}=="}}}
            chunk = Send(event(openai_chunk({"tool_calls": [call | extra]})))
            one.always([Send(sse_head()), chunk, *OpenAIWire().end("tool_calls")])
        rows = [
            f'b{n}: {{kind: openai-compatible, preset: gemini, base_url: "{one.url}"}}' for n, one in enumerate(far)
        ]

        def routes(to: str) -> str:
            return f"backends: {{{', '.join(rows)}}}\nroutes: [{{name: default, to: [{to}]}}]\n"

        proxy = await start_proxy(routes("b0/gemini-3-pro, b1/gemini-3-pro"))
        ask: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        answered = await posted(proxy, "/v1/chat/completions", ask)
        called = next(one for chunk in told(answered) for one in chunk["choices"][0]["delta"].get("tool_calls", ()))
        assert called["extra_content"]["google"]["thought_signature"].startswith("cp1-")
        ask["messages"] += [
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "g1", "content": "1"},
        ]
        await posted(proxy, "/v1/chat/completions", ask)
        proxy.rewrite(routes("b1/gemini-3-pro, b0/gemini-3-pro"))
        assert await proxy.app.reload()
        await posted(proxy, "/v1/chat/completions", ask)
        for one, seal in zip(far, ("SIG0==", "skip_thought_signature_validator"), strict=True):
            sent = one.requests[-1].json()["messages"][1]["tool_calls"][0]["extra_content"]
            assert sent == {"google": {"thought_signature": seal}}
