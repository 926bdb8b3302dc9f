"""The table of usage, in SQLite or Postgres. All of it blocks: it is for threads."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from proxy.config.usage import UsageSettings
from proxy.ledger.rows import COLUMNS, Row

TABLE = "chat_proxy_usage"
INDEX = f"{TABLE}_ended_at"
WAIT_S = 10  # for a lock, or for an answer

_KINDS = {"attempt": "INTEGER", "status": "INTEGER"}
_KINDS |= {name: "BIGINT" for name in COLUMNS if name.endswith("_tokens")}
_KINDS |= dict.fromkeys(("started_at", "ended_at", "first_token_s", "cost_usd"), "DOUBLE PRECISION")
_CAN_BE_NULL = frozenset({"first_token_s", "cost_usd"} | {name for name in COLUMNS if name.endswith("_tokens")})


def _columns() -> Iterator[str]:
    for name in COLUMNS:
        yield f'"{name}" {_KINDS.get(name, "TEXT")}' + ("" if name in _CAN_BE_NULL else " NOT NULL")
    yield 'PRIMARY KEY ("id", "attempt")'


_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} ({', '.join(_columns())})",
    f"CREATE INDEX IF NOT EXISTS {INDEX} ON {TABLE} (ended_at)",
)

_FOR_SQLITE = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")  # in full: the spool is cut after a commit


class LedgerStore:
    """One connection, opened when it is first needed and after a failure. `failures` are what any call may raise.

    A store that `only_reads` creates nothing, so it needs no right to write. Where there is no table, it has no rows.
    """

    def __init__(self, settings: UsageSettings, *, only_reads: bool = False) -> None:
        self._file = settings.file
        self._only_reads = only_reads
        self._address = settings.store.get_secret_value()
        self._connection: Any = None
        self._mark = "?" if self._file is not None else "%s"
        names, marks = ", ".join(f'"{name}"' for name in COLUMNS), ", ".join([self._mark] * len(COLUMNS))
        self._insert = f"INSERT INTO {TABLE} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        self.failures: tuple[type[Exception], ...]
        self._refusals: tuple[type[Exception], ...]  # of values, such as letters that the database's encoding has not
        if self._file is not None:
            import sqlite3  # noqa: PLC0415 - only this kind of store needs it

            self.failures, self._refusals = (sqlite3.Error, OSError), (sqlite3.DataError, OverflowError)
        else:
            import psycopg  # noqa: PLC0415 - an extra, which only this kind of store needs

            self.failures, self._refusals = (psycopg.Error, OSError), (psycopg.DataError, UnicodeError)

    def insert(self, rows: Sequence[Row]) -> int:
        """Insert rows, all or none of them. A row that is there already is skipped.

        One that the store can never take is left out, so that it stops no other; returns how many there were.
        """
        try:
            with self._transaction() as cursor:
                cursor.executemany(self._insert, [msgspec.structs.astuple(row) for row in rows])
        except self._refusals:
            if len(rows) == 1:
                return 1
            half = len(rows) // 2
            return self.insert(rows[:half]) + self.insert(rows[half:])
        return 0

    def delete_before(self, time: float) -> int:
        """Delete the rows of attempts that ended before; returns how many there were."""
        with self._transaction() as cursor:
            cursor.execute(f"DELETE FROM {TABLE} WHERE ended_at < {self._mark}", (time,))  # noqa: S608
            return int(cursor.rowcount)

    def select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query with `?` for each value."""
        with self._transaction() as cursor:
            cursor.execute(query.replace("?", self._mark), tuple(values))
            return list(cursor.fetchall())

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*self.failures), contextlib.closing(connection):
                connection.rollback()  # SQLite keeps the lock while a statement lives, as an error's traceback lets it

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            cursor = self._connection.cursor()
            yield cursor
            self._connection.commit()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        connection = self._open()
        try:
            if self._only_reads:
                if self._has(connection, TABLE):
                    return connection
                connection.close()
                return self._empty()
            for statement in _FOR_SQLITE if self._file is not None else ():
                connection.execute(statement)
            if not self._has(connection, INDEX):  # else the right to fill the table is enough
                for statement in _CREATE:
                    connection.execute(statement)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> Any:
        if self._file is not None:
            import sqlite3  # noqa: PLC0415

            if not self._only_reads:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                return sqlite3.connect(self._file, timeout=WAIT_S)
            if not self._file.exists():  # to ask for it would be an error
                return sqlite3.connect(":memory:")
            address = f"{self._file.absolute().as_uri()}?mode=ro"
            if (
                not os.access(self._file.parent, os.W_OK)
                and not self._file.with_name(f"{self._file.name}-wal").exists()
            ):
                address += "&immutable=1"  # SQLite cannot put its shared memory there, and nobody else has
            return sqlite3.connect(address, timeout=WAIT_S, uri=True)
        import psycopg  # noqa: PLC0415

        return psycopg.connect(
            self._address,
            connect_timeout=WAIT_S,
            tcp_user_timeout=WAIT_S * 1000,
            options=f"-c statement_timeout={WAIT_S}s -c lock_timeout={WAIT_S}s",
            application_name="chat-proxy",
        )

    def _has(self, connection: Any, name: str) -> bool:
        """Whether there is a table or an index of this name."""
        there = (
            "to_regclass(%s) IS NOT NULL"
            if self._file is None
            else "EXISTS (SELECT * FROM sqlite_master WHERE name = ?)"
        )
        return bool(connection.execute(f"SELECT {there}", (name,)).fetchone()[0])

    def _empty(self) -> Any:
        """A table without rows, in memory, for queries that begin before anything was written."""
        import sqlite3  # noqa: PLC0415

        self._mark = "?"
        connection = sqlite3.connect(":memory:")
        connection.execute(_CREATE[0])
        return connection
