"""`chat-proxy explain`."""

import json
import sys
from typing import IO

import click

from proxy.cli.common import CONFIG, load, nothing_named, stop
from proxy.errors import ProxyError


class _Body(click.ParamType[bytes]):
    """A request's body: JSON as it is, or the file that holds it."""

    name = "body"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        if value.lstrip().startswith(("{", "[")):
            return value.encode()
        file: IO[bytes] = click.File("rb").convert(value, param, ctx)
        return file.read()


@click.command()
@CONFIG
@click.option("--path", "url", metavar="PATH", default="/chat", show_default=True, help="Where the request goes.")
@click.option("-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A request header; repeat.")
@click.option("--key", metavar="NAME", help="Ask as this key of the config (its name, not the key).")
@click.option("--model", metavar="NAME", help="The model that is asked for, instead of the one in BODY.")
@click.option("--last", is_flag=True, help="Ask the running proxy about the last request that is over.")
@click.option("--request", "id", metavar="ID", help="Ask the running proxy about this one (`X-Request-Id`).")
@click.option("--url", "proxy", metavar="URL", help="Where it runs, if not where the config says.")
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="CHAT_PROXY_API_KEY",
    show_envvar=True,
    help="A key without limits, if it asks for one.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.argument("body", type=_Body(), required=False, metavar="[BODY.json|-|'{…}']")
@click.pass_context
def explain(  # noqa: PLR0917 - click passes them by name
    context: click.Context,
    path: str,
    url: str,
    headers: tuple[str, ...],
    key: str | None,
    model: str | None,
    last: bool,
    id: str | None,
    proxy: str | None,
    api_key: str | None,
    as_json: bool,
    body: bytes | None,
) -> None:
    """Say where a request would go, and why.

    Shows the contract, why each earlier rule did not match, the targets in order, timers, and the
    parameters sent and where each came from, without using the network. BODY is a file, `-`, or the JSON itself; without it the request
    says "hi". Exit 1 when the request would be refused.

    `--last` and `--request` ask a running proxy instead what it did with one of its last 500 requests: routes,
    attempts, tokens, end. It keeps no contents.

    \b
    chat-proxy explain --path /v1/chat/completions --model gpt-5
    chat-proxy explain --path /v1/completions '{"model": "code-1", "prompt": "hi"}'
    chat-proxy explain --path /v1/chat/completions request.json
    echo '{"prompt": "hi"}' | chat-proxy explain --path /v1/completions -H 'x-team: a' -
    chat-proxy explain --last
    chat-proxy explain --request 4f9c2a --url http://127.0.0.1:9000
    """  # noqa: D301
    if last or id:
        if body is not None or model or headers or key or (last and id):
            raise click.UsageError("`--last` and `--request ID` take nothing else that tells of a request")
        _of_the_running(context, path, proxy, id, api_key, as_json=as_json)
        return
    from proxy import explain as explaining  # noqa: PLC0415

    config = load(path, exit_code=1, content=_what_is_served(path) if nothing_named(context, path) else None)
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


def _what_is_served(path: str) -> bytes:
    """The config that `serve` makes where there is none."""
    from proxy.detect import compose, detect  # noqa: PLC0415

    click.echo(f"no {path} here: by what `chat-proxy` would serve without one", err=True)
    return compose.compose(detect(own_port=8080)).encode()


def _of_the_running(
    context: click.Context, path: str, url: str | None, id: str | None, key: str | None, *, as_json: bool
) -> None:
    from proxy.cli import asking  # noqa: PLC0415

    if url is None and nothing_named(context, path):
        url = asking.address("127.0.0.1", 8080)
    if url is None:
        server = load(path, exit_code=1).settings.server
        url = asking.address(server.host, server.port)
    found = asking.told(url, id, key)
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else asking.as_text(found))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header; write 'Name: value'", param_hint="-H")
    return name.strip(), value.strip()
