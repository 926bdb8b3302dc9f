"""`chat-proxy check`."""

from __future__ import annotations

import click

from proxy.cli.common import CONFIG, count, load


@click.command()
@CONFIG
@click.argument("file", required=False)
def check(path: str, file: str | None) -> None:
    """Validate a config: exit 0, or 1 and every mistake in it. FILE is the same as `-c FILE`.

    Each is printed as FILE:LINE:COL: what is wrong, what to do. Nothing is contacted and no port opened.

    \b
    chat-proxy check -c new.yaml && cp new.yaml config.yaml
    """  # noqa: D301
    path = file or path
    config = load(path, exit_code=1)
    for warning in config.warnings:
        click.echo(str(warning))
    for name, why in config.off.items():
        click.echo(f"off: backend {name}: {why}")
    for name in config.routes_off:
        click.echo(f"off: route {name}, as its backends are")
    routes = len(config.settings.routes)
    off = f", {len(config.off)} off" if config.off else ""
    click.echo(f"{path}: ok, {count(len(config.backends), 'backend')} on{off}, {count(routes, 'route')}")
