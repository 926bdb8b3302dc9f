"""`make chaos`: run it, print the table, and exit with 1 if a rule was broken."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Report, chaos

PAGE = Path(__file__).parents[2] / "docs/proofs/chaos.md"

INTRODUCTION = """\
<!-- Made by `make chaos ARGS=--publish`: edit tests/chaos/__main__.py. -->

# Chaos: everything at once

`make chaos` runs two replicas with a Redis and a ledger, in front of three upstreams that cut, stall, refuse, slow down and
recover at random, with hedging, `on_cut: continue` and resume on. Clients of all contracts leave and come back, to either
replica; some stop, some never return. The config changes every second, and one replica is killed and started again.

Answers are numbered words, so each is checked letter by letter. The rules:

- Every stream has one end. A *done* answer is exact; an error comes after an exact beginning. A stream that ends with
  neither (*cut*) was run by the replica that was killed, or is bare text, which has no other error.
- Each request has one record, with the end that its client saw. The tokens in the metrics are those in the log.
- Each attempt that an upstream saw has a row in the ledger, and the tokens of a whole answer are what its upstream counted.
- There are at most 1.2 attempts for each request. Hedges and continuations alone stay within their
  [budget](../routing.md#hedging): one for five requests, and three at first for each backend in each process.
- At rest no request, reader, slot, stream or open answer is left, and no key stays in Redis for ever; descriptors are as
  before but for pooled connections, and memory has grown by less than 48 MB.

The table of one run:

"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seed", default="chaos-1")
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--ports", type=int, nargs=2, default=(24700, 24701))
    parser.add_argument("--publish", action="store_true", help="write the table to docs/proofs/chaos.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        report = asyncio.run(
            chaos(asked.streams, asked.seed, Path(folder), at_once=asked.at_once, ports=tuple(asked.ports))
        )
    _tell(report)
    if asked.publish and not report.broken:
        PAGE.write_text(INTRODUCTION + report.table)
    sys.exit(bool(report.broken))


def _tell(report: Report) -> None:
    print(report.table)
    for what in report.broken[:50]:
        print(f"BROKEN: {what}")
    print(f"{len(report.broken)} exceptions to the rules, seed {report.seed}")


if __name__ == "__main__":
    main()
