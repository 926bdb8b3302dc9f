"""Coding agents of npm through the proxy: a tool call and a second turn, reasoning handed back, an answer cut short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.testing.upstream import ScriptedUpstream
from tests.agents.agents import AGENTS, PACKAGES, Agent, Ran
from tests.agents.scripted import ANSWER, HALF, NOT_GIVEN_BACK, THOUGHT, Script, cut, deepseek, tool_call
from tests.support import node
from tests.support.app import StartProxy
from tests.support.transcript import Transcript

pytestmark = pytest.mark.agents

EACH = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.package)


@pytest.fixture(scope="module")
def transcript() -> Iterator[Transcript]:
    record = Transcript(
        "agents",
        "Coding agents through the proxy",
        "What `make test-agents TRANSCRIPT=1` did: agents from npm, `chat-proxy` before a scripted model that wants to read "
        "a file. No other host could be reached.",
    )
    yield record
    record.write()


class Asked:
    """Asks an agent, with a script behind the proxy, and writes it down."""

    def __init__(self, house: StartProxy, upstream: ScriptedUpstream, folder: Path, transcript: Transcript) -> None:
        self._house, self._upstream, self._folder, self._transcript = house, upstream, folder, transcript

    async def __call__(self, agent: Agent, script: Script, title: str, row: str = "") -> Ran:
        self._upstream.decide(script)
        backend = f'{{kind: openai-compatible, api_key: sk-none, base_url: "{self._upstream.url}"{row}}}'
        proxy = await self._house(
            "server: {breaker: {failures: 0}}\n"
            f"backends: {{far: {backend}}}\n"
            "routes: [{name: all, to: far/scripted-1}]\n"
        )
        ran = await agent.run(self._folder, proxy.url)
        assert {record.contract for record in proxy.records} == {agent.contract}
        version = node.version_in_lock(agent.package, PACKAGES)
        self._transcript.heading(f"{agent.package} {version}: {title}")
        printed = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "…", ran.printed).replace(str(self._folder), "~")
        printed = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", printed)
        self._transcript.command(
            f"{agent.command}; echo exit $?", f"{printed.strip()}\nexit {ran.status}", most_lines=40
        )
        return ran


@pytest.fixture
def ask(start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path, transcript: Transcript) -> Asked:
    folder = tmp_path / "home"
    folder.mkdir()
    return Asked(start_proxy, upstream, folder, transcript)


@EACH
async def test_an_agent_runs_a_tool_and_goes_on(ask: Asked, agent: Agent) -> None:
    ran = await ask(agent, tool_call, "a tool call and a second turn")
    assert (ran.status, ANSWER in ran.printed) == (0, True), ran.printed


@EACH
async def test_C2_an_agents_turns_bring_the_reasoning_back(
    ask: Asked, agent: Agent, upstream: ScriptedUpstream
) -> None:
    ran = await ask(agent, deepseek, "reasoning that DeepSeek wants back", ", preset: deepseek")
    assert (ran.status, ANSWER in ran.printed) == (0, True), ran.printed
    messages = upstream.requests[-1].json()["messages"]
    assert [one["reasoning_content"] for one in messages if one.get("tool_calls")] == [THOUGHT]


@pytest.mark.parametrize("agent", AGENTS[:2], ids=lambda agent: agent.package)  # opencode sends the field itself
async def test_C2_without_it_an_agent_shows_what_deepseek_says(ask: Asked, agent: Agent) -> None:
    ran = await ask(agent, deepseek, "the same, withheld by `return_reasoning: never`", ", return_reasoning: never")
    assert NOT_GIVEN_BACK in ran.printed
    assert ANSWER not in ran.printed
    assert ran.status != 0


@EACH
async def test_C1_an_agent_shows_a_cut_as_an_error(ask: Asked, agent: Agent) -> None:
    ran = await ask(agent, cut, "an answer that breaks off")
    assert ran.status != 0, ran.printed
    assert "complete" in ran.printed
    assert not ran.printed.strip().endswith(HALF)
