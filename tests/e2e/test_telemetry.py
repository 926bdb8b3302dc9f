"""Spans and metrics, as a collector gets them over OTLP."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from proxy.testing.script import json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Process, Running, StartProxy
from tests.support.clients import RawClient
from tests.support.collector import CLIENT, SERVER, Collector, Span, collector, number
from tests.support.ports import free_port

__all__ = ["collector"]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SECRET = "sk-collector-0123456789abcdef"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def config(upstream: str, collector: str, *, server: str = "{}", more: str = "", auth: str = "") -> str:
    return f"""
        server: {server}
        {auth}
        telemetry:
          otlp: {{endpoint: "{collector}", headers: {{x-key: "{SECRET}"}}{more}}}
        backends:
          bad: {{kind: openai-compatible, base_url: "{upstream}"}}
          far: {{kind: openai-compatible, preset: groq, base_url: "{upstream}", api_key: "gsk-0123456789abcdef"}}
        routes:
          - {{name: default, to: [bad/one, far/two]}}
    """


async def ask(proxy: Running | Process, *headers: tuple[str, str], text: str = "hi", stream: bool = True) -> int:
    async with await RawClient.connect(proxy.port) as client:
        body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}
        await client.post("/v1/chat/completions", body, headers)
        status = (await client.read_head()).status
        await client.read_body()
    return status


def by_kind(spans: list[Span], kind: int) -> list[Span]:
    return [span for span in spans if span.kind == kind]


ECHO = "{backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}"
TRUSTING = '{trusted_proxies: ["127.0.0.1/32"]}'


async def test_a_request_is_a_span_and_so_is_each_attempt(
    collector: Collector, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, collector.url, server=TRUSTING))
    upstream.play(*json_reply(503, {"error": {"message": "overloaded"}}))
    upstream.play(*openai_stream(["very ", "secret ", "answer"], usage=USAGE))
    before = time.time_ns()
    await ask(proxy, ("traceparent", TRACEPARENT), ("tracestate", "vendor=1"), text="my secret prompt")
    spans = await collector.of_request()
    (request,), (first, second) = by_kind(spans, SERVER), by_kind(spans, CLIENT)

    assert {span.trace_id for span in spans} == {TRACE}, "the caller's trace goes on"
    assert request.parent_id == PARENT
    assert first.parent_id == second.parent_id == request.span_id
    sent = [seen.headers for seen in upstream.requests]
    assert [one["traceparent"] for one in sent] == [f"00-{TRACE}-{one.span_id}-01" for one in (first, second)]
    assert [one["tracestate"] for one in sent] == ["vendor=1", "vendor=1"]

    assert request.name == "POST /v1/chat/completions"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["chat_proxy.target"] == "far/two"
    assert not request.failed
    assert (first.name, first.failed, first.attributes["error.type"]) == ("chat one", True, "upstream_error")
    assert (second.name, second.failed) == ("chat two", False)
    assert second.attributes["gen_ai.system"] == "groq"
    assert second.attributes["gen_ai.usage.input_tokens"] == 12
    assert second.attributes["gen_ai.usage.output_tokens"] == 3
    assert second.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert second.attributes["server.address"] == "127.0.0.1"

    assert request.start <= first.start <= first.end <= second.start <= second.end <= request.end <= time.time_ns()
    assert request.start > before - 1e9, "the loop's clock is set by the machine's"
    assert [name for name, _, _ in request.events] == ["chat_proxy.first_token", "chat_proxy.end"]
    (_, first_token, _), (_, end, why) = second.events
    assert second.start <= first_token <= end == second.end
    assert why == {"reason": "ok"}
    assert request.resource["service.name"] == "chat-proxy"

    assert all(headers["x-key"] == SECRET for headers in collector.headers)
    for body in collector.bodies:
        assert b"secret" not in body, "neither prompts nor answers are exported"


async def test_G11_a_trace_of_an_unknown_caller_is_not_believed(
    collector: Collector, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, collector.url))
    upstream.play(*openai_stream(["Hi"]))
    await ask(proxy, ("traceparent", TRACEPARENT), ("tracestate", "vendor=1"))
    (request,) = by_kind(await collector.of_request(), SERVER)
    assert request.trace_id != TRACE
    assert not request.parent_id
    assert upstream.requests[0].headers["traceparent"].split("-")[1] == request.trace_id
    assert "tracestate" not in upstream.requests[0].headers
    page = f"{proxy.url}/status/requests/{proxy.records[0].request_id}"
    async with aiohttp.ClientSession() as client, client.get(page) as found:
        assert (await found.json())["trace_id"] == request.trace_id


async def test_a_caller_with_a_key_is_believed_and_a_refusal_is_a_span_too(
    collector: Collector, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    auth = "auth: {keys: [{name: web, key: key-0123456789abcdef}]}"
    proxy = await start_proxy(config(upstream.url, collector.url, auth=auth, more=", propagate: false"))
    upstream.play(*openai_stream(["Hi"]))
    assert await ask(proxy, ("traceparent", TRACEPARENT)) == 401
    await ask(proxy, ("traceparent", TRACEPARENT), ("authorization", "Bearer key-0123456789abcdef"))
    refused, answered = by_kind(await collector.of_request(2), SERVER)
    assert refused.trace_id != TRACE
    assert refused.attributes["http.response.status_code"] == 401
    assert not refused.failed, "a 4xx is the caller's mistake"
    assert (answered.trace_id, answered.parent_id) == (TRACE, PARENT)
    assert answered.attributes["chat_proxy.key"] == "web"
    assert "traceparent" not in upstream.requests[0].headers, "`propagate: false` keeps traces from upstreams"
    assert [record.trace and record.trace.trace_id for record in proxy.records] == [refused.trace_id, TRACE]


async def test_an_unsampled_trace_stays_unsampled(
    collector: Collector, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, collector.url, server=TRUSTING))
    upstream.play(*openai_stream(["Hi"]), times=2)
    await ask(proxy, ("traceparent", f"00-{TRACE}-{PARENT}-00"))
    await ask(proxy)
    (request,) = by_kind(await collector.of_request(), SERVER)
    assert request.trace_id != TRACE
    assert upstream.requests[0].headers["traceparent"].endswith("-00")


LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http,gen_ai_latest_experimental"}


@pytest.mark.parametrize("environment", [{}, LATEST], ids=["older", "latest"])
async def test_metrics_go_by_otlp_too(
    collector: Collector,
    start_proxy: StartProxy,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = await start_proxy(config(upstream.url, collector.url, more=", metrics_every_s: 0.1"))
    upstream.play(*json_reply(503, {"error": {"message": "overloaded"}}))
    upstream.play(*openai_stream(["Hi", " you"], usage=USAGE))
    await ask(proxy)
    provider = "gen_ai.provider.name" if environment else "gen_ai.system"
    duration = "gen_ai.client.inference.duration" if environment else "gen_ai.client.operation.duration"
    await collector.until(lambda: duration in collector.metrics)
    points = {one["gen_ai.request.model"]: (one, point) for one, point in collector.points(duration)}
    assert points["one"][0]["error.type"] == "upstream_error"
    assert points["two"][0][provider] == "groq"
    assert points["two"][1].count == 1

    if environment:
        tokens = {
            "gen_ai.client.inference.operation.input_tokens": 12,
            "gen_ai.client.inference.operation.output_tokens": 3,
        }
        assert {name: collector.points(name)[0][1].sum for name in tokens} == tokens
        assert collector.points("gen_ai.client.inference.usage.input_tokens")[0][1].as_int == 12
    else:
        used = {one["gen_ai.token.type"]: point.sum for one, point in collector.points("gen_ai.client.token.usage")}
        assert used == {"input": 12, "output": 3}

    await collector.until(lambda: collector.points("chat_proxy_upstream_attempts"))
    attempts = {
        tuple(sorted(one.items())): number(point) for one, point in collector.points("chat_proxy_upstream_attempts")
    }
    assert attempts == {
        (("backend", "bad"), ("outcome", "upstream_error")): 1,
        (("backend", "far"), ("outcome", "ok")): 1,
    }
    ((_, whole),) = collector.points("chat_proxy_request_duration_seconds")
    assert (whole.count, sum(whole.bucket_counts)) == (1, 1)
    assert len(whole.bucket_counts) == len(whole.explicit_bounds) + 1


@pytest.mark.parametrize("kind", ["fails", "hangs", "is gone"])
async def test_D08_a_collector_that_does_not_take_spans_slows_nobody(
    collector: Collector,
    start_proxy: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("proxy.telemetry.otlp.export.CLOSE_S", 0.2)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    collector.answer = 503
    silent = socket.create_server(("127.0.0.1", 0))  # connects, and never answers
    port = free_port() if kind == "is gone" else silent.getsockname()[1]
    request.addfinalizer(silent.close)
    url = collector.url if kind == "fails" else f"http://127.0.0.1:{port}"
    proxy = await start_proxy(ECHO[:-1] + f', telemetry: {{otlp: {{endpoint: "{url}"}}}}}}')
    answers = await asyncio.wait_for(asyncio.gather(*(ask(proxy) for _ in range(30))), 60)
    assert answers == [200] * 30
    if kind == "fails":
        await collector.until(lambda: collector.bodies)


async def test_the_environment_alone_switches_it_on_and_names_the_service(
    collector: Collector, start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    proxy = await start_proxy(ECHO)
    await ask(proxy)
    (request,) = by_kind(await collector.of_request(), SERVER)
    assert request.resource["service.name"] == "chat"
    assert request.resource["deployment.environment.name"] == "test"
    assert not collector.metrics


async def test_a_reload_switches_it_on_and_off(
    collector: Collector, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(ECHO)
    await ask(proxy)
    proxy.rewrite(ECHO[:-1] + f', telemetry: {{otlp: {{endpoint: "{collector.url}"}}}}}}')
    assert await proxy.app.reload()
    await ask(proxy)
    (request,) = by_kind(await collector.of_request(), SERVER)
    assert proxy.records[1].ids["trace_id"] == request.trace_id
    proxy.rewrite(ECHO)
    assert await proxy.app.reload()
    await ask(proxy)
    assert [bool(record.trace) for record in await proxy.ended(3)] == [False, True, False]


def test_the_log_line_of_a_request_has_its_trace() -> None:
    import io

    from proxy.telemetry.log import RequestLog, configure
    from proxy.telemetry.record import StreamRecord
    from proxy.telemetry.trace import Trace

    stream = io.StringIO()
    log = configure("json", stream=stream)
    try:
        record = StreamRecord(request_id="r", started_at=0.0, trace=Trace(TRACE, PARENT, sampled=True))
        record.finish("done", 1.0)
        RequestLog().ended(record)
        log.flush()
    finally:
        log.close()
    line = json.loads(stream.getvalue())
    assert (line["trace_id"], line["span_id"]) == (TRACE, PARENT)
    assert record.ids == {"request_id": "r", "trace_id": TRACE}


def test_off_it_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(ECHO)
    program = f"""
import asyncio, sys
from proxy.app import App
async def main():
    app = App({str(path)!r}, host="127.0.0.1", port=0)
    await app.start()
    assert app.tracer is None
    await app.aclose()
asyncio.run(main())
print([name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "google", "requests")])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]", run.stderr


async def test_what_is_left_is_sent_at_a_stop_by_every_worker(
    collector: Collector, serve: Callable[..., Awaitable[Process]]
) -> None:
    config = ECHO[:-1] + f', telemetry: {{otlp: {{endpoint: "{collector.url}"}}}}}}'
    late = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_METRIC_EXPORT_INTERVAL": "600000"}
    proxy = await serve(config, "--port", "0", "--workers", "2", env=late)
    for _ in range(8):
        assert await ask(proxy) == 200
    assert not collector.spans
    proxy.signal(signal.SIGTERM)
    assert await proxy.exit_code() == 0
    requests = by_kind(collector.spans, SERVER)
    assert len(requests) == 8
    assert len({span.resource["service.instance.id"] for span in requests}) <= 2
    assert "chat_proxy_requests" in collector.metrics
    traces = {json.loads(line)["trace_id"] for line in proxy.logged if "request_end" in line}
    assert traces == {span.trace_id for span in requests}
