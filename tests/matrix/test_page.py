from __future__ import annotations

from tests.matrix.page import PAGE, page


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"
