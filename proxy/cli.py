"""The command line: `chat-proxy serve · check · explain · schema · diff · key new`."""

from __future__ import annotations

import gc
import json
import signal
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, NoReturn

import click

from proxy import __version__
from proxy.errors import ConfigError, ConfigErrors, ProxyError, WorkersFailed

if TYPE_CHECKING:  # imported by the commands that need it: `--help` and `--version` answer at once
    from proxy.config.load import Config
    from proxy.routing.explanation import Explanation

CONFIG = click.option(
    "-c", "--config", "path", metavar="FILE", default="config.yaml", show_default=True, help="The config file."
)


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


class _Commands(click.Group):
    """Lists commands in the order they are written, which is the order they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="chat-proxy", message="%(prog)s %(version)s")
def main() -> None:
    """Any chat frontend to any model, by a file of routing rules.

    \b
    chat-proxy serve                     serve config.yaml on 127.0.0.1:8080
    chat-proxy check -c new.yaml         is this file right? every mistake, with its line
    chat-proxy explain --path /chat      where would this request go, and why?
    """  # noqa: D301


@main.command()
@CONFIG
@click.option("--host", metavar="H", help="Listen here instead of at the file's `server.host`.")
@click.option(
    "--port", metavar="P", type=click.IntRange(0, 65535), help="Instead of `server.port`; 0 takes a free one."
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that serve the address together; one for each core that they may have.",
)
def serve(path: str, host: str | None, port: int | None, workers: int) -> None:
    """Serve a config.

    Prints the address, the routes, and every backend that is off and why. A change of the file is taken
    up without dropping a stream; a bad one is reported and the old one goes on serving. SIGTERM lets
    running answers finish.

    \b
    chat-proxy serve
    chat-proxy serve -c production.yaml --host 0.0.0.0 --port 80
    chat-proxy serve --workers 4
    """  # noqa: D301
    for number in (signal.SIGTERM, signal.SIGINT):  # until serving takes over; as PID 1 they would go unheard
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        if workers == 1:
            gc.disable()  # until serving begins: imports leave no garbage, and looking for it takes 100 ms
            from proxy import serving  # noqa: PLC0415

            serving.serve(path, host=host, port=port)
        else:
            from proxy import workers as several  # noqa: PLC0415

            several.serve(path, host=host, port=port, workers=workers)
    except (ConfigError, ConfigErrors, WorkersFailed) as error:
        _stop(str(error), exit_code=1)
    except OSError as error:
        _stop(f"cannot listen: {error.strerror or error}; choose another address with --host and --port", exit_code=1)


@main.command()
@CONFIG
@click.argument("file", required=False)
def check(path: str, file: str | None) -> None:
    """Validate a config: exit 0, or 1 and every mistake in it. FILE is the same as `-c FILE`.

    Each is printed as FILE:LINE:COL: what is wrong, what to do. Nothing is contacted and no port opened.

    \b
    chat-proxy check -c new.yaml && cp new.yaml config.yaml
    """  # noqa: D301
    path = file or path
    config = _load(path, exit_code=1)
    for warning in config.warnings:
        click.echo(str(warning))
    for name, why in config.off.items():
        click.echo(f"off: backend {name}: {why}")
    for name in config.routes_off:
        click.echo(f"off: route {name}, as its backends are")
    routes = len(config.settings.routes)
    off = f", {len(config.off)} off" if config.off else ""
    click.echo(f"{path}: ok, {_count(len(config.backends), 'backend')} on{off}, {_count(routes, 'route')}")


@main.command()
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

    config = _load(path, exit_code=1)
    given = dict(_header(header) for header in headers)
    try:
        explanation = explaining.Judge(config, key).explain(url, given, body, id="explain", model=model)
    except ProxyError as error:
        _stop(f"{error.status} {error.code}: {error.message}", exit_code=1)
    if as_json:
        click.echo(json.dumps(explaining.as_data(explanation), indent=2, ensure_ascii=False, default=str))
    else:
        click.echo(explaining.as_text(explanation))
    sys.exit(1 if explanation.error else 0)


@main.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors.

    \b
    chat-proxy schema > chat-proxy.schema.json
    # yaml-language-server: $schema=chat-proxy.schema.json     (first line of config.yaml)
    """  # noqa: D301
    from proxy.backends.base import kinds  # noqa: PLC0415
    from proxy.config.schema import json_schema  # noqa: PLC0415

    models = {}
    for name, point in kinds().items():
        try:
            models[name] = point.load().settings
        except ImportError as error:
            click.echo(f"kind {name} is left out: {error}", err=True)
    click.echo(json.dumps(json_schema(models), indent=2, ensure_ascii=False))


@main.command()
@click.argument("old")
@click.argument("new")
@click.argument("requests", type=click.File("r", encoding="utf-8"), metavar="REQUESTS.jsonl")
def diff(old: str, new: str, requests: IO[str]) -> None:
    """Say which recorded requests two configs would treat differently.

    Each line of REQUESTS.jsonl is {"path": "/chat", "headers": {}, "body": {"messages": []}}. Exit 0 when
    nothing differs, 1 when something does, 2 on trouble.

    \b
    chat-proxy diff config.yaml new.yaml requests.jsonl
    """  # noqa: D301
    from proxy import explain as explaining  # noqa: PLC0415

    judges = [explaining.Judge(_load(path, exit_code=2)) for path in (old, new)]
    differing = total = 0
    for number, line in enumerate(requests, 1):
        if not line.strip():
            continue
        total += 1
        try:
            entry = explaining.recorded(line)
            explained = explaining.compared(entry, judges, id=f"line-{number}")
        except ProxyError as error:
            _stop(f"{requests.name}:{number}: {error.message}", exit_code=2)
        before, after = map(_verdict, explained)
        if before != after:
            differing += 1
            model = next((one.model for one in explained if one.model), "(none)")
            click.echo(f"{requests.name}:{number}: {entry.path}, model {model}")
            click.echo(f"  - {before}\n  + {after}")
    click.echo(f"{differing} of {_count(total, 'request')} would be routed differently")
    sys.exit(1 if differing else 0)


@main.group()
def key() -> None:
    """Client keys."""


@key.command("new")
@click.option("--name", metavar="NAME", default="new", show_default=True, help="Name of the key in the config.")
def key_new(name: str) -> None:
    """Make a client key.

    The key is shown this once and kept nowhere: give it to the client, and put the row, which holds only
    its digest, under `auth.keys` in the config.

    \b
    chat-proxy key new --name web
    """  # noqa: D301
    from proxy.config.models import NAME  # noqa: PLC0415
    from proxy.policy.keys import new_key  # noqa: PLC0415

    if not NAME.fullmatch(name):
        raise click.UsageError("a name is up to 64 letters, digits, '-', '_' and '.', beginning with a letter or digit")
    secret, digest = new_key()
    click.echo(
        f"key     {secret}\nsha256  {digest}\nrow     - {{name: {json.dumps(name)}, sha256: {json.dumps(digest)}}}"
    )


def _load(path: str, *, exit_code: int) -> Config:
    """The config, or all that is wrong with it on stderr."""
    from proxy.backends.base import kind  # noqa: PLC0415
    from proxy.config.load import load_config  # noqa: PLC0415

    try:
        return load_config(path, settings_for=lambda name: kind(name).settings)
    except ConfigErrors as errors:
        _stop(str(errors), exit_code=exit_code)


def _stop(message: str, *, exit_code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(exit_code)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header; write 'Name: value'", param_hint="-H")
    return name.strip(), value.strip()


def _verdict(explanation: Explanation) -> str:
    """What `diff` compares, in words: the route, its targets in order, and what is sent with the request."""
    if explanation.plan is None:
        assert explanation.error is not None
        return f"refused: {explanation.error.status} {explanation.error.code}"
    return " ".join([f"{explanation.route}:", ", ".join(map(str, explanation.plan.targets)), *_changes(explanation)])


def _changes(explanation: Explanation) -> Iterator[str]:
    for parameter in explanation.parameters:
        if parameter.origin != "request":
            yield f"{parameter.name}={json.dumps(parameter.value, default=str)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
