"""From the record of a request to rows of the ledger: one for each target that was asked."""

import secrets
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from operator import attrgetter

import msgspec

from proxy.telemetry.record import StreamRecord

MOST = 2**53  # of tokens: what every store and every reader of JSON can count
LONGEST = 256  # characters of what a client says

_PROCESS = secrets.token_hex(8)
_numbers = count()
_counts = attrgetter("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cache_write_tokens")


class Row(msgspec.Struct, kw_only=True):
    """One attempt. `None` is what is not known; it is never 0."""

    id: str  # of the request, ours: clients choose `request_id`, and may choose the same twice
    attempt: int  # from 0; `id` and `attempt` are unique
    request_id: str
    day: str  # on which the request ended, in UTC
    started_at: float  # Unix time
    ended_at: float
    first_token_s: float | None
    key: str
    user: str
    route: str
    backend: str
    model: str  # as the target was asked for it
    contract: str
    role: str
    status: int  # the client's: 499 if it left
    end: str  # how the request ended
    outcome: str  # how the attempt did: `ok`, `hedge_lost` or an error's code
    usage: str  # `reported`, `estimated` or `none`
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: float | None
    price: str  # where it comes from


COLUMNS = Row.__struct_fields__


def rows_of(record: StreamRecord, now: float) -> Iterator[Row]:
    """The rows of a request that is over. `now` is the time by the clock of the record."""
    since = time.time() - now
    ended_at = since + (record.ended_at or now)
    day = _day(int(ended_at // 86_400))
    id = f"{_PROCESS}-{next(_numbers):x}"
    user = plain(record.user)
    for number, attempt in enumerate(record.attempts):
        if not attempt.started_at:
            continue
        usage, free, cost = attempt.usage, attempt.free, attempt.cost_usd
        first = attempt.committed_at
        tokens: Sequence[int | None] = (0 if free else None,) * 5
        if usage is not None:
            tokens = [number if 0 <= number <= MOST else min(max(0, number), MOST) for number in _counts(usage)]
        yield Row(
            id=id,
            attempt=number,
            request_id=record.request_id,
            day=day,
            started_at=since + attempt.started_at,
            ended_at=since + (attempt.ended_at or now),
            first_token_s=None if first is None else first - attempt.started_at,
            key=record.key,
            user=user,
            route=record.route,
            backend=attempt.backend,
            model=plain(attempt.model),
            contract=record.contract,
            role=attempt.role,
            status=record.final_status,
            end=record.end or "internal",
            outcome=attempt.outcome,
            usage=attempt.usage_source,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cached_tokens=tokens[2],
            reasoning_tokens=tokens[3],
            cache_write_tokens=tokens[4],
            cost_usd=0.0 if free else None if cost is None else float(cost),
            price=attempt.price,
        )


@lru_cache(maxsize=4)
def _day(number: int) -> str:
    """The day of this number, from 1970-01-01 on, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))


def plain(text: str) -> str:
    """What a client says, as every store takes it: printable, of a bounded length."""
    text = text[:LONGEST]
    return text if text.isprintable() else "".join([one if one.isprintable() else "?" for one in text])
