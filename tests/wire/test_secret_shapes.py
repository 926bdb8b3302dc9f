"""Secrets are masked in every form, and what looks like a key without being known."""

from __future__ import annotations

import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.secret_shapes import MASK, MOST_SECRETS, Secrets

SECRET = "canary/9f+8e7d=6c5b4a"
KEY = "Q7x-Zt4_pLw9RbN2vKd8"


def test_i01_configured_secrets_are_masked_wherever_they_stand():
    secrets = Secrets([SECRET])
    for text in (SECRET, f"x{SECRET}y", f"{SECRET}{SECRET}", "https://h/?k=canary%2F9f%2B8e7d%3D6c5b4a"):
        assert "9f" not in secrets.mask(text)
        assert MASK in secrets.mask(text)


def test_secrets_of_an_older_config_stay_masked():
    secrets = Secrets(["the-old-secret"])
    secrets.learn(["the-new-secret"])
    assert secrets.mask("the-old-secret the-new-secret") == f"{MASK} {MASK}"


def test_of_two_secrets_the_longer_is_masked_whole():
    assert Secrets(["secret-one", "secret-one-and-more"]).mask("secret-one-and-more") == MASK


def test_words_that_local_servers_take_for_keys_are_left_alone():
    assert Secrets(["ollama", "none", ""]).mask("backend ollama said none") == "backend ollama said none"


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
    assert "CANARY" not in Secrets().mask(text)


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
    assert Secrets().mask(text) == text


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded to the last letter": lambda text: "".join(f"%{ord(char):02X}" for char in text),
    "percent-encoded twice": lambda text: quote("".join(f"%{ord(char):02x}" for char in text), safe=""),
    "as a JSON string": lambda text: msgspec.json.encode(text).decode(),
    "as JSON in JSON": lambda text: msgspec.json.encode(msgspec.json.encode(text).decode()).decode(),
    "in JSON escapes": escaped,
    "in JSON escapes of JSON": lambda text: msgspec.json.encode(escaped(text)).decode(),
    "in hex escapes": lambda text: "".join(f"\\x{ord(char):02x}" for char in text),
    "in HTML": lambda text: "".join(f"&#x{ord(char):x};" for char in text),
    "in HTML, decimal": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "spaced": " ".join,
    "in groups": lambda text: "-".join(text[at : at + 4] for at in range(0, len(text), 4)),
    "in lines": lambda text: "\n".join(text[at : at + 8] for at in range(0, len(text), 8)),
    "with invisible characters": "\u200b".join,
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 without its end": lambda text: b64encode(text.encode()).decode().rstrip("="),
    "base64 for URLs": lambda text: urlsafe_b64encode(text.encode()).decode(),
    "in a base64 text": lambda text: b64encode(f"user:{text}".encode()).decode(),
    "in a longer base64 text": lambda text: b64encode(f"Bearer {text}, and more".encode()).decode(),
    "base64, percent-encoded": lambda text: quote(b64encode(text.encode()).decode(), safe=""),
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "hex in pairs": lambda text: text.encode().hex(" "),
    "hex with colons": lambda text: text.encode().hex(":"),
}


def pieces_of(disguised: str) -> set[str]:
    """Eight characters in a row: more than that of a key is too much."""
    return {disguised[at : at + 8] for at in range(max(1, len(disguised) - 7))}


@pytest.mark.parametrize("form", DISGUISES)
@pytest.mark.parametrize("secret", [KEY, SECRET, "sk-proj-abcdefghijKLMNOP0123"])
def test_A3_a_known_secret_is_masked_in_every_form(form: str, secret: str) -> None:
    shown = DISGUISES[form](secret)
    masked = Secrets([secret]).mask(f"refused: {shown}, sorry")
    assert masked.startswith("refused: ")
    assert masked.endswith(", sorry")
    assert MASK in masked
    assert not any(piece in masked for piece in pieces_of(shown))


KEYS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=16, max_size=60).filter(
    lambda text: sum(map(str.isalnum, text)) >= 12 and any(map(str.isalpha, text))
)


@given(KEYS, st.sampled_from(sorted(DISGUISES)), st.text(max_size=60), st.text(max_size=60))
def test_A3_whatever_the_key_and_the_text_around_it(key: str, form: str, before: str, after: str) -> None:
    shown = DISGUISES[form](key)
    masked = Secrets([key]).mask(f"{before} {shown} {after}")
    assert shown not in masked


@pytest.mark.parametrize(
    ("header", "bare"),
    [
        ("Token Q7xZt4pLw9RbN2vKd8", ["Q7xZt4pLw9RbN2vKd8"]),
        ("Bearer abcdefghij", ["abcdefghij"]),
        ("ApiKey Q7xZt4pLw9RbN2vKd8", ["Q7xZt4pLw9RbN2vKd8"]),
        ("Basic " + b64encode(b"operator:hunter2-hunter2").decode(), ["operator", "hunter2-hunter2"]),
        ("Basic " + b64encode(b"operator:hunter2-hunter2").decode().rstrip("="), ["hunter2-hunter2"]),
        ("session=Q7xZt4pLw9RbN2vKd8; theme=dark", ["Q7xZt4pLw9RbN2vKd8"]),
        ("Digest username=me, response='9f8e7d6c5b4a3210'", ["9f8e7d6c5b4a3210"]),
        ("AWS4-HMAC-SHA256 Credential=K1/x, Signature=9f8e7d6c5b4a3210", ["9f8e7d6c5b4a3210"]),
    ],
)
def test_A3_what_is_secret_in_a_header_is_known_without_its_scheme_too(header: str, bare: list[str]) -> None:
    secrets = Secrets([header])
    for secret in bare:
        assert secrets.mask(f"refused {secret}!") == f"refused {MASK}!"
        assert secret not in secrets.mask(f"refused {b64encode(secret.encode()).decode()} {secret.upper()}")


@pytest.mark.parametrize(
    "key",
    [
        "xoxb-1234567890-abcdefghij",
        "xapp-1-A0123456789-abcdef",
        "github_pat_11ABCDEFG0abcdefghij_KLMNOP",
        "gho_abcdefghijklmnop",
        "ghp_abcdefghijklmnop",
        "ASIAABCDEFGHIJKLMNOP",
        "AKIAABCDEFGHIJKLMNOP",
        "cp-7Q2k0yXn3mVb8LrTz5WcHsJd1fG",
        "sk-abc123",
        "sk-or-v1-0123456789abcdef",
        "ya29.a0AfH6SMBabcdefghij",
        "npm_abcdefghijklmnopqrst",
        "AIzaSyA1234567890abcdefghijk",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ",
    ],
)
def test_A3_shapes_are_known_by_one_table(key: str) -> None:
    assert Secrets().mask(f"got {key}") == f"got {MASK}"
    assert Secrets().mask(f'{{"got":"{key}"}}') == f'{{"got":"{MASK}"}}'


def test_A3_ordinary_values_of_headers_do_not_mask_ordinary_words() -> None:
    secrets = Secrets(["My Chat Application", "2024-10-21", "production eu", "dark"])
    for text in ("an application for chat", "on 2024 10 21", "in production", "dark matter", "20241021000"):
        assert secrets.mask(text) == text


def test_old_secrets_are_forgotten_only_when_there_are_too_many() -> None:
    secrets = Secrets(["the-first-secret"])
    secrets.learn(f"secret-{number:08}" for number in range(MOST_SECRETS - 1))
    assert secrets.mask("the-first-secret") == MASK
    secrets.learn(["one-secret-more"])
    assert secrets.mask("the-first-secret one-secret-more") == f"the-first-secret {MASK}"


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ-",
        "eyJaaaaaaaaa.",
        "token=a ",
        "://aaaa:",
        "sk-aaa,",
        "bearer  ",
        "api_key = ",
        "a" * 40,
        "\\",
        "%25",
        "&#",
        "sk-",
        "-----BEGIN PRIVATE KEY-----",
        "://",
        "A=",
    ],
)
def test_masking_hostile_text_takes_no_time(piece):
    secrets, text = Secrets([SECRET]), piece * (16_000 // len(piece))
    started = time.process_time()
    secrets.mask(text)
    assert time.process_time() - started < 0.1
