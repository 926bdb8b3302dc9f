"""Answers that can be resumed: over real sockets, on every wire."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import Send, Sleep, Steps, Wait, chunked, openai_chunk, openai_stream, sse_head
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, Running, StartProxy

TOKENS = [f"w{number} " for number in range(12)]
PATHS = [
    "/chat?dialect=json",
    "/chat",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/ollama/api/chat",
    "/agui",
]
MESSAGES = [{"role": "user", "content": "count"}]


def config(upstream: ScriptedUpstream, resume: str = "{grace_s: 20}", more: str = "", auth: str = "") -> str:
    return f"""
        server: {{resume: {resume}, heartbeat_s: 0.05}}
        {auth}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}"}}
        routes:
          - {{name: default, to: far/scripted-1{more}}}
    """


def body(path: str, **more: Any) -> dict[str, Any]:
    if path == "/v1/responses":
        return {"model": "m", "input": "count", "stream": True, **more}
    if path == "/agui":
        return {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {},
                "messages": [{"id": "1", "role": "user", "content": "count"}], **more}  # fmt: skip
    return {"model": "m", "max_tokens": 100, "stream": True, "messages": MESSAGES, **more}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    responses: list[aiohttp.ClientResponse] = []  # closed at the end, whether they were read or not

    async def keep(_: aiohttp.ClientSession, __: object, request: aiohttp.TraceRequestEndParams) -> None:
        responses.append(request.response)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_end.append(keep)
    async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
        yield session
        for response in responses:
            response.close()


def halves(gate: asyncio.Event) -> list[Steps]:
    """The tokens, with a wait in the middle."""
    events = openai_stream(TOKENS)
    return [events[:7], Wait(gate), events[7:]]


async def ask(
    http: aiohttp.ClientSession, proxy: Running | Process, path: str, **headers: str
) -> aiohttp.ClientResponse:
    return await http.post(proxy.url + path, json=body(path), headers=headers)


async def until(response: aiohttp.ClientResponse, what: bytes) -> bytes:
    """Read until something has come; returns all."""
    seen = b""
    async with asyncio.timeout(60):
        while what not in seen:
            assert not response.content.at_eof(), seen
            seen += await response.content.readany()
    return seen


def frames(data: bytes, path: str = "") -> list[bytes]:
    """Frames without heartbeats."""
    if path.startswith("/ollama"):
        return [
            line for line in data.split(b"\n") if line and not (b'"content":""' in line and b'"done":false' in line)
        ]
    return [frame for frame in data.split(b"\n\n") if frame and not frame.startswith(b": ")]


def unnumbered(data: bytes) -> tuple[bytes, list[int]]:
    numbers = [int(number) for number in re.findall(rb"(?m)^id: (\d+)$", data)]
    return re.sub(rb"(?m)^id: \d+\n", b"", data), numbers


@pytest.mark.parametrize("path", PATHS)
async def test_a_lost_connection_goes_on_after_any_frame(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession, path: str
) -> None:
    """The client leaves in the middle; what it asks for afterwards is strictly after what it has."""
    gate = asyncio.Event()
    upstream.play(*halves(gate))
    proxy = await start_proxy(config(upstream))
    response = await ask(http, proxy, path)
    id = response.headers["X-Stream-Id"]
    await until(response, b"w4")
    response.close()
    gate.set()
    whole = await (await http.get(f"{proxy.url}/streams/{id}")).read()
    plain, numbers = unnumbered(whole)
    complete = frames(plain, path)
    assert not numbers or numbers == list(range(len(complete)))
    assert len(upstream.requests) == 1
    for after in range(-1, len(complete)):
        rest = await (await http.get(f"{proxy.url}/streams/{id}", params={"after": str(after)})).read()
        assert frames(unnumbered(rest)[0], path) == complete[after + 1 :]
        header = {"Last-Event-ID": str(after)}
        assert await (await http.get(f"{proxy.url}/streams/{id}", headers=header)).read() == rest
    assert len(upstream.requests) == 1
    (record,) = await proxy.ended()
    assert record.end == "done"
    assert [token for token in TOKENS if token.strip().encode() not in plain] == []


async def test_the_first_reader_gets_what_it_would_without_resume(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.always(*openai_stream(TOKENS))
    beats = "heartbeat_s: 0.05", "heartbeat_s: 0"  # a busy machine has silences in which they come
    with_it = await start_proxy(config(upstream).replace(*beats))
    without = await start_proxy(config(upstream, "null").replace(*beats))
    for path in ["/chat", "/chat?dialect=json", "/chat?dialect=both", "/chat?dialect=sse", "/v1/chat/completions"]:
        resumable, plain = await ask(http, with_it, path), await ask(http, without, path)
        assert await resumable.read() == await plain.read()
        assert "X-Stream-Id" not in plain.headers
        differ = {"X-Stream-Id", "X-Request-Id", "Date"}
        assert {n: v for n, v in resumable.headers.items() if n.title() not in differ} == {
            n: v for n, v in plain.headers.items() if n.title() not in differ
        }


@pytest.mark.parametrize("path", ["/chat", "/ollama/api/chat", "/api/chat?contract=ai-text", "/v1/chat/completions"])
async def test_who_asks_before_the_answer_begins_gets_its_frames_too(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession, path: str
) -> None:
    """As at another replica, which may know of an answer before it knows what kind it is."""
    gate = asyncio.Event()
    upstream.play(Wait(gate), *openai_stream(TOKENS))
    proxy = await start_proxy(config(upstream).replace("heartbeat_s: 0.05", "heartbeat_s: 0"))
    first = asyncio.create_task(ask(http, proxy, path))
    await upstream.received(1)
    (log,) = proxy.app.streams._logs.values()
    again = asyncio.create_task(http.get(f"{proxy.url}/streams/{log.id}"))
    async with asyncio.timeout(60):
        while len(log.readers) != 2:
            await asyncio.sleep(0.01)
    gate.set()
    whole, read = await (await first).read(), await (await again).read()
    assert (unnumbered(read)[0] if path.startswith("/v1") else read) == whole


async def test_leaving_is_not_stopping(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """With no grace the upstream is closed at once, and the stream is not there any more."""
    upstream.always(openai_stream(TOKENS)[:5], Sleep(60))
    proxy = await start_proxy(config(upstream, "{}"))
    response = await ask(http, proxy, "/chat?dialect=json")
    await response.content.readany()
    response.close()
    assert await proxy.end_reason() == "client_gone"
    await upstream.peer_gone(1)
    gone = await http.get(f"{proxy.url}/streams/{response.headers['X-Stream-Id']}")
    assert gone.status == 404


async def test_who_stays_away_longer_than_the_grace_has_left(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.always(openai_stream(TOKENS)[:5], Sleep(60))
    proxy = await start_proxy(config(upstream, "{grace_s: 0.2}"))
    response = await ask(http, proxy, "/chat?dialect=json")
    await response.content.readany()
    response.close()
    assert await proxy.end_reason() == "client_gone"


async def test_a_reader_that_left_before_the_first_token_finds_the_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()
    upstream.play(Wait(gate), *openai_stream(TOKENS))
    proxy = await start_proxy(config(upstream))
    key = {"Idempotency-Key": "page-1"}
    with pytest.raises(asyncio.TimeoutError):
        await http.post(
            f"{proxy.url}/v1/chat/completions", json=body(""), headers=key, timeout=aiohttp.ClientTimeout(total=0.3)
        )
    gate.set()
    again = await http.post(f"{proxy.url}/v1/chat/completions", json=body(""), headers=key)
    assert (await again.read()).endswith(b"data: [DONE]\n\n")
    assert len(upstream.requests) == 1


async def test_stop_ends_the_answer_for_all_readers(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """All get the same end, the upstream is closed, and what came is counted."""
    upstream.always(openai_stream(TOKENS)[:5], Sleep(60))
    proxy = await start_proxy(config(upstream))
    first = await ask(http, proxy, "/v1/chat/completions")
    address = f"{proxy.url}/streams/{first.headers['X-Stream-Id']}"
    second = await http.get(address)
    await second.content.readany()
    assert (await http.delete(address)).status == 204
    one, other = await first.read(), await second.read()
    assert b'"stopped"' in one
    assert frames(one)[-1] == frames(unnumbered(other)[0])[-1]
    assert b"[DONE]" not in one
    (record,) = await proxy.ended()
    assert (record.end, record.error_code) == ("stopped", "stopped")
    assert record.usage is not None
    assert record.usage.output_tokens > 0
    await upstream.peer_gone(1)
    assert (await http.delete(address)).status == 204, "it is over already"
    assert (await (await http.get(address)).read()).count(b"stopped") >= 1


async def test_an_idempotency_key_joins_instead_of_asking_again(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:

    gate = asyncio.Event()
    upstream.always(*halves(gate))
    auth = "auth: {keys: [{name: a, key: key-of-a-0123456789}, {name: b, key: key-of-b-0123456789}]}"
    proxy = await start_proxy(config(upstream, auth=auth))
    one = {"Authorization": "Bearer key-of-a-0123456789", "Idempotency-Key": "k"}
    other = {"Authorization": "Bearer key-of-b-0123456789", "Idempotency-Key": "k"}
    path = "/v1/chat/completions"
    first = await ask(http, proxy, path, **one)
    joined = await ask(http, proxy, path, **one)
    assert first.headers["X-Stream-Id"] == joined.headers["X-Stream-Id"]
    different = await http.post(proxy.url + path, json=body(path, temperature=0.5), headers=one)
    assert (different.status, (await different.json())["error"]["code"]) == (409, "idempotency_conflict")
    assert (await ask(http, proxy, path, **other)).status == 404
    address = f"{proxy.url}/streams/{first.headers['X-Stream-Id']}"
    assert (await http.get(address, headers={"Authorization": other["Authorization"]})).status == 404
    assert (await http.delete(address, headers={"Authorization": other["Authorization"]})).status == 404
    events = await http.post(f"{proxy.url}{path}?dialect=sse", json=body(path), headers=one)
    assert events.status == 409, "it may want another form"
    gate.set()
    assert frames(await first.read()) == frames(await joined.read())
    finished = await ask(http, proxy, path, **one)
    assert frames(await finished.read()) == frames(await first.read())
    assert len(upstream.requests) == 1


async def test_a_failure_before_the_first_token_has_its_status_and_is_not_kept(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    proxy = await start_proxy(config(upstream))  # the upstream answers 501
    key = {"Idempotency-Key": "k"}
    refused = await ask(http, proxy, "/v1/chat/completions", **key)
    assert refused.status in {500, 501, 502}
    upstream.play(*openai_stream(TOKENS))
    assert (await ask(http, proxy, "/v1/chat/completions", **key)).status == 200
    first, _ = await proxy.ended(2)
    assert (first.end, first.status) == ("upstream_error", refused.status)


async def test_an_answer_that_outgrew_its_log_says_so(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    text = ["x" * 500 for _ in range(40)]
    upstream.always(*openai_stream(text))
    proxy = await start_proxy(config(upstream, "{bytes: 4096, grace_s: 5}"))
    response = await ask(http, proxy, "/v1/chat/completions")
    whole = await response.read()
    assert whole.count(b"x" * 500) == 40, "who reads along loses nothing"
    gone = await http.get(f"{proxy.url}/streams/{response.headers['X-Stream-Id']}?after=3")
    assert (gone.status, (await gone.json())["error"]["code"]) == (410, "stream_gone")
    metrics = await (await http.get(f"{proxy.url}/metrics")).text()
    assert 'chat_proxy_resumable_streams{state="kept"} 1.0' in metrics
    assert f"chat_proxy_resumable_bytes {proxy.app.streams.state()['bytes']:.1f}" in metrics


@pytest.mark.parametrize("number", ["x", "1.5", "--1", "", "9" * 5000])
async def test_a_number_that_is_none_is_refused(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession, number: str
) -> None:
    upstream.always(*openai_stream(TOKENS))
    proxy = await start_proxy(config(upstream))
    response = await ask(http, proxy, "/v1/responses")
    answer = json.loads(frames(await response.read())[0].partition(b"data: ")[2])["response"]["id"]
    for address in (
        f"/streams/{response.headers['X-Stream-Id']}?after={number or 'y'}",
        f"/v1/responses/{answer}?stream=true&starting_after={number}",
    ):
        assert (await http.get(proxy.url + address)).status == 400


async def test_a_slow_reader_holds_no_more_than_the_log(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    """The log is bounded, so a reader that does not read slows the upstream down in the end."""
    piece = [Send(chunked(f"data: {json.dumps(openai_chunk({'content': 'x' * 20_000}))}\n\n".encode()))]
    upstream.always(Send(sse_head()), *(piece * 400), Sleep(30))
    proxy = await start_proxy(config(upstream, "{bytes: 100000}"))
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1024)
    content = json.dumps(body("")).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(content) + content)
    await reader.readline()
    async with asyncio.timeout(60):
        while proxy.app.streams.state()["bytes"] < 100_000:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert proxy.app.streams.state()["bytes"] < 100_000 + 2 * 256 * 1024, "one read more of the upstream at most"
    writer.close()
    assert await proxy.end_reason() in {"client_gone", "client_slow"}


async def test_the_ai_sdks_address_gives_the_running_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()
    upstream.always(*halves(gate))
    proxy = await start_proxy(config(upstream))
    asked = {"id": "chat-7", "trigger": "submit-message",
             "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "count"}]}]}  # fmt: skip
    none = await http.get(f"{proxy.url}/api/chat/chat-7/stream")
    assert none.status == 204
    first = await http.post(f"{proxy.url}/api/chat", json=asked)
    begun = await first.content.readuntil(b"\n\n")
    first.close()
    again = await http.get(f"{proxy.url}/api/chat/chat-7/stream")
    assert again.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert await again.content.readuntil(b"\n\n") == begun, "the same message, from its start"
    gate.set()
    assert (await again.read()).endswith(b"data: [DONE]\n\n")
    assert (await http.get(f"{proxy.url}/api/chat/chat-7/stream")).status == 204, "the page has it"
    assert len(upstream.requests) == 1


async def test_responses_resume_by_sequence_number_and_are_cancelled(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.always(openai_stream(TOKENS)[:7], Sleep(60))
    proxy = await start_proxy(config(upstream))
    first = await ask(http, proxy, "/v1/responses")
    seen = await until(first, b"w4")
    events = [json.loads(frame.partition(b"data: ")[2]) for frame in frames(seen)]
    id = events[0]["response"]["id"]
    address = f"{proxy.url}/v1/responses/{id}"
    assert (await (await http.get(address)).json())["status"] == "in_progress"
    after = await http.get(address, params={"stream": "true", "starting_after": "3"})
    event = json.loads((await after.content.readuntil(b"\n\n")).partition(b"data: ")[2])
    assert event["sequence_number"] == 4
    cancelled = await http.post(f"{address}/cancel")
    assert (cancelled.status, (await cancelled.json())["status"]) == (200, "cancelled")
    assert b"response.failed" in await first.read()
    assert b"response.failed" in await after.read()
    assert (await http.get(f"{proxy.url}/v1/responses/resp_other")).status == 404


async def test_a_route_can_say_otherwise(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.always(*openai_stream(TOKENS))
    off = await start_proxy(config(upstream, "{}", more=", resume: false"))
    on = await start_proxy(config(upstream, "null", more=", resume: true"))
    for proxy, resumable in ((off, False), (on, True)):
        async with await ask(http, proxy, "/chat") as response:
            await response.read()
            assert ("X-Stream-Id" in response.headers) is resumable


async def test_a_drain_waits_for_answers_nobody_reads_now_and_then_ends_them(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    from proxy.errors import Draining

    upstream.always(openai_stream(TOKENS)[:5], Sleep(60))
    proxy = await start_proxy(config(upstream))
    response = await ask(http, proxy, "/chat?dialect=json")
    await response.content.readany()
    response.close()
    assert len(proxy.app.active) == 1
    proxy.app.stop_all(Draining("stopping"))
    assert await proxy.end_reason() == "drain"
