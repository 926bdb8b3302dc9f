"""What an upstream says is shown only without secrets, and without what looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.redact import Redactor

SECRET = "a/b+c secret=="


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcDEF123456. Find yours at https://x.test",
        "Incorrect API key provided: sk-abcd****************wxyz.",
        "got Authorization: Bearer abcdef.123456",
        "basic QWxhZGRpbjpvcGVu failed",
        "gsk_abcdefgh1234 is revoked",
        "xai-abcdefgh1234 hf_abcdefgh1234 AIzaSyA1234567890abcdefghijk AKIAABCDEFGHIJKLMNOP",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
        'api_key="0123456789abcdef"',
        "api-key: 0123456789abcdef",
    ],
)
def test_I01_what_looks_like_a_key_is_taken_out(text):
    clean = Redactor()(text)
    assert "[redacted]" in clean
    for secret in ("abcDEF", "wxyz", "abcdef.1", "QWxh", "abcdefgh1234", "AIza", "AKIA", "eyJ", "0123456789abcdef"):
        assert secret not in clean


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
        "Invalid type for 'messages[0].content': expected one of a string or array of objects, but got an integer.",
        "The model `gpt-9` does not exist or you do not have access to it.",
        "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000.",
    ],
)
def test_ordinary_messages_stay_as_they_are(text):
    assert Redactor(["sk-canary", "127.0.0.1:1"])(text) == text


def test_I01_configured_secrets_go_in_every_form():
    clean = Redactor([SECRET, "10.1.2.3:8000", "ab", ""])
    assert clean(f"url?k=a%2Fb%2Bc%20secret%3D%3D and {SECRET} at 10.1.2.3:8000 ab") == (
        "url?k=[redacted] and [redacted] at [redacted] ab"
    )
    assert SECRET not in repr(clean)


def test_a_password_in_an_address_and_a_stack_are_cut():
    assert Redactor()("at https://user:pass@host/x\nTraceback (most recent call last):\n File secret.py") == (
        "at https://host/x"
    )


def test_a_message_is_one_line_and_bounded():
    assert Redactor()("a\r\nb\x1b") == "a b"
    assert len(Redactor()("x " * 100_000)) == 500


def test_a_key_that_a_bound_cuts_in_two_is_not_shown_in_part():
    secret = "zzzz-0123456789"
    for pad in range(480, 500):
        assert "zzzz" not in Redactor([secret])("x" * pad + secret)


@given(st.text(max_size=300), st.text(max_size=300), st.text("abcXYZ019+/=-_ ", min_size=4, max_size=40))
def test_whatever_the_text_the_secret_is_gone(before, after, secret):
    assert secret not in Redactor([secret])(before + secret + after).replace("[redacted]", "\0")
