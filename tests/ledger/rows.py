"""Rows and records for tests of the ledger."""

from __future__ import annotations

import time
from typing import Any

from proxy.ledger.rows import Row
from proxy.request import Usage
from proxy.telemetry.record import AttemptRecord, StreamRecord


def row(id: str = "a", attempt: int = 0, **more: Any) -> Row:
    now = time.time()
    values: dict[str, Any] = {
        "request_id": "r", "day": "2026-11-30", "started_at": now - 1, "ended_at": now, "first_token_s": 0.5, "key": "web",
        "user": "", "route": "default", "backend": "far", "model": "m", "contract": "openai", "role": "answer",
        "status": 200, "end": "done", "outcome": "ok", "usage": "reported", "input_tokens": 10, "output_tokens": 5,
        "cached_tokens": 0, "reasoning_tokens": 0, "cache_write_tokens": 0, "cost_usd": 0.25, "price": "config",
    }  # fmt: skip
    return Row(id=id, attempt=attempt, **(values | more))


def record(*attempts: AttemptRecord, **more: Any) -> StreamRecord:
    values: dict[str, Any] = {"key": "web", "route": "default", "contract": "openai", "status": 200, "end": "done"}
    return StreamRecord(request_id="mine", started_at=1.0, ended_at=3.0, attempts=list(attempts), **(values | more))


def attempt(**more: Any) -> AttemptRecord:
    values: dict[str, Any] = {"started_at": 1.0, "committed_at": 1.5, "ended_at": 3.0, "usage": Usage(10, 5)}
    return AttemptRecord("far", "m", **(values | more))
