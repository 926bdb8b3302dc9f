"""What an upstream says is shown only without secrets, and without what looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.redact import cleaner
from proxy.wire.secret_shapes import MASK, Secrets

SECRET = "a/b+c secret=="


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
    assert cleaner(Secrets(["sk-canary"]), ["127.0.0.1:1"])(text) == text


def test_I01_configured_secrets_and_the_upstreams_address_go():
    clean = cleaner(Secrets([SECRET, "ab", ""]), ["10.1.2.3:8000"])
    assert clean(f"url?k=a%2Fb%2Bc%20secret%3D%3D and {SECRET} at 10.1.2.3:8000 ab") == (
        f"url?k={MASK} and {MASK} at {MASK} ab"
    )
    assert SECRET not in repr(Secrets([SECRET]))


def test_a_password_in_an_address_and_a_stack_are_cut():
    clean = cleaner(Secrets())
    assert clean("at https://user:pass@host/x\nTraceback (most recent call last):\n File secret.py") == (
        f"at https://{MASK}@host/x"
    )


def test_a_message_is_one_line_and_bounded():
    clean = cleaner(Secrets())
    assert clean("a\r\nb\x1b") == "a b"
    assert len(clean("x " * 100_000)) == 500


def test_a_key_that_a_bound_cuts_in_two_is_not_shown_in_part():
    clean = cleaner(Secrets(["zzzz-0123456789"]))
    for pad in (*range(480, 500), *range(16_370, 16_390)):
        assert "zzzz" not in clean("x" * pad + "zzzz-0123456789" + "y" * 600)
        assert "zzzz" not in clean(" " * pad + "zzzz-0123456789" + "y" * 600)


@given(st.text(max_size=300), st.text(max_size=300), st.text("abcXYZ019+/=-_ ", min_size=8, max_size=40))
def test_whatever_the_text_the_secret_is_gone(before, after, secret):
    assert secret not in cleaner(Secrets([secret]))(before + secret + after).replace(MASK, "\0")
