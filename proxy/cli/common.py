"""What the commands share: the option that names the config, loading it, and leaving with a sentence."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click
from click.core import ParameterSource

from proxy.errors import ConfigErrors

if TYPE_CHECKING:
    from proxy.config.load import Config

DEFAULT = "config.yaml"

CONFIG = click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    default=DEFAULT,
    envvar="CHAT_PROXY_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The config file.",
)


def nothing_named(context: click.Context, path: str) -> bool:
    """Whether no config is named and none is here, so that the proxy serves what this machine has."""
    return context.get_parameter_source("path") is ParameterSource.DEFAULT and not os.path.lexists(path)


def load(path: str, *, exit_code: int, content: bytes | None = None) -> Config:
    """The config, or all that is wrong with it on stderr. `content` stands in for the file's."""
    from proxy.backends.base import settings_for  # noqa: PLC0415
    from proxy.config.load import load_config  # noqa: PLC0415

    try:
        return load_config(path, content=content, settings_for=settings_for)
    except ConfigErrors as errors:
        stop(described(errors), exit_code=exit_code)


def described(errors: ConfigErrors) -> str:
    """Each error, with the line of the file that it is about."""
    from proxy.cli.excerpt import excerpt  # noqa: PLC0415
    from proxy.config.file import read  # noqa: PLC0415

    lines: dict[str, list[str]] = {}
    said = []
    for error in errors.errors:
        if error.line and error.file not in lines:
            try:
                lines[error.file] = read(error.file).decode("utf-8-sig", "replace").split("\n")
            except ConfigErrors:  # there is no such file any more
                lines[error.file] = []
        said += [str(error), excerpt(error, lines.get(error.file, ()))]
    return "\n".join(filter(None, said))


def stop(message: str, *, exit_code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(exit_code)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
