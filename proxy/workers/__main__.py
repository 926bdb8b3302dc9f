"""A worker process: `python -m proxy.workers SOCKET SHARED`, two descriptors inherited from the parent."""

import gc
import signal
import sys

if __name__ == "__main__":
    # Orders come through the socket. Ctrl-C in a terminal and some service managers signal the whole process
    # group: a worker that obeyed such a signal as well would take it for the second one and cut its answers.
    # The parent blocks these signals while it starts a worker, so none arrives before this line.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.disable()  # until serving begins: imports leave no garbage, and looking for it takes 100 ms
    from proxy.workers.worker import main

    sys.exit(main(*map(int, sys.argv[1:])))
