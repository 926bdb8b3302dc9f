"""What is looked for through each client: the columns of `docs/proofs/clients.md`, each a check that fails a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.clients.scenarios import BUSY, CALLS, HARD, MIDWAY, REFUSALS, TURNED, USAGE
from tests.clients.stage import Stage, Told
from tests.clients.table import Client

PICTURE = (  # a PNG of one pixel, which some clients look into
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ECHOED = "echo: Two\n\nparagraphs,  spaces, 😀 [DONE]\ndata: x\n\n- end."
STOPPED_WITHIN_S = 1.0

TOOLS: list[dict[str, Any]] = [
    {
        "name": name,
        "description": name,
        "parameters": {
            "type": "object",
            "properties": {argument: {"type": kind}},
            "required": [argument],
            "additionalProperties": False,
        },
    }
    for name, argument, kind in (("weather", "in", "string"), ("time", "zone", "number"))
]


async def _ask(stage: Stage, client: Client, scenario: str, **more: Any) -> Told:
    return await stage.ask(client.environment, client.asks, scenario, **more)


def _well(told: Told) -> Told:
    assert told.error is None
    return told


async def text(stage: Stage, client: Client) -> None:
    """Text arrives exactly: paragraphs, leading spaces, emoji, `[DONE]` and `data:` as text, a token of 100 KB."""
    assert _well(await _ask(stage, client, ECHOED)).text == client.hears(ECHOED)
    assert _well(await _ask(stage, client, "text")).text == client.hears("".join(HARD))


async def finish(stage: Stage, client: Client) -> None:
    """How the answer ended: complete, or at the limit of its length."""
    contract = client.ends
    assert _well(await _ask(stage, client, "text")).finish == contract.stop
    limited = await _ask(stage, client, "length")
    if client.at_length:
        assert limited.error is not None
        assert limited.error.name == client.at_length
    else:
        assert _well(limited).finish == contract.length


async def usage(stage: Stage, client: Client) -> None:
    """The tokens that the upstream counted."""
    told = _well(await _ask(stage, client, "text"))
    assert told.usage == {"input": USAGE["prompt_tokens"], "output": USAGE["completion_tokens"]}


async def tools(stage: Stage, client: Client) -> None:
    """Two tool calls at once, their arguments in pieces, and a finish that says so; the tools reach the upstream. A framework runs a tool, and goes on with its result."""
    if client.runs_tools:
        await _turns(stage, client)
        return
    for scenario in ("tools", "tools-in-turns") if client.takes_turns else ("tools",):
        await _tool_calls(stage, client, scenario)


async def _tool_calls(stage: Stage, client: Client, scenario: str) -> None:
    told = _well(await _ask(stage, client, scenario, tools=TOOLS))
    calls = [(call.id, call.name, call.values) for call in told.tools]
    assert calls == [(id_ if told.tools[0].id else None, name, values) for id_, name, values in CALLS]
    assert told.finish == client.ends.tools
    (request,) = told.requests
    assert [tool["function"]["name"] for tool in request.json()["tools"]] == [name for _, name, _ in CALLS]
    assert request.json()["tools"][0]["function"]["parameters"]["required"] == ["in"]


async def _turns(stage: Stage, client: Client) -> None:
    told = _well(await _ask(stage, client, "turns", tools=TOOLS[:1]))
    assert told.text == "".join(TURNED)
    _, second = told.requests
    result = second.json()["messages"][-1]
    assert (result["role"], result["tool_call_id"]) == ("tool", "call_w")
    assert "rain in Ulm 😀" in str(result["content"])


async def reasoning(stage: Stage, client: Client) -> None:
    """The model's reasoning, apart from its text."""
    told = _well(await _ask(stage, client, "reasoning"))
    assert (told.reasoning, told.text) == ("Hm, well.\n", "So be it.")


async def picture(stage: Stage, client: Client) -> None:
    """A picture in the question reaches the upstream."""
    told = _well(await _ask(stage, client, "picture", image=PICTURE))
    (request,) = told.requests
    parts = request.json()["messages"][-1]["content"]
    assert [part["image_url"]["url"] for part in parts if part["type"] == "image_url"] == [
        f"data:image/png;base64,{PICTURE}"
    ]
    assert told.text == "A picture."


async def heartbeats(stage: Stage, client: Client) -> None:
    """Heartbeats in the pauses leave the answer exact."""
    assert _well(await _ask(stage, client, "slow")).text == client.hears("a \nb")


async def _broken_off(stage: Stage, client: Client, scenario: str) -> Told:
    told = await _ask(stage, client, scenario)
    assert told.error is not None, f"an answer that broke off passed for a whole one: {told.finish}"
    assert told.error.name == ((scenario == "stalled" and client.too_late) or client.midway)
    if not client.whole:
        assert told.text == "".join(MIDWAY)
        assert told.finish not in {client.ends.stop, client.ends.length}
    assert len(told.requests) == 1, "half an answer is not asked for again"
    return told


async def cut(stage: Stage, client: Client) -> None:
    """An upstream that hangs up in mid-answer is an error."""
    await _broken_off(stage, client, "cut")


async def unfinished(stage: Stage, client: Client) -> None:
    """An upstream that ends politely, but before the answer is complete, is an error."""
    await _broken_off(stage, client, "unfinished")


async def stalled(stage: Stage, client: Client) -> None:
    """An upstream that falls silent in mid-answer is an error after `token_gap_s`."""
    await _broken_off(stage, client, "stalled")


async def malformed(stage: Stage, client: Client) -> None:
    """An upstream that sends garbage in mid-answer is an error."""
    await _broken_off(stage, client, "malformed")


async def failed(stage: Stage, client: Client) -> None:
    """An error that the upstream tells in mid-answer is passed on, in its words."""
    told = await _broken_off(stage, client, "failed")
    assert told.error is not None
    if "failed" not in client.wordless:
        assert BUSY in told.error.message


async def refused(stage: Stage, client: Client) -> None:
    """A failure before the first token is the exception that the client has for its status, with the words."""
    for status, name in client.refusals.items():
        told = await _ask(stage, client, f"refused-{status}")
        assert told.error is not None
        assert told.text == ""
        assert told.error.name == name
        if "refused" not in client.wordless:
            assert REFUSALS[status] in told.error.message
        if told.error.status is not None:
            assert told.error.status == status or (status >= 500 and told.error.status >= 500)


async def stop(stage: Stage, client: Client) -> None:
    """Leaving an answer in the middle closes the connection to the upstream within a second."""
    for _ in range(5):  # a slow time says nothing where the machine is busy with other things
        if client.whole:
            told = _well(await _ask(stage, client, "leave", give_up=True))
            assert not told.text
        else:
            told = _well(await _ask(stage, client, "leave", leave=True))
            assert told.text
            assert "One".startswith(told.text)
        (request,) = told.requests
        if (took := await stage.upstream_closed(request) - told.at) < STOPPED_WITHIN_S:
            break
    assert took < STOPPED_WITHIN_S


SIGHTS: dict[str, Callable[[Stage, Client], Awaitable[None]]] = {
    check.__name__: check
    for check in (
        text, finish, usage, tools, reasoning, picture, heartbeats,
        cut, unfinished, stalled, malformed, failed, refused, stop,
    )
}  # fmt: skip
