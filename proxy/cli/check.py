"""`chat-proxy check`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from proxy.cli.common import CONFIG, count, load

if TYPE_CHECKING:
    from proxy.config.load import Config


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
    for doubt in _doubts(config):
        click.echo(f"{path}: {doubt}")
    for name, why in config.off.items():
        click.echo(f"off: backend {name}: {why}")
    for name in config.routes_off:
        click.echo(f"off: route {name}, as its backends are")
    routes = len(config.settings.routes)
    off = f", {len(config.off)} off" if config.off else ""
    click.echo(f"{path}: ok, {count(len(config.backends), 'backend')} on{off}, {count(routes, 'route')}")


def _doubts(config: Config) -> Iterable[str]:
    """Budgets with targets that have no known price. Prices are looked up only if there are budgets."""
    from proxy.pipeline.spending import Budgets, has_budgets  # noqa: PLC0415
    from proxy.policy.prices import Prices  # noqa: PLC0415

    settings = config.settings
    if not has_budgets(settings):
        return ()
    return Budgets(settings, Prices(config.backends, settings.prices)).unpriced(settings.routes)
