"""A4: a worker that lives and does not answer is as bad as a dead one, and is noticed as well."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, _finish, openai_config
from tests.support.workers import ask, logged, pids, until_gone

PARENT = """
import asyncio, sys
from proxy.workers import parent
parent.PING_S = 0.4
asyncio.run(parent.Parent(sys.argv[1], host=None, port=0, workers=2).run())
"""


@pytest.fixture
async def proxy(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Process]:
    """Two workers that are pinged more often than outside of tests: the fifth silence is after 4 s."""
    config = tmp_path / "config.yaml"
    config.write_text(dedent(openai_config(upstream.url, server="{drain_s: 300}")))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(config), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    running = Process(process, config)
    running.keeping = asyncio.create_task(running._keep_log())
    try:
        await running.wait_until_listening()
        yield running
    finally:
        await _finish(running)


async def test_A4_a_worker_that_is_stopped_is_replaced_and_the_other_serves(
    proxy: Process, upstream: ScriptedUpstream
) -> None:
    upstream.always(*openai_stream(["hi"]))
    before = await pids(proxy)
    os.kill(before[1], signal.SIGSTOP)
    (died,) = await logged(proxy, "worker_died", within=60)
    assert (died["worker"], died["pid"], "stopped" in died["how"]) == (1, before[1], True)
    await until_gone(before[1])
    await logged(proxy, "listening", 3, within=60)
    after = await pids(proxy)
    assert after[2] == before[2]
    assert after[1] != before[1]
    for _ in range(10):
        assert (await ask(proxy))[1].endswith(b"[DONE]\n\n")


async def test_A4_a_worker_that_is_stopped_does_not_get_all_of_the_drain(proxy: Process) -> None:
    os.kill((await pids(proxy))[1], signal.SIGSTOP)
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code(within=60) == 1
    await proxy.read_output()
    assert re.search(r"\bworker 1 .*stopped", "".join(proxy.logged))


async def test_A4_all_processes_stopped_for_a_while_and_continued_are_left_alone(proxy: Process) -> None:
    """As by Ctrl-Z in a terminal, or when a virtual machine is paused."""
    workers = await pids(proxy)
    everybody = [proxy.process.pid, *workers.values()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(5)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(1)
    assert await pids(proxy) == workers
