"""`chat-proxy serve --workers N`: several processes that look like one, whichever of them dies."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.testing.script import Stall, Steps, Wait, openai_stream
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support.app import Process, openai_config
from tests.support.clients import RawClient
from tests.support.need import cannot_run
from tests.support.workers import (
    ASK,
    BEGUN,
    QUICK,
    REST,
    WORKERS,
    Serve,
    ask,
    children,
    counted,
    counters,
    customized,
    lines,
    logged,
    pids,
    refused,
    requests_in,
    status,
    streaming,
    streaming_in_all,
    until_gone,
)

# -- one address, several processes


async def test_every_worker_answers_and_the_banner_comes_once(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3")
    upstream.always(*openai_stream(["hi"]))
    for _ in range(60):
        assert (await ask(proxy))[1].endswith(b"[DONE]\n\n")
    ends = await logged(proxy, "request_end", 60)
    assert {line["worker"] for line in ends} == {1, 2, 3}
    assert sorted(line["worker"] for line in lines(proxy, "listening")) == [1, 2, 3]
    told = await status(proxy)
    assert [(row["worker"], row["state"], row["generation"]) for row in told["workers"]] == [
        (number, "serving", 1) for number in (1, 2, 3)
    ]
    assert len({row["pid"] for row in told["workers"]} | {proxy.process.pid}) == 4
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code() == 0
    await proxy.read_output()
    assert proxy.printed.count("listening on") == 1


async def test_one_worker_is_one_process(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "1")
    assert children(proxy.process.pid) == []
    assert "workers" not in await status(proxy)
    upstream.play(*openai_stream(["hi"]))
    await ask(proxy)
    assert "worker" not in (await logged(proxy, "request_end"))[0]


async def test_the_parent_is_small_and_sleeps(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2")
    upstream.always(*openai_stream(["hi"]))
    await ask(proxy)
    before, began = woken(proxy.process.pid), time.monotonic()
    for _ in range(100):
        await ask(proxy)
    await asyncio.sleep(2)
    # A ping a second to each of two workers: one wake-up to send, one for each answer. Requests cause none.
    assert woken(proxy.process.pid) - before <= 5 * (time.monotonic() - began) + 5
    resident_kb = int(field(proxy.process.pid, "VmRSS").split()[0])
    assert resident_kb < 35_000
    maps = Path(f"/proc/{proxy.process.pid}/maps").read_text()
    assert "msgspec" not in maps, "application code"
    assert "uvloop" not in maps


def field(pid: int, name: str) -> str:
    return next(
        line.partition(":")[2].strip()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(name + ":")
    )


def woken(pid: int) -> int:
    return int(field(pid, "voluntary_ctxt_switches"))


async def test_an_address_in_use_is_said_even_if_whoever_has_it_would_share(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    first = await serve(openai_config(upstream.url), *WORKERS, "2")
    second = await serve(openai_config(upstream.url), "--port", str(first.port), "--workers", "2", wait=False)
    assert await second.exit_code() == 1
    await second.read_output()
    assert f"127.0.0.1:{first.port}: address already in use" in "".join(second.logged)
    assert "Traceback" not in "".join(second.logged)
    assert second.printed == ""
    assert len((await status(first))["workers"]) == 2


async def test_a_bad_config_is_said_once_and_nobody_listens(serve: Serve) -> None:
    proxy = await serve("backends: {}\nroute: []\n", *WORKERS, "3", wait=False)
    assert await proxy.exit_code() == 1
    await proxy.read_output()
    alone = await serve("backends: {}\nroute: []\n", wait=False)
    await alone.exit_code()
    await alone.read_output()
    assert "".join(proxy.logged) == "".join(alone.logged).replace(alone.config.name, proxy.config.name)
    assert "`route`" in "".join(proxy.logged)


# -- counts


async def test_the_counts_are_those_of_all_whoever_is_asked(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3")
    upstream.always(*openai_stream(["a", "b"]))
    for _ in range(20):
        await asyncio.gather(*(ask(proxy) for _ in range(10)))
    await logged(proxy, "request_end", 200)
    for _ in range(12):
        samples = await counted(proxy, 200)
        assert requests_in(samples) == 200
        assert sum(value for key, value in samples.items() if key[0] == "chat_proxy_stream_end_total") == 200
        durations = {key: value for key, value in samples.items() if key[0].startswith("chat_proxy_request_duration")}
        assert sum(value for key, value in durations.items() if key[0].endswith("_count")) == 200
        assert sum(value for key, value in durations.items() if ("le", "+Inf") in key) == 200
        assert samples[
            "chat_proxy_tokens_total",
            ("backend", "far"),
            ("direction", "out"),
            ("key", "anonymous"),
            ("model", "scripted-1"),
        ]
    upstream.play(*BEGUN, Stall(), times=9)
    clients = [await streaming(proxy) for _ in range(9)]
    for _ in range(6):
        told = await status(proxy)
        assert told["active"] == sum(row["active"] for row in told["workers"]) == 9
        text = (await ask(proxy, "/metrics", None))[1].decode()
        assert "\nchat_proxy_active_streams 9.0\n" in text
        assert "\nchat_proxy_config_generation 1.0\n" in text
        assert "\nchat_proxy_workers 3.0\n" in text
    for client in clients:
        client.rst()


async def test_F06_a_worker_that_hangs_delays_the_counts_and_does_not_undo_them(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2")
    upstream.always(*openai_stream(["hi"]))
    for _ in range(30):
        await ask(proxy)
    await logged(proxy, "request_end", 30)
    before = await counted(proxy, 30)
    hung = (await pids(proxy))[1]
    # Connections that the kernel gave to the hung worker wait for it: ask until the other has one.
    os.kill(hung, signal.SIGSTOP)
    try:
        told, after = await answered(proxy, "/status"), await answered(proxy, "/metrics")
    finally:
        os.kill(hung, signal.SIGCONT)
    assert [row["state"] for row in json.loads(told)["workers"]] == ["silent", "serving"]
    assert b'chat_proxy_requests_total{backend="far",contract="chat",route="default",status="200"} 30.0' in after
    assert requests_in(before) == 30


async def answered(proxy: Process, path: str) -> bytes:
    """Of many that ask over connections of their own, the first answer."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await RawClient.connect(proxy.port)) for _ in range(24)]
        for client in clients:
            await client.get(path)

        async def read(client: RawClient) -> bytes:
            await client.read_head()
            return await client.read_body()

        tasks = [asyncio.create_task(read(client)) for client in clients]
        done, waiting = await asyncio.wait(tasks, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return done.pop().result()


# -- stopping


async def test_F01_one_signal_drains_all_and_no_worker_says_ready_after_another_said_no(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url, server="{drain_s: 8}"), *WORKERS, "3")
    go_on = asyncio.Event()
    upstream.always(BEGUN, Wait(go_on), REST)
    running = await streaming_in_all(proxy, 2)
    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    said_no = False
    try:
        while not said_no or time.monotonic() - began < 0.7:
            code = (await ask(proxy, "/readyz", None))[0]
            assert code == 503 or not said_no
            said_no = code == 503
        running.append(await streaming(proxy))  # a balancer that has not looked yet
    except ConnectionError:  # a machine that was too busy to ask within the second
        assert time.monotonic() - began > 0.9, "it stopped listening too soon"
    await refused(proxy.port)
    go_on.set()
    for client in running:
        assert (await client.read_body()).endswith(b"[DONE]\n\n")
        assert client.end == "final chunk"
        client.fin()
    assert await proxy.exit_code() == 0
    assert {line["end"] for line in lines(proxy, "request_end")} == {"done"}
    assert sorted(line["worker"] for line in lines(proxy, "stopped")) == [1, 2, 3]


async def test_F02_answers_longer_than_the_drain_end_with_an_error_frame_in_every_worker(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url, server="{drain_s: 1.2}"), *WORKERS, "2")
    upstream.always(BEGUN, Stall())
    running = await streaming_in_all(proxy, 2)
    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    for client in running:
        assert b"event: error\ndata:The server is stopping" in await client.read_body()
        assert client.end == "final chunk"
        client.fin()
    assert await proxy.exit_code() == 0
    assert 1.1 <= time.monotonic() - began < 1.2 + 20


async def test_F01_ctrl_c_reaches_the_whole_group_and_is_one_signal_and_the_next_is_the_second(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3", own_group=True)
    go_on = asyncio.Event()
    upstream.always(BEGUN, Wait(go_on), REST)
    running = await streaming_in_all(proxy, 1)
    os.killpg(proxy.process.pid, signal.SIGINT)
    await refused(proxy.port)
    await asyncio.sleep(0.5)  # had it been two signals, the answers would be over by now
    go_on.set()
    finishing, others = running[:4], running[4:]
    for client in finishing:
        assert (await client.read_body()).endswith(b"[DONE]\n\n")
    for client in others:
        assert (await client.read_body()).endswith(b"[DONE]\n\n")
    for client in running:
        client.fin()
    assert await proxy.exit_code() == 0


async def test_F01_a_second_ctrl_c_ends_all_at_once(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3", own_group=True)
    upstream.always(BEGUN, Stall())
    running = await streaming_in_all(proxy, 1)
    os.killpg(proxy.process.pid, signal.SIGINT)
    await refused(proxy.port)
    again = time.monotonic()
    os.killpg(proxy.process.pid, signal.SIGINT)
    for client in running:
        assert b"event: error\ndata:The server is stopping" in await client.read_body()
        client.fin()
    assert await proxy.exit_code() == 0
    assert time.monotonic() - again < 25


@pytest.mark.parametrize("delay_s", [0.05, 0.2, 0.4, 0.8])
async def test_F01_a_signal_while_workers_start_leaves_no_mess(
    serve: Serve, upstream: ScriptedUpstream, delay_s: float
) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3", wait=False)
    await asyncio.sleep(delay_s)
    started = children(proxy.process.pid)
    proxy.signal(signal.SIGTERM)
    code = await proxy.exit_code()
    said = "".join(proxy.logged)
    assert code in {0, -signal.SIGTERM} or (code, said.strip()) == (1, "Aborted!"), said
    assert "Traceback" not in said
    await until_gone(*started)


async def test_F01_a_signal_during_an_import_is_not_lost(serve: Serve, tmp_path: Path) -> None:
    """Python ignores an exception in a destructor, and imports run some: a signal's handler must not rely on one."""
    code = (
        "import os, signal, sys\n"
        "class Dying:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "class Finder:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'proxy.workers': Dying()\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    config = "backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n"
    proxy = await serve(config, *WORKERS, "2", env=customized(tmp_path, code), wait=False)
    assert await proxy.exit_code(within=60) == 0


async def test_F07_workers_whose_parent_was_killed_drain_and_go(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3")
    go_on = asyncio.Event()
    upstream.always(BEGUN, Wait(go_on), REST)
    running = await streaming_in_all(proxy, 2)
    workers = (await pids(proxy)).values()
    proxy.signal(signal.SIGKILL)
    killed = time.monotonic()
    try:
        async with asyncio.timeout(60):
            while (await ask(proxy, "/readyz", None))[0] != 503:
                pass
        code, _ = await ask(proxy, "/metrics", None)
        assert code == 503, "a part of the counts would look as if the rest was undone"
    except ConnectionError:  # a machine that was too busy to ask within the second
        assert time.monotonic() - killed > 0.9, "they stopped listening too soon"
    await refused(proxy.port)
    go_on.set()
    for client in running:
        assert (await client.read_body()).endswith(b"[DONE]\n\n")
        client.fin()
    await until_gone(*workers)
    assert len(await logged(proxy, "parent_gone", 3)) == 3


async def test_F06_a_worker_that_hangs_is_killed_after_the_second_signal_and_the_exit_tells(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2")
    os.kill((await pids(proxy))[1], signal.SIGSTOP)
    proxy.signal(signal.SIGTERM)
    await logged(proxy, "draining")
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code() == 1
    await proxy.read_output()
    assert any(line.startswith("worker 1 ") and "SIGKILL" in line for line in proxy.logged)


# -- dying


async def test_F06_a_worker_that_is_killed_is_replaced_and_nobody_else_notices(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "3")
    go_on = asyncio.Event()

    def answer(seen: Seen) -> Steps:
        if seen.json()["messages"] == ASK["messages"]:
            return [*BEGUN, Wait(go_on), *REST]
        return openai_stream([f"{number} " for number in range(5)], gap_s=0.01)

    upstream.decide(answer)
    history: list[dict[tuple[Any, ...], float]] = []
    stop = asyncio.Event()
    cut = 0

    async def load() -> None:
        nonlocal cut
        while not stop.is_set():
            try:
                code, body = await ask(proxy, body=QUICK)
            except ConnectionError:
                cut += 1  # it was in the hands, or in the queue, of the one that died
            else:
                assert code == 200
                if not body.endswith(b"[DONE]\n\n"):
                    cut += 1

    async def scrape() -> None:
        while not stop.is_set():
            with contextlib.suppress(ConnectionError):
                history.append(await counters(proxy))
            await asyncio.sleep(0.02)

    running = await streaming_in_all(proxy, 1)
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(load())
        group.create_task(scrape())
        async with asyncio.timeout(60):
            while len(history) < 5:
                await asyncio.sleep(0.02)
        victims = await pids(proxy)
        os.kill(victims[2], signal.SIGKILL)
        died = await logged(proxy, "worker_died")
        await logged(proxy, "listening", 4)
        seen = len(history)
        async with asyncio.timeout(60):
            while len(history) < seen + 5:
                await asyncio.sleep(0.02)
        stop.set()
    assert [(line["worker"], line["pid"], line["how"], line["level"]) for line in died] == [
        (2, victims[2], "killed by SIGKILL", "error")
    ]
    successor = await pids(proxy)
    assert {number: pid for number, pid in successor.items() if number != 2} == {1: victims[1], 3: victims[3]}
    assert successor[2] != victims[2]
    assert cut < 40
    go_on.set()
    ends = [(await client.read_body()).endswith(b"[DONE]\n\n") for client in running]
    assert ends.count(False) == sum(client.end == "cut" for client in running) > 0
    assert ends.count(True) >= 2, "those of the others go on"
    for client in running:
        client.fin()
    for earlier, later in itertools.pairwise(history):
        back = {key: (value, later.get(key)) for key, value in earlier.items() if later.get(key, -1) < value}
        assert back == {}
    assert requests_in(history[-1]) > requests_in(history[0])
    assert (await status(proxy))["worker_restarts"] == 1


async def test_F06_a_worker_that_dies_at_every_start_ends_it_all_with_a_message(
    serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    code = "import os, sys\nif 'proxy.workers' in sys.orig_argv:\n    os._exit(7)\n"
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2", env=customized(tmp_path, code), wait=False)
    assert await proxy.exit_code() == 1
    await proxy.read_output()
    said = "".join(proxy.logged)
    assert re.fullmatch(r"worker [12] .*\b5\b.*\b7\n", said)
    assert proxy.printed == ""


async def test_F06_a_machine_without_room_for_another_process_is_waited_for(
    serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    code = (
        "import errno, os, subprocess\n"
        "fork = subprocess._fork_exec\n"
        "def fork_if_there_is_room(*args):\n"
        f"    if os.path.exists({str(full)!r}):\n"
        "        raise BlockingIOError(errno.EAGAIN, 'Resource temporarily unavailable')\n"
        "    return fork(*args)\n"
        "subprocess._fork_exec = fork_if_there_is_room\n"
    )
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2", env=customized(tmp_path, code))
    await logged(proxy, "listening", 2)  # one that is killed before its line is written is not counted below
    full.touch()
    os.kill((await pids(proxy))[1], signal.SIGKILL)
    died = await logged(proxy, "worker_died", 3)
    for line, fact in zip(died, ["SIGKILL", *["Resource temporarily unavailable"] * 2], strict=True):
        assert fact in line["how"]
    full.unlink()
    await logged(proxy, "listening", 3)
    assert sorted(await pids(proxy)) == [1, 2]


@pytest.mark.heavy
async def test_F06_a_successor_that_cannot_start_is_tried_for_half_a_minute_while_the_others_serve(
    serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    no_more = tmp_path / "no-more"
    code = (
        "import os, sys\n"
        f"if 'proxy.workers' in sys.orig_argv and os.path.exists({str(no_more)!r}):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    upstream.always(*openai_stream(["hi"]))
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2", env=customized(tmp_path, code))
    no_more.touch()
    began = time.monotonic()
    os.kill((await pids(proxy))[1], signal.SIGKILL)
    died = await logged(proxy, "worker_died", 10)
    assert (await ask(proxy))[1].endswith(b"[DONE]\n\n")
    pauses = [line["again_in_s"] for line in died]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]
    assert await proxy.exit_code() == 1
    assert time.monotonic() - began > 25
    await proxy.read_output()
    assert re.fullmatch(r"worker 1 .*\b10\b.*\bSIGKILL\n", proxy.logged[-1])


async def test_F07_a_worker_without_a_parent_ends_at_a_signal_of_its_own(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url), *WORKERS, "2")
    upstream.always(BEGUN, Stall())
    running = await streaming_in_all(proxy, 1)
    workers = (await pids(proxy)).values()
    for pid in workers:
        os.kill(pid, signal.SIGTERM)  # it has a parent: this is not for it
    assert (await ask(proxy, "/readyz", None))[0] == 200
    proxy.signal(signal.SIGKILL)
    await logged(proxy, "parent_gone", 2)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for client in running:
        assert b"event: error\ndata:The server is stopping" in await client.read_body()
        client.fin()
    await until_gone(*workers)  # the drain alone would take 30 s


# -- surroundings


async def test_F05_as_pid_1_it_reaps_what_others_leave_behind_and_drains(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("nsenter"):
        cannot_run("needs root, unshare and nsenter")
    within = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    proxy = await serve(openai_config(upstream.url, server="{drain_s: 8}"), *WORKERS, "2", within=within)
    (parent,) = children(proxy.process.pid)
    assert field(parent, "NSpid").split()[-1] == "1"
    go_on = asyncio.Event()
    upstream.always(BEGUN, Wait(go_on), REST)

    leave_one = ["nsenter", "--target", str(parent), "--pid", "sh", "-c", "sleep 0.3 & exit"]
    await (await asyncio.create_subprocess_exec(*leave_one)).wait()
    assert len(children(parent)) == 3, "an orphan, adopted"
    async with asyncio.timeout(60):
        while len(children(parent)) > 2:  # a zombie would be one of them
            await asyncio.sleep(0.02)

    os.kill(children(parent)[0], signal.SIGKILL)
    await logged(proxy, "listening", 3)
    running = await streaming_in_all(proxy, 1)
    os.kill(parent, signal.SIGTERM)
    await refused(proxy.port)
    go_on.set()
    for client in running:
        assert (await client.read_body()).endswith(b"[DONE]\n\n")
        client.fin()
    assert await proxy.exit_code() == 0


async def test_log_lines_are_whole_however_long_they_are_and_however_slowly_they_are_read(
    tmp_path: Path,
) -> None:
    """A pipe takes 4 KiB whole; lines here are longer, and two processes write them to a pipe that is always full."""
    config = tmp_path / "config.yaml"
    config.write_text("backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n")
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "-c", str(config), *WORKERS, "2",
        stdout=asyncio.subprocess.PIPE, stderr=write,
    )  # fmt: skip
    os.close(write)
    proxy = Process(process, config)
    said: list[bytes] = []

    def read_slowly() -> None:
        while piece := os.read(read, 3000):
            said.append(piece)
            time.sleep(0.0005)

    proxy.keeping = asyncio.create_task(asyncio.to_thread(read_slowly))
    await proxy.wait_until_listening()
    odd = {**ASK, "model": "\N{SNOWMAN}" * 2000}
    for _ in range(20):
        await asyncio.gather(*(ask(proxy, body=odd) for _ in range(8)))
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code() == 0
    os.close(read)
    await process.stdout.read()
    process._transport.close()
    told = [json.loads(line) for line in b"".join(said).splitlines()]
    assert max(map(len, b"".join(said).splitlines())) > 5000
    ends = [line for line in told if line["event"] == "request_end"]
    assert len(ends) == 160
    assert {line["worker"] for line in ends} == {1, 2}
