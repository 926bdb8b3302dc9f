"""`chat-proxy init`."""

import os
from pathlib import Path

import click

from proxy.cli.common import DEFAULT, count, stop


@click.command()
@click.option(
    "-o", "--output", "path", metavar="FILE", default=DEFAULT, show_default=True, help="Where to write the config."
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def init(path: str, force: bool) -> None:
    """Write a config for what this machine has.

    Asks the usual ports of model servers for their models, and looks which vendors' API keys are set. The
    file names their variables, never the keys. The JSON Schema that editors complete it by is written beside it.

    \b
    chat-proxy init
    chat-proxy init -o local.yaml && chat-proxy serve -c local.yaml
    """  # noqa: D301
    from proxy.cli.schema import schema_text  # noqa: PLC0415
    from proxy.detect import compose, detect  # noqa: PLC0415

    if not force and os.path.lexists(path):
        stop(f"{path} is there already; name another file with -o, or overwrite it with --force", exit_code=1)
    found = detect(own_port=8080)
    schema = Path(path).with_name(compose.SCHEMA_FILE)
    try:
        with Path(path).open("w" if force else "x", encoding="utf-8") as file:
            file.write(compose.compose(found))
        if force or not schema.exists():
            schema.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        stop(f"cannot write {error.filename}: {error.strerror}; name another file with -o", exit_code=1)
    click.echo(compose.summary(found))
    servers, vendors = count(len(found.servers), "server"), count(len(found.vendors), "key")
    click.echo(
        f"{path}: written for {servers} on this machine and {vendors}; serve it with `chat-proxy serve -c {path}`"
    )
