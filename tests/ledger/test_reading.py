"""Reading the ledger writes nothing, and needs no right to write."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.config.usage import UsageSettings
from proxy.ledger.check import check, spent
from proxy.ledger.report import report
from proxy.ledger.store import TABLE, LedgerStore
from tests.ledger.rows import row
from tests.support.need import cannot_run
from tests.support.postgres import PostgresServer


@pytest.fixture
def role(server: PostgresServer) -> Iterator[str]:
    """A role that may connect, and nothing else."""
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute("CREATE ROLE reader LOGIN")
        yield "reader"
        owner.execute("DROP OWNED BY reader")
        owner.execute("DROP ROLE reader")


def as_role(settings: UsageSettings, server: PostgresServer, role: str) -> UsageSettings:
    url = server.url.replace("postgres@", f"{role}@")
    return UsageSettings.model_validate({"store": url, "spool": str(settings.spool_folder)})


def granted(server: PostgresServer, rights: str, role: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute(f"GRANT {rights} ON {TABLE} TO {role}")


def requests(settings: UsageSettings) -> int:
    with contextlib.closing(LedgerStore(settings, only_reads=True)) as store:
        return report(store, ["key"]).total.requests


def test_a_role_that_may_only_read_reports(in_postgres: UsageSettings, server: PostgresServer, role: str):
    with contextlib.closing(LedgerStore(in_postgres)) as store:
        store.insert([row("a")])
    granted(server, "SELECT", role)
    reader = as_role(in_postgres, server, role)
    assert requests(reader) == 1
    assert "1 rows" in check(reader, None)[0].text
    assert spent(reader, [("key", "nobody", 0.0)]) == [0.0]
    with contextlib.closing(LedgerStore(reader)) as store, pytest.raises(psycopg.errors.InsufficientPrivilege):
        store.insert([row("b")])


def test_a_role_that_may_only_fill_the_table_fills_it(in_postgres: UsageSettings, server: PostgresServer, role: str):
    with contextlib.closing(LedgerStore(in_postgres)) as store:
        store.insert([row("a")])
    granted(server, "SELECT, INSERT, DELETE", role)
    writer = as_role(in_postgres, server, role)
    with contextlib.closing(LedgerStore(writer)) as store:
        store.insert([row("b")])
        assert store.delete_before(0.0) == 0
    assert requests(writer) == 2


def test_a_database_without_the_table_has_no_rows(in_postgres: UsageSettings, server: PostgresServer, role: str):
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute(f"DROP TABLE IF EXISTS {TABLE}")
    reader = as_role(in_postgres, server, role)
    assert requests(reader) == 0
    assert spent(reader, [("key", "nobody", 0.0)]) == [0.0]
    with psycopg.connect(server.url) as owner:
        assert owner.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone() == (None,)


def test_a_file_that_is_not_there_is_not_made(settings: UsageSettings, tmp_path: Path):
    assert requests(settings) == 0
    assert check(settings, None)[0].text.startswith("0 rows")
    assert list(tmp_path.iterdir()) == []


def test_a_writer_is_read_while_it_writes(settings: UsageSettings):
    with contextlib.closing(LedgerStore(settings)) as store:
        store.insert([row("a")])
        assert requests(settings) == 1
        store.insert([row("b")])
        assert requests(settings) == 2


def test_a_file_in_a_folder_that_nobody_may_write_to_is_read(tmp_path: Path):
    folder = tmp_path / "archive"
    folder.mkdir()
    settings = UsageSettings.model_validate({"store": f"sqlite:///{folder}/usage.db"})
    with contextlib.closing(LedgerStore(settings)) as store:
        store.insert([row("a")])
    with read_only(folder):
        assert requests(settings) == 1
        assert [path.name for path in folder.iterdir()] == ["usage.db"]


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Root may write to every folder, but to no file system that is read-only."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        cannot_run("needs the right to mount a file system")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
