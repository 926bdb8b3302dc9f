"""What deploys the proxy: the Dockerfile, the Compose file and the health check keep their promises (F05, J04)."""

from __future__ import annotations

import importlib.util
import json
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

import aiohttp
import pytest
import yaml

from proxy.app import settings_for
from proxy.config.load import Config, load_config
from proxy.config.models import ServerSettings
from proxy.errors import ConfigErrors
from tests.support.app import serving
from tests.support.need import cannot_run
from tests.support.ports import free_port

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
    """Each variable is passed through, or asked for."""
    for name, value in service["environment"].items():
        assert value is None or re.fullmatch(rf"\$\{{{name}:\?.+\}}", value)


SECRETS = {"CHAT_PROXY_KEY": "cp-0a1b2c3d4e5f6a7b8c9d", "OPENAI_API_KEY": "sk-9f8e7d6c5b4a39281706"}


def in_the_image(service: dict[str, Any], shell: dict[str, str]) -> Config:
    """The image's own config, as the image's own command would load it when Compose started it from this shell."""
    assert "COPY deploy/config.yaml /etc/chat-proxy/config.yaml" in DOCKERFILE
    command = json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])
    assert command[:3] == ["serve", "-c", "/etc/chat-proxy/config.yaml"]
    host, port = command[command.index("--host") + 1], int(command[command.index("--port") + 1])
    env = {name: shell[name] for name in service["environment"] if name in shell}
    return load_config(ROOT / "deploy" / "config.yaml", settings_for=settings_for, env=env, host=host, port=port)


@pytest.mark.parametrize("openai", [True, False], ids=["with a key for OpenAI", "without"])
def test_N3_compose_and_the_images_own_config_work_together(service, openai):
    shell = {name: value for name, value in SECRETS.items() if openai or name != "OPENAI_API_KEY"}
    config = in_the_image(service, shell)
    assert [key.name for key in config.settings.auth.keys if not key.off] == ["default"]
    assert set(config.backends) == ({"echo", "openai"} if openai else {"echo"})
    assert config.warnings == ()


def test_N3_without_the_key_for_clients_it_is_asked_for_by_name(service):
    """By Compose, before anything starts, and by the image, where it is run in another way."""
    assert service["environment"]["CHAT_PROXY_KEY"].startswith("${CHAT_PROXY_KEY:?")
    with pytest.raises(ConfigErrors, match="CHAT_PROXY_KEY"):
        in_the_image(service, {"OPENAI_API_KEY": SECRETS["OPENAI_API_KEY"]})


async def test_N3_the_images_own_config_answers_who_has_the_key_and_nobody_else():
    """Also the health check, which has none."""
    environment = {**SECRETS, "OPENAI_API_KEY": ""}
    async with serving(ROOT / "deploy" / "config.yaml", "--host", "0.0.0.0", "--port", "0", env=environment) as proxy:
        await proxy.wait_until_listening()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{proxy.port}") as http:
            ask = {"messages": [{"role": "user", "content": "hello"}]}
            for headers, status in (({}, 401), ({"Authorization": f"Bearer {SECRETS['CHAT_PROXY_KEY']}"}, 200)):
                async with http.post("/chat", json=ask, headers=headers) as answer:
                    assert answer.status == status
            async with http.get("/healthz") as healthy:
                assert healthy.status == 200


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
    assert not healthcheck.healthy(free_port())


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
