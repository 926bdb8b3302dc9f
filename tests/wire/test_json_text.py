"""Pieces of JSON: every text becomes a string, and what is JSON already stays as it is, on one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.json_text import json_line, json_string


@given(st.text())
def test_every_text_becomes_a_string(text):
    written = json_string(text)
    assert json.loads(written) == text
    assert b"\n" not in written
    assert b"\r" not in written


@given(st.text(st.characters(exclude_categories=())))
def test_not_even_half_a_character_is_in_the_way(text):
    assert isinstance(json.loads(json_string(text)), str)


def test_pairs_of_surrogates_are_joined_and_halves_replaced():
    assert json.loads(json_string("\ud83d\ude00 \ud83d")) == "😀 \ufffd"


@pytest.mark.parametrize("text", ["{}", ' {"a": 1.50, "b": 12345678901234567890} ', '"\\u2028"', "null", '["\u2028"]'])
def test_json_on_one_line_stays_as_it_is(text):
    assert json_line(text) == text.encode()


@pytest.mark.parametrize("text", ['{\n  "a": [1,\r\n2]\n}', '\n"x"'])
def test_json_on_several_lines_becomes_one(text):
    line = json_line(text)
    assert json.loads(line) == json.loads(text)
    assert b"\n" not in line
    assert b"\r" not in line


@pytest.mark.parametrize("text", ["", "{", "NaN", "{'a': 1}", '{"a":1} x', "[" * 100_000, '"\ud800"', '"a\nb"'])
def test_what_is_no_json_is_none(text):
    assert json_line(text) is None


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(), lambda inner: st.lists(inner, max_size=3))
)
def test_whatever_json_writes_is_json(value):
    assert json.loads(json_line(json.dumps(value, indent=1))) == value
