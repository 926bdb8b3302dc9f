"""deploy/team: the Compose file, its .env and its config agree, and the proxy's own check takes them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from proxy.app import settings_for
from proxy.config.load import Config, load_config
from proxy.errors import ConfigErrors

TEAM = Path(__file__).resolve().parents[2] / "deploy" / "team"
COMPOSE_TEXT = (TEAM / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
PROXY = COMPOSE["services"]["chat-proxy"]


def variables(text: str) -> dict[str, str]:
    """What a .env file sets."""
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def check(env: dict[str, str]) -> Config:
    """The config, with the variables that Compose hands to the proxy."""
    inherited = yaml.safe_load((TEAM.parent / "compose.yaml").read_text())["services"]["chat-proxy"]["environment"]
    handed = {name: env[name] for name in (*inherited, *PROXY["environment"])}
    return load_config(TEAM / "etc" / "config.yaml", settings_for=settings_for, env=handed, host="0.0.0.0", port=8080)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A .env as the command in the Compose file makes it."""
    folder = tmp_path_factory.mktemp("team")
    (folder / ".env.example").write_text((TEAM / ".env.example").read_text())
    (command,) = re.findall(r"^#   (while .*)$", COMPOSE_TEXT, re.MULTILINE)
    assert command in (TEAM / ".env.example").read_text()
    subprocess.run(["bash", "-euc", command], cwd=folder, check=True)
    return variables((folder / ".env").read_text())


def test_each_secret_is_made_and_another_one(env):
    made = [value for value in env.values() if value]
    assert len(made) == len(set(made)) == 4
    assert all(len(value) == 48 for value in made)


def test_the_proxy_takes_the_config(env):
    config = check(env)
    assert config.warnings == ()
    assert set(config.backends) == {"echo"}


def test_an_env_file_that_was_only_copied_is_refused():
    with pytest.raises(ConfigErrors, match="16"):
        check(variables((TEAM / ".env.example").read_text()))


def test_the_env_file_has_what_the_compose_file_asks_for(env):
    asked = set(re.findall(r"\$\{(\w+)", str(COMPOSE))) | {COMPOSE["secrets"]["metrics_key"]["environment"]}
    assert asked | {"OPENAI_API_KEY"} == set(env)


def test_the_config_and_the_compose_file_name_the_same_servers(env):
    settings = check(env).settings
    assert settings.usage is not None
    for address in (settings.store, settings.usage.store):
        text = address if isinstance(address, str) else address.get_secret_value()
        assert urlsplit(text).hostname in COMPOSE["services"]
    postgres = COMPOSE["services"]["postgres"]["environment"]
    parts = urlsplit(settings.usage.store.get_secret_value())
    assert (parts.username, parts.path) == (postgres["POSTGRES_USER"], f"/{postgres['POSTGRES_DB']}")
    assert parts.password == env["POSTGRES_PASSWORD"]


def test_it_waits_longer_than_the_drain(env):
    assert int(PROXY["stop_grace_period"].removesuffix("s")) >= check(env).settings.server.drain_s + 10


def test_what_is_mounted_is_there():
    volumes: list[Any] = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", [])]
    for volume in volumes:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (TEAM / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


def test_only_this_machine_can_connect():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_asks_the_proxy_with_its_key():
    prometheus = yaml.safe_load((TEAM / "prometheus.yaml").read_text())
    (scrape,) = prometheus["scrape_configs"]
    secret = Path(scrape["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in COMPOSE["services"]["prometheus"]["secrets"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["prometheus"]["volumes"]]
    assert set(prometheus["rule_files"]) <= set(mounted)
