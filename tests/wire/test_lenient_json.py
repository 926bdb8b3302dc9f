"""JSON that means something although its form is odd."""

import pytest

from proxy.wire.lenient_json import SurrogateJoiner, index_in, loads, object_in, string_in, text_in


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"0.50", "0.50"),
        (b"1", "1"),
        (b"-0", "-0"),
        (b"1e400", "1e400"),
        (b"true", "true"),
        (b"false", "false"),
        (b"null", ""),
        (b'"x"', "x"),
        (b'"a\tb"', "a\tb"),
    ],
)
def test_a_number_or_a_boolean_in_a_text_is_the_text_that_was_written(written, text):
    assert text_in(loads(written)) == text


@pytest.mark.parametrize("value", [{}, [], {"a": 1}])
def test_a_text_that_is_not_one_is_an_error(value):
    with pytest.raises(ValueError, match="text"):
        text_in(value)


@pytest.mark.parametrize("written", [b"{", b"", b"\xff", b"nonsense", b"{} {}"])
def test_what_is_not_json_is_an_error(written):
    with pytest.raises(ValueError):
        loads(written)


def test_fields_that_are_not_needed_are_read_where_they_can_be():
    assert [string_in(value) for value in ("a", loads(b"7"), None, 7, [], {})] == ["a", "7", None, None, None, None]
    assert [object_in(value) for value in ({"a": 1}, [], "", None)] == [{"a": 1}, None, None, None]
    assert [index_in(value) for value in (loads(b"0"), "12", loads(b"1.0"), None, "", "x", "-1", [], "9" * 99)] == [
        *(0, 12, 1),
        *[None] * 6,
    ]


def test_halves_of_a_surrogate_pair_join_over_two_pieces():
    joiner = SurrogateJoiner()
    assert [joiner.join(text) for text in ("a\ud83d", "\ude00b", "\ud83d", "", "\ude00")] == ["a", "😀b", "", "", "😀"]
    assert [joiner.join("\ud83d"), joiner.join("x"), joiner.flush()] == ["", "\ufffdx", ""]
    assert [joiner.join("\ude00\ud83d"), joiner.flush(), joiner.flush()] == ["\ufffd", "\ufffd", ""]
