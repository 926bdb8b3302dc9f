"""The line below an error: the caret stands under the column, and no secret is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.excerpt import WIDTH, excerpt
from proxy.errors import ConfigError


def shown(text, line, column):
    return excerpt(ConfigError("wrong", file="c.yaml", line=line, column=column), text.split("\n")).split("\n")


def test_the_caret_stands_under_the_column():
    assert shown("a: 1\nroutes: {to: x}", 2, 14) == ["     2 | routes: {to: x}", "       |              ^"]


def test_wide_characters_take_two_columns_and_combining_ones_none():
    assert shown("名前: x", 1, 5)[1] == "       |       ^"
    assert shown("cafe\u0301: x", 1, 8)[1] == "       |       ^"


def test_nothing_of_a_line_acts_on_a_terminal():
    assert shown("a: \x1b]0;title\x07x", 1, 4) == ["     1 | a: �]0;title�x", "       |    ^"]


@pytest.mark.parametrize("place", [(0, 0), (3, 1)])
def test_an_error_without_a_place_in_the_file_shows_nothing(place):
    assert shown("a: 1\nb: 2", *place) == [""]


@given(length=st.integers(1, 400), column=st.integers(1, 400))
def test_of_a_long_line_the_part_around_the_column_is_shown(length, column):
    text = "".join(chr(0x4DC0 + index % 64) if index % 7 == 0 else "a" for index in range(length))
    column = min(column, length)
    line, caret = shown(text, 1, column)
    part = line.partition(" | ")[2]
    assert len(part) <= WIDTH
    assert part[caret.partition(" | ")[2].index("^")] in {text[column - 1], "…"} or not part.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "  o: {kind: openai, api_key: SECRET, x: 1}",
        '  api_key: "SECRET"',
        "  - SECRET-SECRET: {password:\n\n    SECRET",
        "headers: {Authorization: Bearer SECRET}",
        "password: >-\n  SECRET\n  SECRET",
        "base_url: https://user:SECRET@host/v1",
        "anything: sk-SECRET",
    ],
)
@pytest.mark.parametrize("secret", ["hunter2-hunter2", "passphrase", "a1b2c3d4e5f6a7b8"])
def test_a_secret_is_stars(text, secret):
    text = text.replace("SECRET", secret)
    last = text.count("\n") + 1
    found = shown(text, last, 3)[0]
    assert "*" in found
    assert secret not in found


def test_variables_and_numbers_are_shown():
    assert shown("o: {api_key: ${OPENAI_API_KEY}, max_tokens: 10000}", 1, 3)[0].endswith(
        "${OPENAI_API_KEY}, max_tokens: 10000}"
    )
