"""Measure chat-proxy and its neighbours: `make bench`, `make bench-all`, `make bench-compare BASE=rev`.

python -m bench run [--loads burst,paced-200] [--proxies chat,nginx] [--rounds 3] [--seconds 4] [--publish] [--resume]
python -m bench page RESULTS.jsonl
python -m bench compare BASE [--head chat-team] [--loads …] [--rounds 5] [--seconds 4] [--margin 0.1]
python -m bench page-open [--loads …] [--rounds 15] [--seconds 6] [--margin 0.01]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import chart, compare, plan, processes, results, table, tools
from bench.goals import judge
from bench.measure import measure
from bench.peers import CHAT, PAGE_OPEN, PEERS, Peer
from bench.tools import HERE, WORK, CannotMeasure
from bench.workloads import WORKLOADS

SHORT_LOADS, SHORT_PROXIES = ["burst", "paced-200"], ["direct", "chat", "openai", "chat-tick-50", "nginx"]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "run": _run,
        "page": _page,
        "compare": _compare,
        "page-open": _page_open,
    }
    try:
        return commands[options.command](options)
    except CannotMeasure as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    pin, began = _prepare(options), time.monotonic()
    folder = HERE if options.publish else WORK
    path, mark = folder / "results.jsonl", results.fingerprint()
    turns = plan.turns(options.loads, [key for key in options.proxies if _needed(key, options.loads)], options.rounds)
    kept, left = results.resumed(path, mark, turns) if options.resume else ([], turns)
    run = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    cells = [(turn, key) for turn in left for key in turn.proxies]
    about = {"run": run, "fingerprint": mark, **_machine({key for _, key in cells}, pin)}
    with path.open("w") as file:  # line by line, so that a run that is broken off leaves what it has
        for line in [*kept, about] if cells else kept:
            file.write(json.dumps(line) + "\n")
        for count, (turn, key) in enumerate(cells, 1):
            print(f"{count}/{len(cells)} {turn.load}: {PEERS[key].name}", file=sys.stderr, flush=True)
            record = measure(PEERS[key], WORKLOADS[turn.load], seconds=options.seconds, pin=pin)
            file.write(json.dumps({"run": run, "round": turn.round} | record) + "\n")
            file.flush()
            if "error" in record:
                print(record["error"], file=sys.stderr)
    _write(path, folder)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
    return 0


def _page(options: argparse.Namespace) -> int:
    _write(options.results, options.results.parent)
    return 0


def _write(path: Path, folder: Path) -> None:
    """The page and the chart, beside the raw figures; the page goes to stdout too."""
    runs, records = results.read(path)
    text = table.page(runs, records)
    (folder / "results.md").write_text(text)
    found = results.Results(records)
    if any(chart.bars(found, load) for load, _ in chart.PANELS):
        (folder / "chart.svg").write_text(chart.draw(found))
    print(text)
    missed = sum(verdict.reached is False for verdict in judge(found))
    print(f"{missed} goals not reached; raw figures: {path}", file=sys.stderr)


def _compare(options: argparse.Namespace) -> int:
    pin = _prepare(options)
    head = PEERS[options.head]
    head.install()
    with compare.base(options.base) as other:
        return _compared(options, other, head, pin)


def _page_open(options: argparse.Namespace) -> int:
    return _compared(options, CHAT, PAGE_OPEN, _prepare(options))


def _compared(options: argparse.Namespace, other: Peer, head: Peer, pin: bool) -> int:
    found = compare.compare(other, head, options.loads, rounds=options.rounds, seconds=options.seconds, pin=pin)
    for comparison in found:
        print(comparison.line(options.margin))
    return int(any(comparison.worse(options.margin) for comparison in found))


def _prepare(options: argparse.Namespace) -> bool:
    """Build, raise limits; whether proxy and harness get a CPU each."""
    tools.build()
    processes.allow_many_files()
    pin = not options.no_pin and processes.can_pin()
    if not pin:
        print("proxy and harness share CPUs: figures are rough", file=sys.stderr)
    return pin


def _needed(key: str, loads: Iterable[str]) -> bool:
    """Whether a proxy takes part; it is then installed."""
    if not any(key in plan.rows(load) for load in loads):
        return False
    try:
        PEERS[key].install()
    except CannotMeasure as error:
        print(f"{PEERS[key].name} is left out: {error}", file=sys.stderr)
        return False
    return True


def _machine(proxies: Collection[str], pinned: bool) -> dict[str, Any]:
    versions = {peer.name.partition(" /")[0]: peer.version() for key, peer in PEERS.items() if key in proxies}
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} × {_cpu_model()}, {platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "pinned": "proxy on CPU 0, everything else on CPU 1" if pinned else "no",
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "versions": versions,
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure cells, one after the other, in alternating rounds")
    _add_choice(run, "--loads", WORKLOADS, SHORT_LOADS)
    _add_choice(run, "--proxies", PEERS, SHORT_PROXIES)
    run.add_argument("--rounds", type=int, default=1)
    run.add_argument("--seconds", type=float, help="of load in a cell, instead of each load's own")
    run.add_argument(
        "--resume", action="store_true", help="add to the figures there are, of the same code, and skip those"
    )
    run.add_argument("--publish", action="store_true", help="write to bench/ instead of .make/bench/")
    page = commands.add_parser("page", help="write tables and chart anew from raw figures")
    page.add_argument("results", type=Path)
    against = commands.add_parser("compare", help="the working tree against another revision; exit 1 when worse")
    against.add_argument("base", help="a revision, or a row of the working tree, such as `chat`")
    against.add_argument("--head", choices=PEERS, default="chat", help="the row that is compared with it")
    page_open = commands.add_parser("page-open", help="with somebody at the page, and without; exit 1 when worse")
    for command, loads, rounds, seconds, margin in (
        (against, SHORT_LOADS, 5, 4, compare.MARGIN),
        (page_open, [*SHORT_LOADS, "whole"], 15, 6, compare.PAGE_MARGIN),
    ):
        _add_choice(command, "--loads", WORKLOADS, loads)
        command.add_argument("--rounds", type=int, default=rounds)
        command.add_argument("--seconds", type=float, default=seconds)
        command.add_argument("--margin", type=float, default=margin)
    for command in (run, against, page_open):
        command.add_argument("--no-pin", action="store_true", help="do not give proxy and harness a CPU each")
    return parser


def _add_choice(parser: argparse.ArgumentParser, name: str, known: Mapping[str, Any], default: list[str]) -> None:
    def chosen(text: str) -> list[str]:
        names = list(known) if text == "all" else text.split(",")
        if unknown := [one for one in names if one not in known]:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r} among {', '.join(known)}")
        return names

    parser.add_argument(name, type=chosen, default=default, metavar="A,B", help=f"all, or of {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
