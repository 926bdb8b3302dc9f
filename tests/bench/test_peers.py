"""Every peer's config comes out whole, and ours is one that chat-proxy takes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bench import install
from bench.peers import CHAT, KEY, PEERS, Peer, Site
from bench.tools import HERE, CannotMeasure
from proxy.backends.base import kind
from proxy.config.load import load_config

OWN = [key for key, peer in PEERS.items() if peer.config == CHAT.config]


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(9000, 9100, tmp_path, tmp_path / "certificates" if request.param == "https" else None)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every revision paces: to ask one takes a process."""
    monkeypatch.setattr(install, "knows_ticks", lambda _: True)


@pytest.mark.usefixtures("ticks")
@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_nothing_is_left_to_fill_in(peer: Peer, site: Site):
    peer.write_config(site)
    filled = peer.rendered_command(site, streams=8, seconds=6, tokens=50)
    filled += [*peer.rendered_headers(site), *peer.rendered_environment(site).values()]
    filled += [path.read_text() for path in site.folder.iterdir() if path.is_file()]
    assert not [text for text in filled if re.search(r"\$\w", text)]


@pytest.mark.usefixtures("ticks")
@pytest.mark.parametrize("key", [key for key, peer in PEERS.items() if peer.config.endswith(".yaml")])
def test_yaml_is_yaml_and_names_both_ports(key: str, site: Site):
    PEERS[key].write_config(site)
    text = (site.folder / PEERS[key].config).read_text()
    assert yaml.safe_load(text)
    assert "9100" in text
    assert "9000" in text + " ".join(PEERS[key].rendered_command(site))


@pytest.mark.usefixtures("ticks")
@pytest.mark.parametrize("key", [key for key in PEERS if key != "direct"])
def test_each_checks_the_upstreams_certificate_against_our_authority(key: str, tmp_path: Path):
    site = Site(9000, 9100, tmp_path, tmp_path / "certificates")
    authority = str(tmp_path / "certificates" / "ca.pem")
    PEERS[key].write_config(site)
    config = "".join(path.read_text() for path in tmp_path.iterdir())
    assert authority in config or authority in PEERS[key].rendered_environment(site).values()


@pytest.mark.parametrize("key", OWN)
def test_ours_is_measured_as_it_is_shipped(key: str, site: Site):
    peer = PEERS[key]
    peer.write_config(site)
    config = load_config(site.folder / peer.config, settings_for=lambda name: kind(name).settings, env={})
    assert not config.warnings
    assert config.settings.server.log.format == "json"
    assert config.settings.auth is not None
    assert [one.digest for one in config.settings.auth.keys] == [hashlib.sha256(KEY.encode()).hexdigest()]
    assert peer.rendered_headers(site) == [f"Authorization: Bearer {KEY}"]


@pytest.mark.usefixtures("ticks")
def test_pacing_is_named_for_each_row_and_off_by_default(site: Site):
    for key, tick in (("chat", 0), ("openai", 0), ("chat-tick-50", 50), ("chat-tick-33", 33)):
        PEERS[key].write_config(site)
        assert f"delivery: {{tick_ms: {tick}}}" in (site.folder / CHAT.config).read_text()


def test_a_revision_that_does_not_pace_is_measured_unpaced_only(site: Site):
    package = site.folder / "proxy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("print('{}')")
    environment = {"PYTHONPATH": str(site.folder)}
    replace(CHAT, environment=environment).write_config(site)
    assert "delivery" not in (site.folder / CHAT.config).read_text()
    with pytest.raises(CannotMeasure, match=r"delivery\.tick_ms"):
        replace(PEERS["chat-tick-50"], environment=environment).write_config(site)


def test_the_pins_are_exact():
    pins = json.loads((HERE / "configs" / "portkey-package.json").read_text())
    versions = [PEERS["envoy"].version(), PEERS["litellm"].version(), PEERS["portkey"].version()]
    versions += [*pins["dependencies"].values(), *pins["overrides"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
