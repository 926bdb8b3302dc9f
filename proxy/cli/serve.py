"""`chat-proxy serve`."""

from __future__ import annotations

import errno
import gc
import signal
import sys

import click

from proxy.cli.common import CONFIG, described, stop
from proxy.errors import ConfigError, ConfigErrors, WorkersFailed


@click.command()
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
    except ConfigErrors as errors:
        stop(described(errors), exit_code=1)
    except (ConfigError, WorkersFailed) as error:
        stop(str(error), exit_code=1)
    except OSError as error:
        cure = "stop what listens there, or choose another port with --port"
        cure = cure if error.errno == errno.EADDRINUSE else "choose another address with --host and --port"
        stop(f"cannot listen on {error.strerror or error}; {cure}", exit_code=1)
