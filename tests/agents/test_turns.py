"""Codex and Claude Code over vendors that refuse what they do not take: two calls at once, an image, an interruption."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.agents.agents import AGENTS, DOT, WITHIN_S, Agent
from tests.agents.scripted import ANSWER
from tests.support.app import StartProxy
from tests.support.vendors import VENDORS, Conversation, Turn

pytestmark = pytest.mark.agents

STARTED, OVER = "started", "over"
WAIT = f"touch {STARTED}; until [ -e {OVER} ]; do sleep 0.1; done"


def named(body: dict[str, Any]) -> set[str]:
    """The names of the tools that are offered."""
    return {tool["name"] if "name" in tool else tool["function"]["name"] for tool in body.get("tools", ())}


def turns(folder: Path, names: set[str]) -> Iterator[Turn]:
    """What the model says, in the names of the agent's tools."""
    picture = str(folder / "work" / "dot.png")
    if "exec_command" in names:
        shell, look = ("exec_command", "cmd", {}), ("view_image", {"path": picture})
    else:
        shell, look = ("Bash", "command", {"description": "d"}), ("Read", {"file_path": picture})
    name, field, more = shell
    yield Turn("Let me see.", ((name, {field: "cat note.txt", **more}), look))
    yield Turn("A moment.", ((name, {field: WAIT, **more}),))
    yield Turn(ANSWER)


class Script(Conversation):
    """The vendor, whose turns are written once the agent's tools are known."""

    def __init__(self, vendor: str, folder: Path) -> None:
        super().__init__(VENDORS[vendor], ())
        self._folder, self.names = folder, set[str]()

    def __call__(self, seen: Seen) -> list[Any]:
        names = named(seen.json())
        if names and not self.names:
            self.names, self._turns = names, turns(self._folder, names)
        return super().__call__(seen)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("agent", AGENTS[:2], ids=lambda agent: agent.package)
async def test_R1_R3_an_agents_conversation_is_taken_by_each_vendor(
    start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path, agent: Agent, vendor: str
) -> None:
    far = Script(vendor, tmp_path)
    upstream.decide(far)
    proxy = await start_proxy(VENDORS[vendor].config(upstream.url, upstream.origin))
    process = await agent.start(tmp_path, proxy.url, agent.arguments)
    started = tmp_path / "work" / STARTED
    try:
        async with asyncio.timeout(WITHIN_S):
            while not started.exists():
                assert process.returncode is None, (await agent.ended(process)).printed
                await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGINT)  # as a user does
        (tmp_path / "work" / OVER).touch()  # for a command that outlives its agent
    await agent.ended(process)
    ran = await agent.ended(await agent.start(tmp_path, proxy.url, agent.going_on))
    assert (ran.status, ANSWER in ran.printed) == (0, True), ran.printed
    last = json.dumps(far.bodies[-1]["messages"])
    assert "marmalade" in last, last[-6000:]
    assert (DOT[:20] in last) == (vendor != "DeepSeek")
