"""docs/team.md, from one process to three replicas: what it shows is run in one shell, and prints what it says."""

from __future__ import annotations

import re
import secrets
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.project.test_docs import BLOCK, ROOT, environment
from tests.support import postgres, redis
from tests.support.front import fronted
from tests.support.ports import free_port

PAGE = (ROOT / "docs" / "team.md").read_text()
CONFIG, *COMMANDS = BLOCK.finditer(PAGE)
REQUESTS = "SELECT key FROM chat_proxy_usage"
NGINX = "cp deploy/front/nginx.conf /etc/nginx/conf.d/chat-proxy.conf\nnginx -s reload\n"


@pytest.mark.heavy
def test_the_walk(tmp_path: Path):
    """Its servers are the test's: other addresses, and an nginx that has the file from the start."""
    assert CONFIG["language"] == "yaml"
    (tmp_path / "config.yaml").write_text(CONFIG["text"])
    ports = [free_port() for _ in range(3)]
    with redis.running() as server, postgres.running() as database, fronted("nginx", tmp_path, ports) as front:
        ours = {
            NGINX: ":\n",
            "redis://localhost:6379/0": server.url,
            "postgresql://localhost/usage": f"'postgresql:///usage?host={database.folder}&user=postgres'",
            "localhost/chat": f"localhost:{front}/chat",
            "redis-cli ": f"redis-cli -s {server.socket} ",
            **{f"808{number}": str(port) for number, port in enumerate(ports, 1)},
        }
        script = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
        for number, block in enumerate(COMMANDS):
            text = block["text"]
            for shown, there in ours.items():
                text = text.replace(shown, there)
            script += f"exec >out.{number}\n{text}"
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path, env=environment() | {"PGHOST": str(database.folder), "PGUSER": "postgres"},
            stderr=subprocess.PIPE, text=True, timeout=240, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert sqlite3.connect(tmp_path / "usage-backup.db").execute(REQUESTS).fetchall() == [("admin",)]
    with redis.running(restored=tmp_path / "keys.rdb") as server:
        environment_of_it = environment() | {"REDIS_URL": server.url, "ADMIN_KEY": secrets.token_hex(24)}
        command = ["chat-proxy", "key", "list"]
        listed = subprocess.run(
            command, cwd=tmp_path, env=environment_of_it, capture_output=True, text=True, check=False
        )
    assert re.search(r"^ann +store", listed.stdout, re.MULTILINE), listed.stderr
    for number, block in enumerate(COMMANDS):
        if block["prints"] is not None:
            printed = (tmp_path / f"out.{number}").read_text().rstrip("\n")
            shown = ".*".join(map(re.escape, block["prints"].rstrip("\n").split("…")))
            assert re.fullmatch(shown, printed, re.DOTALL), printed
