"""What deploys the proxy: the Dockerfile, the Compose file and the health check keep their promises (F05, J04)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from proxy.config.models import ServerSettings
from tests.support.need import cannot_run

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"


@pytest.fixture
def service() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    found: dict[str, Any] = compose["services"]["chat-proxy"]
    return found


def test_hadolint_has_no_complaint():
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        cannot_run("needs hadolint, of the test packages: `make test` installs it")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"hadolint\s+ignore", DOCKERFILE)


def test_what_the_image_installs_is_hashed_and_never_built_from_source():
    installs = re.findall(r"pip[^&\n]* install ([^&\\\n]+)", DOCKERFILE)
    assert len(installs) == 3
    for install in installs:
        assert "--no-index" in install or {"--require-hashes", "--only-binary", ":all:"} <= set(install.split())


def test_compose_waits_longer_than_the_drain(service):
    grace_s = float(service["stop_grace_period"].removesuffix("s"))
    assert grace_s >= ServerSettings().drain_s + 5


def test_compose_gives_the_container_as_little_as_it_needs(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "10001:10001"
    assert service["init"] is True  # reaps what others leave behind
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert all(path.startswith("/tmp:") for path in service["tmpfs"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_holds_no_secret(service):
    assert all(value is None for value in service["environment"].values())


def test_only_what_the_image_is_made_of_enters_the_build():
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    kept = {rule.removeprefix("!").rstrip("/") for rule in rules if rule.startswith("!")}
    copied = {
        word.removeprefix("./").rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    }
    assert next(rule for rule in rules if rule and not rule.startswith("#")) == "*"
    assert kept == copied


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), type("Scripted", (Answer,), {})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def healthcheck() -> ModuleType:
    specification = importlib.util.spec_from_file_location("healthcheck", HEALTHCHECK)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_the_health_check_believes_only_a_200(healthcheck, server, status, healthy):
    server.RequestHandlerClass.status = status
    assert healthcheck.healthy(server.server_port) is healthy


def test_the_health_check_says_no_to_silence_and_to_a_closed_port(healthcheck):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not healthcheck.healthy(silent.getsockname()[1], timeout_s=0.2)
        port = silent.getsockname()[1]
    assert not healthcheck.healthy(port)


def test_the_health_check_is_a_program_that_minds_no_proxy(server):
    environment = os.environ | {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    command = [sys.executable, "-I", str(HEALTHCHECK), str(server.server_port)]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert subprocess.run([*command, "/nothing"], env=environment, check=False).returncode == 1


def test_ci_runs_make_check_and_may_not_skip():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^export CI=true$", script.read_text(), re.MULTILINE)
    assert re.search(r"^make check$", script.read_text(), re.MULTILINE)
