"""Spans and metrics for an OpenTelemetry collector. Its packages are imported when a config asks for them, not before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from proxy.config.telemetry import OtlpSettings, TelemetrySettings, installed
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.otlp.places import Places, place

if TYPE_CHECKING:
    from proxy.telemetry.otlp.export import Telemetry

__all__ = ["Places", "load", "place", "start", "wanted"]

log = structlog.get_logger("proxy.telemetry")

_ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_"))


def wanted(settings: TelemetrySettings) -> OtlpSettings | None:
    """What is to be exported, by the config or else by OpenTelemetry's own variables; `None` for nothing."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if settings.otlp is None and any(map(os.environ.get, _ENDPOINTS)) and installed():
        return OtlpSettings()
    return settings.otlp


def load(settings: TelemetrySettings) -> None:
    """Import OpenTelemetry if `start` will need it: it takes a third of a second, so it is done in a thread."""
    if wanted(settings):
        import proxy.telemetry.otlp.export  # noqa: F401, PLC0415 - an extra, which costs memory and time
    elif any(map(os.environ.get, _ENDPOINTS)) and not installed():
        log.warning("telemetry_not_installed", message=f"{_ENDPOINTS[0]} is set; pip install 'chat-proxy[otel]' for it")


def start(settings: OtlpSettings, metrics: Metrics, places: Places) -> Telemetry:
    """Begin to export. To be called on the event loop."""
    from proxy.telemetry.otlp.export import Telemetry  # noqa: PLC0415

    return Telemetry(settings, metrics, places)
