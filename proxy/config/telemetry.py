"""Where telemetry goes: `telemetry:` of the config."""

from importlib.util import find_spec
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator, model_validator

from proxy.config.base import Model, Seconds, setting


class OtlpSettings(Model):
    """A collector that takes OpenTelemetry's protocol (OTLP) over HTTP."""

    endpoint: str | None = setting(
        None,
        "The collector's address, such as `http://collector:4318`; `/v1/traces` and `/v1/metrics` are added. "
        "Default: the variables OTEL_EXPORTER_OTLP_ENDPOINT and so on, else `http://localhost:4318`.",
    )
    headers: dict[str, SecretStr] = setting(
        dict, "Headers to send with it, such as a key. Default: OTEL_EXPORTER_OTLP_HEADERS."
    )
    traces: bool = setting(True, "Send a span for each request and each attempt.")
    metrics: bool = setting(True, "Send what `/metrics` has, and OpenTelemetry's own GenAI metrics.")
    metrics_every_s: Seconds | None = setting(
        None, "How often metrics are sent. Default: OTEL_METRIC_EXPORT_INTERVAL, else 60."
    )
    propagate: bool = setting(
        True, "Send `traceparent` and `tracestate` to upstreams, so that their spans join the trace."
    )

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            url = urlsplit(endpoint)
            if url.scheme not in {"http", "https"} or not url.hostname:
                raise ValueError("an endpoint is an address such as http://localhost:4318")
            if "@" in url.netloc:
                raise ValueError("an endpoint holds no user and password; give the key as a header in `headers`")
        return endpoint

    @model_validator(mode="after")
    def _installed(self) -> Self:
        if not installed():
            raise ValueError("OpenTelemetry is not installed: pip install 'chat-proxy[otel]'")
        return self


class TelemetrySettings(Model):
    """Exporters of traces and metrics."""

    otlp: OtlpSettings | None = setting(
        None,
        "An OpenTelemetry collector; `{}` takes all from the environment. Off unless this is given, or "
        "OTEL_EXPORTER_OTLP_ENDPOINT is set.",
    )


def installed() -> bool:
    """Whether the extra `otel` is there."""
    try:
        return (
            find_spec("opentelemetry.sdk") is not None
            and find_spec("opentelemetry.exporter.otlp.proto.http") is not None
        )
    except ModuleNotFoundError:
        return False
