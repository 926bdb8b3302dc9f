"""Group E: a changed config is taken up whole, a bad one is not, and no request notices either."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import Steps, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support.app import Process, StartProxy
from tests.support.ports import free_port
from tests.support.workers import logged

ASK = {"messages": [{"role": "user", "content": "hi"}]}
DONE = b"event: done\ndata:[DONE]\n\n"


def config(url: str, number: int) -> str:
    """ConfigSnapshot `number`: its model, parameters and fallback all bear the number, so that a mix would show."""
    return f"""
        server: {{breaker: {{failures: 0}}}}
        backends:
          first: {{kind: openai-compatible, base_url: "{url}"}}
          second: {{kind: openai-compatible, base_url: "{url}"}}
        routes:
          - name: default
            to: [first/fails-{number}, second/works-{number}]
            set: {{seed: {number}}}
    """


def answer(seen: Seen) -> Steps:
    if seen.json()["model"].startswith("fails"):
        return json_reply(503, {"error": {"message": "busy"}})
    return openai_stream([f"{n} " for n in range(20)], gap_s=0.005)


def torn(seen: list[Seen]) -> list[tuple[str, ...]]:
    """Requests whose attempts did not all belong to one generation."""
    attempts = collections.defaultdict(list)
    for one in seen:
        body = one.json()
        attempts[one.headers["x-request-id"]].append((body["model"], body["seed"]))
    whole = lambda tries: [(f"fails-{tries[0][1]}", tries[0][1]), (f"works-{tries[0][1]}", tries[0][1])]  # noqa: E731
    return [tuple(map(str, tries)) for tries in attempts.values() if tries != whole(tries)]


async def test_E02_a_bad_file_leaves_the_old_one_serving_and_says_why(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.decide(answer)
    proxy = await start_proxy(config(upstream.url, 1))
    for bad in ("routes: [", "backends: {}\nroutes: []", "", "backends: {x: {kind: nope}}\nroutes: [{name: a, to: x}]"):
        proxy.rewrite(bad)
        assert not await proxy.app.reload()
    proxy.config.unlink()
    assert not await proxy.app.reload()
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/chat", json=ASK) as streamed:
            assert (await streamed.read()).endswith(DONE)
        async with http.get("/status") as status:
            told = (await status.json())["config"]
        assert told["generation"] == 1
        assert "config" in told["rejected"][0]
        async with http.get("/metrics") as metrics:
            assert 'chat_proxy_config_reload_total{result="rejected"} 5.0' in await metrics.text()
        proxy.rewrite(config(upstream.url, 2))
        assert await proxy.app.reload()
        async with http.get("/status") as status:
            told = (await status.json())["config"]
        assert (told["generation"], told["rejected"]) == (2, None)


async def test_E02_a_reload_that_breaks_on_our_side_leaves_the_old_one_serving_too(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.backends.openai.compatible import CompatibleBackend

    async def broken(self: object) -> None:
        raise RuntimeError("a bug")

    upstream.decide(answer)
    proxy = await start_proxy(config(upstream.url, 1))
    with monkeypatch.context() as patched:
        patched.setattr(CompatibleBackend, "open", broken)
        assert not await proxy.app.reload()
    assert proxy.app.snapshot.number == 1
    assert await proxy.app.reload()


async def test_E03_running_streams_finish_on_their_own_generation(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.streaming.LAST_BYTES_S", 10.0)  # a busy machine may be late
    upstream.decide(answer)
    proxy = await start_proxy(config(upstream.url, 0))
    files = len(os.listdir("/proc/self/fd"))
    generation = 0
    finished: list[bytes] = []

    async def client(http: aiohttp.ClientSession) -> None:
        for number in itertools.count():
            if number >= 6 and generation > 8:  # on a busy machine a reload takes as long as several answers
                break
            async with http.post("/chat", json=ASK) as streamed:
                finished.append(await streamed.read())

    async def reloads() -> None:
        nonlocal generation
        while len(finished) < 180 or generation <= 8:
            generation += 1
            proxy.rewrite(config(upstream.url, generation))
            assert await proxy.app.reload()

    async with aiohttp.ClientSession(proxy.url) as http, asyncio.TaskGroup() as group:
        for _ in range(30):
            group.create_task(client(http))
        group.create_task(reloads())
    assert all(body.endswith(DONE) for body in finished)
    assert torn(upstream.requests) == []
    assert len({one.json()["seed"] for one in upstream.requests}) > 5, "requests ran on several generations"
    async with asyncio.timeout(60):
        while len(proxy.app._closing):
            await asyncio.sleep(0.01)
    assert upstream.connections <= 60, "connections are kept over reloads"
    assert len(os.listdir("/proc/self/fd")) - files <= 2 * upstream.open_connections + 4


async def test_E02_the_file_is_watched_however_it_is_replaced(
    serve: Callable[..., Any], upstream: ScriptedUpstream
) -> None:
    upstream.decide(answer)
    process: Process = await serve(config(upstream.url, 1))
    async with aiohttp.ClientSession(process.url) as http:

        async def serves(number: int) -> None:
            async with asyncio.timeout(60):
                while True:
                    async with http.post("/chat", json=ASK) as streamed:
                        assert (await streamed.read()).endswith(DONE)
                    if upstream.requests[-1].json()["seed"] == number:
                        return
                    await asyncio.sleep(0.05)

        await serves(1)
        process.rewrite(config(upstream.url, 2))  # renamed over
        await serves(2)
        _swap_link(process.config, config(upstream.url, 3))
        await serves(3)
        process.rewrite("backends: [")
        await _logged(process, "config_rejected")
        await serves(3)
        process.rewrite(config(upstream.url, 4))
        process.signal(signal.SIGHUP)
        await serves(4)
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0


def _swap_link(path: Path, text: str) -> None:
    """As Kubernetes does with config maps: the file is a link into a directory that is swapped."""
    data = path.parent / "..data-1"
    data.mkdir()
    (data / path.name).write_text("\n".join(line[8:] for line in text.splitlines()))
    link = path.parent / "link"
    link.symlink_to(data / path.name)
    link.replace(path)


async def _logged(process: Process, event: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            for line in process.logged:
                if event in line:
                    told: dict[str, Any] = json.loads(line)
                    return told
            await asyncio.sleep(0.05)


@pytest.mark.heavy
async def test_E03_fifty_reloads_in_a_minute_under_two_hundred_streams(
    serve: Callable[..., Any], upstream: ScriptedUpstream
) -> None:
    """A real process, the file rewritten by rename, SIGHUPs on top; figures are printed with `-s`."""

    def slow(seen: Seen) -> Steps:
        if seen.json()["model"].startswith("fails"):
            return json_reply(503, {"error": {"message": "busy"}})
        return openai_stream([f"{n} " for n in range(50)], gap_s=0.04)

    upstream.decide(slow)
    process: Process = await serve(config(upstream.url, 0))
    descriptors = Path(f"/proc/{process.process.pid}/fd")
    finished: list[bytes] = []
    counts: list[tuple[int, int]] = []
    stop = asyncio.Event()

    async def client(http: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            async with http.post("/chat", json=ASK) as streamed:
                finished.append(await streamed.read())

    async def reloads() -> None:
        for number in range(1, 51):
            process.rewrite(config(upstream.url, number))
            if number % 5 == 0:
                process.signal(signal.SIGHUP)
            await asyncio.sleep(1.2)
            counts.append((len(os.listdir(descriptors)), upstream.open_connections))
        stop.set()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(process.url, connector=connector) as http, asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(client(http))
        group.create_task(reloads())
    print(f"{len(finished)} streams, fds and upstream connections: {counts[5]} -> {counts[-1]}")
    assert all(body.endswith(DONE) for body in finished)
    assert torn(upstream.requests) == []
    served = {one.json()["seed"] for one in upstream.requests}
    assert len(served) >= 40, "a busy machine may take two changes up in one"
    assert 50 in served
    assert counts[-1][0] <= counts[5][0] + 20
    assert counts[-1][1] <= counts[5][1] + 20


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_N7_a_setting_that_is_read_at_the_start_only_is_named_when_it_changes(
    serve: Callable[..., Any], workers: str
) -> None:
    def text(server: str) -> str:
        return f"server: {{{server}}}\nbackends: {{echo: {{kind: echo}}}}\nroutes: [{{name: default, to: echo}}]\n"

    port = free_port()
    proxy = await serve(text(f"port: {port}"), "--workers", workers)
    proxy.rewrite(text(f"port: {port + 1}, log: {{level: warning}}, heartbeat_s: 20"))
    (line,) = await logged(proxy, "config_needs_restart")
    assert line["keys"] == ["server.port", "server.log"]
    assert "restart" in line["message"]
    proxy.rewrite(text(f"port: {port}, heartbeat_s: 30"))
    await logged(proxy, "config_reloaded", 2)
    assert len(await logged(proxy, "config_needs_restart")) == 1, "what runs is what the file says"
