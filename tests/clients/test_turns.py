"""Conversations of several turns with the AI SDK and AG-UI, over vendors that refuse what they do not take."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from proxy.testing.upstream import ScriptedUpstream
from proxy.wire.conversation import INTERRUPTED
from tests.support import node
from tests.support.app import StartProxy
from tests.support.vendors import VENDORS, Conversation, Turn

TURNS = [
    Turn("Let me see.", (("weather", {"city": "Oslo"}), ("map", {"city": "Oslo"}))),
    Turn("A moment.", (("wait", {}),)),
    Turn("It is cold."),
]
IMAGE = "iVBORw0KGgo"
CLIENTS = {
    "AG-UI": ("ag-ui", "newest"),
    "AI SDK 7": ("ai", "newest"),
    "AI SDK 6": ("ai", "node20"),
    "AI SDK 5": ("ai", "ai-5"),
}
"""By name: what the script is, and the set of packages that it runs with."""

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_R1_R3_a_conversation_with_tools_is_taken_by_each_vendor(
    start_proxy: StartProxy, upstream: ScriptedUpstream, client: str, vendor: str
) -> None:
    kind, packages = CLIENTS[client]
    program = await asyncio.to_thread(node.packaged_node, packages) if packages == "newest" else node.node()
    script = await asyncio.to_thread(node.among_modules, Path(__file__).parent / "turns.mjs", packages)
    far = Conversation(VENDORS[vendor], TURNS)
    upstream.decide(far)
    proxy = await start_proxy(VENDORS[vendor].config(upstream.url, upstream.origin))
    command = [program, str(script), kind, proxy.url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "It is cold."
    assert len(far.bodies) == len(TURNS)
    last = json.dumps(far.bodies[-1]["messages"])
    assert INTERRUPTED in last
    assert (IMAGE in last) != (vendor == "DeepSeek")
    assert ("this model takes no images" in last) == (vendor == "DeepSeek")
    if vendor == "DeepSeek":
        thoughts = [one.get("reasoning_content") for one in far.bodies[-1]["messages"] if one.get("tool_calls")]
        assert thoughts == ["I must look."] * 2
