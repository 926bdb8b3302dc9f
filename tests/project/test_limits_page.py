"""docs/limits.md, step by step: what it shows is run beside a Redis, and prints what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.project.test_docs import BLOCK, PART, REST, ROOT, environment
from tests.support import redis

PAGE = (ROOT / "docs/limits.md").read_text()
CONFIGS = [match["text"] for match in BLOCK.finditer(PAGE) if match["language"] == "yaml"]
COMMANDS = [match for match in BLOCK.finditer(PAGE) if match["language"] == "sh"]


def test_the_commands_of_the_page_print_what_it_says(tmp_path: Path):
    first, _, second = CONFIGS
    with redis.running() as server:
        for block in COMMANDS:
            config = first if "explain" in block["text"] else second.replace(PART, "") + REST
            (tmp_path / "config.yaml").write_text(config.replace("redis://localhost:6379/0", server.url))
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block["text"]],
                cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
            shown = ".*".join(map(re.escape, block["prints"].rstrip("\n").split("…")))
            assert re.fullmatch(shown, ran.stdout.rstrip("\n"), re.DOTALL), ran.stdout
    assert len(COMMANDS) == 3


def test_the_metrics_that_the_page_names_exist():
    from proxy.telemetry.metrics import Metrics

    metrics = Metrics().exposition()[0].decode()
    named = set(re.findall(r"`(chat_proxy_\w+)", PAGE))
    assert len(named) == 3
    for name in named:
        assert name.removesuffix("_total") in metrics


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_every_policy_is_explained(policy: str):
    assert re.search(rf"^\| `{policy}` \|", PAGE, re.MULTILINE)
