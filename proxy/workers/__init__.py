"""Several processes on one address: `chat-proxy serve --workers N`.

    parent ── socket pair ── worker 1        Each worker listens on the same address (SO_REUSEPORT). The kernel
       ├───── socket pair ── worker 2        gives every new connection to one of them.
       └───── socket pair ── worker N

The parent serves nothing. It starts the workers (`python -m proxy.workers`), replaces those that die or hang,
passes a changed config to all of them, adds up their metrics, and stops them together. The modules of the parent
(`parent`, `handle`, `reload`) import the standard library and little else, so it stays small.

| the parent says | the worker says |
|---|---|
| `spec`: build this config | `refused`: its errors · `built`: it has, and asks for the addresses |
| `prepare` this config · `commit` it · `reject` it | `serving` · `failed`: it cannot listen |
| `counts`, `look`, `ping`: answer | `everybody`: ask all workers one of these |
| `say` this in the log · `drain` · `now` | `changed`: the config file differs · `counted`: the last counts |
"""
