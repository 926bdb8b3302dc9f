"""A collector for OpenTelemetry: takes OTLP over HTTP, and keeps the spans and metrics that it decoded."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web


class Span:
    """A decoded span: attributes and events as plain values, ids in hex."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name, self.kind, self.resource = span.name, span.kind, resource
        self.trace_id, self.span_id, self.parent_id = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.failed, self.state = span.status.code == 2, span.trace_state
        self.attributes = plain(span.attributes)
        self.events = [(event.name, event.time_unix_nano, plain(event.attributes)) for event in span.events]


class Collector:
    """Listens on a free port. `answer` is the status that it answers with."""

    def __init__(self) -> None:
        self.url, self.answer = "", 200
        self.spans: list[Span] = []
        self.metrics: dict[str, Any] = {}  # the newest of each name
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.came = asyncio.Event()

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/{signal}", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def until(self, ready: Callable[[], object], within: float = 60.0) -> None:
        async with asyncio.timeout(within):
            while not ready():
                self.came.clear()
                await self.came.wait()

    async def of_request(self, count: int = 1) -> list[Span]:
        """The spans of `count` requests, once they are here: server spans are sent last."""
        await self.until(lambda: sum(span.kind == SERVER for span in self.spans) >= count)
        return self.spans

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(body)
        if self.answer == 200:
            (self._traces if request.match_info["signal"] == "traces" else self._metrics)(body)
        self.came.set()
        return web.Response(status=self.answer)

    def _traces(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in group.scope_spans:
                self.spans += [Span(span, plain(group.resource.attributes)) for span in scope.spans]

    def _metrics(self, body: bytes) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in group.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The newest points of a metric, with their attributes."""
        metric = self.metrics[name]
        return [(plain(point.attributes), point) for point in getattr(metric, metric.WhichOneof("data")).data_points]


SERVER, CLIENT = 2, 3


def number(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value")))


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector. What is sent to it is sent at once, and not after the seconds that exporters usually wait."""
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector = Collector()
    runner = await collector.start()
    yield collector
    await runner.cleanup()
