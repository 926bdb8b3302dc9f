"""Write deploy/grafana/dashboard.json, deploy/prometheus/alerts.yaml and the chart's copy of it: `make docs`.

The dashboard has a panel for every metric of the registry, by its type and labels, and a first row of what to look at
first. The alerts are the list below. Tests hold both to a live scrape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import yaml

from proxy.app import App
from proxy.ledger.metrics import ledger_metrics
from proxy.telemetry.sums import NOT_SUMMED

FOLDER = Path(__file__).parent
JOB = 'job="chat-proxy"'
WIDTH, HEIGHT = 8, 8

Json = dict[str, Any]


class Family(NamedTuple):
    """A metric as Prometheus stores it: `name` is that of its samples, but for a histogram's endings."""

    name: str
    kind: str
    what: str
    labels: tuple[str, ...]


OF_WORKERS = (
    Family("chat_proxy_workers", "gauge", "Worker processes that serve.", ()),
    Family("chat_proxy_worker_restarts_total", "counter", "Worker processes that died and were started again.", ()),
)
"""Those that the parent of workers knows."""


def families() -> list[Family]:
    """Every metric that there is."""
    metrics = App("").metrics
    ledgers: Any = [SimpleNamespace(rows=0, lost=0, failures=0)]  # without one there are no metrics of it
    metrics.show(lambda: ledger_metrics(ledgers))
    found = []
    for collector in list(metrics.registry._collector_to_names):  # noqa: SLF001 - there is no other way to the labels
        for metric in collector.collect():
            labels = getattr(metric, "_labelnames", None) or getattr(collector, "_labelnames", ())
            ending = {"counter": "_total", "info": "_info"}.get(metric.type, "")
            found.append(Family(metric.name + ending, metric.type, metric.documentation, tuple(labels)))
    return [*found, *OF_WORKERS]


# -- the dashboard -----------------------------------------------------------------------------------------------

ROWS = {
    "Requests": ("requests", "stream_end", "active_streams", "request_duration", "first_token", "content_gap", "resum"),
    "Backends": ("upstream", "target", "hedges", "done_without"),
    "Tokens and cost": ("tokens", "cost", "usage"),
    "Limits": ("limit", "store"),
    "Process": ("",),
}
"""Row by row, how the names begin of the metrics in it, after `chat_proxy_`; the first that fits counts."""

BY = {
    "chat_proxy_requests_total": ("status",),
    "chat_proxy_stream_end_total": ("reason",),
    "chat_proxy_tokens_total": ("direction", "model"),
    "chat_proxy_cost_usd_total": ("backend", "model"),
}
"""By which labels a panel has its lines, where all of them are too many."""

WAIT = "chat_proxy_first_token_seconds"
CHOSEN = 'route=~"$route",backend=~"$backend"'


def _ends(reasons: str) -> str:
    return f"sum by (route) (rate(chat_proxy_stream_end_total{{{reasons},{CHOSEN}}}[$__rate_interval]))"


FIRST = (
    # title, unit, legend, expression
    (
        "Requests per second",
        "reqps",
        "{{contract}}",
        f"sum by (contract) (rate(chat_proxy_requests_total{{{CHOSEN}}}[$__rate_interval]))",
    ),
    (
        "Whole answers, of those that were not refused",
        "percentunit",
        "{{route}}",
        _ends('reason="done"') + " / " + _ends('reason!~"rejected|client_gone"'),
    ),
    (
        "First token, 95 % within",
        "s",
        "{{backend}}",
        f"histogram_quantile(0.95, sum by (le, backend) (rate({WAIT}_bucket{{{CHOSEN}}}[$__rate_interval])))",
    ),
    ("Answers under way", "short", "{{instance}}", "chat_proxy_active_streams"),
    (
        "Tokens per second",
        "short",
        "{{direction}}",
        'sum by (direction) (rate(chat_proxy_tokens_total{backend=~"$backend"}[$__rate_interval]))',
    ),
    (
        "Tokens per second, by key",
        "short",
        "{{key}}",
        'sum by (key) (rate(chat_proxy_tokens_total{backend=~"$backend"}[$__rate_interval]))',
    ),
    (
        "US dollars per hour, by key",
        "currencyUSD",
        "{{key}}",
        f"3600 * sum by (key) (rate(chat_proxy_cost_usd_total{{{CHOSEN}}}[$__rate_interval]))",
    ),
    (
        "Fullest limits",
        "percentunit",
        "{{scope}} {{name}}",
        "topk(5, max by (scope, name) (chat_proxy_limit_used_ratio))",
    ),
)

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> str:
    """The dashboard, as Grafana imports or provisions it."""
    panels: list[Json] = []
    first = [_panel(title, "", unit, [(legend, query)]) for title, unit, legend, query in FIRST]
    _lay_out(panels, "First look", first)
    left = families()
    for row, beginnings in ROWS.items():
        here = [one for one in left if one.name.removeprefix("chat_proxy_").startswith(beginnings)]
        left = [one for one in left if one not in here]
        _lay_out(panels, row, [_of(one) for one in here])
    page = {
        "uid": "chat-proxy",
        "title": "chat-proxy",
        "tags": ["chat-proxy"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                _variable("route"),
                _variable("backend"),
            ]
        },
        "panels": panels,
    }
    return json.dumps(page, indent=1) + "\n"


def _of(family: Family) -> Json:
    name, labels = family.name, BY.get(family.name, family.labels)
    chosen = [f'{label}=~"${label}"' for label in ("route", "backend") if label in family.labels]
    chosen += [JOB] if name.startswith("process_") else []
    selected = f"{{{','.join(chosen)}}}" if chosen else ""
    by, legend = ", ".join(labels), " ".join(f"{{{{{label}}}}}" for label in labels) or "{{instance}}"
    unit = "s" if name.endswith("_seconds") else "bytes" if name.endswith("_bytes") else "short"
    match family.kind:
        case "counter":
            dollars = name.endswith("_usd_total")
            hour, unit = ("3600 * ", "currencyUSD") if dollars else ("", "cps")
            queries = [(legend, f"{hour}sum by ({by or 'instance'}) (rate({name}{selected}[$__rate_interval]))")]
        case "histogram":
            rate = f"sum by (le, backend) (rate({name}_bucket{selected}[$__rate_interval]))"
            queries = [(f"{{{{backend}}}} {q:.0%}", f"histogram_quantile({q}, {rate})") for q in (0.5, 0.95, 0.99)]
        case _:
            combine = "max" if name in NOT_SUMMED else "sum"
            queries = [(legend, f"{combine} by ({by or 'instance'}) ({name}{selected})")]
    title = name.removeprefix("chat_proxy_").removesuffix("_total").replace("_", " ").capitalize()
    title = title.replace(" usd", ", US dollars per hour")
    return _panel(title, family.what, unit, queries)


def _panel(title: str, what: str, unit: str, queries: list[tuple[str, str]]) -> Json:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(queries)
    ]
    return {
        "type": "timeseries",
        "title": title,
        "description": what,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _lay_out(panels: list[Json], row: str, new: list[Json]) -> None:
    """Add a row and its panels below those there are, three beside each other."""
    top = max((panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels), default=0)
    head = {"type": "row", "title": row, "collapsed": False, "panels": []}
    panels.append({"id": len(panels) + 1, **head, "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
    for index, panel in enumerate(new):
        place = {"x": index % 3 * WIDTH, "y": top + 1 + index // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
        panels.append({"id": len(panels) + 1, **panel, "gridPos": place})


def _variable(label: str) -> Json:
    query = f"label_values(chat_proxy_requests_total, {label})"
    chosen = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return {"name": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, **chosen}


# -- the alerts --------------------------------------------------------------------------------------------------


class Alert(NamedTuple):
    """A rule for Prometheus. docs/runbook.md says of each what to look at and what to do."""

    name: str
    severity: str  # critical: somebody has to act now; warning: today
    minutes: int  # how long it must hold
    query: str
    says: str


NOT_OURS = "done|client_gone|stopped|rejected|limit"  # ends that are no fault of the proxy or its upstreams
INTERNAL = 'chat_proxy_stream_end_total{reason="internal"}'
FAILED = "upstream_.+|frame_too_large|internal_error"
PASSED_OVER = "circuit_open|slow_start|unwell|rate_limit_wait|no_budget"  # not asked at all

ALERTS = (
    Alert("ChatProxyDown", "critical", 1, f"up{{{JOB}}} == 0", "{{ $labels.instance }} does not answer Prometheus."),
    Alert(
        "ChatProxyAnswersFail",
        "critical",
        5,
        f'sum by (route) (rate(chat_proxy_stream_end_total{{reason!~"{NOT_OURS}"}}[5m])) '
        '/ sum by (route) (rate(chat_proxy_stream_end_total{reason!~"rejected|client_gone"}[5m])) > 0.05',
        "{{ $value | humanizePercentage }} of the answers of route {{ $labels.route }} fail.",
    ),
    Alert(
        "ChatProxyInternalErrors",
        "warning",
        0,
        f"sum(({INTERNAL} unless {INTERNAL} offset 10m) or increase({INTERNAL}[10m])) > 0",  # a first one is a new series
        "Requests that ended by a fault of the proxy itself: {{ $value | humanize }}.",
    ),
    Alert(
        "ChatProxyBackendFails",
        "warning",
        5,
        f'sum by (backend) (rate(chat_proxy_upstream_attempts_total{{outcome=~"{FAILED}"}}[5m])) '
        f'/ sum by (backend) (rate(chat_proxy_upstream_attempts_total{{outcome!~"{PASSED_OVER}"}}[5m])) > 0.5',
        "{{ $value | humanizePercentage }} of the attempts at backend {{ $labels.backend }} fail.",
    ),
    Alert(
        "ChatProxyAnswersCut",
        "warning",
        5,
        'sum by (backend) (rate(chat_proxy_stream_end_total{reason=~"upstream_truncated|upstream_idle"}[5m])) '
        "/ sum by (backend) (rate(chat_proxy_stream_end_total[5m])) > 0.02",
        "{{ $value | humanizePercentage }} of the answers of backend {{ $labels.backend }} are cut in the middle.",
    ),
    Alert(
        "ChatProxyFirstTokenSlow",
        "warning",
        10,
        "histogram_quantile(0.95, sum by (le, route) (rate(chat_proxy_first_token_seconds_bucket[5m]))) > 20",
        "One request in twenty of route {{ $labels.route }} waits {{ $value | humanizeDuration }} for its first token.",
    ),
    Alert(
        "ChatProxyQueuesWait",
        "warning",
        5,
        'max by (target) (chat_proxy_target_slots{state="waiting"}) > 0',
        "Requests have been waiting for {{ $labels.target }} all the time.",
    ),
    Alert(
        "ChatProxyConnectionsWait",
        "warning",
        2,
        "chat_proxy_connections_waiting > 20",
        "{{ $value }} connections wait to be accepted by {{ $labels.instance }}.",
    ),
    Alert(
        "ChatProxyLimitsRefuse",
        "warning",
        15,
        "sum by (scope, name, limit) (rate(chat_proxy_limit_denials_total[5m])) > 0.1",
        "The limit {{ $labels.limit }} of {{ $labels.scope }} {{ $labels.name }} has been refusing requests all the time.",
    ),
    Alert(
        "ChatProxyStoreUnreachable",
        "critical",
        1,
        "chat_proxy_store_reachable == 0",
        "{{ $labels.instance }} cannot reach the store that counts limits and keeps keys.",
    ),
    Alert(
        "ChatProxyCostUnknown",
        "warning",
        15,
        "sum by (backend, model) (rate(chat_proxy_cost_unknown_attempts_total[5m])) "
        "/ on (backend) group_left () sum by (backend) (rate(chat_proxy_upstream_attempts_total[5m])) > 0.1",
        "What {{ $value | humanizePercentage }} of the answers of {{ $labels.backend }} cost is not known: "
        "model {{ $labels.model }}.",
    ),
    Alert(
        "ChatProxyUsageLost",
        "critical",
        0,
        'sum(increase(chat_proxy_usage_rows_total{state="lost"}[10m])) > 0',
        "{{ $value | humanize }} rows of the usage ledger are lost.",
    ),
    Alert(
        "ChatProxyUsageStoreFails",
        "warning",
        5,
        "sum(increase(chat_proxy_usage_store_failures_total[5m])) > 0",
        "The store of the usage ledger could not be reached {{ $value | humanize }} times in five minutes.",
    ),
    Alert(
        "ChatProxyConfigRejected",
        "warning",
        0,
        'sum by (instance) (increase(chat_proxy_config_reload_total{result="rejected"}[10m])) > 0',
        "{{ $labels.instance }} turned down a changed config, and serves the one before.",
    ),
    Alert(
        "ChatProxyWorkersDie",
        "warning",
        0,
        "increase(chat_proxy_worker_restarts_total[15m]) > 2",
        "{{ $value | humanize }} workers of {{ $labels.instance }} died within 15 minutes.",
    ),
    Alert(
        "ChatProxyLogLost",
        "warning",
        5,
        "increase(chat_proxy_log_lines_dropped_total[5m]) > 0",
        "{{ $value | humanize }} log lines of {{ $labels.instance }} are lost.",
    ),
    Alert(
        "ChatProxyDescriptorsRunOut",
        "critical",
        2,
        f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}} > 0.8",
        "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its file descriptors open.",
    ),
)


def alerts() -> str:
    """The rules, as `rule_files` of Prometheus takes them."""
    rules = [
        {
            "alert": one.name,
            "expr": one.query,
            **({"for": f"{one.minutes}m"} if one.minutes else {}),
            "labels": {"severity": one.severity},
            "annotations": {"summary": one.says, "runbook": f"docs/runbook.md#{one.name.lower()}"},
        }
        for one in ALERTS
    ]
    head = "# Made by `make docs` from deploy/observe.py. Scrape the proxy under the job name chat-proxy.\n"
    return head + yaml.safe_dump({"groups": [{"name": "chat-proxy", "rules": rules}]}, sort_keys=False, width=1000)


MADE = {
    "grafana/dashboard.json": dashboard,
    "prometheus/alerts.yaml": alerts,
    "helm/chat-proxy/alerts.yaml": alerts,  # a chart reads no file outside itself
}


def written() -> Iterator[tuple[Path, str]]:
    """Each file, and what it is to hold."""
    for name, make in MADE.items():
        yield FOLDER / name, make()


if __name__ == "__main__":
    for path, text in written():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(f"deploy/{path.relative_to(FOLDER)}")  # noqa: T201
