"""What the tests say of Redis, said of Valkey, which Debian has from trixie on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import redis
from tests.support.container import make_root
from tests.support.need import cannot_run

pytestmark = pytest.mark.image

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/store", "tests/streams", "tests/e2e/test_keys_in_store.py", "tests/e2e/test_budgets.py")


def test_valkey_does_what_redis_does():
    if not redis.command("valkey-server"):
        if os.geteuid() != 0:
            cannot_run("needs valkey-server, or root, for debootstrap")
        make_root(redis.TRIXIE, "valkey-server")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not heavy", *TESTS]
    environment = os.environ | {"REDIS_SERVER": "valkey-server"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(ran.stdout[-2000:])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "skipped" not in ran.stdout
