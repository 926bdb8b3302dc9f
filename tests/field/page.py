"""Writes `docs/proofs/field.md` from docs/reliability.md, the tests named by its rows, and the recordings: `make docs`.

    python -m tests.field.page

Which tests there are, and how many cases they try, is known when pytest has collected them; a heavy test holds the page
to that, for a row's tests may be anywhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.field.recordings import DELIVERIES, RECORDINGS
from tests.field.table import DIFFERENCES, SIBLINGS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "proofs" / "field.md"

ID = r"(?:U1[0-5]|U[1-9]|C[1-7]|A[1-9]|N10|N[1-9])"
NAMED = re.compile(rf"^ *(?:async )?def test_((?:[A-Z]\d+_)*{ID}_(?:[A-Z]\d+_)*)", re.MULTILINE)
GROUPS = {"U": "Upstreams", "C": "Clients of every kind", "A": "Attacks and faults", "N": "Use"}

OPENING = """\
<!-- Made by `make docs` from docs/reliability.md, the tests and tests/field: edit there. -->

# Met in the field

Each row of [Met in the field](../reliability.md#met-in-the-field) with the tests that hold it. A test has the id of its
row: `make test ARGS="-k U4_"` runs those of a row. *Cases* is how many cases these tests try, each a test of its own in
pytest's count, and how many recordings of real upstreams belong to the row. *Beyond* says what the row led to besides
the cases that were brought.
"""

ORACLE = """\
## Recordings, and the official SDKs

{recordings} answers of real upstreams, taken from public reports and shortened, are in `tests/field/recordings.json`. Each
is asked for over real sockets in each of {contracts} contracts, streamed ({ways}) and whole, and each client must read what
the answer means: {streamed} streams and {whole} whole answers. `make test-heavy` asks for all of them, `make test` for some.

The official SDKs, openai and anthropic, ask the same servers directly: {asked} answers. {same} of them they read as the
proxy's clients do. The others, and why:

| recording | difference |
|---|---|
"""


Tests = dict[str, tuple[int, str]]
"""How many cases the tests of each row try, and the files they are in."""


def page(tests: Tests) -> str:
    """The whole page."""
    rows = dict(_rows())
    lines = [OPENING]
    for letter, title in GROUPS.items():
        lines += [f"## {title}", "", "| id | kind | right | cases | tests | beyond |", "|---|---|---|---|---|---|"]
        for row in sorted((row for row in rows if row[0] == letter), key=lambda row: int(row[1:])):
            fault, right = rows[row]
            cases, files = tests.get(row, (0, ""))
            lines.append(f"| {row} | {fault} | {right} | {_cases(row, cases)} | {files} | {SIBLINGS[row]} |")
        lines.append("")
    return "\n".join(lines) + "\n" + _oracle()


def _rows() -> Iterator[tuple[str, tuple[str, str]]]:
    text = (ROOT / "docs" / "reliability.md").read_text().partition("## Met in the field")[2]
    for row, fault, right in re.findall(rf"^\| ({ID}) \| (.*?) \| (.*) \|$", text, re.MULTILINE):
        yield row, (fault, right.replace("](operate", "](../operate").replace("](clients", "](../clients"))


def files_of_rows() -> dict[str, set[str]]:
    """The files in which a test bears the row's id."""
    found: dict[str, set[str]] = {row: set() for row, _ in _rows()}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for names in NAMED.findall(file.read_text()):
            for row in found.keys() & set(names.split("_")):
                found[row].add(str(file.relative_to(ROOT)))
    return found


def _cases(row: str, cases: int) -> str:
    recorded = sum(one.row == row for one in RECORDINGS)
    return str(cases) + (f", {recorded} recorded" if recorded else "")


def _oracle() -> str:
    from tests.field.test_oracle import CONTRACTS, WHOLE, pairs

    asked = sum(1 + (one.whole is not None) for one in RECORDINGS)
    ways = [way for one in RECORDINGS for _, way in pairs(one)]
    differing = sorted((name, kind) for kind, names in DIFFERENCES.items() for name in names)
    text = ORACLE.format(
        recordings=len(RECORDINGS),
        contracts=len(CONTRACTS),
        ways=", ".join(DELIVERIES),
        streamed=len(ways) - ways.count(WHOLE),
        whole=ways.count(WHOLE),
        asked=asked,
        same=asked - len(differing),
    )
    return text + "".join(
        f"| `{name.partition(',')[0]}`,{name.partition(',')[2]} | {kind} |\n" for name, kind in differing
    )


def told_tests(text: str) -> Tests:
    """The numbers and files that a page tells."""
    rows = re.findall(rf"^\| ({ID}) \|.*? \| (\d+)(?:, \d+ recorded)? \| (`.*?`) \|", text, re.MULTILINE)
    return {row: (int(count), files) for row, count, files in rows}


def collected_tests() -> Tests:
    """The numbers and files as pytest collects the tests."""
    files = files_of_rows()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *sorted(set().union(*files.values()))], cwd=ROOT, capture_output=True, text=True, check=True
    )
    counts: Counter[str] = Counter()
    for names in re.findall(r"::test_((?:[A-Z]\d+_)+)", done.stdout):
        counts.update(names.strip("_").split("_"))
    return {row: (counts[row], "<br>".join(f"`{file}`" for file in sorted(files[row]))) for row, _ in _rows()}


if __name__ == "__main__":
    PAGE.write_text(page(collected_tests()))
    print("docs/proofs/field.md")
