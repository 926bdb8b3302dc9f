"""Group E with several processes: a config is taken up by all at one moment, or by none."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import NamedTuple, Self

from proxy.testing.script import Steps, Wait, openai_stream
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support.app import Process
from tests.support.clients import RawClient
from tests.support.workers import (
    WORKERS,
    Serve,
    ask,
    counted,
    customized,
    lines,
    logged,
    pids,
    status,
    streaming_in_all,
    until,
)

BAD = "routes: ["


def config(url: str, number: int, *, reload: str = "off", more: str = "") -> str:
    """ConfigSnapshot `number`; its answers say so."""
    return f"""
        server: {{reload: {reload}}}
        backends:
          far: {{kind: openai-compatible, base_url: "{url}"}}
        routes:
          - name: default
            to: far/scripted-1
            set: {{seed: {number}}}
        {more}
    """


def answer(seen: Seen) -> Steps:
    return openai_stream([f"<{seen.json()['seed']}>"])


class Asked(NamedTuple):
    began: float
    ended: float
    value: int


class Watched:
    """Clients that ask without pause, each time over a new connection, and note what they saw and when."""

    def __init__(self, proxy: Process, *, headers: dict[str, str] | None = None, clients: int = 4) -> None:
        self.asked: list[Asked] = []
        self._proxy, self._headers, self._clients = proxy, headers or {}, clients

    async def __aenter__(self) -> Self:
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self._stop.is_set():
            began = clock()
            value = await self.value()
            self.asked.append(Asked(began, clock(), value))

    async def has_seen(self, value: int) -> None:
        """Wait for a value, and for a few more answers."""
        async with asyncio.timeout(60):
            while sum(one.value == value for one in self.asked) < 10:
                await asyncio.sleep(0.002)

    async def value(self) -> int:
        """The generation that answered."""
        code, body = await ask(self._proxy)
        assert code == 200
        assert body.endswith(b"[DONE]\n\n")
        return int(body.partition(b"<")[2].partition(b">")[0])

    def stale(self) -> list[tuple[Asked, int]]:
        """Those who began after another had seen a newer value, and saw an older one."""
        found, newest = [], 0
        ends = sorted(self.asked, key=lambda one: one.ended)
        for one in sorted(self.asked, key=lambda one: one.began):
            while ends and ends[0].ended < one.began:
                newest = max(newest, ends.pop(0).value)
            if one.value < newest:
                found.append((one, newest))
        return found


async def test_E03_fifty_reloads_and_no_request_sees_the_old_config_after_another_saw_the_new(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    upstream.decide(answer)
    proxy = await serve(config(upstream.url, 1), *WORKERS, "3")
    generation = bad = 0
    async with Watched(proxy) as watched:
        for step in range(2, 52):
            if step % 10 == 0:
                proxy.rewrite(BAD)
                bad += 1
            else:
                proxy.rewrite(config(upstream.url, step))
                generation = step - bad
            proxy.signal(signal.SIGHUP)
            told = await until(proxy, generation=generation, rejected=step % 10 == 0)
            assert {row["generation"] for row in told["workers"]} == {generation}, "whoever is asked, all have it"
            seen = len(watched.asked)
            async with asyncio.timeout(60):
                while len(watched.asked) < seen + 3:
                    await asyncio.sleep(0.002)
    assert watched.stale() == []
    assert len({one.value for one in watched.asked}) > 40
    samples = await counted(proxy, len(watched.asked))
    assert samples["chat_proxy_config_reload_total", ("result", "accepted")] == 45, "each counted once, not by all"
    assert samples["chat_proxy_config_reload_total", ("result", "rejected")] == 5
    assert len(await logged(proxy, "config_reloaded", 45)) == 45
    assert len(await logged(proxy, "config_rejected", 5)) == 5
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code() == 0


async def test_E02_the_file_is_watched_and_a_bad_one_leaves_all_on_the_old(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    upstream.decide(answer)
    proxy = await serve(config(upstream.url, 1, reload="auto"), *WORKERS, "3")
    proxy.rewrite(config(upstream.url, 2, reload="auto"))
    await until(proxy, generation=2)
    proxy.rewrite(BAD)
    rejected = (await logged(proxy, "config_rejected"))[0]
    assert rejected["serving_generation"] == 2
    for _ in range(12):
        told = await until(proxy, generation=2, rejected=True)
        assert told["config"]["rejected"] == rejected["errors"]
        assert b"<2>" in (await ask(proxy))[1]
    proxy.rewrite(config(upstream.url, 3, reload="auto"))
    await until(proxy, generation=3)
    assert len(await logged(proxy, "config_reloaded", 2)) == 2


async def test_E02_F06_a_worker_that_is_started_again_has_the_config_in_force_and_not_the_file(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    upstream.decide(answer)
    proxy = await serve(config(upstream.url, 1, reload="auto"), *WORKERS, "2")
    proxy.rewrite(config(upstream.url, 2, reload="auto"))
    await until(proxy, generation=2)
    proxy.rewrite(BAD)
    await logged(proxy, "config_rejected")
    for pid in (await pids(proxy)).values():
        os.kill(pid, signal.SIGKILL)
    await logged(proxy, "listening", 4)
    for _ in range(12):
        told = await until(proxy, generation=2, rejected=True)
        assert {row["generation"] for row in told["workers"]} == {2}
        assert b"<2>" in (await ask(proxy))[1]
    assert len(await logged(proxy, "config_rejected")) == 1, "their watch saw the bad file again, and that is no news"
    proxy.rewrite(config(upstream.url, 3, reload="auto"))
    await until(proxy, generation=3)


async def test_E03_F06_reloads_while_workers_die(serve: Serve, upstream: ScriptedUpstream) -> None:
    upstream.decide(answer)
    proxy = await serve(config(upstream.url, 1), *WORKERS, "3")
    await logged(proxy, "listening", 3)  # one that is killed before its line is written is not counted below
    for number in range(2, 8):
        proxy.rewrite(config(upstream.url, number))
        victim = list((await pids(proxy)).values())[number % 3]
        proxy.signal(signal.SIGHUP)
        os.kill(victim, signal.SIGKILL)
        await logged(proxy, "listening", 3 + number - 1)
    for _ in range(12):
        told = await status(proxy)
        assert {row["generation"] for row in told["workers"]} == {told["config"]["generation"]}
        assert b"<7>" in (await ask(proxy))[1]


async def test_E03_a_key_that_is_taken_back_is_refused_by_all_from_one_moment_on(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    class Keyed(Watched):
        async def value(self) -> int:
            async with await RawClient.connect(proxy.port) as client:
                await client.post("/chat", {"messages": [{"role": "user", "content": "hi"}]}, KEY)
                head = await client.read_head()
                await client.read_body()
                return head.status

    KEY = {"Authorization": "Bearer cp-old-0123456789abcdefghijklmnopq"}
    with_key = 'auth: {keys: [{name: old, key: "cp-old-0123456789abcdefghijklmnopq"}]}'
    without = 'auth: {keys: [{name: new, key: "cp-new-0123456789abcdefghijklmnopq"}]}'
    limits = "limits: {auth_failures_per_minute: 0}, reload"
    upstream.decide(answer)
    proxy = await serve(config(upstream.url, 1, more=with_key).replace("reload", limits), *WORKERS, "3")
    async with Keyed(proxy) as watched:
        await watched.has_seen(200)
        proxy.rewrite(config(upstream.url, 2, more=without).replace("reload", limits))
        proxy.signal(signal.SIGHUP)
        await logged(proxy, "config_reloaded")
        await watched.has_seen(401)
    assert {one.value for one in watched.asked} == {200, 401}
    assert watched.stale() == []


PLUGIN = """
import os
from pydantic import BaseModel

def __getattr__(name):
    os._exit(9)
"""


async def test_E02_F06_a_file_that_kills_whoever_loads_it_is_rejected_before_all_have_tried(
    serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    go_on = asyncio.Event()
    upstream.always([*openai_stream(["One", " two"])[:4], Wait(go_on), *openai_stream(["One", " two"])[4:]])
    environment = customized(tmp_path, "")
    site = Path(environment["PYTHONPATH"].split(":")[0])
    (site / "deadly.py").write_text(PLUGIN)
    (site / "deadly-1.dist-info").mkdir()
    (site / "deadly-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1\n")
    (site / "deadly-1.dist-info" / "entry_points.txt").write_text("[proxy.backends]\ndeadly = deadly:KIND\n")
    proxy = await serve(config(upstream.url, 1), *WORKERS, "4", env=environment)
    running = await streaming_in_all(proxy, 1)
    before = await pids(proxy)
    proxy.rewrite(config(upstream.url, 2).replace("openai-compatible", "deadly"))
    proxy.signal(signal.SIGHUP)
    rejected = (await logged(proxy, "config_rejected"))[0]
    assert "2 workers" in rejected["errors"][0]
    async with asyncio.timeout(60):
        while len(died := {line["pid"]: line["how"] for line in lines(proxy, "worker_died")}) < 2:
            await asyncio.sleep(0.02)  # one may be written twice: by a worker that died before it could say so
    assert set(died.values()) == {"exit status 9"}
    await logged(proxy, "listening", 6)
    after = (await until(proxy, generation=1, rejected=True))["workers"]
    assert [row["worker"] for row in after if row["pid"] == before[row["worker"]]] == [3, 4]
    go_on.set()
    ends = [await client.read_body() for client in running]
    assert sum(body.endswith(b"[DONE]\n\n") for body in ends) == sum(client.end != "cut" for client in running) >= 2
    for client in running:
        client.fin()


async def test_E03_F06_a_worker_that_hangs_keeps_a_config_from_nobody_but_for_a_while(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    upstream.decide(answer)
    proxy = await serve(config(upstream.url, 1), *WORKERS, "2")
    hung = (await pids(proxy))[2]
    os.kill(hung, signal.SIGSTOP)
    try:
        proxy.rewrite(config(upstream.url, 2))
        proxy.signal(signal.SIGHUP)
        await asyncio.sleep(1)
    finally:
        os.kill(hung, signal.SIGCONT)
    await until(proxy, generation=2)
    assert b"<2>" in (await ask(proxy))[1]
