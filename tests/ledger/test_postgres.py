"""The ledger in a real Postgres server: filled, cut off, and found again."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from pathlib import Path

import psycopg
import pytest

from proxy.config.usage import UsageSettings
from proxy.ledger.check import check
from proxy.ledger.store import LedgerStore
from proxy.ledger.writer import Ledger
from tests.ledger.conftest import ids_in
from tests.ledger.rows import attempt, record, row
from tests.ledger.test_writer import until
from tests.support.postgres import PostgresServer


async def test_rows_wait_while_the_server_is_gone_and_are_there_once_when_it_is_back(
    in_postgres: UsageSettings, server: PostgresServer
):
    ledgers = [Ledger(in_postgres), Ledger(in_postgres)]
    for ledger in ledgers:
        ledger.start()
        ledger.ended(record(attempt(), user="\x00 anna"))
    await until(lambda: all(ledger.state()["spooled_bytes"] == 0 for ledger in ledgers if ledger.rows))
    server.stop()
    for ledger in ledgers:
        for _ in range(50):
            ledger.ended(record(attempt()))
    await until(lambda: not any(ledger.state()["reachable"] for ledger in ledgers))
    assert ledgers[0].state()["kind"] == "postgresql"
    server.start()
    await until(lambda: all(ledger.state()["reachable"] for ledger in ledgers))
    await asyncio.gather(*(asyncio.to_thread(ledger.close) for ledger in ledgers))
    store = LedgerStore(in_postgres)
    assert len(ids_in(store)) == len(set(ids_in(store))) == 102
    store.close()
    (line,) = check(in_postgres, None)
    assert re.findall(r"\d+", line.text) == ["102", "0"]


async def test_a_row_that_a_store_can_never_take_stops_no_other(tmp_path: Path, server: PostgresServer):
    """A database with an encoding of its own has no place for all that clients say."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    address = server.url.replace("/postgres?", "/narrow?")
    settings = UsageSettings.model_validate({"store": address, "spool": str(tmp_path / "spool")})
    ledger = Ledger(settings)
    for user in ("zoë", "Юля", "ann", "李", "bob"):
        ledger.ended(record(attempt(), user=user))
    ledger.start()
    await until(lambda: ledger.lost == 2)
    await asyncio.to_thread(ledger.close)
    store = LedgerStore(settings, only_reads=True)
    assert sorted(user for (user,) in store.select('SELECT "user" FROM chat_proxy_usage')) == ["ann", "bob", "zoë"]
    store.close()
    assert not list((tmp_path / "spool").iterdir()), "nothing waits"


def test_what_is_in_the_spool_only_is_told(settings: UsageSettings, store: LedgerStore):
    from proxy.ledger.spool import Spool
    from tests.ledger.test_spool import lines

    store.insert([row("a")])
    with contextlib.closing(LedgerStore(settings)) as filled:
        filled.insert([row("a")])
    spool = Spool.new(settings.spool_folder)
    spool.append(lines("a", "b", "c"))
    (line,) = check(settings, None)
    assert re.findall(r"\d+", line.text) == ["1", "2"]
    spool.close()


def test_old_rows_are_deleted_and_no_others(store: LedgerStore):
    store.insert([row("old", ended_at=time.time() - 3 * 86_400), row("new")])
    assert store.delete_before(time.time() - 86_400) == 1
    assert ids_in(store) == ["new"]


def test_a_password_is_in_no_error(tmp_path):
    secret = "sesame-open"
    settings = UsageSettings.model_validate({"store": f"postgresql://me:{secret}@127.0.0.1:1/db"})
    store = LedgerStore(settings)
    with pytest.raises(store.failures) as caught:
        store.select("SELECT 1")
    assert secret not in str(caught.value) + repr(settings)
    with pytest.raises(ValueError, match="Postgres") as refused:
        UsageSettings.model_validate({"store": f"postgresql://me:{secret}@host:x:y/db?nonsense={secret}"})
    assert secret not in str(refused.value)
