"""`chat-proxy diff`."""

import sys
from typing import IO

import click

from proxy.cli.common import count, load, stop
from proxy.errors import ProxyError


@click.command()
@click.argument("old")
@click.argument("new")
@click.argument("requests", type=click.File("r", encoding="utf-8"), metavar="REQUESTS.jsonl")
def diff(old: str, new: str, requests: IO[str]) -> None:
    """Say which recorded requests two configs would treat differently.

    Each line of REQUESTS.jsonl is {"path": "/v1/completions", "headers": {}, "body": {"prompt": "hi"}}. Exit 0 when
    nothing differs, 1 when something does, 2 on trouble.

    \b
    chat-proxy diff config.yaml new.yaml requests.jsonl
    """  # noqa: D301
    from proxy import explain as explaining  # noqa: PLC0415

    judges = [explaining.Judge(load(path, exit_code=2)) for path in (old, new)]
    differing = total = 0
    for number, line in enumerate(requests, 1):
        if not line.strip():
            continue
        total += 1
        try:
            entry = explaining.recorded(line)
            explained = explaining.compared(entry, judges, id=f"line-{number}")
        except ProxyError as error:
            stop(f"{requests.name}:{number}: {error.message}", exit_code=2)
        before, after = map(explaining.verdict, explained)
        if before != after:
            differing += 1
            model = next((one.model for one in explained if one.model), "(none)")
            click.echo(f"{requests.name}:{number}: {entry.path}, model {model}")
            click.echo(f"  - {before}\n  + {after}")
    click.echo(f"{differing} of {count(total, 'request')} would be routed differently")
    sys.exit(1 if differing else 0)
