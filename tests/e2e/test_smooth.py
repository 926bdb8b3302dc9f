"""Even text over real sockets, in each contract that streams: an upstream that cannot stream is streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.pipeline.smooth import SmoothClient
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire, OpenAIWire, Wire, answer
from tests.support.app import StartProxy
from tests.support.clients import RawClient

TEXT = "It was the best of times, it was the worst of times, 文字列と絵文字🙂, and\n\n  it was `code` too.\n"
USER = {"role": "user", "content": "hi"}
UI_USER = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
CONTRACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"stream": True, "messages": [USER]}),
    "anthropic": ("/v1/messages", {"stream": True, "max_tokens": 99, "messages": [USER]}),
    "responses": ("/v1/responses", {"stream": True, "input": [USER]}),
    "ai-sdk": ("/ai-sdk/chat", {"id": "c", "trigger": "submit-message", "messages": [UI_USER]}),
}


def text_in(event: dict[str, Any]) -> str:
    match event:
        case {"choices": [{"delta": {"content": str(text)}}, *_]}:
            return text
        case {"type": "content_block_delta", "delta": {"text": text}}:
            return str(text)
        case {"type": "response.output_text.delta" | "text-delta", "delta": text}:
            return str(text)
        case _:
            return ""


class Steady:
    """A loop whose clock stands still but for its timers, so that a busy machine is never late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._now = loop, 0.0
        self.create_future = loop.create_future

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, call: Callable[[], None]) -> Steady:
        self._when, self._call = when, call
        self.cancel = self._loop.call_soon(self._fire).cancel
        return self

    def when(self) -> float:
        return self._when

    def _fire(self) -> None:
        self._now = self._when
        self._call()


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SmoothClient.__init__

    def init(client: SmoothClient, *given: Any) -> None:
        made(client, *given)
        client._loop = Steady(client._loop)

    monkeypatch.setattr(SmoothClient, "__init__", init)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("far", ["openai-compatible", "anthropic"])
@pytest.mark.parametrize("contract", CONTRACTS)
async def test_one_big_piece_comes_word_by_word(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: str, far: str
) -> None:
    wire: Wire = AnthropicWire() if far == "anthropic" else OpenAIWire()
    upstream.play(answer(wire, [TEXT]))
    url = upstream.origin if far == "anthropic" else upstream.url
    proxy = await start_proxy(f"""
        backends: {{far: {{kind: {far}, base_url: "{url}"}}}}
        routes: [{{name: default, to: far/m, smooth: {{max_lag_ms: 200}}}}]
    """)
    path, body = CONTRACTS[contract]
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {"model": "m", **body})
        assert (await client.read_head()).status == 200
        told = (await client.read_body()).decode()
    events = [json.loads(line[6:]) for line in told.split("\n") if line.startswith("data: {")]
    texts = [text for event in events if (text := text_in(event))]
    assert "".join(texts) == TEXT
    assert len(texts) > 8
    assert texts[0] == "It"
    (record,) = await proxy.ended()
    assert record.end == "done"
