"""The page of faults and the tests that provoke them name the same rows."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]

CATALOGUE = r"[A-J]\d\d"  # A01 … I02
FIELD = r"U1[0-5]|U[1-9]|C[1-7]|A[1-9]|N10|N[1-9]"  # "Met in the field": one digit where the catalogue has two
ID = rf"(?:{CATALOGUE}|{FIELD})"


def rows_of(page: str) -> list[str]:
    return re.findall(rf"^\| ({ID}) \|", page, re.MULTILINE)


def rows_in_names(source: str) -> set[str]:
    """`test_A11_…` names A11, `test_B01_C02_…` names two rows. Ids of the catalogue may be in lower case."""
    names = re.findall(
        rf"^ *(?:async )?def test_((?:(?:{ID}|{CATALOGUE.replace('A-J', 'a-j')})_)+)", source, re.MULTILINE
    )
    return {row.upper() for name in names for row in name.strip("_").split("_")}


def test_every_row_of_the_page_is_tested_and_every_tested_row_is_on_the_page():
    rows = rows_of((ROOT / "docs/reliability.md").read_text())
    tested: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        tested |= rows_in_names(file.read_text())
    assert set(rows) - tested == set(), "on the page, but no test bears its name"
    assert tested - set(rows) == set(), "tested, but not on the page"
    assert [row for row, count in Counter(rows).items() if count > 1] == [], "more than one row with this id"
    assert len(rows) > 50


def test_both_forms_of_ids_are_read_and_distinguished():
    assert rows_of("| A01 | x |\n| A1 | x |\n| U15 | x |\n| U16 | x |\n| R1 | x |\n| N10 | x |\n") == [
        "A01",
        "A1",
        "U15",
        "N10",
    ]
    source = "def test_A1_x(): ...\nasync def test_U10_U2_x(): ...\ndef test_A01_C1_x(): ...\ndef test_b04_x(): ...\n"
    assert rows_in_names(source) == {"A1", "U10", "U2", "A01", "C1", "B04"}
    assert rows_in_names("def test_A11x(): ...\ndef test_U16_x(): ...\ndef test_openai_x(): ...") == set()
