"""Contracts from YAML, by way of the config's own loader and checks, so that no test uses what no owner could."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from textwrap import dedent, indent

from proxy.backends.base import kind
from proxy.config.frontends import FrontendSettings
from proxy.config.load import load_config
from proxy.contracts.declared.contract import Contract
from proxy.contracts.declared.writer import DeclaredWriter
from proxy.events import Batch, StreamEvent

CHAT_JSON = """
    path: /json
    response:
      token: {token: $text}
      done: "[DONE]"
      error: {error: {message: $message, type: $type, code: $code, retryable: $retryable, request_id: $id}}
      events: {done: done, error: error}
      data_prefix: "data:"
"""
"""The dialect `json` of `/chat`."""


def config_with(*declarations: str, routes: str = "[{name: default, to: echo}]", **named: str) -> str:
    """A config that declares contracts: `own`, or as they are named."""
    rows = {**{f"own{number or ''}": text for number, text in enumerate(declarations)}, **named}
    frontends = "".join(f"  {name}:\n{indent(dedent(text).strip(), '    ')}\n" for name, text in rows.items())
    return f"backends: {{echo: {{kind: echo}}}}\nroutes: {routes}\nfrontends:\n{frontends}"


def declared_settings(declaration: str) -> FrontendSettings:
    """The settings of one contract. Raises `ConfigErrors` for a declaration that no config may have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config_with(declaration))
        config = load_config(path, settings_for=lambda name: kind(name).settings, env={})
        assert not config.warnings
        return config.settings.frontends["own"]


@functools.cache
def contract(declaration: str) -> Contract:
    return Contract(declared_settings(declaration))


def response(text: str) -> Contract:
    """A contract of which only `response` matters."""
    return contract("path: /own\nresponse:\n" + indent(dedent(text).strip(), "  "))


def writer(declared: Contract, *, model: str = "m-1", **echoed: object) -> DeclaredWriter:
    named = {f"request.{name}": value for name, value in echoed.items()}
    return DeclaredWriter(declared, id="req-1", model=model, created=1_700_000_000, echoed=named)


def written(declared: Contract, *events: StreamEvent, **known: object) -> bytes:
    """What one answer of these events is, each in a batch of its own."""
    one = writer(declared, **known)
    return b"".join([one.feed(Batch([event])) for event in events])
