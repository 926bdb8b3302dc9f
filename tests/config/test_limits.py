"""`limits:` and `store:` of a config: what is left out, what is refused, what is kept secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.backends.base import kind
from proxy.config.limits import KeyLimits, UsageLimits, passwords_of
from proxy.config.load import Config, load_config
from proxy.errors import ConfigErrors
from tests.support.said import says

REST = "\nbackends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n"


def load(tmp_path: Path, text: str, **variables: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text + REST)
    return load_config(path, settings_for=lambda name: kind(name).settings, env=variables)


def refused(tmp_path: Path, text: str, **variables: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path, text, **variables)
    return str(caught.value).removeprefix(f"{tmp_path}/")


def test_what_a_key_leaves_out_comes_from_the_defaults():
    defaults = KeyLimits(requests_per_minute=60, parallel=4, on_outage="deny", per_user=UsageLimits(parallel=2))
    assert KeyLimits(requests_per_minute=5).over(defaults) == KeyLimits(
        requests_per_minute=5, parallel=4, on_outage="deny", per_user=UsageLimits(parallel=2)
    )
    assert KeyLimits(parallel=None).over(defaults).parallel is None, "`null` takes a default away"
    own = KeyLimits(per_user=UsageLimits(tokens_per_minute=9)).over(defaults)
    assert own.per_user == UsageLimits(tokens_per_minute=9, parallel=2)
    assert KeyLimits(per_user=None).over(defaults).per_user is None
    assert KeyLimits(parallel=1).over(None) == KeyLimits(parallel=1)


def test_a_store_is_memory_or_an_address_from_the_environment(tmp_path: Path):
    assert load(tmp_path, "store: memory").settings.store is None
    config = load(tmp_path, 'store: "${REDIS_URL}"', REDIS_URL="rediss://:hunter2hunter2@cache:6380/1")
    assert config.settings.store is not None
    assert "hunter2" not in repr(config)
    assert passwords_of(config.settings.store.get_secret_value()) == ["hunter2hunter2"]
    assert sorted(passwords_of("redis://:hunter%402@cache")) == ["hunter%402", "hunter@2"]
    assert passwords_of("redis://cache") == []


def test_another_store_is_refused_without_its_password(tmp_path: Path):
    said = refused(tmp_path, 'store: "${URL}"', URL="mysql://:hunter2hunter2@db")
    assert says(said, "config.yaml:1:8: store `memory` redis://")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "rest",
    ["hunter2/x@cache/0", "hunter2#x@cache/0", "hunter2?x@cache", "x@cache:hunter2", "x@[::1", "x@cache/hunter2"],
)
def test_an_address_that_means_another_is_refused_and_nothing_of_it_is_shown(tmp_path: Path, rest: str):
    """`/`, `#` and `?` end the part of an address that has the password. A database that is no number was number 0."""
    said = refused(tmp_path, f'store: "redis://:{rest}"')
    assert says(said, "config.yaml:1:8: store `%2F`")
    assert "hunter2" not in said


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("proxy.config.limits.find_spec", lambda name: None)
    assert "pip install 'chat-proxy[redis]'" in refused(tmp_path, "store: redis://cache")


@pytest.mark.parametrize(
    ("limits", "where"),
    [
        ("{requests_per_minut: 5}", "`requests_per_minute`"),
        ("{parallel: 0}", "auth.limits.parallel"),
        ("{on_outage: wait}", "auth.limits.on_outage"),
        ("{per_user: {per_user: {}}}", "auth.limits.per_user"),
    ],
)
def test_a_mistake_in_limits_is_found_at_its_place(tmp_path: Path, limits: str, where: str):
    assert where in refused(tmp_path, f"auth: {{keys: [{{name: a, sha256: '{'0f' * 32}'}}], limits: {limits}}}")


def test_a_store_may_have_the_keys_that_the_file_has_not(tmp_path: Path):
    route = "routes: [{name: mine, match: {key: ann}, to: echo}, {name: default, to: echo}]\n"
    path = tmp_path / "config.yaml"
    path.write_text("auth: {keys: []}\nstore: redis://cache\nbackends: {echo: {kind: echo}}\n" + route)
    assert load_config(path, settings_for=lambda name: kind(name).settings).settings.auth
