"""`chat-proxy key`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.cli.common import CONFIG, load, stop

if TYPE_CHECKING:
    from proxy.config.base import Model
    from proxy.config.load import Config
    from proxy.store.keys import KeyShelf

T = TypeVar("T")
SHOWN = 8
"""Characters of a key that are kept, to recognise it by: `cp-` and five of its 43."""

_SPAN = re.compile(r"([1-9][0-9]{0,4})([hd])")


class _Expiry(click.ParamType[int]):
    """When a key expires, as a Unix time: after `12h` or `30d`, or at a date."""

    name = "when"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if span := _SPAN.fullmatch(value):
            return int(time.time()) + int(span[1]) * {"h": 3600, "d": 86_400}[span[2]]
        try:
            when = datetime.fromisoformat(value)
            at = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
        except ValueError:
            self.fail(f"{value!r} is no time; write 12h, 30d or 2027-01-31", param, ctx)
        if at <= time.time():
            self.fail(f"{value} is over", param, ctx)
        return at


class _Pairs(click.ParamType[dict[str, Any]]):
    """What a key of a row says, as `requests_per_minute=60,parallel=4`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: str | dict[str, Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        from pydantic import ValidationError  # noqa: PLC0415

        from proxy.config.budgets import BudgetSettings  # noqa: PLC0415
        from proxy.config.limits import KeyLimits  # noqa: PLC0415

        model: type[Model] = KeyLimits if self.name == "limits" else BudgetSettings
        pairs = [pair.partition("=") for pair in value.split(",")]
        found = {name.strip(): _number(text.strip()) for name, _, text in pairs}
        try:
            model.model_validate(found)
        except ValidationError as error:
            names = ", ".join(name for name in model.model_fields if name != "per_user")
            wrong = error.errors()[0]
            self.fail(f"{wrong['loc'][0]}: {wrong['msg']}; write NAME=VALUE,… with {names}", param, ctx)
        return found


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


@click.group()
def key() -> None:
    """Client keys.

    \b
    chat-proxy key new --name web
    """  # noqa: D301


@key.command("new")
@click.option("--name", metavar="NAME", default="new", show_default=True, help="Name of the key, for logs and metrics.")
@click.option("--model", "models", metavar="GLOB", multiple=True, help="A model it may reach; repeat. All by default.")
@click.option("--route", "routes", metavar="NAME", multiple=True, help="A route it may use; repeat. All by default.")
@click.option(
    "--limits",
    type=_Pairs("limits"),
    metavar="NAME=N,…",
    help="How much it may use, such as requests_per_minute=60,parallel=4.",
)
@click.option(
    "--budget", type=_Pairs("budget"), metavar="NAME=VALUE,…", help="How much it may spend, such as usd=5,per=month."
)
@click.option(
    "--store", "stored", is_flag=True, help="Keep it in the config's store: it works at once, on all replicas."
)
@click.option("--expires", type=_Expiry(), metavar="WHEN", help="With --store: after 12h or 30d, or at 2027-01-31.")
@CONFIG
def key_new(  # noqa: PLR0917 - click passes them by name
    name: str,
    models: tuple[str, ...],
    routes: tuple[str, ...],
    limits: dict[str, Any] | None,
    budget: dict[str, Any] | None,
    stored: bool,
    expires: int | None,
    path: str,
) -> None:
    """Make a client key.

    The key is shown this once and kept nowhere: give it to the client. Only its digest is kept: in the row
    that is printed, which belongs under `auth.keys` in the config, or with --store in the config's store.

    \b
    chat-proxy key new --name web
    chat-proxy key new --name ann --budget usd=5,per=month --expires 30d --store
    """  # noqa: D301
    from proxy.config.models import NAME  # noqa: PLC0415
    from proxy.policy.keys import new_key  # noqa: PLC0415

    if not NAME.fullmatch(name):
        raise click.UsageError("a name is up to 64 letters, digits, '-', '_' and '.', beginning with a letter or digit")
    if expires and not stored:
        raise click.UsageError(
            "only a key in the store expires by itself; add --store, or remove the row when it is time"
        )
    secret, digest = new_key()
    more = {"routes": list(routes), "models": list(models), "limits": limits, "budget": budget}
    row = {"name": name, "sha256": digest} | {key: value for key, value in more.items() if value}
    if stored:
        _keep(load(path, exit_code=1), row, secret, expires)
        click.echo(f"key     {secret}\nname    {name}\nexpires {_day(expires) if expires else 'never'}")
    else:
        fields = ", ".join(f"{key}: {json.dumps(value)}" for key, value in row.items())
        click.echo(f"key     {secret}\nsha256  {digest}\nrow     - {{{fields}}}")


@key.command("list")
@CONFIG
def key_list(path: str) -> None:
    """List the keys of the config and of its store: never the keys themselves.

    \b
    chat-proxy key list
    """  # noqa: D301
    config = load(path, exit_code=1)
    auth = config.settings.auth
    rows = [("name", "in", "key", "created", "last used", "expires")]
    rows += [(one.name, "file", "", "", "", "") for one in (auth.keys if auth else ())]
    if config.settings.store is not None:
        kept, used = _with_shelf(config, _everything)
        for name, one in sorted(kept.items()):
            last = _day(used[name]) if name in used else "never"
            expires = _day(one.expires_at) if one.expires_at else "never"
            rows.append((name, "store", one.prefix + "…", _day(one.created_at), last, expires))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@key.command("revoke")
@click.argument("name")
@CONFIG
def key_revoke(name: str, path: str) -> None:
    """Revoke a key of the store: within a second no replica knows it any more.

    \b
    chat-proxy key revoke ann
    """  # noqa: D301
    config = load(path, exit_code=1)
    _needs_store(config)
    if not _with_shelf(config, lambda shelf: shelf.remove(name)):
        auth = config.settings.auth
        in_file = any(one.name == name for one in (auth.keys if auth else ()))
        stop(f"{path} has it: remove its row there" if in_file else f"the store has no key `{name}`", exit_code=1)
    click.echo(f"revoked {name}")


def _keep(config: Config, row: dict[str, Any], secret: str, expires: int | None) -> None:
    """Put a key into the store."""
    from proxy.config.wording import nearest  # noqa: PLC0415

    _needs_store(config)
    auth, name = config.settings.auth, row["name"]
    if auth is None or auth.off:
        stop(
            f"{config.path} asks nobody for a key; write `auth: {{keys: []}}` to ask for those in the store",
            exit_code=1,
        )
    if any(one.name == name for one in auth.keys):
        stop(f"{config.path} has a key `{name}` already; names tell keys apart", exit_code=1)
    known = [route.name for route in config.settings.routes]
    for route in row.get("routes", ()):
        if route not in known:
            stop(f"no route `{route}`{nearest(route, known)}", exit_code=1)

    backend = row.get("budget", {}).get("downgrade_to", "").partition("/")[0]
    if backend and backend not in config.backends and backend not in config.off:
        stop(f"no backend `{backend}`{nearest(backend, list(config.backends))}", exit_code=1)

    async def add(shelf: KeyShelf) -> bool:
        from proxy.store.keys import StoredKey  # noqa: PLC0415

        stored = StoredKey(row=row, prefix=secret[:SHOWN], created_at=int(time.time()), expires_at=expires)
        return await shelf.add(name, stored)

    if not _with_shelf(config, add):
        stop(f"the store has a key `{name}` already; revoke it first, or choose another name", exit_code=1)


def _needs_store(config: Config) -> None:
    if config.settings.store is None:
        stop(
            f"{config.path} names no store that keeps keys: write `store: redis://HOST:6379/0` there, or put the row that "
            "`chat-proxy key new` prints without --store under `auth.keys`",
            exit_code=1,
        )


async def _everything(shelf: KeyShelf) -> tuple[dict[str, Any], dict[str, int]]:
    return await shelf.all(), await shelf.used()


def _with_shelf(config: Config, use: Callable[[KeyShelf], Awaitable[T]]) -> T:
    """What `use` returns of the keys in the config's store."""
    from redis.exceptions import RedisError  # noqa: PLC0415

    from proxy.store.keys import KeyShelf  # noqa: PLC0415
    from proxy.store.redis import RedisStore  # noqa: PLC0415

    assert config.settings.store is not None
    store = RedisStore(config.settings.store.get_secret_value(), timeout_s=5)

    async def run() -> T:
        try:
            return await use(KeyShelf(store.client))
        finally:
            await store.aclose()

    try:
        return asyncio.run(run())
    except (RedisError, OSError) as error:
        stop(
            f"the store at {store.address} cannot be used: {store.why(error).rstrip('.')}. `store` of {config.path} has to name a "
            "server that runs, may be written to and has memory left, and a user and password that it takes",
            exit_code=1,
        )


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
