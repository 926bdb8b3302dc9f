"""Which lock `make run` installs, told from the file alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "needs.py"
CORE, EXTRAS, ALL = "requirements-core.lock", "requirements-image.lock", "requirements.lock"

specification = importlib.util.spec_from_file_location("needs", SCRIPT)
needs = importlib.util.module_from_spec(specification)
specification.loader.exec_module(needs)


@pytest.mark.parametrize(
    ("text", "lock"),
    [
        ("backends: {echo: {kind: echo}}", CORE),
        ("backends:\n  a: {kind: litellm}", ALL),
        ("backends:\n  a:\n    kind: 'litellm'\n    api_key: x", ALL),
        ('backends:\n  "a": {"kind": "litellm"}', ALL),
        ("backends:\n  a: {kind: echo} # or {kind: litellm}\n# b: {kind: litellm}", CORE),
        ("backends:\n  a: {kind: openai-compatible, base_url: http://litellm:4000}", CORE),
        ("backends:\n  a: {kind: litellm, api_key: '${SET}', optional: true}", ALL),
        ("backends:\n  a: {kind: litellm, api_key: '${UNSET}', optional: true}", CORE),
        ("backends:\n  a: {kind: litellm, api_key: '${UNSET:-x}', optional: true}", ALL),
        ("backends:\n  a: {kind: litellm, api_key: '${UNSET}'}", ALL),
        ("backends: {a: {kind: litellm, api_key: '${UNSET}', optional: true}, b: {kind: litellm}}", ALL),
        ("backends:\n  a:\n    kind: litellm\n\n    api_key: ${UNSET}\n    optional: true\n  b: {kind: echo}", CORE),
        ("backends:\n  a:\n    kind: litellm\n  b:\n    kind: openai\n    api_key: ${UNSET}\n    optional: true", ALL),
        ("server:\n  store: redis://h/0", EXTRAS),
        ("server:\n  store: ${STORE}", EXTRAS),
        ("server:\n  store: memory", CORE),
        ("usage: {store: 'postgresql://h/usage'}\nbackends: {a: {kind: echo}}", EXTRAS),
        ("store: redis://h/0\nbackends: {a: {kind: litellm}}", ALL),
        ("routes:\n  - match: {content: 'a+'}\n    to: a", EXTRAS),
        ("routes:\n  - name: x\n    match:\n      content: a+\n    to: a", EXTRAS),
        ("frontends:\n  mine:\n    response:\n      token: {content: $text}", CORE),
        ("\tnot: [yaml", CORE),
    ],
)
def test_the_lock_that_a_config_needs(text, lock):
    assert needs.lock(text, {"SET": "x"}) == lock


def test_the_shipped_config_needs_the_core_only_until_its_key_is_set():
    text = (ROOT / "config.yaml").read_text()
    assert needs.lock(text, {}) == CORE
    assert needs.lock(text, {"ANTHROPIC_API_KEY": "x"}) == ALL


def test_the_config_of_a_team_does_not_need_litellm():
    text = (ROOT / "deploy" / "team" / "etc" / "config.yaml").read_text()
    assert needs.lock(text, {"OPENAI_API_KEY": "x"}) == EXTRAS


def test_a_file_that_cannot_be_read_is_left_to_whoever_serves_it(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff")
    for name in ("bytes.yaml", "none.yaml"):
        command = [sys.executable, "-I", "-S", str(SCRIPT), str(tmp_path / name)]
        assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout == CORE + "\n"
