"""`chat-proxy schema`."""

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors.

    \b
    chat-proxy schema > chat-proxy.schema.json
    # yaml-language-server: $schema=chat-proxy.schema.json     (first line of config.yaml)
    """  # noqa: D301
    click.echo(schema_text())


def schema_text() -> str:
    """The schema, with the kinds that load."""
    from proxy.backends.base import kinds  # noqa: PLC0415
    from proxy.config.schema import json_schema  # noqa: PLC0415

    models = {}
    for name, point in kinds().items():
        try:
            models[name] = point.load().settings
        except ImportError as error:
            click.echo(f"kind {name} is left out: {error}", err=True)
    return json.dumps(json_schema(models), indent=2, ensure_ascii=False)
