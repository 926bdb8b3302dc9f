"""`chat-proxy usage`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from proxy.cli.common import CONFIG, load, stop

if TYPE_CHECKING:
    from proxy.config.usage import UsageSettings
    from proxy.ledger.report import Format

PATIENCE_S = 3.0  # what a row may take from the end of its request to the spool


@click.command()
@CONFIG
@click.option("--by", metavar="NAMES", default="key,model", show_default=True, help="What to group by, with commas.")
@click.option("--since", metavar="TIME", help="`24h`, `7d`, `2w` or a date; else all that is kept.")
@click.option(
    "--format", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True, help="How to print it."
)
@click.option("--check", "checks", is_flag=True, help="Compare rows with the spool, and with the metrics at --url.")
@click.option("--url", "urls", metavar="URL", multiple=True, help="With --check: a proxy that runs; repeat.")
@click.option(
    "--api-key", metavar="KEY", envvar="CHAT_PROXY_API_KEY", show_envvar=True, help="A key for its /metrics, if needed."
)
def usage(  # noqa: PLR0917 - click passes them by name
    path: str, by: str, since: str | None, format: Format, checks: bool, urls: tuple[str, ...], api_key: str | None
) -> None:
    """Say who used what: requests, tokens and cost, from the ledger that `usage:` in the config names.

    Group by key, user, route, backend, model, contract, role, usage, end, outcome, day (UTC) or month. A sum
    with unknown parts reads "at least". `--check` exits with 1 if the ledger and the metrics differ.

    \b
    chat-proxy usage --by key,model --since 7d
    chat-proxy usage --by month,key --format csv
    chat-proxy usage --check --url http://127.0.0.1:8080
    """  # noqa: D301
    settings = load(path, exit_code=1).settings.usage
    if settings is None:
        stop(f"{path}: there is no `usage`, so nothing is written down: add `usage: {{}}`", exit_code=1)
    from proxy.ledger.report import told  # noqa: PLC0415
    from proxy.ledger.store import LedgerStore  # noqa: PLC0415

    store = LedgerStore(settings, only_reads=True)
    try:
        if checks:
            _check(settings, urls, api_key)
        else:
            click.echo(told(store, by, since, format), nl=False)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except store.failures as error:
        stop(f"the store of usage cannot be read: {error}", exit_code=1)
    finally:
        store.close()


def _check(settings: UsageSettings, urls: tuple[str, ...], api_key: str | None) -> None:
    """Requests that end at this moment are in the metrics a little before they are in the spool."""
    from proxy.cli.asking import fetched  # noqa: PLC0415
    from proxy.ledger.check import check, counted  # noqa: PLC0415

    deadline = time.monotonic() + PATIENCE_S
    while True:
        lines = check(settings, counted([fetched(url, "/metrics", api_key).decode() for url in urls]) if urls else None)
        good = all(line.good for line in lines)
        if good or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    for line in lines:
        click.echo(line.text)
    sys.exit(0 if good else 1)
