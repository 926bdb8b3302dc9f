"""The command line. Each command is a module here, and imports what it needs when it runs: `--help` answers at once."""

import click

from proxy import __version__
from proxy.cli import check, diff, explain, import_, init, key, prices, schema, serve, usage


class _Commands(click.Group):
    """Lists commands in the order they are written, which is the order they are needed. Without one, it serves."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for option in self.get_params(ctx) for name in option.opts}
        served = not args or (args[0].startswith("-") and args[0] not in own)
        return super().parse_args(ctx, ["serve", *args] if served else args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="chat-proxy", message="%(prog)s %(version)s")
def main() -> None:
    """Any chat frontend to any model, by a file of routing rules.

    \b
    chat-proxy                           serve config.yaml, or what this machine has
    chat-proxy init                      write what this machine has as config.yaml
    chat-proxy check -c new.yaml         is this file right? every mistake, with its line
    chat-proxy explain --path /chat      where would this request go, and why?
    """  # noqa: D301


for command in (
    serve.serve, init.init, import_.import_, check.check, explain.explain, schema.schema, diff.diff, key.key, prices.prices, usage.usage,
):  # fmt: skip
    main.add_command(command)
