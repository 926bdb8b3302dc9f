"""A proxy of several processes, seen from outside: whom to ask, how to count, whom to kill."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from proxy.testing.script import openai_stream
from tests.support.app import Process
from tests.support.clients import RawClient

Serve = Callable[..., Awaitable[Process]]

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
QUICK = {**ASK, "messages": [{"role": "user", "content": "quick"}]}
BEGUN = openai_stream(["One", " two"])[:4]
REST = openai_stream(["One", " two"])[4:]
WORKERS = ("--port", "0", "--workers")


async def ask(proxy: Process, path: str = "/chat", body: Any = ASK) -> tuple[int, bytes]:
    """Over a connection of its own, so that any worker may get it."""
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, body) if body is not None else await client.get(path)
        head = await client.read_head()
        return head.status, await client.read_body()


async def status(proxy: Process) -> dict[str, Any]:
    """What all workers say. A machine that is busy may be late for one of them, which is silent then: ask again."""
    async with asyncio.timeout(60):
        while True:
            code, body = await ask(proxy, "/status", None)
            assert code == 200
            told: dict[str, Any] = json.loads(body)
            if all(row["state"] != "silent" for row in told.get("workers", [])):
                return told


async def counted(proxy: Process, requests: int) -> dict[tuple[Any, ...], float]:
    """All counters, once so many requests are in them: for a worker that is late, older counts stand."""
    async with asyncio.timeout(60):
        while requests_in(samples := await counters(proxy)) < requests:
            pass
    return samples


async def counters(proxy: Process) -> dict[tuple[Any, ...], float]:
    """All that may never go back."""
    code, body = await ask(proxy, "/metrics", None)
    assert code == 200
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(body.decode())
        if family.type in {"counter", "histogram"}
        for one in family.samples
    }


def requests_in(samples: dict[tuple[Any, ...], float]) -> float:
    return sum(value for key, value in samples.items() if key[0] == "chat_proxy_requests_total")


async def pids(proxy: Process) -> dict[int, int]:
    """The process in each place."""
    return {row["worker"]: row["pid"] for row in (await status(proxy))["workers"]}


async def streaming(proxy: Process, path: str = "/chat") -> RawClient:
    """A client in the middle of its answer."""
    client = await RawClient.connect(proxy.port)
    await client.post(path, ASK)
    assert (await client.read_head()).status == 200
    await client.read_until(b" two")
    return client


async def streaming_in_all(proxy: Process, count: int) -> list[RawClient]:
    """Clients in the middle of their answers, so many that each worker has some."""
    clients = [await streaming(proxy) for _ in range(4 * count)]
    async with asyncio.timeout(60):
        while any(row["active"] == 0 for row in (await status(proxy))["workers"]):
            clients.append(await streaming(proxy))
    return clients


def lines(proxy: Process, event: str) -> list[dict[str, Any]]:
    """The lines of one event, without those that the parent itself prints about a worker."""
    logged = (json.loads(line) for line in proxy.logged if not line.startswith("worker "))
    return [line for line in logged if line["event"] == event]


async def logged(proxy: Process, event: str, count: int = 1, within: float = 60.0) -> list[dict[str, Any]]:
    async with asyncio.timeout(within):
        while len(found := lines(proxy, event)) < count:
            await asyncio.sleep(0.02)
    return found


async def until(proxy: Process, *, generation: int, rejected: bool = False) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            told = await status(proxy)
            if told["config"]["generation"] == generation and (told["config"]["rejected"] is not None) == rejected:
                return told
            await asyncio.sleep(0.01)


async def until_gone(*processes: int, within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while alive := [pid for pid in processes if Path(f"/proc/{pid}").exists()]:
            assert alive
            await asyncio.sleep(0.02)


async def refused(port: int, within: float = 60.0) -> None:
    """Wait until nobody listens."""
    async with asyncio.timeout(within):
        while True:
            try:
                (await RawClient.connect(port)).fin()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was in the queue of a socket that was just closed
                pass
            await asyncio.sleep(0.02)


def customized(folder: Path, code: str) -> dict[str, str]:
    """An environment in which every Python runs `code` first."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
