"""A process that serves imports what it uses and nothing else."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream

PACKAGES = frozenset(
    [
        "aiohappyeyeballs",
        "aiohttp",
        "aiosignal",
        "annotated_types",
        "attr",
        "click",
        "frozenlist",
        "httptools",
        "idna",
        "msgspec",
        "multidict",
        "prometheus_client",
        "propcache",
        "pydantic",
        "pydantic_core",
        "structlog",
        "typing_extensions",
        "typing_inspection",
        "uvloop",
        "yaml",
        "yarl",
    ]
)
"""What serving needs. Each package more is start time and memory of every process."""

DEVELOPMENT_ONLY = frozenset(["rich", "pygments", "markdown_it", "mdurl"])
"""structlog imports rich where it is installed: here, and not from the locks that production is installed from."""

IMPORTED = re.compile(r"import time: +\d+ \| +\d+ \| +(([a-z]\w*)[\w.]*)")
ASK = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


def imported(stderr: list[str]) -> set[str]:
    """The top-level packages that are neither Python's own, nor ours, nor put into any process by the environment."""
    found = {match[1]: match[2] for line in stderr if (match := IMPORTED.match(line))}
    tops = set(found.values()) - sys.stdlib_module_names - of_any_process() - {"proxy"}
    return {top for top in tops if was_there(top, set(found))}


def was_there(top: str, found: set[str]) -> bool:
    """Python also lists what it was asked for and did not find; of a package that it did find, it lists modules."""
    spec = find_spec(top)
    is_package = spec is not None and spec.submodule_search_locations
    return any(name.startswith(f"{top}.") for name in found) if is_package else spec is not None


def of_any_process() -> set[str]:
    code = "import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serving_imports_no_package_that_it_does_not_use(
    serve: Callable[..., Any], upstream: ScriptedUpstream, workers: str
) -> None:
    upstream.decide(lambda _: openai_stream(["Hello"]))
    config = f"""
        backends:
          echo: {{kind: echo}}
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: echo, match: {{model: echo}}, to: echo}}
          - {{name: default, to: far/scripted-1}}
    """
    process = await serve(config, "--port", "0", "--workers", workers, env={"PYTHONPROFILEIMPORTTIME": "1"})
    async with aiohttp.ClientSession(process.url) as http:
        for model in ("echo", "scripted-1"):
            async with http.post("/v1/chat/completions", json={**ASK, "model": model, "stream": True}) as answer:
                assert answer.status == 200
                assert b"[DONE]" in await answer.read()
        async with http.get("/metrics") as metrics:
            assert metrics.status == 200
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    await process.read_output()
    got = imported(process.logged)
    assert "aiohttp" in got, "the list of the process that serves"
    assert got <= PACKAGES | DEVELOPMENT_ONLY


def test_production_installs_no_package_for_drawing_tracebacks() -> None:
    for lock in ("requirements.lock", "requirements-image.lock", "requirements-core.lock"):
        names = re.findall(r"^([\w-]+)==", Path(lock).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert "structlog" in names
        assert not DEVELOPMENT_ONLY & {name.replace("-", "_") for name in names}
