"""The page of faults and the tests that provoke them name the same rows."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_of_the_page_is_tested_and_every_tested_row_is_on_the_page():
    page = (ROOT / "docs/reliability.md").read_text()
    told = set(re.findall(r"^\| ([A-J]\d\d) \|", page, re.MULTILINE))
    tested: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"def test_((?:[A-Ja-j]\d\d_)+)", file.read_text()):
            tested |= {row.upper() for row in name.strip("_").split("_")}
    assert told - tested == set(), "on the page, but no test bears its name"
    assert tested - told == set(), "tested, but not on the page"
    assert len(told) > 50
