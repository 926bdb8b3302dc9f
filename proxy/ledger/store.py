"""The table of usage, in SQLite or Postgres. All of it blocks: it is for threads."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from proxy.config.usage import UsageSettings
from proxy.ledger.rows import COLUMNS, Row

TABLE = "chat_proxy_usage"
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
    f"CREATE INDEX IF NOT EXISTS {TABLE}_ended_at ON {TABLE} (ended_at)",
)

_FOR_SQLITE = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")  # in full: the spool is cut after a commit


class LedgerStore:
    """One connection, opened when it is first needed and after a failure. `failures` are what any call may raise."""

    def __init__(self, settings: UsageSettings) -> None:
        self._file = settings.file
        self._address = settings.store.get_secret_value()
        self._connection: Any = None
        self._mark = "?" if self._file is not None else "%s"
        names, marks = ", ".join(f'"{name}"' for name in COLUMNS), ", ".join([self._mark] * len(COLUMNS))
        self._insert = f"INSERT INTO {TABLE} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        self.failures: tuple[type[Exception], ...]
        if self._file is not None:
            import sqlite3  # noqa: PLC0415 - only this kind of store needs it

            self.failures = (sqlite3.Error, OSError)
        else:
            import psycopg  # noqa: PLC0415 - an extra, which only this kind of store needs

            self.failures = (psycopg.Error, OSError)

    def insert(self, rows: Sequence[Row]) -> None:
        """Insert rows, all or none of them. A row that is there already is skipped."""
        with self._transaction() as cursor:
            cursor.executemany(self._insert, [msgspec.structs.astuple(row) for row in rows])

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
            with contextlib.suppress(*self.failures):
                connection.close()

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
        connection: Any
        if self._file is not None:
            import sqlite3  # noqa: PLC0415

            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, timeout=WAIT_S)
        else:
            import psycopg  # noqa: PLC0415

            connection = psycopg.connect(
                self._address,
                connect_timeout=WAIT_S,
                tcp_user_timeout=WAIT_S * 1000,
                options=f"-c statement_timeout={WAIT_S}s -c lock_timeout={WAIT_S}s",
                application_name="chat-proxy",
            )
        try:
            for statement in (*(_FOR_SQLITE if self._file is not None else ()), *_CREATE):
                connection.execute(statement)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection
