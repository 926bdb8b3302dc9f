"""What does reading one token from an upstream cost: our transport against aiohttp's client, in one run.

Both clients read the same streams from the same upstream, which runs in a process of its own, in turns
(ours, aiohttp, ours, …), so that a noisy machine is noisy to both. The figure is the CPU time, user and
system, of the reading process per token. Nothing is decoded, nothing is written on.

    python bench/transport.py                     both loads, 3 rounds each
    python bench/transport.py paced --streams 500 --rounds 5
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

import aiohttp
import uvloop

from proxy.transport import HttpTransport, Request

FRAME = (
    b'data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(FRAME), FRAME)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
HEADERS = {"content-type": "application/json", "authorization": "Bearer bench"}

Reader = Callable[[str], Awaitable[int]]  # reads one whole stream, returns the bytes of its body


class FarSide(asyncio.Protocol):
    """Answers every request with `tokens` tokens: in one write, or one each `gap_s`."""

    def __init__(self, tokens: int, gap_s: float) -> None:
        self._tokens, self._gap_s = tokens, gap_s

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.endswith(BODY):
            return
        if self._gap_s:
            self._transport.write(HEAD)
            asyncio.get_running_loop().call_later(self._gap_s, self._next, self._tokens)
        else:
            self._transport.write(HEAD + CHUNK * self._tokens + END)

    def _next(self, left: int) -> None:
        self._transport.write(CHUNK if left > 1 else CHUNK + END)
        if left > 1 and not self._transport.is_closing():
            asyncio.get_running_loop().call_later(self._gap_s, self._next, left - 1)


def upstream(pipe: Pipe, tokens: int, gap_s: float) -> None:
    """The child process: listens, tells the port, serves until it is ended."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: FarSide(tokens, gap_s), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def measure(read: Reader, url: str, streams: int, seconds: float, tokens: int) -> tuple[float, float]:
    """CPU microseconds a token, and tokens a second, of `streams` readers that repeat for `seconds`."""
    expected = tokens * len(FRAME)
    done = 0

    async def reader(until: float) -> None:
        nonlocal done
        while time.monotonic() < until:
            assert await read(url) == expected
            done += tokens

    await asyncio.gather(*(reader(time.monotonic() + 0.3) for _ in range(streams)))  # warm up: connections
    done = 0
    gc.collect()
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.gather(*(reader(began + seconds) for _ in range(streams)))
    return (time.process_time() - cpu) / done * 1e6, done / (time.monotonic() - began)


async def compare(url: str, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    transport = HttpTransport(proxies={}, max_idle_per_origin=options.streams)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )
    request = Request(method="POST", url=url, headers=HEADERS, body=BODY)

    async def ours(_: str) -> int:
        response = await transport.open(request)
        size = 0
        while piece := await response.read():
            size += len(piece)
        response.close()
        return size

    async def theirs(url: str) -> int:
        size = 0
        async with session.post(url, data=BODY, headers=HEADERS, allow_redirects=False) as response:
            async for piece in response.content.iter_any():
                size += len(piece)
        return size

    results: dict[str, list[tuple[float, float]]] = {"ours": [], "aiohttp": []}
    for _ in range(options.rounds):
        for name, read in (("ours", ours), ("aiohttp", theirs)):
            results[name].append(await measure(read, url, options.streams, options.seconds, options.tokens))
    await transport.aclose()
    await session.close()
    return results


def run(load: str, options: argparse.Namespace) -> None:
    """One load: start the upstream, compare, print a line per client."""
    chosen = argparse.Namespace(**vars(options))
    paced = load == "paced"
    chosen.streams = options.streams or (200 if paced else 64)
    chosen.tokens = options.tokens or (50 if paced else 100)
    gap_s = options.gap_ms / 1000 if paced else 0.0
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=upstream, args=(far, chosen.tokens, gap_s), daemon=True)
    child.start()
    try:
        url = f"http://127.0.0.1:{near.recv()}/v1/chat/completions"
        runner = asyncio.run if options.loop == "asyncio" else uvloop.run
        results = runner(compare(url, chosen))
    finally:
        child.terminate()
        child.join()
    pace = f"a token each {options.gap_ms:g} ms" if paced else "in one write"
    print(f"{load}: {chosen.streams} streams of {chosen.tokens} tokens, {pace}, {options.loop}")
    for name, rounds in results.items():
        costs = [cost for cost, _ in rounds]
        speed = statistics.median(speed for _, speed in rounds)
        each = " ".join(f"{cost:.2f}" for cost in costs)
        print(f"  {name:8} {statistics.median(costs):7.2f} µs CPU a token (rounds: {each}), {speed:,.0f} tokens/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("load", nargs="?", choices=["paced", "burst"], help="default: both")
    parser.add_argument("--streams", type=int, default=0, help="at once (default: 200 paced, 64 burst)")
    parser.add_argument("--tokens", type=int, default=0, help="per stream (default: 50 paced, 100 burst)")
    parser.add_argument("--gap-ms", type=float, default=20.0, help="between tokens, paced (default: 20)")
    parser.add_argument("--seconds", type=float, default=2.0, help="per round (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of each client, in turns (default: 3)")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    for load in [options.load] if options.load else ["paced", "burst"]:
        run(load, options)


if __name__ == "__main__":
    main()
