"""Every client of the table, against the running proxy: every cell of docs/proofs/clients.md that is not excused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients.sights import SIGHTS, TOOLS
from tests.clients.stage import ENVIRONMENTS, MODEL, Stage, staged
from tests.clients.table import ALWAYS, CLIENTS, Client

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("stage"),  # the clients' packages take 13 s of a CPU to load
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as set_up:
        yield set_up


def _marks(client: Client) -> list[pytest.MarkDecorator]:
    if client.environment not in ALWAYS:
        return [pytest.mark.clients]
    return [pytest.mark.browser] if client.environment == "Node" else []


def cells() -> list[object]:
    return [
        pytest.param(client, sight, id=f"{client.id} {sight}", marks=_marks(client))
        for client in CLIENTS
        for sight in SIGHTS
        if sight not in client.without
    ]


@pytest.mark.parametrize(("client", "sight"), cells())
async def test_the_program_sees(stage: Stage, client: Client, sight: str) -> None:
    await SIGHTS[sight](stage, client)


def _everywhere(driver: str) -> list[object]:
    marks = {"Python": [], "Node": [pytest.mark.browser]}
    having = [name for name, environment in ENVIRONMENTS.items() if driver in environment.drivers]
    return [pytest.param(name, id=name, marks=marks.get(name, [pytest.mark.clients])) for name in having]


@pytest.mark.parametrize("environment", _everywhere("openai_sdk"))
async def test_openais_sdk_lists_the_models_of_the_routes(stage: Stage, environment: str) -> None:
    told = await stage.ask(environment, "openai models", "models")
    assert (told.error, MODEL in told.text.split()) == (None, True)


@pytest.mark.parametrize("environment", _everywhere("anthropic_sdk"))
async def test_anthropics_sdk_lists_models_and_counts_tokens(stage: Stage, environment: str) -> None:
    told = await stage.ask(environment, "anthropic models", "models")
    assert (told.error, MODEL in told.text.split()) == (None, True)
    short, long = [await stage.ask(environment, "anthropic count", f"echo: {'word ' * words}") for words in (1, 100)]
    assert short.error is None
    assert short.usage is not None
    assert long.usage is not None
    assert 0 < short.usage["input"] < 20 < long.usage["input"] < 300


@pytest.mark.parametrize("environment", _everywhere("ollama_client"))
async def test_ollamas_client_lists_models_and_is_shown_them(stage: Stage, environment: str) -> None:
    told = await stage.ask(environment, "ollama models", "models")
    assert (told.error, MODEL in told.text.split()) == (None, True)


@pytest.mark.parametrize("environment", _everywhere("ag_ui"))
async def test_C3_ag_uis_client_has_no_call_of_a_failed_run_left(stage: Stage, environment: str) -> None:
    """CopilotKit runs the calls of the messages that a run leaves."""
    told = await stage.ask(environment, "HttpAgent", "called", tools=TOOLS)
    assert told.error is not None
    assert told.error.name == "RUN_ERROR"
    assert (told.text, told.tools) == ("One two", [])


@pytest.mark.parametrize("environment", _everywhere("ai_transports"))
async def test_C3_the_ai_sdk_has_no_call_of_a_failed_answer_to_run(stage: Stage, environment: str) -> None:
    told = await stage.ask(environment, "DefaultChatTransport", "called", tools=TOOLS)
    assert told.error is not None
    assert (told.text, told.tools) == ("One two", [])


@pytest.mark.parametrize("environment", _everywhere("ai_transports"))
async def test_the_ai_sdk_finds_nothing_to_resume(stage: Stage, environment: str) -> None:
    told = await stage.ask(environment, "DefaultChatTransport, resuming", "resume")
    assert (told.error, told.finish) == (None, "nothing to resume")


@pytest.mark.clients
async def test_C3_copilotkit_runs_no_call_of_a_run_that_failed(stage: Stage) -> None:
    done = await stage.ask("Chromium, CopilotKit", "CopilotKit", "turns")
    assert (done.error, done.text, [call.values for call in done.tools]) == (None, "It rains.", [{"city": "Ulm 😀"}])
    failed = await stage.ask("Chromium, CopilotKit", "CopilotKit", "turns-failed")
    assert (failed.text, failed.tools) == ("One two", [])
    assert failed.error is not None
    assert "complete" in failed.error.message


@pytest.mark.clients
@pytest.mark.parametrize("way", ["streamed", "whole"])
@pytest.mark.parametrize("contract", ["chat", "responses"])
async def test_C1_instructor_makes_no_object_of_half_a_call(stage: Stage, contract: str, way: str) -> None:
    client = f"instructor {contract}, {way}"
    told = await stage.ask("Python, frameworks", client, "turns")
    assert (told.error, told.text) == (None, "Ulm 😀")
    cut = await stage.ask("Python, frameworks", client, "turns-cut" if way == "streamed" else "cut")
    assert cut.error is not None
    refused = await stage.ask("Python, frameworks", client, "refused-400")
    assert refused.error is not None


_MESSAGES = [{"role": "user", "content": "slow 0"}]
BEATS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "chat": ("/chat", {"messages": _MESSAGES}, b"\n: ping\n\n"),
    "openai": ("/v1/chat/completions", {"messages": _MESSAGES, "model": "any", "stream": True}, b"\n: ping\n\n"),
    "responses": ("/v1/responses", {"input": "slow 0", "model": "any", "stream": True}, b"\n: ping\n\n"),
    "anthropic": (
        "/v1/messages",
        {"messages": _MESSAGES, "model": "any", "max_tokens": 9, "stream": True},
        b'event: ping\ndata: {"type":"ping"}\n\n',
    ),
    "ollama": ("/ollama/api/chat", {"messages": _MESSAGES, "model": "any"}, b'"content":""},"done":false}\n'),
    "ai-sdk": (
        "/api/chat",
        {"trigger": "submit-message", "messages": [{"role": "user", "parts": [{"type": "text", "text": "slow 0"}]}]},
        b"\n: keep-alive\n\n",
    ),
    "ag-ui": (
        "/agui",
        {"threadId": "t", "runId": "r", "protocolVersion": "1.0", "messages": [{"id": "1", **_MESSAGES[0]}]},
        b"\n: ping\n\n",
    ),
}


@pytest.mark.parametrize("contract", BEATS)
async def test_there_are_heartbeats_to_be_unharmed_by(stage: Stage, contract: str) -> None:
    path, body, beat = BEATS[contract]
    async with aiohttp.ClientSession(stage.proxy.url) as http, http.post(path, json=body) as answer:
        assert beat in await answer.read()
