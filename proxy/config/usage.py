"""Where the usage ledger is: `usage:` of the config."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr

from proxy.config.base import Model, setting

_SQLITE = "sqlite:///"


def _ledger(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_SQLITE) and len(value) > len(_SQLITE):
        return value
    if not isinstance(value, str) or urlsplit(value).scheme not in {"postgresql", "postgres"}:
        raise ValueError("usage is kept in `sqlite:///FILE`, or in `postgresql://user:password@host/database`")
    if find_spec("psycopg") is None:
        raise ValueError(
            "a Postgres store needs the package psycopg, which is not installed: pip install 'chat-proxy[postgres]'"
        )
    from psycopg import ProgrammingError  # noqa: PLC0415 - an extra
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        conninfo_to_dict(value)
    except ProgrammingError:  # says parts of the address, which holds a password
        raise ValueError("this is no address of Postgres: postgresql://user:password@host:5432/database") from None
    return value


LedgerAddress = Annotated[SecretStr, BeforeValidator(_ledger, json_schema_input_type=str)]


class UsageSettings(Model):
    """The usage ledger: one row for each time that a target was asked."""

    store: LedgerAddress = setting(
        SecretStr("sqlite:///usage.db"),
        "`sqlite:///FILE` (three slashes before a path from the working directory, four before one from the "
        "root), or `postgresql://user:password@host/database`.",
    )
    keep_days: int = setting(400, "Rows older than this are deleted; 0 keeps all.", ge=0, le=36_500)
    spool: str | None = setting(
        None,
        "The folder of files that rows are written to before they are in the store. Left out: beside the "
        "SQLite file, its name with `-spool`; `usage-spool` in the working directory for Postgres.",
        min_length=1,
    )
    spool_mb: float = setting(
        256.0,
        "How much one process keeps there while the store is away. Beyond it rows are lost, and counted.",
        gt=0,
        le=1_000_000,
    )

    @property
    def file(self) -> Path | None:
        """The file of SQLite; `None` is Postgres."""
        address = self.store.get_secret_value()
        return Path(address.removeprefix(_SQLITE)) if address.startswith(_SQLITE) else None

    @property
    def spool_folder(self) -> Path:
        file = self.file
        if self.spool is not None:
            return Path(self.spool)
        return file.with_name(f"{file.name}-spool") if file is not None else Path("usage-spool")
