"""Metrics of several processes, added up. Imports nothing heavy: the parent of workers keeps the sums of ended workers.

Each process counts in its own memory, which costs an addition, and hands over everything when metrics are scraped.
prometheus_client's multiprocess mode writes every observation into a mapped file instead, needs a directory that is
empty at start and a file for each process that ever ran, and has no `process_*` metrics.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Family = list[Any]
"""`[name, type, documentation, [[sample name, [[label, value], …], number], …]]`: JSON as it is."""

SUMMED_OF_THE_DEAD = frozenset({"counter", "histogram"})
"""What must never decrease: the counts of a worker that ended stay."""

NOT_SUMMED: Mapping[str, Callable[[float, float], float]] = {
    "chat_proxy_build": max,  # 1 in every process
    "chat_proxy_limit_used_ratio": max,  # that of the worker where it is fullest
    "chat_proxy_store_reachable": min,
    "chat_proxy_delivery_tick_seconds": max,  # that of the busiest
    "chat_proxy_config_generation": max,  # the same in all, except during a reload
    "process_start_time_seconds": min,
}


def total(living: Iterable[list[Family]], dead: list[Family]) -> list[Family]:
    """The sum, sample by sample, of the metrics of `living` processes and of `dead`, the sums of ended ones."""
    families: dict[str, Family] = {}
    for snapshot in (*living, dead):
        for family in snapshot:
            _add(families, family)
    return [[name, kind, text, list(samples.values())] for name, kind, text, samples in families.values()]


def bury(dead: list[Family], snapshot: list[Family]) -> list[Family]:
    """`dead` with the last snapshot of one more process that ended."""
    return total([[family for family in snapshot if family[1] in SUMMED_OF_THE_DEAD]], dead)


def of_targets(parts: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """What several processes know of each target: counts are added, and of times the longest is kept."""
    found: dict[str, dict[str, float]] = {}
    for target, numbers in [item for part in parts for item in part.items()]:
        row = found.setdefault(target, {})
        for name, number in numbers.items():
            before = row.get(name, 0)
            row[name] = max(before, number) if name.endswith("_s") else before + number
    return found


def _add(families: dict[str, Family], family: Family) -> None:
    name, kind, text, samples = family
    known = families.setdefault(name, [name, kind, text, {}])[3]
    combine = NOT_SUMMED.get(name)
    for sample, labels, number in samples:
        key = (sample, *((label, value) for label, value in labels))
        before = known.get(key)
        if before is None:  # in order of arrival, which keeps the buckets of a histogram together
            known[key] = [sample, labels, number]
        else:
            before[2] = combine(before[2], number) if combine else before[2] + number
