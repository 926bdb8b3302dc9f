"""What the ledger says: sums of rows, grouped. All of it blocks: it is for threads."""

import csv
import io
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self

import msgspec

from proxy.ledger.store import TABLE, LedgerStore

Format = Literal["table", "json", "csv"]

GROUPS = {
    name: f'"{name}"'
    for name in ("key", "user", "route", "backend", "model", "contract", "role", "usage", "end", "outcome", "day")
} | {"month": "substr(day, 1, 7)"}
"""What rows can be grouped by, and how a query says it."""

_SUMS = """
  count(DISTINCT id), count(*),
  coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
  coalesce(sum(cached_tokens), 0), coalesce(sum(reasoning_tokens), 0), sum(cost_usd),
  coalesce(sum(CASE WHEN input_tokens IS NULL THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE WHEN usage = 'estimated' THEN 1 ELSE 0 END), 0)
"""

_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


class Sums(msgspec.Struct):
    """What a group of attempts used. Where parts are not known, a sum is of what is known: it is at least so much."""

    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None  # `None`: there is no price for any of it
    unknown: int  # attempts that may have used tokens, nobody knows how many
    unpriced: int  # attempts whose cost is not known
    estimated: int  # attempts whose tokens were estimated

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        """As `_SUMS` selects them. Postgres gives some of them as decimals."""
        return cls(*(value if index == 6 else int(value) for index, value in enumerate(values)))


class Group(msgspec.Struct):
    """One line of a report."""

    by: dict[str, str]
    sums: Sums


class Report(msgspec.Struct):
    """Groups, the one with the highest cost first, or by time if they are days or months; and all of them together."""

    by: list[str]
    since: float | None
    groups: list[Group]
    total: Sums


def read_by(text: str) -> list[str]:
    """`key,model,day`. Raises `ValueError`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in GROUPS:
            raise ValueError(f"usage cannot be grouped by {name!r}: write some of {', '.join(GROUPS)}")
    return list(dict.fromkeys(names))


def read_since(text: str) -> float:
    """`7d`, `24h`, `2w`, or a date, as Unix time. Raises `ValueError`."""
    if found := re.fullmatch(r"(\d{1,5})([hdw])", text):
        return time.time() - int(found[1]) * _UNITS[found[2]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 24h, 7d, 2w, or a date such as 2026-11-30") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def report(store: LedgerStore, by: Sequence[str], since: float | None = None, key: str | None = None) -> Report:
    """Ask the store. `key`: only the rows of this key. Raises what `store.failures` lists."""
    where, values = "WHERE ended_at >= ?", [since or 0.0, *([key] if key is not None else [])]
    where += ' AND "key" = ?' if key is not None else ""
    groups: list[Group] = []
    if by:
        columns = ", ".join(GROUPS[name] for name in by)
        time_first = [GROUPS[name] for name in by if name in {"day", "month"}]
        order = ", ".join([*time_first, "sum(cost_usd) DESC", "sum(output_tokens) DESC", columns])
        query = f"SELECT {columns}, {_SUMS} FROM {TABLE} {where} GROUP BY {columns} ORDER BY {order}"  # noqa: S608
        rows = store.select(query, values)
        groups = [Group(dict(zip(by, row[: len(by)], strict=True)), Sums.of(row[len(by) :])) for row in rows]
    (total,) = store.select(f"SELECT {_SUMS} FROM {TABLE} {where}", values)  # noqa: S608
    return Report(list(by), since, groups, Sums.of(total))


def told(store: LedgerStore, by: str, since: str | None, format: Format, key: str | None = None) -> str:
    """The report that is asked for in the words that `read_by` and `read_since` take, as text."""
    return written(report(store, read_by(by), read_since(since) if since else None, key), format)


# -- how it is printed -------------------------------------------------------------------------------------------


def written(report: Report, format: Format) -> str:
    """The report as text."""
    if format == "json":
        return msgspec.json.format(msgspec.json.encode(_as_data(report)), indent=2).decode() + "\n"
    lines = [({name: group.by[name] for name in report.by}, group.sums) for group in report.groups]
    if format == "csv":
        return _as_csv(report.by, lines or [({}, report.total)])
    if lines or report.by:
        lines.append(({report.by[0]: "total"}, report.total))
    else:
        lines = [({}, report.total)]
    return _as_table(report.by, lines)


def _as_data(report: Report) -> dict[str, object]:
    def sums(one: Sums) -> dict[str, object]:
        return {**msgspec.structs.asdict(one), "at_least": {"tokens": one.unknown > 0, "cost": one.unpriced > 0}}

    return {
        "by": report.by,
        "since": datetime.fromtimestamp(report.since, UTC).isoformat() if report.since else None,
        "groups": [{**group.by, **sums(group.sums)} for group in report.groups],
        "total": sums(report.total),
    }


def _as_csv(by: Sequence[str], lines: Sequence[tuple[dict[str, str], Sums]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*by, *Sums.__struct_fields__])
    for names, sums in lines:
        writer.writerow([*(_no_formula(names.get(name, "")) for name in by), *msgspec.structs.astuple(sums)])
    return text.getvalue()


def _no_formula(text: str) -> str:
    """Clients choose the names of users and models. A spreadsheet runs text that begins like a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def _as_table(by: Sequence[str], lines: Sequence[tuple[dict[str, str], Sums]]) -> str:
    head = [*by, "requests", "attempts", "tokens in", "cached", "tokens out", "reasoning", "cost"]
    table = [head]
    for names, sums in lines:
        least = "at least " if sums.unknown else ""
        counts = [sums.requests, sums.attempts]
        tokens = [sums.input_tokens, sums.cached_tokens, sums.output_tokens, sums.reasoning_tokens]
        cells = [*map(str, counts), *(f"{least}{number}" for number in tokens), _dollars(sums)]
        table.append([*(names.get(name, "") if name in names else "" for name in by), *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if index < len(by) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in table
    )


def _dollars(sums: Sums) -> str:
    if sums.cost_usd is None:
        return "unknown" if sums.attempts else "$0"
    return ("at least " if sums.unpriced else "") + dollars(sums.cost_usd)


def dollars(usd: float) -> str:
    """Such as `$12.50`, `$0.00235`: cents, and as many digits as a small sum needs."""
    if not usd:
        return "$0"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.10f}".rstrip("0") if usd < 1e-4 else f"${usd:.6f}".rstrip("0")
