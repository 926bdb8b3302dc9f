"""The page of the field says what the tests show."""

from __future__ import annotations

import pytest

from tests.field.page import PAGE, collected_tests, files_of_rows, page, told_tests
from tests.field.recordings import RECORDINGS
from tests.field.table import SIBLINGS


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == page(told_tests(text)), "run `make docs`"


@pytest.mark.heavy
def test_its_numbers_and_files_are_those_of_the_tests() -> None:
    assert told_tests(PAGE.read_text()) == collected_tests(), "run `make docs`"


def test_every_row_has_tests_and_says_what_lies_beyond() -> None:
    rows = files_of_rows()
    assert rows.keys() - {row for row, files in rows.items() if files} == set()
    assert rows.keys() == SIBLINGS.keys()
    assert {one.row for one in RECORDINGS} <= rows.keys()
