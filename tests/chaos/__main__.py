"""`make chaos`: run both, print their tables, and exit with 1 if a rule was broken."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Report, chaos
from tests.chaos.stores import StoresReport, chaos_of_stores

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
- There are at most 1.2 attempts for each request. Hedges and continuations alone stay within the
  [budget](../routing.md#extra-work): one for five requests, and three at first for each backend in each process.
- At rest no request, reader, slot, stream or open answer is left, and no key stays in Redis for ever; descriptors are as
  before but for pooled connections, and memory has grown by less than 48 MB.

The table of one run:

"""

STORES = """
## Stores that fail

Then two replicas with a Redis and a Postgres are asked without a pause, while Redis is stopped and forgets all, sleeps, is
full, must not write or forgets its scripts, and Postgres is stopped, locked or full: each in turn, now and then two at once.
The rules:

- Each request has one answer: it is whole, or refused before anything is asked upstream.
- Each route does what its `on_outage` says. `allow` refuses nobody. `deny` answers 503 while Redis is in trouble, and only
  then. `local` has six answers under way at once, counted together, or three in each replica; twice as many for the moment
  in which one takes the place of the other.
- `paid` spends its budget and no more, although Redis forgets what it counted: each time, it may spend as much again as was
  under way.
- Each attempt that the upstream saw has one row in Postgres, with the tokens that the upstream counted: none is lost, none
  is there twice.
- No request waits longer than eight seconds. In the end nothing is held in Redis, and no key stays there for ever.

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
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        stores = asyncio.run(chaos_of_stores(asked.seed, Path(folder)))
    _tell(stores)
    broken = bool(report.broken or stores.broken)
    if asked.publish and not broken:
        PAGE.write_text(INTRODUCTION + report.table + STORES + stores.table)
    sys.exit(broken)


def _tell(report: Report | StoresReport) -> None:
    print(report.table)
    for what in report.broken[:50]:
        print(f"BROKEN: {what}")
    print(f"{len(report.broken)} exceptions to the rules, seed {report.seed}")


if __name__ == "__main__":
    main()
