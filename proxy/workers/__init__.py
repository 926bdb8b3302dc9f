"""Several processes on one address: `chat-proxy serve --workers N`.

    parent ── socket pair ── worker 1        each listens on the same address (SO_REUSEPORT): the kernel
       ├───── socket pair ── worker 2        hands every new connection to one of them
       └───── socket pair ── worker N

The parent serves nothing and knows nothing of HTTP, YAML or models: it starts workers, asks them, tells them,
and starts the one again that died. While nothing happens it sleeps in `select`. So this half (`parent`, `child`,
`reload`, `gathering`, `loop`, `channel`, `board`, `address`) imports the standard library and little else, and
the parent stays below 20 MB. The other half (`worker`, `app`) is imported after the fork.

| said to a worker | and by one |
|---|---|
| `listen` on these addresses | `ready`: built its first config · `refused` it |
| `prepare` this config | `prepared` it · `refused` it |
| `commit` it · `reject` it | `serving` · `changed`: the file is not what it was |
| `collect` your counts | `counts` |
| `gathered`: the counts of all | `gather` the counts of all: somebody asks for `/metrics` |
| `say` this in the log · `drain` · `now` | `failed`, and why |
"""

from __future__ import annotations

import os
import socket

from proxy.errors import WorkersFailed


def serve(path: str, *, host: str | None, port: int | None, workers: int) -> None:
    """Serve the config file `path` with several processes until a signal.

    Raises `ConfigErrors`, `OSError` when the address is taken, `WorkersFailed`.
    """
    if not hasattr(socket, "SO_REUSEPORT") or not hasattr(os, "fork"):
        raise WorkersFailed(
            "this system cannot share a port between processes (SO_REUSEPORT); leave --workers out, "
            "or run several proxies on ports of their own behind a balancer"
        )
    from proxy.workers.parent import Parent  # noqa: PLC0415 - what it needs is not there on every system

    Parent(path, host, port, workers).run()
