"""`chat-proxy import`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.common import count, stop
from proxy.errors import ConfigErrors, ProxyError

if TYPE_CHECKING:
    from proxy.config.load import Config
    from proxy.explain import Judge

_STAND_INS = {  # for variables that are not set yet, so that the result can be checked all the same
    "address": "https://not-set-yet.example/v1",
    "key": "not-set-yet-0123456789",
    "text": "not-set-yet",
}


@click.group("import")
def import_() -> None:
    """Turn another gateway's config into one of this proxy.

    \b
    chat-proxy import litellm litellm.yaml
    """  # noqa: D301


@import_.command()
@click.argument("file")
@click.option("-o", "--output", default="config.yaml", show_default=True, help="The config to write; `-`: to stdout.")
@click.option("--force", is_flag=True, help="Write it although routing changes, and over a file that is there.")
def litellm(file: str, output: str, force: bool) -> None:
    """Turn FILE, a config of LiteLLM's proxy, into a config.yaml, check it, and show where each model goes.

    What has no like here is a comment that says why. Exit 1, and nothing is written, when requests would go elsewhere
    than before. Secrets in FILE are not copied: the result names a variable for each.

    \b
    chat-proxy import litellm litellm.yaml && chat-proxy serve
    """  # noqa: D301
    from proxy.config.file import read  # noqa: PLC0415
    from proxy.importing.litellm import convert  # noqa: PLC0415

    if output != "-" and Path(output).exists() and not force:
        stop(f"{output} is there already; name another file with `-o FILE`, or write over it with --force", exit_code=1)
    try:
        converted = convert(read(file).decode("utf-8-sig", "replace"), file)
    except ConfigErrors as errors:
        stop(str(errors), exit_code=1)
    for left in converted.left:
        click.echo(
            f"{file}:{left.line}: {left.name}: {left.why}{' (changes who answers)' if left.routes else ''}", err=True
        )
    if converted.changes_routes and not force:
        changed = count(len(converted.changes_routes), "setting")
        stop(f"nothing written: {changed} would change who answers; --force writes it without", exit_code=1)
    if output == "-":
        click.echo(converted.text, nl=False)
    else:
        Path(output).write_text(converted.text, encoding="utf-8")
    unset = {name: holds for name, holds in converted.variables.items() if not os.environ.get(name)}
    config = _checked(converted.text, output, unset)
    for line in _table(config):
        click.echo(line, err=output == "-")
    if output != "-":
        click.echo(f"{output}: written, {count(len(config.settings.routes), 'route')}")
    if unset:
        click.echo(f"set before `chat-proxy serve`: {', '.join(unset)}", err=output == "-")


def _checked(text: str, path: str, unset: Mapping[str, str]) -> Config:
    """The result as `check` reads it, once the variables are set."""
    from proxy.backends.base import settings_for  # noqa: PLC0415
    from proxy.config.load import load_config  # noqa: PLC0415

    env = {**os.environ, **{name: _STAND_INS[holds] for name, holds in unset.items()}}
    try:
        config = load_config(path, content=text.encode(), settings_for=settings_for, env=env)
    except ConfigErrors as errors:
        stop(str(errors), exit_code=1)
    for warning in config.warnings:
        click.echo(str(warning), err=True)
    return config


def _table(config: Config) -> Iterator[str]:
    """Each model that a client may ask for, and its targets, by the router that will serve it."""
    from proxy.explain import Judge  # noqa: PLC0415

    judge = Judge(config)
    names = [name for route in config.settings.routes for name in route.match.model or ()]
    width = max(map(len, names), default=0)
    for name in names:
        yield f"{name:<{width}}  ->  {_targets(judge, name)}"


def _targets(judge: Judge, name: str) -> str:
    """`*` stands for any name: it is left in the targets."""
    try:
        found = judge.explain("/v1/chat/completions", {}, None, id="import", model=name)
    except ProxyError as error:
        return error.message
    shares = [(choice.target, choice.share) for choice in found.choices if not choice.unused]
    drawn = " | ".join(f"{target} {share:.0%}" if share < 1 else target for target, share in shares if share)
    after = [target for target, share in shares if not share]
    return " , then ".join([drawn, *after]) or (found.error.message if found.error else "nobody")
