"""A5: what stands in place of the config file is no reason to hang, to burn a core, or to miss the next good one."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.config.test_file import REFUSED, gone
from tests.support.workers import Serve, ask, logged, until


def config(url: str, number: int) -> str:
    return f"""
        backends:
          far: {{kind: openai-compatible, base_url: "{url}"}}
        routes:
          - {{name: default, to: far/scripted-1, set: {{seed: {number}}}}}
    """


def clear(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else gone(path)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_A5_a_file_that_cannot_be_read_is_reported_and_a_good_one_taken_up_afterwards(
    serve: Serve, upstream: ScriptedUpstream, workers: str
) -> None:
    """The first is left to the watch, which gives an editor two seconds; for the others somebody asks."""
    upstream.decide(lambda seen: openai_stream([f"<{seen.json()['seed']}>"]))
    proxy = await serve(config(upstream.url, 1), "--port", "0", "--workers", workers)
    for number, (make, why) in enumerate(REFUSED.items(), start=1):
        clear(proxy.config)
        make(proxy.config)
        if number > 1:
            proxy.signal(signal.SIGHUP)
        told = await until(proxy, generation=number, rejected=True)
        assert why in told["config"]["rejected"][0]
        assert b"<%d>" % number in (await ask(proxy))[1]
        clear(proxy.config)
        proxy.rewrite(config(upstream.url, number + 1))
        if number > 1:
            proxy.signal(signal.SIGHUP)
        await until(proxy, generation=number + 1)
        assert b"<%d>" % (number + 1) in (await ask(proxy))[1]
    gone(proxy.config)
    os.mkfifo(proxy.config)
    proxy.signal(signal.SIGHUP)
    await logged(proxy, "config_rejected", len(REFUSED) + 1)
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code() == 0
