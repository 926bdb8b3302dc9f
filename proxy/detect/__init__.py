"""What this machine can answer with, without a config: local model servers that run, and keys that are set.

`servers` asks the usual ports, `vendors` looks for the usual variables, and `compose` writes the config: what
`chat-proxy init` puts into a file, and what `chat-proxy` serves where there is none.
"""

import asyncio
import os

from proxy.detect.compose import Found
from proxy.detect.servers import ask, places
from proxy.detect.vendors import unusable, with_key


def detect(*, own_port: int) -> Found:
    """What answers on this machine, and whose keys are set. Takes less than a second."""
    servers = asyncio.run(ask(places(os.environ, own_port=own_port)))
    return Found(servers, with_key(os.environ), unusable(os.environ))
