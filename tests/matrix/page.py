"""Write docs/proofs/matrix.md from the table: `make docs`. A test fails when it is behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.matrix.features import ASKED
from tests.matrix.losses import verdicts_of
from tests.matrix.table import CARRIED, CONTRACTS, EXPECTED, NOTES, SIGNS
from tests.matrix.vendors import VENDORS, verdicts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proofs" / "matrix.md"

MARKS = {"+": "✓", "~": "≈", "-": "–", "!": "!", "e": "⚠", "x": "✗", ".": ""}
TITLES = {
    "openai": "To OpenAI Chat Completions (`openai`, `openai-compatible`)",
    "anthropic": "To Anthropic Messages (`anthropic`)",
    "litellm to openai": "Through litellm to OpenAI",
    "litellm to anthropic": "Through litellm to Anthropic",
}
INTRODUCTION = """\
<!-- Made by `make docs` from tests/matrix/table.py, which a test holds to what really passes. -->

# What passes

What is carried between every contract and every kind of upstream, feature by feature. Each cell is a request over real
sockets: what reached the upstream, in its own terms, and what the contract's own client read.
"""
VENDORS_INTRODUCTION = """\
The same requests as each vendor gets them. A translated body is checked against a grammar of what that vendor refuses; a
body in the vendor's own contract stays as the client sent it."""
LOSSES_INTRODUCTION = """\
Everything that a request can say in each contract, and what each vendor gets of it. A test runs all of them and fails for
a silent loss. What says nothing about the answer is left out without a notice:
`keep_alive` and Ollama's settings of memory and threads; `store`, `include` of what comes in any case, and
`client_metadata` of Responses; `metadata`, which the config's rules read; reasoning of earlier turns."""
WHOLE = "whole: "


def page() -> str:
    legend = ["", *[f"- {MARKS[sign] or 'empty'}: {meaning}" for sign, meaning in SIGNS.items()]]
    lines = [INTRODUCTION.rstrip(), *legend, ""]
    numbers = {feature: number for number, feature in enumerate(NOTES, 1)}
    lines.append("`declared` stands for a contract of the config's own that has a template for everything.")
    for target, table in EXPECTED.items():
        asked = {feature: signs for feature, signs in table.items() if feature in ASKED}
        whole = {feature: signs for feature, signs in table.items() if feature.startswith(WHOLE)}
        told = {feature: signs for feature, signs in table.items() if feature not in asked | whole}
        lines += ["", f"## {TITLES[target]}", "", *_table("asked", asked, numbers)]
        lines += ["", *_table("answered", told, numbers)]
        differing = {
            f"{_streamed(feature)}, unstreamed": signs
            for feature, signs in whole.items()
            if any(sign not in (streamed, ".") for sign, streamed in zip(signs, told[_streamed(feature)], strict=True))
        }
        lines += ["", "Unstreamed answers (`ag-ui` has none) carry the same, except:"]
        lines += ["", *_table("answered", differing, numbers)]
    lines += ["", "## Requests to single vendors", "", VENDORS_INTRODUCTION]
    for vendor in VENDORS:
        lines += ["", f"### To {vendor}", "", *_table("asked", verdicts(vendor), numbers)]
    lines += ["", "## What can be lost", "", LOSSES_INTRODUCTION]
    for contract in CONTRACTS:
        lines += ["", f"### From `{contract}`", "", *_losses(verdicts_of(contract))]
    lines += ["", "## Notes", "", *[f"{numbers[feature]}. {feature}: {note}" for feature, note in NOTES.items()]]
    return "\n".join(lines) + "\n"


def _streamed(feature: str) -> str:
    return feature.removeprefix(WHOLE)


def _losses(found: dict[str, str]) -> Iterator[str]:
    sent = [name for name, signs in found.items() if set(signs) == {CARRIED}]
    yield f"Sent to all: {', '.join(sent)}."
    yield ""
    yield _row(["said", *VENDORS])
    yield _row(["---", *[":-:"] * len(VENDORS)])
    for name, signs in found.items():
        if name not in sent:
            yield _row([name, *[MARKS[sign] for sign in signs]])


def _table(head: str, rows: dict[str, str], numbers: dict[str, int]) -> Iterator[str]:
    yield _row([head, *CONTRACTS])
    yield _row(["---", *[":-:"] * len(CONTRACTS)])
    for feature, signs in rows.items():
        number = numbers.get(feature.removesuffix(", unstreamed"))
        yield _row([f"{feature} <sup>{number}</sup>" if number else feature, *[MARKS[sign] for sign in signs]])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
    print("docs/proofs/matrix.md")
