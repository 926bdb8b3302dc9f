"""What two configs differ in, without their values."""

from __future__ import annotations

from pathlib import Path

from proxy.app import settings_for
from proxy.config.difference import difference
from proxy.config.load import Config, load_config

OLD = """
server: {port: 8080}
backends:
  echo: {kind: echo}
  far: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: "the-old-secret-key"}
routes:
  - {name: code, match: {model: "code-*"}, to: far/code-1}
  - {name: rest, to: echo/echo}
"""


def config(text: str) -> Config:
    return load_config(Path("config.yaml"), content=text.encode(), settings_for=settings_for, env={})


def test_the_same_config_differs_in_nothing() -> None:
    assert difference(config(OLD), config(OLD)) == []


def test_it_names_what_changed_and_shows_no_value() -> None:
    new = (
        OLD.replace("the-old-secret-key", "the-new-secret-key")
        .replace("far/code-1", "far/code-2")
        .replace("  - {name: rest", "  - {name: more, match: {model: m}, to: echo/echo}\n  - {name: rest")
        .replace("8080", "8081")
    )
    found = difference(config(OLD), config(new))
    assert found == [
        "server.port changed",
        "backends.far.api_key changed",
        "routes.code.to changed",
        "routes.more added",
    ]


def test_the_order_of_routes_counts() -> None:
    new = OLD.replace("{name: code, match", "{name: last, match").replace(
        "name: rest, to", "name: rest, match: {model: m}, to"
    )
    swapped = new.replace("name: last", "name: x").replace("name: rest", "name: last").replace("name: x", "name: rest")
    assert "routes order: rest, last" in difference(config(new), config(swapped))
