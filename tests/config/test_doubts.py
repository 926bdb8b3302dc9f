"""Keys that are right one by one, and do nothing together: each is a warning that says where and what to do."""

from __future__ import annotations

import pytest

CONFIG = """\
{top}
backends:
  one: {{kind: echo}}
routes:
  - name: default
    to: {to}
    {keys}
"""
TWO = "[one/a, one/b]"
KEY = f"auth: {{keys: [{{name: ci, sha256: {'ab' * 32}}}]}}"

DOUBTS = [
    ("", TWO, "continue_with: Weiter", "7:20: `continue_with` `on_cut: continue`"),
    ("", TWO, "resume: true", "7:13: `resume: true` `server.resume`"),
    ("", "one/a", "pick: least-latency", "7:11: `pick: least-latency` one target"),
    ("", TWO, "pick: weighted; sticky: key", "8:13: `sticky: key` `auth` `conversation`"),
    ("", TWO, "hedge: {after_ms: 5000}; timeouts: {first_token_s: 5}", "7:12: `hedge.after_ms` first_token_s 5 s"),
    ("server: {timeouts: {first_token_s: 2}}", TWO, "hedge: {after_ms: 3000}", "7:12: `hedge.after_ms` 2 s"),
    ("", TWO, "timeouts: {first_token_s: 60, total_s: 5}", "7:31: `first_token_s: 60` `total_s` 5"),
    ("server: {breaker: {open_s: 60, longest_s: 5}}", TWO, "", "1:28: `open_s: 60` `longest_s` 5"),
    ("", "[{target: one/a, concurrency: 3}, {target: one/a, concurrency: 5}]", "", "6:72: `one/a` line 6 same"),
]
FINE = [
    ("", TWO, "on_cut: continue; continue_with: Weiter"),
    ("server: {resume: {}}", TWO, "resume: true"),
    ("", TWO, "resume: false"),
    ("", "one/a", "pick: in-order"),
    (KEY, TWO, "pick: weighted; sticky: key"),
    ("", TWO, "hedge: {after_ms: 4000}; timeouts: {first_token_s: 5}"),
    ("", TWO, "hedge: {after_percentile: 90}; timeouts: {first_token_s: 5}"),
    ("", TWO, "timeouts: {total_s: 5}"),  # the other is a default
    ("", "[{target: one/a, concurrency: 3}, {target: one/a, concurrency: 3}, {target: one/b, concurrency: 9}]", ""),
]


def written(top: str, to: str, keys: str) -> str:
    return CONFIG.format(top=top or "server: {}", to=to, keys=keys.replace("; ", "\n    "))


@pytest.mark.parametrize(("top", "to", "keys", "expected"), DOUBTS)
def test_a_key_that_can_do_nothing_is_a_warning(load, top, to, keys, expected):
    (warning,) = map(str, load(written(top, to, keys)).warnings)
    place, *words = expected.split(" ", 1)
    assert warning.startswith(f"config.yaml:{place}"), warning
    assert all(word in warning for word in words[0].split()), warning


@pytest.mark.parametrize(("top", "to", "keys"), FINE)
def test_keys_that_fit_are_none(load, top, to, keys):
    assert not load(written(top, to, keys)).warnings
