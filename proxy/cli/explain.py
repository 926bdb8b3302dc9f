"""`chat-proxy explain`."""

from __future__ import annotations

import json
import sys
from typing import IO

import click

from proxy.cli.common import CONFIG, load, stop
from proxy.errors import ProxyError


class _Body(click.ParamType[bytes]):
    """A request's body: JSON as it is, or the file that holds it."""

    name = "body"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        if value.lstrip().startswith("{"):
            return value.encode()
        file: IO[bytes] = click.File("rb").convert(value, param, ctx)
        return file.read()


@click.command()
@CONFIG
@click.option("--path", "url", metavar="PATH", default="/chat", show_default=True, help="Where the request goes.")
@click.option("-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A request header; repeat.")
@click.option("--key", metavar="NAME", help="Ask as this key of the config (its name, not the key).")
@click.option("--model", metavar="NAME", help="The model that is asked for, instead of the one in BODY.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.argument("body", type=_Body(), required=False, metavar="[BODY.json|-|'{…}']")
def explain(  # noqa: PLR0917 - click passes them by name
    path: str,
    url: str,
    headers: tuple[str, ...],
    key: str | None,
    model: str | None,
    as_json: bool,
    body: bytes | None,
) -> None:
    """Say where a request would go, and why. No network is used.

    Shows the contract, why each earlier rule did not match, the targets in order, timers, and the
    parameters sent and where each came from. BODY is a file, `-`, or the JSON itself; without it the request
    says "hi". Exit 1 when the request would be refused.

    \b
    chat-proxy explain --path /v1/chat/completions --model gpt-5
    chat-proxy explain --path /v1/chat/completions request.json
    echo '{"model": "code-1", "messages": []}' | chat-proxy explain -H 'x-team: research' -
    """  # noqa: D301
    from proxy import explain as explaining  # noqa: PLC0415

    config = load(path, exit_code=1)
    given = dict(_header(header) for header in headers)
    try:
        explanation = explaining.Judge(config, key).explain(url, given, body, id="explain", model=model)
    except ProxyError as error:
        stop(f"{error.status} {error.code}: {error.message}", exit_code=1)
    if as_json:
        click.echo(json.dumps(explaining.as_data(explanation), indent=2, ensure_ascii=False, default=str))
    else:
        click.echo(explaining.as_text(explanation))
    sys.exit(1 if explanation.error else 0)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header; write 'Name: value'", param_hint="-H")
    return name.strip(), value.strip()
