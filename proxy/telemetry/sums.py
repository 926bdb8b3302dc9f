"""Metrics of several processes, added up. Imports nothing heavy: the parent of workers keeps the sums of the dead.

Each process counts in its own memory, at the price of an addition, and is asked for all of it when somebody
scrapes. prometheus_client's multiprocess mode writes every observation into a mapped file instead, needs a
directory that is empty at start and a file for each process that ever was, and knows no `process_*` metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Family = list[Any]
"""`[name, type, documentation, [[sample name, [[label, value], …], number], …]]`: JSON as it is."""

SUMMED_OF_THE_DEAD = frozenset({"counter", "histogram"})
"""What must never go back: a worker that died has counted for good."""

NOT_SUMMED: Mapping[str, Callable[[float, float], float]] = {
    "chat_proxy_build": max,  # 1, and the same in all
    "chat_proxy_delivery_tick_seconds": max,  # of the busiest
    "chat_proxy_config_generation": max,  # the same in all but for the moment of a swap
    "process_start_time_seconds": min,
}


def total(living: Iterable[list[Family]], dead: list[Family]) -> list[Family]:
    """One process's worth of metrics: those of `living` and what is left of the dead, sample by sample."""
    families: dict[str, Family] = {}
    for snapshot in (*living, dead):
        for family in snapshot:
            _add(families, family)
    return [[name, kind, text, list(samples.values())] for name, kind, text, samples in families.values()]


def bury(dead: list[Family], snapshot: list[Family]) -> list[Family]:
    """`dead` with the last that was heard of one more process."""
    return total([[family for family in snapshot if family[1] in SUMMED_OF_THE_DEAD]], dead)


def _add(families: dict[str, Family], family: Family) -> None:
    name, kind, text, samples = family
    known = families.setdefault(name, [name, kind, text, {}])[3]
    combine = NOT_SUMMED.get(name)
    for sample, labels, number in samples:
        key = (sample, *((label, value) for label, value in labels))
        before = known.get(key)
        if before is None:  # in the order of coming, which keeps the buckets of a histogram together
            known[key] = [sample, labels, number]
        else:
            before[2] = combine(before[2], number) if combine else before[2] + number
