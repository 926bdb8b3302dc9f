"""What clients of each contract read of a recording through the proxy, over real sockets."""

from __future__ import annotations

import asyncio
import json
from textwrap import dedent, indent

from proxy.events import Batch, Collector, Fault, Finish
from proxy.request import ChatRequest, Message, Text
from proxy.testing.upstream import ScriptedUpstream
from tests.field.recordings import Meaning, Recording
from tests.matrix.asking import DECLARED, SAID
from tests.matrix.reading import READ
from tests.support.clients import RawClient

WITHOUT_CALLS = frozenset({"chat", "ai-text"})
"""Contracts of text: they carry neither calls nor reasoning."""

WITHOUT_REASONS = WITHOUT_CALLS | {"ag-ui"}
"""Contracts that do not say why an answer ended."""

OLLAMA_ENDS = {"tool_calls": "stop"}
"""Ollama has no word for an answer that ends in calls."""

ADDRESSES = {
    "openai-compatible": "base_url: '{0.url}'",
    "anthropic": "base_url: '{0.origin}'",
    "litellm": "api_base: '{0.url}'",
}


def config(one: Recording, upstream: ScriptedUpstream) -> str:
    address = ADDRESSES[one.kind]
    if one.kind == "litellm" and one.wire == "anthropic":
        address = address.replace(".url", ".origin")
    return (
        "server: {breaker: {failures: 0}}\n"
        f"backends: {{far: {{kind: {one.kind}, api_key: sk-test, {address.format(upstream)}}}}}\n"
        f"routes: [{{name: default, to: far/{one.model}}}]\n"
        f"frontends:\n  own:\n{indent(dedent(DECLARED), '    ')}"
    )


async def client_reads(port: int, contract: str, *, stream: bool) -> Meaning:
    """Ask, and read to the end."""
    path, say = SAID[contract]
    request = ChatRequest(
        id="r1", contract=contract, dialect=contract, messages=(Message("user", (Text("hi"),)),), stream=stream
    )
    async with asyncio.timeout(60), await RawClient.connect(port) as client:
        await client.post(path, say(request))
        head = await client.read_head()
        body = await client.read_body()
        cut = client.end == "cut" and contract != "ollama"  # whose error line is there as well
    if head.status != 200:
        return Meaning(error=body.decode())
    if cut:
        return Meaning(text=body.decode(), error="the connection was cut")
    read_stream, read_whole = READ[contract]
    read = read_stream if stream else read_whole
    assert read is not None
    collector = Collector()
    end = collector.add(Batch(read(body)))
    answer = collector.answer()
    return Meaning(
        text=answer.text,
        reasoning=answer.reasoning,
        calls=[(call.name, call.arguments) for call in answer.tool_calls],
        end=end.reason if isinstance(end, Finish) else None,
        error=end.error.message if isinstance(end, Fault) else None,
    )


def differs(got: Meaning, means: Meaning, contract: str) -> str:
    """In what the answer that a client read is not what was meant, as far as its contract can tell."""
    if got.text != means.text:
        return "text"
    if means.error is not None:
        told = got.error is not None and (means.error in got.error or contract == "ai-text")  # there it is a cut
        return "" if told else "error"
    if got.error is not None:
        return "error"
    if contract not in WITHOUT_CALLS:
        if [(name, json.loads(text)) for name, text in got.calls] != [(n, json.loads(a)) for n, a in means.calls]:
            return "calls"
        if got.reasoning != means.reasoning:
            return "reasoning"
    end = OLLAMA_ENDS.get(means.end or "", means.end) if contract == "ollama" else means.end
    return "end" if contract not in WITHOUT_REASONS and got.end != end else ""
