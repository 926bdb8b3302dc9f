"""`chat-proxy serve`."""

import errno
import gc
import os
import signal
import socket

import click

from proxy.cli.common import CONFIG, DEFAULT, described, nothing_named, stop
from proxy.errors import ConfigError, ConfigErrors, WorkersFailed

_CURES = {
    errno.EADDRINUSE: "stop what listens there, or choose another port with --port",
    errno.EACCES: "choose a port from 1024 on with --port, or allow this one (CAP_NET_BIND_SERVICE)",
}


@click.command()
@CONFIG
@click.pass_context
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
def serve(context: click.Context, path: str, host: str | None, port: int | None, workers: int) -> None:
    """Serve a config; this is what `chat-proxy` alone does.

    Prints the address, the routes, and every backend that is off and why. A change of the file is taken
    up without dropping a stream; a bad one is reported and the old one goes on serving. SIGTERM lets
    running answers finish.

    Where no config.yaml is and none is named, it serves what this machine has: model servers on their
    usual ports, vendors whose API key is set, and the echo. Nothing is written. A config.yaml that appears
    later, as `chat-proxy init` writes it, is taken up.

    \b
    chat-proxy serve
    chat-proxy serve -c production.yaml --host 0.0.0.0 --port 80
    chat-proxy serve --workers 4
    """  # noqa: D301
    # Until serving installs its own handlers: a process with PID 1 ignores signals without one. Not `sys.exit`, because
    # an import runs destructors, in which Python ignores exceptions.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    content = None
    if nothing_named(context, path):
        content = _without_file(port)
    try:
        if workers == 1:
            gc.disable()  # until serving begins: imports leave no garbage, and looking for it takes 100 ms
            from proxy import serving  # noqa: PLC0415

            serving.serve(path, host=host, port=port, content=content)
        elif not hasattr(socket, "SO_REUSEPORT"):
            message = "this system cannot share a port between processes (SO_REUSEPORT); leave --workers out, or run "
            stop(message + "several proxies on different ports behind a load balancer", exit_code=1)
        else:
            import asyncio  # noqa: PLC0415

            from proxy.workers.parent import Parent  # noqa: PLC0415

            asyncio.run(Parent(path, host=host, port=port, workers=workers, content=content).run())
    except ConfigErrors as errors:
        stop(described(errors), exit_code=1)
    except (ConfigError, WorkersFailed) as error:
        stop(str(error), exit_code=1)
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "choose another address with --host and --port")
        stop(f"cannot listen on {error.strerror or error}; {cure}", exit_code=1)


def _without_file(port: int | None) -> bytes:
    """A config for what there is, and what that is on standard output."""
    from proxy.detect import compose, detect  # noqa: PLC0415

    found = detect(own_port=8080 if port is None else port)
    click.echo(f"no {DEFAULT} here, so this is served (`chat-proxy init` writes it into a file):\n")
    click.echo(compose.summary(found) + "\n")
    return compose.compose(found).encode()
