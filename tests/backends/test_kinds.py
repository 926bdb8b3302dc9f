"""Kinds of backends that are registered but cannot load."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from proxy.backends import base
from proxy.backends.base import KindNotInstalled, kind
from proxy.config.load import load_config
from proxy.errors import ConfigErrors

CONFIG = """
backends:
  echo: {{kind: echo}}
  any: {{kind: litellm{more}}}
routes:
  - {{name: default, to: [any/openai/m, echo]}}
"""


@pytest.fixture(params=["litellm", "httpx"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found = importlib.util.find_spec
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == request.param else found(name))
    return str(request.param)


def test_N2_a_kind_without_its_packages_says_what_to_install(missing: str) -> None:
    with pytest.raises(KindNotInstalled, match=rf"{missing}.*pip install 'chat-proxy\[litellm\]'"):
        kind("litellm")


@pytest.mark.usefixtures("missing")
def test_N2_an_optional_backend_that_cannot_load_is_off_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(more=", optional: true"))
    config = load_config(file, settings_for=lambda name: kind(name).settings)
    assert list(config.backends) == ["echo"]
    assert "pip install 'chat-proxy[litellm]'" in config.off["any"]
    file.write_text(CONFIG.format(more=""))
    with pytest.raises(ConfigErrors, match="pip install"):
        load_config(file, settings_for=lambda name: kind(name).settings)


def test_N2_the_kinds_settings_load_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxy.backends.litellm.kind` is what an entry point imports, so it must not import what may be missing."""
    for name in ("httpx", "litellm"):
        monkeypatch.setitem(sys.modules, name, None)
    spec = importlib.util.find_spec("proxy.backends.litellm.kind")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.KIND.kind == "litellm"


def test_N8_known_bad_releases_of_litellm_are_excluded() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"litellm>=1.106,!=1.107.*,<2"' in project
