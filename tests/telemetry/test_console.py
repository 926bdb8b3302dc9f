"""The line of a request on a terminal fits the screen, and the decision stays on it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.console import LEAST_WIDTH, request_line

PRINTABLE = st.characters(exclude_categories=["C"])
WHEN = "2026-11-30T09:22:03.123Z"
DONE = {
    "request_id": "req-1", "contract": "openai", "path": "/v1/chat/completions", "route": "default",
    "backend": "ollama", "model": "gpt-4o", "upstream_model": "llama3.2", "status": 200, "end": "done",
    "attempts": [{"backend": "ollama", "model": "llama3.2", "status": 200}], "tokens_in": 12, "tokens_out": 340,
    "first_token_ms": 212.3, "duration_ms": 2104.0,
}  # fmt: skip
FAILED = {
    "request_id": "req-2", "contract": "chat", "route": "default", "status": 502, "end": "upstream_error",
    "error_code": "upstream_connect", "duration_ms": 5.0,
    "attempts": [{"backend": "near", "model": "m"}, {"backend": "far", "model": "m"}],
}  # fmt: skip


def line(fields, width=200, colors=False):
    return request_line(WHEN, fields, width=width, colors=colors)


def test_all_of_it_on_a_wide_screen():
    assert line(DONE) == (
        "09:22:03 200 openai  default → ollama/llama3.2  first 0.21 s  12 → 340 tokens  done 2.10 s  req-1"
    )


def test_80_columns_hold_an_ordinary_request():
    assert line(DONE | {"tokens_estimated": True, "backend": "any", "upstream_model": "m"}, 80).endswith(
        "default → any/m  first 0.21 s  ~12 → 340 tokens  done 2.10 s"
    )


def test_on_a_narrow_screen_the_decision_and_the_end_remain():
    assert line(DONE, 55) == "200 openai  default → ollama/llama3.2  done 2.10 s"
    assert line(FAILED, 60) == "502 chat  default → far/m (try 2)  upstream_error upstream_connect 0.01 s"[:59] + "…"


def test_a_request_that_no_route_took():
    refused = {"path": "/nowhere", "status": 404, "end": "rejected", "error_code": "not_found"}
    assert line(refused) == "09:22:03 404 /nowhere  rejected not_found  "


def test_an_error_says_what_is_wrong_as_far_as_the_screen_goes():
    refused = {
        "contract": "openai", "status": 400, "end": "rejected", "error_code": "invalid_request", "duration_ms": 1.0,
        "request_id": "1b4e28ba2fa111d2883fb9a761bde3fb", "words": "messages[0].role: expected user, system or assistant",
    }  # fmt: skip
    whole = "400 openai  rejected invalid_request 0.00 s  messages[0].role: expected user, system or assistant"
    assert line(refused).startswith("09:22:03 400 openai  rejected invalid_request 0.00 s  1b4e28ba")
    assert line(refused).endswith("messages[0].role: expected user, system or assistant")
    assert line(refused, 100) == f"09:22:03 {whole}"[:99] + "…"
    assert line(refused, 80) == whole[:79] + "…"
    cut = FAILED | {"attempts": [{"backend": "far", "model": "m", "words": "far/m: cannot connect to 127.0.0.1:11434"}]}
    assert line(cut, 120).endswith("upstream_connect 0.01 s  far/m: cannot connect to 127.0.0.1:11434")
    assert "cannot" not in line(DONE | {"attempts": cut["attempts"]}), "another target answered"


def test_colors_tell_good_from_bad():
    assert "\x1b[32m200" in line(DONE, colors=True)
    assert "\x1b[31m502" in line(FAILED, colors=True)
    assert "\x1b[31m200" in line(DONE | {"end": "upstream_truncated"}, colors=True)
    assert "\x1b[33m404" in line(FAILED | {"status": 404, "end": "rejected"}, colors=True)


@given(
    width=st.integers(0, 200),
    route=st.text(PRINTABLE, max_size=80),
    model=st.text(PRINTABLE, max_size=80),
    out=st.none() | st.integers(0),
    words=st.text(PRINTABLE, max_size=80),
)
def test_no_line_is_wider_than_the_screen(width, route, model, out, words):
    fields = DONE | {"route": route, "upstream_model": model, "tokens_out": out}
    if words:
        fields |= {"end": "rejected", "words": words}
    plain = line(fields, width)
    assert len(plain) <= max(width, LEAST_WIDTH)
    assert re.sub(r"\x1b\[\d+m", "", line(fields, width, colors=True)) == plain
