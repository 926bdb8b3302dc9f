"""A5: what stands in place of the config file is no reason to hang, to burn a core, or to miss the next good one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.config.test_file import REFUSED, gone
from tests.support.workers import Serve, ask, logged, status, until

WORKERS = {"one process": ("1",), "workers": ("2",)}


def config(url: str, number: int) -> str:
    return f"""
        backends:
          far: {{kind: openai-compatible, base_url: "{url}"}}
        routes:
          - {{name: default, to: far/scripted-1, set: {{seed: {number}}}}}
    """


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
async def test_A5_a_file_that_cannot_be_read_is_reported_and_a_good_one_taken_up_afterwards(
    serve: Serve, upstream: ScriptedUpstream, make: Callable[[Path], None], workers: str
) -> None:
    upstream.decide(lambda seen: openai_stream([f"<{seen.json()['seed']}>"]))
    proxy = await serve(config(upstream.url, 1), "--port", "0", "--workers", *WORKERS[workers])
    for number in (2, 3):
        gone(proxy.config)
        make(proxy.config)
        (*_, rejected) = await logged(proxy, "config_rejected", number - 1, within=30)
        assert REFUSED[make] in rejected["errors"][0]
        assert (await status(proxy))["config"]["rejected"] == rejected["errors"]
        assert b"<%d>" % (number - 1) in (await ask(proxy))[1]
        shutil.rmtree(proxy.config) if proxy.config.is_dir() else gone(proxy.config)
        proxy.rewrite(config(upstream.url, number))
        await until(proxy, generation=number)
        assert b"<%d>" % number in (await ask(proxy))[1]
    gone(proxy.config)
    os.mkfifo(proxy.config)
    proxy.signal(signal.SIGHUP)  # somebody asks for it, too
    await logged(proxy, "config_rejected", 3, within=30)
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code(within=30) == 0
