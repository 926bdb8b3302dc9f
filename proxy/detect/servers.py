"""Ask the ports where model servers usually listen which models they have."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.backends.discovery import MOST_BYTES, read_models
from proxy.errors import ProxyError
from proxy.transport import HttpTransport, Request

WITHIN_S = 0.8
"""For all servers together. A server of this machine answers within milliseconds, or is busy loading a model."""

MOST_MODELS = 200  # of one server; a config for more is better written by hand

OLLAMA_PORT = 11434


class Place(NamedTuple):
    """Where a server may listen. `preset`: its row of `proxy.backends.openai.compatible.PRESETS`, if it has one.

    `variable` is the one that the address comes from, if it is not the usual one.
    """

    name: str
    base_url: str
    preset: str = ""
    variable: str = ""


class Server(NamedTuple):
    """A server that answered, and its models in its own order."""

    place: Place
    models: tuple[str, ...]


_USUAL = (
    ("ollama", OLLAMA_PORT, "ollama"),
    ("lmstudio", 1234, "lmstudio"),
    ("vllm", 8000, "vllm"),
    ("llama.cpp", 8081, "llama.cpp"),
    ("llama.cpp-8080", 8080, "llama.cpp"),  # its default, and ours
    ("koboldcpp", 5001, ""),
    ("sglang", 30000, "sglang"),
    ("jan", 1337, ""),
)


def places(environment: Mapping[str, str], *, own_port: int) -> list[Place]:
    """The places to ask, those first that the environment names: `LOCAL_BASE_URL`, and Ollama's own `OLLAMA_HOST`.

    `own_port` is where the proxy will listen, so no server does.
    """
    found = []
    if local := environment.get("LOCAL_BASE_URL"):
        found.append(Place("local", local.rstrip("/"), variable="LOCAL_BASE_URL"))
    for name, port, preset in _USUAL:
        url = f"http://127.0.0.1:{port}/v1"
        if name == "ollama" and (host := environment.get("OLLAMA_HOST")):
            url = _of_ollama(host)
        if url and urlsplit(url).port != own_port:
            found.append(Place(name, url, preset))
    unique = {place.base_url: place for place in reversed(found)}
    return [place for place in found if unique[place.base_url] is place]


def _of_ollama(host: str) -> str:
    """What Ollama's clients make of `OLLAMA_HOST`: a host, a port or both, or an address; "" if it is none."""
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        port = parts.port or (OLLAMA_PORT if parts.scheme == "http" else 443)
    except ValueError:
        return ""
    name = parts.hostname or "127.0.0.1"
    if name in {"0.0.0.0", "::"}:  # where it listens: everywhere  # noqa: S104
        name = "127.0.0.1"
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{parts.path.rstrip('/')}/v1"


async def ask(places: Iterable[Place], *, within_s: float = WITHIN_S) -> list[Server]:
    """Ask all places at once. Those that do not answer in time, or without a list of models, are left out."""
    transport = HttpTransport(proxies={})
    try:
        asked = [asyncio.create_task(_ask(place, transport, within_s)) for place in places]
        return [server for server in [await task for task in asked] if server is not None]
    finally:
        await transport.aclose()


async def _ask(place: Place, transport: HttpTransport, within_s: float) -> Server | None:
    try:
        async with asyncio.timeout(within_s):
            response = await transport.open(
                Request(method="GET", url=f"{place.base_url}/models", headers={}, connect_s=within_s)
            )
            try:
                if response.status != 200 or response.headers.get("server", "").startswith("chat-proxy"):
                    return None
                models = read_models(await response.read_all(MOST_BYTES))
            finally:
                response.close()
    except (ProxyError, OSError, TimeoutError):
        return None
    return Server(place, tuple(model.id for model in models[:MOST_MODELS]))
