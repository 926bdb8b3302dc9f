"""The ledger that runs: nothing that was in the spool is lost, and nothing is there twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from proxy.config.usage import UsageSettings
from proxy.ledger.spool import Spool
from proxy.ledger.store import LedgerStore
from proxy.ledger.writer import Ledger
from tests.ledger.conftest import ids_in
from tests.ledger.rows import attempt, record, row

Ids = Callable[[], list[str]]

KILLED = """
import asyncio, sys
from proxy.ledger.spool import Spool
from proxy.ledger.writer import Ledger
from proxy.config.usage import UsageSettings
from tests.ledger.conftest import ids_in
from tests.ledger.rows import attempt, record
import proxy.ledger.spool as spools
import json
spools.CUT_AT = 5000
append = Spool.append
def acknowledged(self, data):
    append(self, data)
    print(" ".join(json.loads(line)["id"] for line in data.splitlines()), flush=True)
Spool.append = acknowledged
async def main():
    ledger = Ledger(UsageSettings.model_validate(json.loads(sys.argv[1])))
    ledger.start()
    while True:
        ledger.ended(record(attempt()))
        await asyncio.sleep(0.0005)
asyncio.run(main())
"""


def test_a_process_that_is_killed_at_any_moment_loses_no_row_and_leaves_none_twice(settings: UsageSettings, ids: Ids):
    config = msgspec.json.encode({"store": settings.store.get_secret_value(), "spool": settings.spool}).decode()
    acknowledged: list[str] = []
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", KILLED, config], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged += process.stdout.readline().split()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            *whole, _ = process.stdout.read().split("\n")
            acknowledged += " ".join(whole).split()
    heir = Ledger(settings)
    heir.start()
    heir.close()
    there = ids()
    assert len(there) == len(set(there))
    assert set(acknowledged) <= set(there)
    assert len(acknowledged) > 20
    assert list(settings.spool_folder.iterdir()) == []


async def test_what_ends_is_in_the_store_after_a_close(settings: UsageSettings, ids: Ids):
    ledger = Ledger(settings)
    ledger.start()
    for _ in range(100):
        ledger.ended(record(attempt(), attempt(role="retry")))
    await asyncio.to_thread(ledger.close)
    assert len(ids()) == 200
    assert ledger.state()["rows"] == 200
    assert list(settings.spool_folder.iterdir()) == []


async def test_a_store_that_is_away_costs_disk_and_is_told_and_all_arrives_later(settings: UsageSettings, ids: Ids):
    assert settings.file is not None
    settings.file.mkdir()  # where a file should be
    ledger = Ledger(settings)
    ledger.start()
    ledger.ended(record(attempt()))
    await until(lambda: ledger.state()["reachable"] is False and bool(ledger.state()["spooled_bytes"]))
    assert ledger.failures == 1
    settings.file.rmdir()
    await until(lambda: ledger.state()["reachable"] is True)
    await asyncio.to_thread(ledger.close)
    assert len(ids()) == 1


async def test_a_store_that_stays_away_leaves_the_rows_to_the_next_process(settings: UsageSettings, ids: Ids):
    assert settings.file is not None
    settings.file.mkdir()
    ledger = Ledger(settings)
    ledger.start()
    ledger.ended(record(attempt()))
    await asyncio.to_thread(ledger.close)
    settings.file.rmdir()
    heir = Ledger(settings)
    heir.start()
    await asyncio.to_thread(heir.close)
    assert len(ids()) == 1


async def test_a_spool_that_is_full_loses_rows_and_says_how_many(settings: UsageSettings, ids: Ids):
    assert settings.file is not None
    settings.file.mkdir()
    ledger = Ledger(settings.model_copy(update={"spool_mb": 0.0001}))
    ledger.start()
    ledger.ended(record(attempt()))
    await until(lambda: bool(ledger.state()["spooled_bytes"]))
    ledger.ended(record(attempt()))
    await until(lambda: ledger.lost == 1)
    settings.file.rmdir()
    await until(lambda: ledger.state()["spooled_bytes"] == 0)
    ledger.ended(record(attempt()))
    await asyncio.to_thread(ledger.close)
    assert (ledger.rows, ledger.lost, len(ids())) == (3, 1, 2)


async def test_a_disk_that_takes_nothing_is_tried_again(
    settings: UsageSettings, ids: Ids, monkeypatch: pytest.MonkeyPatch
):
    ledger, append, failed = Ledger(settings), Spool.append, []

    def sometimes(self: Spool, data: bytes) -> None:
        if not failed:
            failed.append(data)
            raise OSError("no space left")
        append(self, data)

    monkeypatch.setattr(Spool, "append", sometimes)
    ledger.start()
    ledger.ended(record(attempt()))
    await until(lambda: bool(failed))
    ledger.ended(record(attempt()))
    await asyncio.to_thread(ledger.close)
    assert (len(ids()), ledger.lost) == (2, 0)


async def test_several_processes_fill_one_store(settings: UsageSettings, ids: Ids):
    ledgers = [Ledger(settings) for _ in range(3)]
    for ledger in ledgers:
        ledger.start()
    for _ in range(50):
        for ledger in ledgers:
            ledger.ended(record(attempt()))
    await asyncio.gather(*(asyncio.to_thread(ledger.close) for ledger in ledgers))
    assert len(ids()) == 150


async def test_old_rows_are_deleted(settings: UsageSettings, ids: Ids):
    with contextlib.closing(LedgerStore(settings)) as filled:
        filled.insert([row("old", ended_at=time.time() - 3 * 86_400), row("new")])
    ledger = Ledger(settings.model_copy(update={"keep_days": 2}))
    ledger.start()
    await until(lambda: ids() == ["new"])
    await asyncio.to_thread(ledger.close)


def test_a_row_that_is_there_is_not_there_twice(store: LedgerStore):
    store.insert([row("a"), row("a", 1)])
    store.insert([row("a"), row("b")])
    assert ids_in(store) == ["a", "a", "b"]


def test_a_row_that_no_store_can_take_stops_no_other(store: LedgerStore):
    """A disk that changed a digit, say."""
    rows = [row("a"), row("b", input_tokens=2**70), row("c"), row("d", output_tokens=2**63)]
    assert store.insert(rows) == 2
    assert ids_in(store) == ["a", "c"]


def test_readers_do_not_stop_the_writer(settings: UsageSettings, ids: Ids):
    writer = LedgerStore(settings)
    writer.insert([row("a")])
    with contextlib.closing(sqlite3.connect(str(settings.file))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM chat_proxy_usage").fetchone()
        writer.insert([row("b")])
    writer.close()
    assert ids() == ["a", "b"]


async def until(true: Callable[[], bool], within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)


def test_the_spool_lies_beside_the_file():
    assert UsageSettings().spool_folder == Path("usage.db-spool")
