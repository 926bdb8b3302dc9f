"""Group C: clients that leave, stall, drip and break the rules. The upstream is let go, neighbours notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import time
import tracemalloc
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from proxy.server.listener import Connection
from proxy.testing.script import (
    Rst,
    Send,
    Stall,
    Steps,
    Wait,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream, Seen, eventually
from tests.support.app import Running, StartProxy, at_rest, openai_config
from tests.support.clients import RawClient, request_bytes

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
PATHS = ["/chat", "/v1/chat/completions"]
LEAVES: list[Callable[[RawClient], None]] = [RawClient.fin, RawClient.rst, RawClient.half_close]
BEGUN = openai_stream(["One", " two"])[:4]

paths = pytest.mark.parametrize("path", PATHS)
leaves = pytest.mark.parametrize("leave", LEAVES, ids=["FIN", "RST", "half-close"])

ECHO = """
    server: {server}
    backends: {{echo: {{kind: echo}}}}
    routes: [{{name: default, to: echo}}]
"""


def echo(server: str = "{}") -> str:
    return ECHO.format(server=server)


async def whole_stream(proxy: Running, path: str = "/chat") -> bytes:
    """A good client's answer, to its end."""
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        head = await client.read_head()
        assert head.status == 200
        body = await client.read_body()
        assert client.end == "final chunk"
        return body


@pytest.fixture
def tracebacks(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What was logged with a traceback so far: nothing, for a client that merely left."""
    return lambda: (
        [one.message for one in caplog.records if one.exc_info]
        + re.findall(r".*Traceback|request_failed.*", "".join(capfd.readouterr()))
    )


# -- C01, C02, C03: leaving


@paths
@leaves
async def test_C01_a_client_that_leaves_in_the_middle_closes_the_upstream(
    start_proxy: StartProxy,
    upstream: ScriptedUpstream,
    path: str,
    leave: Callable[[RawClient], None],
    tracebacks: Callable[[], list[str]],
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(BEGUN, Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        await client.read_head()
        await client.read_until(b" two")
        leave(client)
        await upstream.peer_gone(1)
    [record] = await proxy.ended()
    assert (record.end, record.final_status) == ("client_gone", 499)
    assert record.usage is not None
    assert record.usage.estimated
    assert tracebacks() == []


async def test_C01_the_upstream_is_closed_within_a_quarter_of_a_second(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    """The quickest of several: the machine may be busy with other things, and one slow time says nothing."""
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(BEGUN, Stall())
    took = 1.0
    for number in range(1, 21):
        async with await RawClient.connect(proxy.port) as client:
            await client.post("/chat", ASK)
            await client.read_until(b" two")
            left = time.monotonic()
            client.rst()
            closed = await upstream.peer_gone(number)
        if (took := min(took, closed[-1].at - left)) < 0.25:
            break
    assert took < 0.25


@paths
async def test_C01_a_client_that_resets_while_tokens_flow_closes_the_upstream(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, tracebacks: Callable[[], list[str]]
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(Send(sse_head()), Send(event(openai_chunk({"content": "x" * 500})), times=10**6))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        await client.read_head()
        for _ in range(20):
            await client.read_chunk()
        client.rst()
        await upstream.peer_gone(1)
    assert await proxy.end_reason() == "client_gone"
    assert tracebacks() == []


SILENT: dict[str, list[Steps]] = {
    "before the status": [Stall()],
    "after the head": [Send(sse_head()), Stall()],
    "after the role": [openai_stream([])[:2], Stall()],
}


@paths
@leaves
@pytest.mark.parametrize("silence", SILENT)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_C02_a_client_that_leaves_before_the_first_event_closes_the_upstream(
    start_proxy: StartProxy,
    upstream: ScriptedUpstream,
    path: str,
    leave: Callable[[RawClient], None],
    silence: str,
    stream: bool,
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*SILENT[silence])
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {**ASK, "stream": stream})
        await upstream.received(1)
        leave(client)
        await upstream.peer_gone(1)
    [record] = await proxy.ended()
    assert (record.end, record.final_status) == ("client_gone", 499)


@paths
async def test_C02_an_unstreamed_answer_under_way_is_let_go_with_its_client(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(BEGUN, Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {**ASK, "stream": False})
        await upstream.received(1)
        client.fin()
        await upstream.peer_gone(1)
    assert await proxy.end_reason() == "client_gone"


@paths
@leaves
async def test_C03_nobody_is_asked_for_a_client_that_has_left(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, leave: Callable[[RawClient], None]
) -> None:
    far = f'{{kind: openai-compatible, base_url: "{upstream.url}"}}'
    proxy = await start_proxy(
        f"backends: {{a: {far}, b: {far}, c: {far}}}\nroutes: [{{name: d, to: [a/m, b/m, c/m], timeouts: {{first_token_s: 180}}}}]"
    )
    upstream.play(Rst())
    upstream.always(Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        await upstream.received(2)
        leave(client)
        await upstream.peer_gone(1)
    [record] = await proxy.ended()
    assert record.end == "client_gone"
    assert [(tried.backend, tried.outcome) for tried in record.attempts] == [
        ("a", "upstream_truncated"),
        ("b", "client_gone"),
    ]
    await at_rest(proxy.app)
    assert len(upstream.requests) == 2


async def test_C03_connecting_stops_when_the_client_leaves(start_proxy: StartProxy) -> None:
    """An upstream whose queue of connections is full, so that the handshake is never answered."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = full.getsockname()[1]
    waiting = socket.create_connection(("127.0.0.1", port))
    proxy = await start_proxy(
        openai_config(f"http://127.0.0.1:{port}/v1", timeouts="{connect_s: 60, first_token_s: 60}")
    )
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", ASK)
        await client.read_head()
        client.fin()
        assert await proxy.end_reason() == "client_gone"
    waiting.close()
    full.close()


async def storm(start_proxy: StartProxy, upstream: ScriptedUpstream, clients: int, *, at_once: int = 50) -> Running:
    """Many clients that leave at random moments, each in its own way; then all is quiet and one more is served."""
    dice = random.Random(7)
    proxy = await start_proxy(openai_config(upstream.url, server="{limits: {write_stall_s: 5}}"))

    def answer(seen: Seen) -> Steps:
        if b"last" in seen.body:
            return openai_stream(["One", " two"])
        return openai_stream(["One", " two"] * 20, gap_s=0.002) if dice.random() < 0.8 else [BEGUN, Stall()]

    upstream.decide(answer)
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate, await RawClient.connect(proxy.port) as client:
            await client.post(PATHS[number % 2], {**ASK, "stream": number % 5 > 0})
            await asyncio.sleep(dice.random() * 0.08)
            (client.fin, client.rst)[number % 2]()

    await asyncio.gather(*(one(number) for number in range(clients)))
    await at_rest(proxy.app)
    await eventually(lambda: proxy.server.open_connections == 0)
    # On a busy machine many leave before their request is read: those have asked for nothing.
    records = await proxy.ended(clients // 2)
    assert {record.end for record in records} <= {"client_gone", "done"}
    assert sum(record.end == "client_gone" for record in records) > clients / 4
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", {**ASK, "messages": [{"role": "user", "content": "last"}]})
        await client.read_head()
        assert await client.read_body() == b"data:One\n\ndata: two\n\nevent: done\ndata:[DONE]\n\n"
    return proxy


async def test_C01_C07_after_a_storm_of_leaving_clients_nothing_is_left(
    start_proxy: StartProxy, upstream: ScriptedUpstream, tracebacks: Callable[[], list[str]]
) -> None:
    await storm(start_proxy, upstream, 300)
    assert tracebacks() == []


@pytest.mark.heavy
async def test_C01_C07_after_a_great_storm_nothing_is_left(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    await storm(start_proxy, upstream, 2000, at_once=500)


# -- C04: not reading


ENDLESS = [Send(sse_head()), Send(event(openai_chunk({"content": "x" * 1000})), times=10**6)]


@paths
async def test_C04_a_client_that_reads_nothing_holds_the_upstream_back_and_is_cut(
    start_proxy: StartProxy, path: str, tracebacks: Callable[[], list[str]]
) -> None:
    async with ScriptedUpstream(send_buffer=65536) as upstream:
        proxy = await start_proxy(openai_config(upstream.url, server="{limits: {write_stall_s: 0.6, answer_mb: 500}}"))
        upstream.play(*ENDLESS)
        tracemalloc.start()
        try:
            async with await RawClient.connect(proxy.port, receive_buffer=8192) as client:
                await client.post(path, ASK)
                await upstream.stuck()
                assert tracemalloc.get_traced_memory()[1] < 2_000_000
                assert await proxy.end_reason() == "client_slow"
                await upstream.peer_gone(1)
                assert await client.closed() == "RST", "what is buffered is of no use to it"
        finally:
            tracemalloc.stop()
    assert tracebacks() == []


async def test_C04_the_kernel_does_not_cut_it_first_when_the_proxy_is_late(start_proxy: StartProxy) -> None:
    """The kernel's cut would be recorded as a client that left. A busy machine is imitated by a loop that stands still."""
    async with ScriptedUpstream(send_buffer=65536) as upstream:
        proxy = await start_proxy(openai_config(upstream.url, server="{limits: {write_stall_s: 0.2, answer_mb: 500}}"))
        upstream.play(*ENDLESS)
        async with await RawClient.connect(proxy.port, receive_buffer=8192) as client:
            await client.post("/chat", ASK)
            await upstream.stuck()
            time.sleep(1.5)
            assert await proxy.end_reason() == "client_slow"


async def test_C04_one_that_reads_slowly_is_served_however_long_it_takes(start_proxy: StartProxy) -> None:
    """Slower than what the kernel tells us in time, and than the upstream's own timer: neither is the client's fault."""
    async with ScriptedUpstream(send_buffer=65536) as upstream:
        limits = "{limits: {write_stall_s: 1, answer_mb: 500}}"
        proxy = await start_proxy(openai_config(upstream.url, server=limits, timeouts="{token_gap_s: 0.8}"))
        upstream.always(*ENDLESS)
        for _ in range(5):
            longest, cut = await read_slowly(proxy, for_s=3.5)
            if not cut:
                break
            # Only a machine that was too busy for it to read is an excuse.
            assert longest > 0.5, f"it was cut ({cut}) while it read: {proxy.records}"
        assert not cut
        assert (await proxy.ended())[-1].end == "client_gone"


async def read_slowly(proxy: Running, *, for_s: float) -> tuple[float, str]:
    """Read a little again and again. Returns the longest pause between two reads, and how it was cut, if it was."""
    async with await RawClient.connect(proxy.port, receive_buffer=8192) as client:
        await client.post("/chat", ASK)
        await client.read_head()
        longest, last = 0.0, time.monotonic()
        until = last + for_s
        while last < until:
            if not await client.read_some(2048):
                return longest, client.gone
            await asyncio.sleep(0.05)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest, ""


async def test_C04_neighbours_of_a_stalled_client_notice_nothing(start_proxy: StartProxy) -> None:
    async with ScriptedUpstream(send_buffer=65536) as upstream:
        proxy = await start_proxy(openai_config(upstream.url, server="{limits: {answer_mb: 500}}"))
        upstream.play(*ENDLESS)
        async with await RawClient.connect(proxy.port, receive_buffer=8192) as stalled:
            await stalled.post("/chat", ASK)
            await upstream.stuck()
            upstream.play(*openai_stream(["x"] * 40, gap_s=0.01))
            assert (await whole_stream(proxy)).endswith(b"event: done\ndata:[DONE]\n\n")


async def test_C04_a_whole_answer_that_nobody_takes_is_cut_too(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.listener.LATE_MS", 0)  # the kernel cuts it
    proxy = await start_proxy(openai_config(upstream.url, server="{limits: {write_stall_s: 0.3}}"))
    choice = {"index": 0, "message": {"role": "assistant", "content": "x" * 8_000_000}, "finish_reason": "stop"}
    upstream.play(*json_reply(200, {"id": "x", "choices": [choice]}))
    async with await RawClient.connect(proxy.port, receive_buffer=8192) as client:
        await client.post("/v1/chat/completions", {**ASK, "stream": False})
        await proxy.ended()
        await eventually(lambda: proxy.server.open_connections == 0)


@pytest.mark.heavy
async def test_C04_two_hundred_stalled_clients_cost_a_megabyte_each(start_proxy: StartProxy) -> None:
    """In all: what was read ahead, the batch in hand, what was encoded of it, and this harness's own."""
    async with ScriptedUpstream(send_buffer=65536) as upstream, contextlib.AsyncExitStack() as stack:
        proxy = await start_proxy(openai_config(upstream.url, server="{limits: {write_stall_s: 10, answer_mb: 500}}"))
        upstream.always(*ENDLESS)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(200):
            client = await stack.enter_async_context(await RawClient.connect(proxy.port, receive_buffer=8192))
            await client.post("/chat", ASK)
        await upstream.received(200)
        await upstream.stuck()
        assert tracemalloc.get_traced_memory()[1] < 200 * 1_200_000
        records = await proxy.ended(200)
        assert {record.end for record in records} == {"client_slow"}


# -- C06: slow and many


async def test_C06_slow_headers_are_answered_408_while_others_are_served(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo("{limits: {header_s: 2}}"))  # the good client's, too
    request = request_bytes("POST", "/chat", ASK, {"x-long": "x" * 3000})  # a minute and a half, dripping
    slow = [await RawClient.connect(proxy.port) for _ in range(20)]
    dripping = [asyncio.create_task(client.drip(request, pause_s=0.03)) for client in slow]
    began = time.monotonic()
    assert (await whole_stream(proxy)).endswith(b"event: done\ndata:[DONE]\n\n")
    for client in slow:
        head = await client.read_head()
        assert (head.status, head["connection"]) == (408, "close")
        assert json.loads(await client.read_body())["error"]["code"] == "request_timeout"
        await client.closed()
        client.fin()
    assert time.monotonic() - began < 30
    await asyncio.gather(*dripping, return_exceptions=True)


async def test_C06_half_a_head_and_then_silence_is_answered_408(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo("{limits: {header_s: 0.3}}"))
    clients = [await RawClient.connect(proxy.port) for _ in range(20)]
    for client in clients:
        await client.send(b"POST /chat HTTP/1.1\r\nHost: x\r\n")
    for client in clients:
        assert (await client.read_head()).status == 408
        client.fin()


async def test_C06_slow_headers_of_a_second_request_are_timed_too(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", ASK)
        await client.read_head()
        await client.read_body()
        await client.send(b"POST /chat HTTP/1.1\r\nHost: x\r\n")
        await head_is_late(proxy)
        assert (await client.read_head()).status == 408
        await client.closed()


async def test_C06_a_body_that_comes_after_its_head_is_not_taken_for_the_next_head(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        for number in range(2):
            whole = request_bytes("POST", "/chat", ASK)
            end = whole.index(b"\r\n\r\n") + 4
            await client.send(whole[:end])
            await eventually(lambda: [one.heads for one in proxy.server.connections] == [number + 1])  # noqa: B023
            await client.send(whole[end:])
            assert (await client.read_head()).status == 200
            await client.read_body()
            assert not only_connection(proxy).reads_head, "it may be idle now"


def only_connection(proxy: Running) -> Connection:
    (connection,) = proxy.server.connections
    assert isinstance(connection, Connection)
    return connection


async def head_is_late(proxy: Running) -> None:
    """The time for the head that has begun to come is over now."""
    await eventually(lambda: only_connection(proxy).reads_head)
    connection = only_connection(proxy)
    connection._head_timer.cancel()
    connection._head_too_slow()


async def test_C06_slow_headers_that_begin_during_an_answer_are_timed_from_its_end_on(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    go_on = asyncio.Event()
    steps = openai_stream("ab")
    upstream.play(*steps[:3], Wait(go_on), *steps[3:])
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", ASK)
        await client.read_head()
        await client.send(b"POST /chat HTTP/1.1\r\nHost: x\r\n")
        await head_is_late(proxy)  # the answer is not cut for it
        go_on.set()
        assert (await client.read_body()).endswith(b"event: done\ndata:[DONE]\n\n")
        await head_is_late(proxy)
        assert (await client.read_head()).status == 408
        await client.closed()


async def test_C06_half_a_head_behind_a_request_holds_its_connection_no_longer_than_idling(
    start_proxy: StartProxy,
) -> None:
    proxy = await start_proxy(echo("{limits: {header_s: 2, idle_s: 2}}"))
    async with await RawClient.connect(proxy.port) as client:
        await client.send(request_bytes("POST", "/chat", ASK) + b"POST /chat HTTP/1.1\r\nHost: x\r\n")
        await client.read_head()
        await client.read_body()
        assert await client.closed() == "FIN"


@paths
async def test_C06_a_slow_body_is_answered_408(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy(echo("{limits: {body_s: 0.3}}"))
    request = request_bytes("POST", path, ASK)
    async with await RawClient.connect(proxy.port) as client:
        await client.send(request[:-20])
        head = await client.read_head()
        assert (head.status, head["connection"]) == (408, "close")
        assert b"request_timeout" in await client.read_body()
        await client.closed()
    assert (await proxy.ended())[0].end == "rejected"


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
async def test_C06_idle_connections_are_closed(start_proxy: StartProxy, used: bool) -> None:
    idle_s = 1 if used else 0.3
    proxy = await start_proxy(echo(f"{{limits: {{idle_s: {idle_s}}}}}"))
    began = time.monotonic()
    async with await RawClient.connect(proxy.port) as client:
        if used:
            await client.get("/healthz")
            await client.read_head()
            await client.read_body()
        assert await client.closed() == "FIN"
        assert time.monotonic() - began > 0.9 * idle_s


@pytest.mark.parametrize("cap", ["connections", "connections_per_peer"])
async def test_C06_connections_past_the_cap_are_refused_until_there_is_room(
    start_proxy: StartProxy, upstream: ScriptedUpstream, cap: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server=f"{{limits: {{{cap}: 5}}}}"))
    upstream.play(BEGUN, Stall(), times=5)
    held = [await answering(proxy.port) for _ in range(5)]
    async with await RawClient.connect(proxy.port) as refused:
        await refused.closed()
    held.pop().fin()
    await eventually(lambda: proxy.server.open_connections == 4)
    upstream.play(*openai_stream(["One"]))
    assert (await whole_stream(proxy)).endswith(b"event: done\ndata:[DONE]\n\n")
    for client in held:
        client.fin()


async def answering(port: int, path: str = "/chat") -> RawClient:
    """A client in the middle of its answer."""
    client = await RawClient.connect(port)
    await client.post(path, ASK)
    await client.read_head()
    await client.read_until(b" two")
    return client


IDLE = {
    "never used": b"",
    "used": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a head": b"GET /healthz HTTP/1.1\r\nHost:",
    "half a second head": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nPOST /chat",
}


@pytest.mark.parametrize("sent", IDLE.values(), ids=IDLE)
@pytest.mark.parametrize("port", ["port", "ollama_port"])
async def test_A1_idle_connections_of_one_address_shut_out_nobody(
    start_proxy: StartProxy, upstream: ScriptedUpstream, port: str, sent: bytes
) -> None:
    """Those who hold few keep them, and who holds the most can still connect."""
    proxy = await start_proxy(openai_config(upstream.url, server="{ollama_port: 0, limits: {connections: 8}}"))
    upstream.play(BEGUN, Stall())
    upstream.always(*openai_stream(["One"]))
    busy = await answering(proxy.port)
    async with busy, await RawClient.connect(proxy.port) as kept:
        await kept.get("/healthz")
        assert (await kept.read_head()).status == 200
        await kept.read_body()
        many = []
        for _ in range(12):
            many.append(await RawClient.connect(getattr(proxy, port), source="127.0.0.2"))
            await many[-1].send(sent)
            if sent.startswith(IDLE["used"]):
                assert (await many[-1].read_head()).status == 200
                await many[-1].read_body()
        await eventually(lambda: proxy.server.open_connections == 8)
        assert (await whole_stream(proxy)).endswith(b"event: done\ndata:[DONE]\n\n")
        await kept.get("/readyz")
        assert (await kept.read_head()).status == 200
        assert not busy.gone
        assert len(proxy.app.active) == 1
        for client in many:
            client.fin()


# -- C08: the corners of HTTP


@paths
async def test_C08_a_body_that_is_too_large_is_not_asked_for(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy(echo("{limits: {body_mb: 1}}"))
    headers = {"Content-Type": "application/json", "Content-Length": "1000001", "Expect": "100-continue"}
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, b"", headers)
        head = await client.read_head()
        assert (head.status, head["connection"]) == (413, "close")
        assert b"request_too_large" in await client.read_body()


@paths
async def test_C08_a_body_that_is_welcome_is_asked_for(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy(echo())
    body = json.dumps(ASK).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Expect": "100-Continue"}
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, b"", headers)
        assert (await client.read_head()).status == 100
        await client.send(body)
        assert (await client.read_head()).status == 200
        assert b"hi" in await client.read_body()


async def test_C08_a_refusal_instead_of_100_ends_the_connection(start_proxy: StartProxy) -> None:
    """Whether the body still comes is the client's choice, so what follows could be read as either."""
    proxy = await start_proxy(echo())
    headers = {"Content-Type": "application/json", "Content-Length": "100", "Expect": "100-continue"}
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/nowhere", b"", headers)
        head = await client.read_head()
        assert (head.status, head["connection"]) == (404, "close")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/chat", "OPTIONS, POST"),
        ("HEAD", "/chat", "OPTIONS, POST"),
        ("PUT", "/v1/chat/completions", "OPTIONS, POST"),
        ("DELETE", "/v1/models", "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("POST", "/metrics", "GET, HEAD, OPTIONS"),
    ],
)
async def test_C08_a_wrong_method_is_told_the_right_ones(
    start_proxy: StartProxy, method: str, path: str, allow: str
) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        await client.request(method, path)
        head = await client.read_head()
        assert (head.status, head["allow"]) == (405, allow)
        await client.read_body()
        await client.get("/healthz")
        assert (await client.read_head()).status == 200, "the connection goes on"


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/status", "/metrics"])
async def test_C08_head_is_get_without_the_body(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        await client.request("HEAD", path)
        head = await client.read_head()
        assert head.status == 200
        await client.get("/healthz")
        assert (await client.read_head()).status == 200, "no body came in between"


async def test_C08_options_is_answered_empty_everywhere(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        for path in ("/chat", "/nowhere", "/metrics", "*"):
            await client.request("OPTIONS", path)
            head = await client.read_head()
            assert head.status == 204
            assert not [name for name in head.headers if name.startswith("access-control")]


async def get_10(proxy: Running, path: str, keep: str = "", ask: Any = ASK) -> tuple[RawClient, Any, bytes]:
    client = await RawClient.connect(proxy.port)
    body = json.dumps(ask).encode()
    await client.send(
        b"POST %b HTTP/1.0\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
        % (path.encode(), keep.encode(), len(body), body)
    )
    head = await client.read_head()
    return client, head, await client.read_body()


@paths
@pytest.mark.parametrize("keep", ["", "Connection: keep-alive\r\n"], ids=["plain", "keep-alive"])
async def test_C08_http_1_0_gets_a_stream_that_ends_with_its_connection(
    start_proxy: StartProxy, path: str, keep: str
) -> None:
    proxy = await start_proxy(echo())
    client, head, body = await get_10(proxy, path, keep)
    async with client:
        assert "transfer-encoding" not in head.headers
        assert head.headers.get("connection", "close") == "close"
        assert client.end == "close"
        assert body.endswith(b"[DONE]\n\n")


@paths
async def test_C08_http_1_0_is_told_of_a_failure_in_the_stream(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(BEGUN, Rst())
    client, _, body = await get_10(proxy, path)
    async with client:
        assert client.end == "close"
        assert b"error" in body
        assert b"[DONE]" not in body


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "whole"])
@pytest.mark.parametrize(
    ("path", "frontends"),
    [("/ai-text", "{}"), ("/own", "{own: {path: /own, response: {framing: raw, token: $text}}}"), ("/chat", "{}")],
    ids=["ai-text", "declared", "chat with frame+abort"],
)
async def test_C08_over_http_1_0_a_bare_text_that_was_cut_ends_in_a_reset(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, frontends: str, cut: bool
) -> None:
    """A close alone is the end of an answer there, so only a reset tells a client that there should be more."""
    config = dedent(openai_config(upstream.url, errors="frame+abort"))
    proxy = await start_proxy(f"{config}\nfrontends: {frontends}")
    text = "x" * 100_000
    answer = openai_stream([text])
    upstream.play(*([*answer[:3], Rst()] if cut else answer))
    client, _, body = await get_10(proxy, path, ask={"messages": ASK["messages"]})
    async with client:
        assert body.count(b"x") == len(text), "nothing of what came before is lost"
        assert client.gone == ("RST" if cut else "FIN")


async def test_C08_pipelined_requests_are_answered_in_order(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo())
    words = [f"word-{number}" for number in range(12)]
    asked = [
        request_bytes("POST", PATHS[number % 2], {**ASK, "messages": [{"role": "user", "content": word}]})
        for number, word in enumerate(words)
    ]
    async with await RawClient.connect(proxy.port) as client:
        await client.send(b"".join(asked))
        for word in words:
            assert (await client.read_head()).status == 200
            body = await client.read_body()
            assert [one for one in words if re.search(rf"{one}\b", body.decode())] == [word]


@pytest.mark.parametrize("size", [1000, 400_000])
async def test_C08_a_body_nobody_wanted_is_thrown_away_and_the_next_request_is_served(
    start_proxy: StartProxy, size: int
) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/nowhere", b"GET /healthz HTTP/1.1\r\n\r\n" * (size // 26))
        assert (await client.read_head()).status == 404
        await client.read_body()
        await client.get("/readyz")
        assert (await client.read_head()).status == 200
        assert await client.read_body() == b'{"status":"ready"}'


async def test_C08_a_body_that_is_refused_and_never_comes_ends_the_connection(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(echo())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/nowhere", b"", {"Content-Length": "1000"})
        assert (await client.read_head()).status == 404
        await client.read_body()
        await client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")  # ... which is the body, as far as anyone knows
        assert await client.closed() == "FIN"
