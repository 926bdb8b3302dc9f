"""The systemd unit: systemd itself has no complaint, and it waits longer than the drain."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.config.models import ServerSettings
from tests.support import debian

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "chat-proxy.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        debian.require("systemd")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/chat-proxy/bin/chat-proxy", "/bin/true"))
    return path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_has_no_complaint(unit):
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_has_as_little_as_it_needs(unit):
    """Systemd's own measure: 10 is an open door, below 2 is rare."""
    done = analyze("security", "--offline=yes", "--threshold=20", unit)
    assert done.returncode == 0, done.stdout


def test_it_waits_longer_than_the_drain():
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) >= ServerSettings().drain_s + 10
