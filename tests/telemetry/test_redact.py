import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from proxy.telemetry.redact import LONGEST_NAME, LONGEST_VALUE, MOST_NAMES, Redactor, secrets_of, visible
from proxy.wire.secret_shapes import MARGIN, MASK, Secrets

SECRET = "canary/9f+8e7d=6c5b4a"


def test_a_huge_value_is_cut_and_says_by_how_much():
    cut = Redactor().clean("m" * 1_000_000)
    assert cut.startswith("m" * LONGEST_VALUE + "…")
    assert len(cut) < LONGEST_VALUE + 50
    assert f"{1_000_000 - LONGEST_VALUE} more" in cut


@given(st.integers(LONGEST_VALUE - 100, LONGEST_VALUE + MARGIN + 100), st.integers(0, 50))
@example(LONGEST_VALUE - 20, 0)  # cut in two by the limit
@example(LONGEST_VALUE + MARGIN - 12, 50)  # cut in two where reading stops, then pulled in by what masking saved
def test_a_cut_never_leaves_half_a_secret(at, earlier):
    secret = "correct-horse-battery-staple-canary"
    text = f"{secret} " * earlier
    text = text.ljust(at, "x") + secret + "y" * 3000
    cleaned = Redactor(Secrets([secret])).clean(text)
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
    redactor.secrets.learn(["hunter2hunter2"])
    assert redactor.clean_name("model-of-hunter2hunter2") == f"model-of-{MASK}"
    assert redactor.clean_name("a\x1b[31m") == r"a\x1b[31m"


def test_d07_invented_names_are_not_remembered_for_ever():
    redactor = Redactor()
    for n in range(10_000):
        redactor.clean_name(f"name-{n}")
        redactor.clean_name("x" * 10_000 + str(n))
    assert len(redactor._cleaned) <= MOST_NAMES
    assert all(len(name) <= LONGEST_NAME for name in redactor._cleaned)
