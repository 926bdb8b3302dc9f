"""Group F: a process that is asked to stop. It says so, finishes what it can, and tells the rest the truth."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time

import pytest

from proxy.testing.script import Send, Stall, Steps, Wait, event, openai_chunk, sse_head
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, openai_config
from tests.support.clients import RawClient
from tests.support.workers import ASK, BEGUN, REST, Serve, refused, streaming

FLOOD: list[Steps] = [Send(sse_head()), Send(event(openai_chunk({"content": "x" * 1000})), times=10**6)]


async def get(proxy: Process, path: str) -> tuple[int, str]:
    async with await RawClient.connect(proxy.port) as client:
        await client.get(path)
        head = await client.read_head()
        await client.read_body()
        return head.status, head.headers.get("connection", "")


def told_of_the_drain(path: str, body: bytes) -> bool:
    """Whether a body ends in the contract's error for it, and nothing says done."""
    assert b"[DONE]" not in body
    if path == "/chat":
        return body.split(b"\n\n")[-2].startswith(b"event: error\ndata:The server is stopping")
    last = body.decode().split("\n\n")[-2]
    data = json.loads(last.partition("data:")[2])
    assert "dialect=json" not in path or data["error"]["retryable"] is True
    return data["error"]["code"] == "draining"


async def test_F01_a_stopping_process_serves_what_it_began_and_what_still_comes(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url, server="{drain_s: 8}"))
    go_on = asyncio.Event()
    upstream.always(BEGUN, Wait(go_on), REST)
    running = [await streaming(proxy, path) for path in ("/chat", "/v1/chat/completions")]
    kept = await RawClient.connect(proxy.port)
    await kept.get("/healthz")
    await kept.read_head()
    await kept.read_body()
    silent = await RawClient.connect(proxy.port)

    signalled = time.monotonic()
    proxy.signal(signal.SIGTERM)
    try:
        while (ready := await get(proxy, "/readyz")) != (503, "close"):
            assert time.monotonic() - signalled < 30, ready
        running.append(await streaming(proxy, "/chat"))  # a balancer that has not looked yet
        assert (await get(proxy, "/healthz"))[0] == 200, "it is alive: nobody should kill it"
    except ConnectionError:  # a machine that was too busy to ask within the second
        assert time.monotonic() - signalled > 0.9, "it stopped listening too soon"

    await refused(proxy.port)
    assert time.monotonic() - signalled > 0.9
    for idle in (kept, silent):
        assert await idle.closed() == "FIN", "idle connections are closed while answers go on"
        idle.fin()
    go_on.set()
    for client in running:
        assert (await client.read_body()).endswith(b"[DONE]\n\n")
        assert client.end == "final chunk"
        assert await client.closed() == "FIN", "no connection outlives its answer"
        client.fin()
    assert await proxy.exit_code() == 0
    ends = [line["end"] for line in map(json.loads, proxy.logged) if line["event"] == "request_end"]
    assert ends == ["done"] * len(running)


async def test_F01_a_request_on_an_open_connection_is_told_to_go_elsewhere(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url, server="{drain_s: 8}"))
    upstream.always(BEGUN, Stall())
    running = await streaming(proxy, "/chat")
    late = await RawClient.connect(proxy.port)
    await late.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")  # it has begun, so it is heard out
    silent = await RawClient.connect(proxy.port)
    proxy.signal(signal.SIGTERM)
    await refused(proxy.port)
    assert await silent.closed() == "FIN", "from here on no request is taken"
    silent.fin()
    body = json.dumps(ASK).encode()
    await late.send(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    head = await late.read_head()
    assert (head.status, head["connection"], head["retry-after"]) == (503, "close", "1")
    assert json.loads(await late.read_body())["error"]["code"] == "draining"
    assert len(upstream.requests) == 1
    running.rst()
    late.fin()
    assert await proxy.exit_code() == 0, "with the last answer gone there is nothing to wait for"


STREAMS = ["/chat", "/chat?dialect=json", "/v1/chat/completions"]


async def test_F01_a_second_signal_ends_it_at_once_but_truthfully(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url))
    upstream.always(BEGUN, Stall())
    running = [await streaming(proxy, path) for path in STREAMS]
    waiting = await RawClient.connect(proxy.port)
    upstream.play(Stall())
    await waiting.post("/v1/chat/completions", ASK)
    await upstream.received(4)
    proxy.signal(signal.SIGTERM)
    with contextlib.suppress(ConnectionError):  # a machine that was too busy to ask within the second
        while (await get(proxy, "/readyz"))[0] != 503:
            pass
    again = time.monotonic()
    proxy.signal(signal.SIGINT)
    for path, client in zip(STREAMS, running, strict=True):
        assert told_of_the_drain(path, await client.read_body())
        assert client.end == "final chunk"
        client.fin()
    head = await waiting.read_head()
    assert (head.status, json.loads(await waiting.read_body())["error"]["code"]) == (503, "draining")
    waiting.fin()
    assert await proxy.exit_code() == 0
    assert time.monotonic() - again < 25
    await upstream.peer_gone(4)


async def test_F02_answers_longer_than_the_drain_end_with_an_error_frame(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url, server="{drain_s: 1.2}"))
    upstream.always(BEGUN, Stall())
    running = [await streaming(proxy, path) for path in STREAMS]
    upstream.play(*FLOOD)
    stalled = await RawClient.connect(proxy.port, receive_buffer=8192)
    await stalled.post("/chat", ASK)
    await upstream.stuck()
    upstream.play(Stall())
    whole = await RawClient.connect(proxy.port)
    await whole.post("/v1/chat/completions", {**ASK, "stream": False})
    await upstream.received(5)

    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    for path, client in zip(STREAMS, running, strict=True):
        assert told_of_the_drain(path, await client.read_body())
        assert client.end == "final chunk"
        client.fin()
    assert time.monotonic() - began >= 1.1
    assert (await whole.read_head()).status == 503
    whole.fin()
    await upstream.peer_gone(5)
    assert await proxy.exit_code() == 0
    assert time.monotonic() - began < 1.2 + 20, "also for a client that reads nothing"
    stalled.fin()
    lines = [line for line in map(json.loads, proxy.logged) if line["event"] == "request_end"]
    assert [line["end"] for line in lines] == ["drain"] * 5


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 0.4, 0.8])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
async def test_F01_a_signal_during_the_start_leaves_no_mess(
    serve: Serve, delay_s: float, number: signal.Signals
) -> None:
    proxy = await serve(openai_config("http://127.0.0.1:9/v1"), wait=False)
    await asyncio.sleep(delay_s)
    proxy.signal(number)
    code = await proxy.exit_code()
    said = "".join(proxy.logged)
    if number is signal.SIGINT and "KeyboardInterrupt" in said and "in main\n" not in said:
        return  # Python was still importing the first modules, and says so in its own way
    assert code in {0, -number} or (code, said.strip()) == (1, "Aborted!"), said
    assert "Traceback" not in said
