"""`chat-proxy init`: a config that passes `check`, and never one over another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.support.said import assert_said

SECRET = "sk-a-secret-that-is-long-enough"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_what_it_writes_passes_check_and_has_no_key_in_it():
    result = run("init")
    assert result.exit_code == 0, result.output
    assert "anthropic  ANTHROPIC_API_KEY" in result.stdout
    text = Path("config.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=chat-proxy.schema.json\n")
    assert SECRET not in text
    assert json.loads(Path("chat-proxy.schema.json").read_text())["title"] == "chat-proxy config"
    checked = run("check")
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert run("explain", "--model", "claude-x").exit_code == 0


def test_what_cannot_be_a_key_is_said_and_not_used(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    result = run("init")
    assert result.exit_code == 0
    assert "OPENAI_API_KEY" in result.stdout
    assert "OPENAI_API_KEY" not in Path("config.yaml").read_text()
    assert SECRET not in result.output
    assert run("check").exit_code == 0


def test_a_file_that_is_there_stays_as_it_is():
    Path("config.yaml").write_text("mine\n")
    refused = run("init")
    assert refused.exit_code == 1
    assert_said(refused.stderr.splitlines(), ["config.yaml -o --force"])
    assert Path("config.yaml").read_text() == "mine\n"
    Path("chat-proxy.schema.json").write_text("{}")
    assert run("init", "-o", "other.yaml").exit_code == 0
    assert Path("chat-proxy.schema.json").read_text() == "{}"
    assert run("init", "--force").exit_code == 0
    assert "kind: anthropic" in Path("config.yaml").read_text()


def test_a_folder_that_is_not_there_is_named():
    refused = run("init", "-o", "no/such/config.yaml")
    assert refused.exit_code == 1
    assert "no/such/config.yaml" in refused.stderr


@pytest.mark.parametrize("named", [("-c", "no.yaml"), ("-c", "config.yaml"), ()])
def test_a_file_that_is_named_has_to_be_there(named, monkeypatch):
    if not named:
        monkeypatch.setenv("CHAT_PROXY_CONFIG", "from-the-variable.yaml")
    for command in (["serve"], ["check"], []):
        result = run(*command, *named)
        assert result.exit_code == 1
        file = named[1] if named else "from-the-variable.yaml"
        assert_said(result.stderr.splitlines(), [f"{file}: init"])
