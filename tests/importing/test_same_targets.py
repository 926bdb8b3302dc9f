"""Each example config asked of both programs: LiteLLM's router, and this proxy with what `import` made of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from proxy.backends.base import kind
from proxy.config.load import load_config
from proxy.explain import Judge
from proxy.importing.litellm import convert
from tests.support.app import StartProxy

HERE = Path(__file__).parent
EXAMPLES = [path for path in sorted((HERE / "litellm").glob("*.yaml")) if path.name != "credentials.yaml"]
KEYS = ("SOME", "OPENAI", "ANTHROPIC", "AZURE", "AZURE_EU", "AZURE_US")
VARIABLES = {f"{name}_{what}": f"a-key-of-{name}-0123" for name in KEYS for what in ("KEY", "API_KEY")}

pytestmark = pytest.mark.xdist_group("litellm")

Place = tuple[str, str]
"""A provider, which is the first step of its address here, and a model there."""


class Upstreams(ThreadingHTTPServer):
    """All providers on one port, and all of them down. What was asked is kept by the words of its message."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Down)
        self.walks: dict[str, list[Place]] = {}
        self.origin = f"http://127.0.0.1:{self.server_port}"


class Down(BaseHTTPRequestHandler):
    server: Upstreams

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        deployment = re.search(r"/deployments/([^/]+)/", self.path)
        said = body["messages"][-1]["content"]
        walk = self.server.walks.setdefault(said if isinstance(said, str) else said[0]["text"], [])
        place = (self.path.split("/")[1], deployment[1] if deployment else body["model"])
        if place not in walk:
            walk.append(place)
        answer = b'{"error": {"message": "down", "type": "server_error"}}'
        self.send_response(500)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


class Stage(NamedTuple):
    upstreams: Upstreams
    picked: dict[str, dict[str, set[Place]]]  # by LiteLLM, by example and name


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Upstreams() as upstreams:
        threading.Thread(target=upstreams.serve_forever, daemon=True).start()
        entries = []
        for path in EXAMPLES:
            config = example(path, upstreams.origin)
            entries.append({"id": path.name, "config": config, "names": names(path, config)})
        ran = subprocess.run(
            [sys.executable, str(HERE / "ask_litellm.py")], input=json.dumps(entries), capture_output=True, text=True,
            env={**os.environ, **VARIABLES}, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-3000:]
        told = json.loads(ran.stdout.partition("ANSWER")[2])
        yield Stage(
            upstreams,
            {
                entry["id"]: {name: {_place(base, model) for base, model in picks} for name, picks in answers.items()}
                for entry, answers in zip(entries, told, strict=True)
            },
        )
        upstreams.shutdown()


def _place(address: str, model: str) -> Place:
    provider, slash, rest = model.partition("/")
    return address.split("/")[3], rest if slash else provider


def example(path: Path, origin: str) -> dict[str, Any]:
    """The config, with an address here for each deployment."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    for entry in config["model_list"]:
        params = entry["litellm_params"]
        provider = params["model"].partition("/")[0] if "/" in params["model"] else "bare"
        step = str(params.get("api_base", provider)).removeprefix("os.environ/").lower()
        params["api_base"] = f"{origin}/{step}"
        params.setdefault("api_key", "os.environ/SOME_API_KEY")
    return config


def names(path: Path, config: dict[str, Any]) -> list[str]:
    if told := re.search(r"^# asked: (.+)$", path.read_text(), re.MULTILINE):
        return told[1].split()
    given = [entry["model_name"] for entry in config["model_list"]]
    return [*dict.fromkeys(given), *config.get("router_settings", {}).get("model_group_alias", {})]


ONLY_IF_TOO_LONG = {("long", "gpt-3.5-turbo"): [("bare", "gpt-3.5-turbo-16k")]}


def members(config: dict[str, Any], name: str) -> set[Place]:
    """The deployments of a name, or of what it is an alias for. A name that a wildcard takes has one."""
    alias = config.get("router_settings", {}).get("model_group_alias", {}).get(name, name)
    name = alias["model"] if isinstance(alias, dict) else alias
    params = [entry["litellm_params"] for entry in config["model_list"] if entry["model_name"] == name]
    return {_place(one["api_base"], one["model"]) for one in params}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_both_programs_ask_the_same_targets(
    path: Path, stage: Stage, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    given = example(path, stage.upstreams.origin)
    converted = convert(yaml.safe_dump(given, sort_keys=False), path.name)
    assert converted.changes_routes == []
    written = tmp_path / "checked.yaml"
    written.write_text(converted.text)
    judge = Judge(config := load_config(written, settings_for=lambda name: kind(name).settings))
    running = await start_proxy(converted.text)
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        for name, picked in stage.picked[path.name].items():
            found = judge.explain("/v1/chat/completions", {}, None, id="q", model=name)
            ours = {_at(config, choice.target) for choice in found.choices if choice.share}
            assert ours == picked, name
            message = {"role": "user", "content": f"proxy {path.name} {name}"}
            answer = await client.post("/v1/chat/completions", json={"model": name, "messages": [message]})
            assert answer.status_code == 500
            theirs = stage.upstreams.walks[f"litellm {path.name} {name}"]
            walked = stage.upstreams.walks[message["content"]]
            assert walked[0] in picked, name
            # Here all targets of a name are asked before its fallbacks, and a target that fails for any reason is
            # followed by the one that LiteLLM has for long requests alone.
            others = [one for one in walked if one not in picked | (members(given, name) - set(theirs))]
            assert others == (theirs[1:] or ONLY_IF_TOO_LONG.get((path.stem, name), [])), name


def _at(config: Any, target: str) -> Place:
    name, _, model = target.partition("/")
    row = config.backends[name]
    azure = getattr(row, "azure", None)
    address = azure.endpoint if azure else getattr(row, "base_url", None) or row.api_base
    return address.split("/")[3], model.removeprefix("hosted_vllm/") if row.kind == "litellm" else model
