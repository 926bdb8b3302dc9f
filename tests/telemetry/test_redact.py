import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from proxy.telemetry.redact import LONGEST_NAME, LONGEST_VALUE, MASK, MOST_NAMES, Redactor, secrets_of, visible

SECRET = "canary/9f+8e7d=6c5b4a"


def test_i01_configured_secrets_are_masked_wherever_they_stand():
    redactor = Redactor([SECRET])
    for text in (SECRET, f"x{SECRET}y", f"{SECRET}{SECRET}", "https://h/?k=canary%2F9f%2B8e7d%3D6c5b4a"):
        assert "9f" not in redactor.redact(text)
        assert MASK in redactor.redact(text)


def test_secrets_of_an_older_config_stay_masked():
    redactor = Redactor(["the-old-secret"])
    redactor.learn(["the-new-secret"])
    assert redactor.redact("the-old-secret the-new-secret") == f"{MASK} {MASK}"


def test_of_two_secrets_the_longer_is_masked_whole():
    assert Redactor(["secret-one", "secret-one-and-more"]).redact("secret-one-and-more") == MASK


def test_words_that_local_servers_take_for_keys_are_left_alone():
    assert Redactor(["ollama", "none", ""]).redact("backend ollama said none") == "backend ollama said none"


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-CANARYabcdefghijklmnop. You can find",
        "Incorrect API key provided: CANARYab**********mnop.",
        "key sk-ant-api03-CANARY_abcdef-ghijkl is invalid",
        "got cp-CANARY7Q2k0yXn3mVb8LrTz5WcHsJd1fG",
        "AIzaSyCANARYabcdefghijklmnopqrstuvwxyz0",
        "AKIACANARYCANARYAAAA",
        "gsk_CANARYabcdefghijkl xai-CANARYabcdefghijkl hf_CANARYabcdefghijkl",
        "Authorization: Bearer CANARYabcdef",
        "{'Authorization': 'Bearer CANARYabcdef'}",
        "headers={'x-api-key': 'CANARYabcdef'}",
        "Proxy-Authorization: Basic Q0FOQVJZabcdef==CANARY",
        "GET https://host/v1?key=CANARYabcdef&alt=sse",
        "https://host/v1?api-version=1&api_key=CANARYabcdef",
        "http://user:CANARYabcdef@proxy:3128",
        "redis://:CANARYabcdef@redis:6379/0",
        "password = CANARYabcdef",
        '"secret": "CANARYabcdef"',
        "Cookie: session=CANARYabcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJDQU5BUlkifQ.CANARYsignature",
    ],
)
def test_i01_what_looks_like_a_key_is_masked_without_being_known(text):
    assert "CANARY" not in Redactor().redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "risk-assessment-of-the-whole-system",
        "max_tokens: 100000, temperature: 0.7",
        "POST https://api.openai.com/v1/chat/completions?api-version=2024-10-21",
        "config.yaml:12:5: unknown key `modle`; the nearest is `model`",
        "openai: upstream_connect",
        "claude-sonnet-4-5-20250929",
        "[2001:db8::1]:8080",
        "a basic question about bearer bonds",
    ],
)
def test_ordinary_lines_stay_as_they_are(text):
    assert Redactor().redact(text) == text


def test_a_huge_value_is_cut_and_says_by_how_much():
    cut = Redactor().clean("m" * 1_000_000)
    assert cut.startswith("m" * LONGEST_VALUE + "…")
    assert len(cut) < LONGEST_VALUE + 50
    assert f"{1_000_000 - LONGEST_VALUE} more" in cut


@given(st.integers(LONGEST_VALUE - 100, LONGEST_VALUE + 600), st.integers(0, 50))
@example(LONGEST_VALUE - 20, 0)  # cut in two by the limit
@example(LONGEST_VALUE + 500, 50)  # cut in two where reading stops, then pulled in by what masking saved
def test_a_cut_never_leaves_half_a_secret(at, earlier):
    secret = "correct-horse-battery-staple-canary"
    text = f"{secret} " * earlier
    text = text.ljust(at, "x") + secret + "y" * 3000
    cleaned = Redactor([secret]).clean(text)
    assert not any(secret[: n + 1] in cleaned for n in range(8, len(secret)))


def test_h09_nothing_invisible_stays():
    corpus = "\r\n\t\x00\x1b[31m\x7f\x9b2J\u202e\u2066\u200b\u2028\u2029\ufeff\ud800\U000e0041"
    shown = visible(f"a{corpus}b")
    assert shown.isprintable()
    assert shown.startswith(r"a\r\n\t\x00\x1b[31m\x7f\x9b2J\u202e")
    assert visible("Grüße, 世界 🎉") == "Grüße, 世界 🎉"
    assert visible("a\n\x1b", keep="\n") == "a\n\\x1b"


@given(st.text())
def test_visible_text_is_printable_and_printable_text_is_untouched(text):
    shown = visible(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


class Awkward:
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2**70, "[a number of 71 bits]"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ([1, "a\nb"], [1, "a\\nb"]),
        ({"k\n": (1,)}, {"k\\n": [1]}),
        (Awkward(), "[a Awkward that cannot be shown]"),
        (b"\xff", r"b'\xff'"),
    ],
)
def test_any_value_becomes_plain_and_safe(value, expected):
    assert Redactor().clean_value(value) == expected


def test_nested_and_long_containers_are_bounded():
    endless: list[object] = []
    endless.append(endless)
    assert isinstance(Redactor().clean_value(endless), list)
    assert len(Redactor().clean_value(list(range(1000)))) == 32


@pytest.mark.parametrize(
    "piece", ["eyJ-", "eyJaaaaaaaaa.", "token=a ", "://aaaa:", "sk-aaa,", "bearer  ", "api_key = ", "a" * 40]
)
def test_masking_hostile_text_takes_no_time(piece):
    redactor, text = Redactor([SECRET]), piece * (16_000 // len(piece))
    started = time.process_time()
    redactor.redact(text)
    assert time.process_time() - started < 0.1


def test_secrets_are_found_in_settings_of_any_shape():
    class Row(BaseModel):
        api_key: SecretStr
        nested: dict[str, list[SecretStr]] = {}
        name: str = "not-secret"

    row = Row(api_key=SecretStr("one"), nested={"a": [SecretStr("two")]})
    assert sorted(secrets_of({"x": row, "y": (SecretStr("three"), 4)})) == ["one", "three", "two"]


def test_names_are_cleaned_once_and_anew_when_a_secret_is_learned():
    redactor = Redactor()
    assert redactor.clean_name("model-of-hunter2hunter2") == "model-of-hunter2hunter2"
    redactor.learn(["hunter2hunter2"])
    assert redactor.clean_name("model-of-hunter2hunter2") == f"model-of-{MASK}"
    assert redactor.clean_name("a\x1b[31m") == r"a\x1b[31m"


def test_d07_invented_names_are_not_remembered_for_ever():
    redactor = Redactor()
    for n in range(10_000):
        redactor.clean_name(f"name-{n}")
        redactor.clean_name("x" * 10_000 + str(n))
    assert len(redactor._cleaned) <= MOST_NAMES
    assert all(len(name) <= LONGEST_NAME for name in redactor._cleaned)
