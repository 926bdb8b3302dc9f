"""`python -m proxy` is the command `chat-proxy`."""

import signal


def run() -> None:
    """Run the command. Until it takes signals itself, Ctrl-C ends the process without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from proxy.cli import main  # noqa: PLC0415 - an import can be interrupted, too

    main(prog_name="chat-proxy")


if __name__ == "__main__":
    run()
