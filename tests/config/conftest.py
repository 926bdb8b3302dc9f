"""A config written in a test, read with a backend kind of the tests' own."""

from __future__ import annotations

from textwrap import dedent
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from proxy.config.load import load_config
from proxy.errors import ConfigError, ConfigErrors


class FakeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: str
    optional: bool = False


class EchoSettings(FakeSettings):
    local: ClassVar[bool] = True

    delay_ms: float = 0.0


class HttpSettings(FakeSettings):
    api_key: SecretStr | None = None
    base_url: str | None = None


KINDS = {"echo": EchoSettings, "wire": HttpSettings}


def settings_for(kind: str) -> type[BaseModel]:
    if kind not in KINDS:
        raise ConfigError(f"no backend kind {kind!r}")
    return KINDS[kind]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a config from text or bytes, as `config.yaml` of the working directory."""
    monkeypatch.chdir(tmp_path)

    def load(content, **options):
        data = content if isinstance(content, bytes) else dedent(content).removeprefix("\n").encode()
        (tmp_path / "config.yaml").write_bytes(data)
        options = {"env": {}, "kinds": KINDS, "contracts": {"chat", "openai"}, "settings_for": settings_for} | options
        return load_config("config.yaml", **options)

    return load


@pytest.fixture
def problems(load):
    """What loading a config says, one `LINE:COL: message` per mistake."""

    def problems(content, **options):
        with pytest.raises(ConfigErrors) as caught:
            load(content, **options)
        lines = str(caught.value).splitlines()
        assert lines == [str(error) for error in caught.value.errors]
        return [line.removeprefix("config.yaml:") for line in lines]

    return problems
