"""`python -m proxy` is the command `chat-proxy`."""

from proxy.cli import main

main(prog_name="chat-proxy")
