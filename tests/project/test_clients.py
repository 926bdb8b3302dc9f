"""The settings on the pages of docs/clients lead to addresses that are served, and their rules do what is said."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.project.test_docs import BLOCK, Site, environment, serving, whole

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/clients"
MESSAGES = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
RESPONSES = {"model": "m", "input": "hi"}


def block(page: str, holding: str) -> str:
    """The only block of a page that holds these words."""
    [text] = [match["text"] for match in BLOCK.finditer((FOLDER / page).read_text()) if holding in match["text"]]
    return text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The echo, on a free port."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "config.yaml").write_text("backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n")
    with serving(folder) as running:
        yield running


def asked(site: Site, base: str, path: str, body: dict[str, object]) -> bytes:
    url = base.rstrip("/").replace("http://localhost:8080", site.url) + path
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def test_C6_codex_finds_what_it_asks_for(site: Site):
    config = tomllib.loads(block("agents.md", "wire_api"))
    provider = config["model_providers"][config["model_provider"]]
    assert provider["wire_api"] == "responses"
    assert b"response.completed" in asked(site, provider["base_url"], "/responses", {**RESPONSES, "stream": True})


def test_C6_opencode_finds_what_it_asks_for(site: Site):
    config = json.loads(block("agents.md", "opencode.ai"))
    name, model = config["model"].split("/", 1)
    provider = config["provider"][name]
    assert model in provider["models"]
    assert set(provider["options"]) == {"baseURL", "apiKey"}
    assert b'"hi"' in asked(site, provider["options"]["baseURL"], "/chat/completions", MESSAGES)


def test_C6_continue_finds_what_it_asks_for(site: Site):
    [model] = yaml.safe_load(block("agents.md", "provider: openai"))["models"]
    assert b'"hi"' in asked(site, model["apiBase"], "/chat/completions", MESSAGES)


@pytest.mark.parametrize(
    ("page", "holding", "path"),
    [
        ("agents.md", "OPENAI_API_BASE=", "/chat/completions"),
        ("agents.md", "ANTHROPIC_BASE_URL=", "/v1/messages"),
        ("ai-sdk.md", "createOpenAI({", "/responses"),
    ],
)
def test_C6_the_addresses_shown_are_served(site: Site, page: str, holding: str, path: str):
    [base] = set(re.findall(r"http://localhost:8080[\w/]*", block(page, holding)))
    assert b"hi" in asked(site, base, path, RESPONSES if path == "/responses" else MESSAGES)


@pytest.mark.parametrize("path", ["/ollama/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_C6_the_addresses_in_words_are_served(site: Site, path: str):
    pages = "".join(page.read_text() for page in FOLDER.iterdir())
    assert (
        "http://localhost:8080"
        + path.removesuffix("/api/chat").removesuffix("/chat/completions").removesuffix("/messages")
        in pages
    )
    assert b"hi" in asked(site, "http://localhost:8080", path, MESSAGES)


@pytest.mark.parametrize(
    ("holding", "words", "header", "route"),
    [
        ("### Task:", "### Task:\nGenerate a title", "x-none: 1", "tasks"),
        ("### Task:", "### Task:\nRespond to the user query using the provided context", "x-none: 1", "default"),
        ("### Task:", "### Task:\nPredict 3-5 useful messages", "x-none: 1", "tasks"),
        ("### Task:", "What is a ### Task: line?", "x-none: 1", "default"),
        ("x-openwebui-user-role", "hi", "X-OpenWebUI-User-Role: admin", "admins"),
        ("x-openwebui-user-role", "hi", "X-OpenWebUI-User-Role: user", "default"),
    ],
)
def test_C6_rules_for_open_webui_take_what_they_say(tmp_path: Path, holding: str, words: str, header: str, route: str):
    (tmp_path / "config.yaml").write_text(whole(block("open-webui.md", holding)))
    body = json.dumps({"model": "any", "messages": [{"role": "user", "content": words}]})
    command = [sys.executable, "-m", "proxy", "explain", "--json", "--path", "/v1/chat/completions", "-H", header, "-"]
    keys = {"OPENAI_API_KEY": "sk-none-of-any-worth"}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment() | keys, input=body, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout)["route"] == route
