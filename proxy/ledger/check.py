"""Whether the ledger is whole: rows against the spool, and against what the metrics of running proxies counted."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from proxy.config.usage import UsageSettings
from proxy.ledger.rows import Row
from proxy.ledger.spool import rows_in
from proxy.ledger.store import TABLE, LedgerStore

_AT_ONCE = 400  # ids in a query


class Counted(NamedTuple):
    """What the metrics of one or more proxies say since they started."""

    since: float
    rows: float
    lost: float
    tokens_in: float
    tokens_out: float
    cost_usd: float


class Line(NamedTuple):
    """One comparison."""

    text: str
    good: bool


def counted(expositions: Sequence[str]) -> Counted:
    """Read the text of `/metrics`."""
    sums = {"rows": 0.0, "lost": 0.0, "in": 0.0, "out": 0.0, "cost": 0.0}
    since = math.inf
    for text in expositions:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                match sample.name:
                    case "process_start_time_seconds":
                        since = min(since, sample.value)
                    case "chat_proxy_usage_rows_total":
                        sums["lost" if sample.labels["state"] == "lost" else "rows"] += sample.value
                    case "chat_proxy_tokens_total":
                        sums[sample.labels["direction"]] += sample.value
                    case "chat_proxy_cost_usd_total":
                        sums["cost"] += sample.value
                    case _:
                        pass
    return Counted(since, sums["rows"], sums["lost"], sums["in"], sums["out"], sums["cost"])


def check(settings: UsageSettings, metrics: Counted | None) -> list[Line]:
    """Compare. Raises what the store's `failures` lists."""
    store = LedgerStore(settings, only_reads=True)
    try:
        spooled = list({(row.id, row.attempt): row for row in rows_in(settings.spool_folder)}.values())
        waiting = _missing(store, spooled)
        ((rows,),) = store.select(f"SELECT count(*) FROM {TABLE}")  # noqa: S608
        lines = [Line(f"{rows} rows in the store, {len(waiting)} in the spool only", good=True)]
        if metrics is not None:
            lines += _compared(store, waiting, metrics)
    finally:
        store.close()
    return lines


def spent(settings: UsageSettings, whose: Sequence[tuple[str, str, float]]) -> list[float]:
    """US dollars, for each scope (`key` or `route`), its name and the time since when. Raises what `failures` lists."""
    store = LedgerStore(settings, only_reads=True)
    try:
        waiting = _missing(store, list(rows_in(settings.spool_folder)))
        sums: dict[tuple[str, str, float], float] = defaultdict(float)
        for scope, since in {(scope, since) for scope, _, since in whose}:
            query = f'SELECT "{scope}", coalesce(sum(cost_usd), 0) FROM {TABLE} WHERE ended_at >= ? GROUP BY "{scope}"'  # noqa: S608
            sums.update({(scope, name, since): float(usd) for name, usd in store.select(query, (since,))})
            for row in waiting:
                if row.ended_at >= since:
                    sums[scope, getattr(row, scope), since] += row.cost_usd or 0.0
    finally:
        store.close()
    return [sums[one] for one in whose]


def _missing(store: LedgerStore, rows: Sequence[Row]) -> list[Row]:
    """The rows that are not in the store."""
    there: set[tuple[str, int]] = set()
    for start in range(0, len(rows), _AT_ONCE):
        ids = [row.id for row in rows[start : start + _AT_ONCE]]
        query = f"SELECT id, attempt FROM {TABLE} WHERE id IN ({', '.join('?' * len(ids))})"  # noqa: S608
        there.update((id, attempt) for id, attempt in store.select(query, ids))
    return [row for row in rows if (row.id, row.attempt) not in there]


def _compared(store: LedgerStore, waiting: Sequence[Row], metrics: Counted) -> list[Line]:
    tokens = [f"coalesce(sum(CASE WHEN role <> 'hedge_loser' THEN {name} END), 0)" for name in _TOKENS]
    query = f"SELECT count(*), {', '.join(tokens)}, coalesce(sum(cost_usd), 0) FROM {TABLE} WHERE ended_at >= ?"  # noqa: S608
    ((count, tokens_in, tokens_out, cost),) = store.select(query, [metrics.since])
    new = [row for row in waiting if row.ended_at >= metrics.since]
    answers = [row for row in new if row.role != "hedge_loser"]
    return [
        _line("rows", count + len(new), metrics.rows),
        Line(f"{metrics.lost:.0f} rows lost, as metrics say", good=not metrics.lost),
        _line("tokens in", int(tokens_in) + sum([row.input_tokens or 0 for row in answers]), metrics.tokens_in),
        _line("tokens out", int(tokens_out) + sum([row.output_tokens or 0 for row in answers]), metrics.tokens_out),
        _line("US dollars", cost + sum([row.cost_usd or 0.0 for row in new]), metrics.cost_usd),
    ]


_TOKENS = ("input_tokens", "output_tokens")


def _line(what: str, here: float, there: float) -> Line:
    good = math.isclose(here, there, rel_tol=1e-9, abs_tol=1e-9)
    return Line(f"{what}: {here:.10g} in the ledger, {there:.10g} in metrics" + ("" if good else ": differ"), good)
