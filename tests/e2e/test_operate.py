"""What operators and browsers are shown: health, metrics, status, CORS, request ids, the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.contracts.chat.writer import ChatWriter
from proxy.events import Batch
from proxy.testing.script import Rst, Stall, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, Running, StartProxy, openai_config
from tests.support.clients import Head, RawClient

Serve = Callable[..., Awaitable[Process]]

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
PATHS = ["/chat", "/v1/chat/completions"]
APP = "https://app.example.com"


async def ask(
    proxy: Running | Process, path: str, headers: dict[str, str] | None = None, *, method: str = "POST", body: Any = ASK
) -> tuple[Head, bytes]:
    async with await RawClient.connect(proxy.port) as client:
        await client.request(method, path, body if method == "POST" else b"", headers or {})
        head = await client.read_head()
        return head, await client.read_body()


async def metrics(proxy: Running | Process) -> dict[tuple[str, ...], float]:
    """All samples as `(name, label values in the order of their names…)`."""
    _, text = await ask(proxy, "/metrics", method="GET")
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    return {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in samples}


# -- pages


async def test_health_readiness_and_status(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    head, body = await ask(proxy, "/healthz", method="GET")
    assert (head.status, head["content-type"], body) == (200, "application/json", b'{"status":"ok"}')
    head, body = await ask(proxy, "/readyz", method="GET")
    assert (head.status, body) == (200, b'{"status":"ready"}')
    upstream.play(openai_stream(["One"])[:3], Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", ASK)
        await client.read_head()
        await client.read_until(b"One")
        head, body = await ask(proxy, "/status", method="GET")
        status = json.loads(body)
        assert (status["status"], status["active"], status["config"]["generation"]) == ("serving", 1, 1)
        assert status["backends"] == {"far": {"on": True}}
        assert status["routes"] == [{"name": "default", "to": ["far/scripted-1"]}]
        assert status["config"]["file"] == proxy.config.name, "no path of this machine"
        assert (await metrics(proxy))["chat_proxy_active_streams",] == 1
    await proxy.ended()
    assert (await metrics(proxy))["chat_proxy_active_streams",] == 0
    assert len(proxy.records) == 1, "pages for operators are no requests"


async def test_every_request_is_one_sample_with_its_reason(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(["hi"]))
    upstream.play(openai_stream(["hi"])[:3], Rst())
    upstream.play(*json_reply(503, {"error": {"message": "busy"}}))
    for body in (ASK, ASK, ASK, b"rubbish"):
        await ask(proxy, "/v1/chat/completions", {"Content-Type": "application/json"}, body=body)
    await proxy.ended(4)
    ends = {
        name[2]: value for name, value in (await metrics(proxy)).items() if name[0] == "chat_proxy_stream_end_total"
    }
    assert ends == {"done": 1, "upstream_truncated": 1, "upstream_error": 1, "rejected": 1}


async def test_D07_no_client_can_grow_the_metrics(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    await ask(proxy, "/v1/chat/completions")
    await ask(proxy, "/nowhere")
    await proxy.ended(2)
    before = set(await metrics(proxy))
    for number in range(20):
        await ask(proxy, "/v1/chat/completions", body={**ASK, "model": f"odd-{number}", "user": f"u{number}"})
        await ask(proxy, f"/nowhere-{number}", {"X-Request-Id": f"r{number}"})
    await proxy.ended(42)
    assert set(await metrics(proxy)) == before


# -- CORS


def cors_config(url: str, cors: str) -> str:
    return (
        openai_config(url, server=f"{{cors: {cors}, limits: {{body_mb: 0.01}}}}")
        + """
        auth: {keys: [{name: web, key: "cp-web-0123456789abcdefghijklmnopq"}]}
    """
    )


@pytest.mark.parametrize("path", [*PATHS, "/v1/models", "/nowhere"])
async def test_a_preflight_from_an_allowed_page_is_granted_without_a_key(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(cors_config(upstream.url, f'{{origins: ["{APP}"], credentials: true}}'))
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    head, body = await ask(proxy, path, {"Origin": APP, **wanted}, method="OPTIONS")
    assert (head.status, body) == (204, b"")
    assert head["access-control-allow-origin"] == APP
    assert head["access-control-allow-credentials"] == "true"
    assert head["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert "POST" in head["access-control-allow-methods"]
    head, _ = await ask(proxy, path, {"Origin": "https://evil.test", **wanted}, method="OPTIONS")
    assert not [name for name in head.headers if name.startswith("access-control")]


async def test_an_allowed_page_can_read_errors_and_streams(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(cors_config(upstream.url, f'{{origins: ["{APP}"]}}'))
    key = {"Authorization": "Bearer cp-web-0123456789abcdefghijklmnopq"}
    upstream.play(*openai_stream(["hi"]))
    upstream.play(*openai_stream(["hi"]))
    upstream.always(*json_reply(503, {"error": {"message": "busy"}}))
    cases = [
        (200, "/chat", key, ASK),
        (200, "/v1/chat/completions", key, ASK),
        (503, "/v1/chat/completions", key, ASK),
        (401, "/v1/chat/completions", {}, ASK),
        (404, "/nowhere", key, ASK),
        (413, "/chat", key, {**ASK, "user": "x" * 10_000}),
        (400, "/chat", {**key, "Content-Type": "application/json"}, b"rubbish"),
    ]
    for status, path, headers, body in cases:
        head, _ = await ask(proxy, path, {**headers, "Origin": APP}, body=body)
        assert head.status == status
        assert head["access-control-allow-origin"] == APP
        assert "x-request-id" in head["access-control-expose-headers"]
        assert "Origin" in head["vary"]
    head, _ = await ask(proxy, "/chat", {**key, "Origin": "https://evil.test"})
    assert not [name for name in head.headers if name.startswith("access-control")]


async def test_by_default_no_page_may_call(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    for path in (*PATHS, "/nowhere"):
        for method in ("OPTIONS", "POST"):
            head, _ = await ask(proxy, path, {"Origin": APP, "Access-Control-Request-Method": "POST"}, method=method)
            assert not [name for name in head.headers if name.startswith("access-control")]


# -- request ids and the log


async def test_every_answer_has_the_id_that_the_log_has(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(["hi"]))
    upstream.always(*json_reply(500, b"oops", {"content-type": "text/plain"}))
    ids = [(await ask(proxy, path))[0]["x-request-id"] for path in (*PATHS, "/nowhere")]
    assert [record.request_id for record in await proxy.ended(3)] == ids
    assert len(set(ids)) == 3
    for path in ("/healthz", "/metrics", "/v1/models"):
        assert (await ask(proxy, path, method="GET"))[0]["x-request-id"]


FORGED = '\n{"event":"forged"}\r\x1b[31m\u202e\u2028' + "x" * 100_000


async def test_the_log_has_one_json_line_per_request_and_no_client_writes_it(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    proxy = await serve(openai_config(upstream.url))
    upstream.play(*openai_stream(["Hel", "lo"]))
    head, _ = await ask(proxy, "/chat")
    upstream.play(openai_stream(["Hel"])[:3], Rst())
    await ask(proxy, "/v1/chat/completions", {"X-Request-Id": "mine-1"})
    upstream.play(*json_reply(429, {"error": {"message": FORGED}}))
    await ask(proxy, "/v1/chat/completions", body={**ASK, "model": FORGED, "user": FORGED})
    await ask(proxy, "/x%0a%7B%22event%22:%22forged%22%7D")
    await ask(proxy, "/chat", {"Content-Type": "application/json"}, body=b'{"messages": "a secret prompt"}')

    lines = await logged(proxy, 5)
    ends = [line for line in lines if line["event"] == "request_end"]
    assert "forged" not in [line["event"] for line in lines]
    first = ends[0]
    assert first["request_id"] == head["x-request-id"]
    assert (first["contract"], first["path"], first["route"], first["backend"]) == ("chat", "/chat", "default", "far")
    assert (first["status"], first["end"], first["tokens_out"], first["upstream_model"]) == (
        200,
        "done",
        2,
        "scripted-1",
    )
    assert {"first_token_ms", "duration_ms", "bytes", "timestamp", "level"} <= set(first)
    assert (ends[1]["request_id"], ends[1]["end"], ends[1]["level"]) == ("mine-1", "upstream_truncated", "warning")
    assert [line["status"] for line in ends] == [200, 200, 429, 404, 422]
    raw = "".join(proxy.logged)
    assert len(max(proxy.logged, key=len)) < 5000
    assert "\x1b" not in raw
    assert "\u202e" not in raw
    assert "secret prompt" not in raw
    proxy.rewrite(openai_config(upstream.url, server="{heartbeat_s: 1}"))
    lines = await logged(proxy, 1, "config_reloaded")
    assert {line["event"] for line in lines} == {"listening", "request_end", "config_reloaded"}, "and nothing else"


async def logged(proxy: Process, count: int, event: str = "request_end") -> list[dict[str, Any]]:
    """The log so far, once it has that many of these events."""
    async with asyncio.timeout(60):
        while sum(f'"event":"{event}"' in line for line in proxy.logged) < count:
            await asyncio.sleep(0.01)
    return [json.loads(line) for line in proxy.logged]


@pytest.mark.parametrize("path", ["/chat", "/chat?dialect=json"])
async def test_a_bug_of_ours_inside_an_answer_cuts_it_and_puts_no_second_one_into_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    said: list[bytes] = []

    def feed(_writer: ChatWriter, _batch: Batch) -> bytes:
        if said:
            raise ZeroDivisionError
        said.append(b"data:One\n\n")
        return said[0]

    monkeypatch.setattr(ChatWriter, "feed", feed)
    upstream.play(*openai_stream(["One", " two"], gap_s=0.02))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        assert (await client.read_head()).status == 200
        assert await client.read_body() == b"data:One\n\n"
        assert client.end == "cut"
    assert await proxy.end_reason() == "internal"
    await upstream.peer_gone(1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/healthz", b""), ("GET", "/nowhere", b""), ("POST", "/chat", ASK), ("not http", "", b"")],
)
async def test_no_answer_tells_what_it_is_built_with(
    start_proxy: StartProxy, upstream: ScriptedUpstream, method: str, path: str, body: object
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    async with await RawClient.connect(proxy.port) as client:
        await client.request(method, path, body)
        assert (await client.read_head())["server"] == "chat-proxy"
