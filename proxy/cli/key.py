"""`chat-proxy key`."""

from __future__ import annotations

import json

import click


@click.group()
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
