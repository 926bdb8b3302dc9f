"""What a record becomes for OpenTelemetry: names, spans, and the proxy's metrics in its form."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.telemetry import OtlpSettings, TelemetrySettings
from proxy.errors import ConfigErrors
from proxy.request import Usage
from proxy.telemetry import otlp
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.otlp.names import NAMES, Names
from proxy.telemetry.otlp.places import Place, place
from proxy.telemetry.record import AttemptRecord, StreamRecord
from proxy.telemetry.sums import Family
from proxy.telemetry.trace import Trace
from tests.support.said import says

pytest.importorskip("opentelemetry.sdk")

TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


def test_the_older_names_are_those_of_the_package_of_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

    known = {
        value for one in (gen_ai_attributes, gen_ai_metrics) for value in vars(one).values() if isinstance(value, str)
    }
    assert {older for older, _ in NAMES.values() if older} <= known
    systems = {one.value for one in gen_ai_attributes.GenAiSystemValues}
    providers = {one.value for one in gen_ai_attributes.GenAiProviderNameValues}
    for name in (
        "openai",
        "anthropic",
        "azure",
        "bedrock",
        "deepseek",
        "gemini",
        "groq",
        "mistral",
        "vertex_ai",
        "xai",
    ):
        assert Names(latest=False).provider(name) in systems
        assert Names(latest=True).provider(name) in providers


@pytest.mark.parametrize(
    ("asked", "latest"),
    [
        ("", False),
        ("http/dup", False),
        ("gen_ai_latest_experimental", True),
        ("http, gen_ai_latest_experimental", True),
    ],
)
def test_the_environment_chooses_the_generation(asked: str, latest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", asked)
    assert Names.asked_for().latest is latest


def spans(record: StreamRecord, *, latest: bool = False, **places: Place) -> list[Any]:
    from opentelemetry.sdk.resources import Resource

    from proxy.telemetry.otlp.spans import Clock, Spans

    return list(Spans(Resource({}), Names(latest=latest)).of(record, TRACE, places, Clock(200.0)))


def record(*attempts: AttemptRecord, end: Any = "done", code: str = "", status: int = 200) -> StreamRecord:
    found = StreamRecord(
        request_id="r", started_at=100.0, path="/chat", contract="chat", route="default", status=status
    )
    found.attempts = list(attempts)
    found.finish(end, 104.0, error_code=code)
    return found


def attempt(**fields: Any) -> AttemptRecord:
    return AttemptRecord(
        "b", **{"model": "m", "started_at": 101.0, "ended_at": 103.0, "span_id": "00f067aa0ba902b7"} | fields
    )


def test_times_are_those_of_the_record_on_the_machines_clock() -> None:
    now = time.time_ns()
    tried, request = spans(record(attempt(committed_at=102.0)))
    assert abs(now - 100e9 - request.start_time) < 60e9, "the loop's clock says 200"
    assert request.end_time - request.start_time == 4e9
    assert tried.start_time - request.start_time == 1e9
    assert [(event.name, event.timestamp - request.start_time) for event in tried.events] == [
        ("chat_proxy.first_token", 2e9),
        ("chat_proxy.end", 3e9),
    ]


def test_a_target_that_was_passed_over_is_an_event_and_no_span() -> None:
    (request,) = spans(record(AttemptRecord("b", "m", error_code="circuit_open")))
    (event,) = request.events[:1]
    assert (event.name, dict(event.attributes)) == (
        "chat_proxy.passed_over",
        {"backend": "b", "model": "m", "reason": "circuit_open"},
    )


def test_an_attempt_from_before_a_reload_has_a_span_too() -> None:
    tried, request = spans(record(attempt(span_id="")))
    assert tried.context.is_valid
    assert tried.parent.span_id == request.context.span_id


def test_an_answer_that_is_cut_is_an_error_though_its_status_was_200() -> None:
    cut = attempt(committed_at=102.0, error_code="upstream_truncated", status=502)
    tried, request = spans(record(cut, end="upstream_truncated", code="upstream_truncated"))
    for span in (tried, request):
        assert span.attributes["error.type"] == "upstream_truncated"
        assert not span.status.is_ok
    assert request.attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("end", "code", "status"), [("client_gone", "client_gone", 200), ("rejected", "rate_limited", 429)]
)
def test_what_the_client_does_is_no_error_of_the_server(end: str, code: str, status: int) -> None:
    (request,) = spans(record(end=end, code=code, status=status))
    assert request.status.is_ok
    assert "error.type" not in request.attributes
    assert request.attributes["chat_proxy.end"] == end


def test_the_slower_attempt_of_a_hedge_is_no_error() -> None:
    loser, winner, _ = spans(record(attempt(role="hedge_loser", error_code="hedge_lost"), attempt(committed_at=102.0)))
    assert loser.status.is_ok
    assert loser.events[-1].attributes == {"reason": "hedge_lost"}
    assert winner.events[-1].attributes == {"reason": "ok"}


def test_the_latest_names_say_more() -> None:
    used = Usage(10, 20, cached_tokens=4, reasoning_tokens=5)
    tried, _ = spans(
        record(attempt(committed_at=101.5, usage=used)), latest=True, b=Place("mistral", "far.example", 443)
    )
    assert {name: value for name, value in tried.attributes.items() if not name.startswith("chat_proxy")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "server.address": "far.example",
        "server.port": 443,
    }


class Row:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_a_place_is_what_the_row_says() -> None:
    assert place(
        Row(kind="openai-compatible", preset="groq", base_url=None, address="https://api.groq.com/openai/v1")
    ) == (
        "groq",
        "api.groq.com",
        443,
    )
    assert place(Row(kind="openai", base_url="http://localhost:9000/v1")) == ("openai", "localhost", 9000)
    assert place(Row(kind="openai", azure=Row(endpoint="https://x.azure.com"))) == ("azure", "x.azure.com", 443)
    assert place(Row(kind="litellm")).provider_of("bedrock/claude") == "bedrock"
    assert place(Row(kind="echo")) == ("echo", "", 0)


def test_the_exporter_starts_for_the_config_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "TRACES_", "METRICS_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT", raising=False)
    given = OtlpSettings(endpoint="http://collector:4318")
    assert otlp.wanted(TelemetrySettings()) is None
    assert otlp.wanted(TelemetrySettings(otlp=given)) is given
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")
    assert otlp.wanted(TelemetrySettings()) == OtlpSettings()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert otlp.wanted(TelemetrySettings(otlp=given)) is None


@pytest.mark.parametrize(
    ("endpoint", "fact"),
    [("collector:4318", "http://localhost:4318"), ("http://me:secret@collector:4318", "`headers`")],
)
def test_a_wrong_endpoint_is_refused(endpoint: str, fact: str, tmp_path: Path) -> None:
    from proxy.app import App

    path = tmp_path / "config.yaml"
    path.write_text(
        f'{{backends: {{e: {{kind: echo}}}}, routes: [{{name: a, to: e}}], telemetry: {{otlp: {{endpoint: "{endpoint}"}}}}}}'
    )
    with pytest.raises(ConfigErrors) as refused:
        App(str(path)).load()
    assert says(str(refused.value.errors[0]), f"{path}:1: {fact}")


# -- the proxy's own metrics


def exported(families: list[Family]) -> dict[str, Any]:
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource

    from proxy.telemetry.otlp.measures import _metrics
    from proxy.telemetry.otlp.spans import SCOPE

    scope = ScopeMetrics(SCOPE, list(_metrics(families, 1, 2)), schema_url="")
    encoded = encode_metrics(MetricsData([ResourceMetrics(Resource({}), [scope], "")]))
    return {metric.name: metric for metric in encoded.resource_metrics[0].scope_metrics[0].metrics}


@given(st.lists(st.floats(0, 4000)))
def test_a_histogram_counts_the_same_in_both_forms(durations: list[float]) -> None:
    metrics = Metrics()
    for duration in durations:
        one = StreamRecord(request_id="r", started_at=0.0, status=200)
        one.finish("done", duration)
        metrics.ended(one)
    found = exported(metrics.snapshot())["chat_proxy_request_duration_seconds"]
    assert found.unit == "s"
    points = found.histogram.data_points
    assert len(points) == bool(durations)
    for point in points:
        assert point.count == sum(point.bucket_counts) == len(durations)
        assert point.sum == pytest.approx(sum(durations))
        bounds = [*point.explicit_bounds, float("inf")]
        for bound, upto in zip(bounds, _sums(point.bucket_counts), strict=True):
            assert upto == sum(duration <= bound for duration in durations)


def _sums(counts: Any) -> list[int]:
    return [sum(counts[: index + 1]) for index in range(len(counts))]


def test_counters_only_rise_and_gauges_are_what_they_are() -> None:
    found = exported(Metrics().snapshot())
    assert found["chat_proxy_config_reload"].sum.is_monotonic
    assert found["chat_proxy_active_streams"].gauge.data_points[0].as_double == 0
    assert found["chat_proxy_build"].WhichOneof("data") == "gauge"


async def test_embeddings_have_metrics_of_their_own_in_the_latest_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from proxy.telemetry.otlp.measures import GenAIMetrics

    found = {}
    for latest in (False, True):
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], shutdown_on_exit=False)
        counts = GenAIMetrics(provider.get_meter("t"), Names(latest=latest), lambda model: model)
        asked = record(attempt(committed_at=102.0, usage=Usage(7, 0)))
        asked.task, asked.stream = "embedding", False
        counts.count(asked, {})
        data = reader.get_metrics_data()
        assert data is not None
        found[latest] = {one.name for one in data.resource_metrics[0].scope_metrics[0].metrics} - {"process.uptime"}
        provider.shutdown()
    assert found[False] == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert found[True] == {"gen_ai.client.embeddings.duration", "gen_ai.client.embeddings.operation.input_tokens"}


async def test_what_does_not_fit_into_the_queue_is_dropped_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setattr("proxy.telemetry.otlp.export.CLOSE_S", 0.05)
    async with asyncio.timeout(60):
        telemetry = otlp.start(OtlpSettings(endpoint="http://192.0.2.1:4318", metrics=False), Metrics(), {})
        for _ in range(500):
            telemetry.ended(record(attempt()))
        await telemetry.aclose()


def test_a_collector_that_is_gone_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.telemetry.otlp import export

    now = 1000.0
    monkeypatch.setattr(export.time, "monotonic", lambda: now)
    said = export.Seldom()
    line = logging.makeLogRecord({})
    assert [said.filter(line), said.filter(line)] == [True, False]
    now += 61
    assert said.filter(line)
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    assert any(isinstance(one, export.Seldom) for one in logging.getLogger(name).filters)
