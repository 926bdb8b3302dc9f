"""The dashboard and the alerts: made from the metrics there are, and asked of a real Prometheus that scrapes a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import yaml

from proxy.request import Usage
from proxy.store.base import Meter, Room, Want
from proxy.telemetry.record import AttemptRecord, StreamRecord
from tests.support.app import Running, StartProxy
from tests.support.debian import require
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOK = ROOT / "docs" / "runbook.md"


def observe() -> ModuleType:
    specification = importlib.util.spec_from_file_location("observe", ROOT / "deploy" / "observe.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    page = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every expression, with the dashboard's variables as Grafana fills them in."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [re.sub(r"\$(route|backend)", ".*", one).replace("$__rate_interval", "1m") for one in shown]
    return [*filled, *(rule["expr"] for rule in rules())]


def test_the_files_are_up_to_date() -> None:
    for path, text in observe().written():
        assert path.read_text() == text, f"run `make docs`: {path.name} is behind"


def test_every_metric_and_label_that_is_asked_for_exists() -> None:
    known = {family.name: family for family in observe().families()}
    for expression in expressions():
        names = set(re.findall(r"\b(?:chat_proxy|process)_\w+", expression))
        assert names or expression.startswith("up{")
        families = [known[re.sub(r"_(bucket|sum|count)$", "", name)] for name in names]
        labels = {label for family in families for label in family.labels} | {"le", "instance", "job"}
        asked = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)
        asked += [label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")]
        assert set(asked) <= labels, expression


def test_every_metric_has_a_panel() -> None:
    shown = "\n".join(target["expr"] for panel in panels() for target in panel["targets"])
    assert [family.name for family in observe().families() if family.name not in shown] == []


def test_every_alert_is_in_the_runbook_and_the_other_way() -> None:
    headings = re.findall(r"^### (ChatProxy\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    assert all(rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}" for rule in rules())
    for part in re.split(r"^### ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]:
        assert "**Look at**" in part, part
        assert "**Do**" in part, part


# -- promtool: does each alert fire when it should, and say the right thing


def rising(step: float, *, start: float = 0) -> str:
    return f"{start}+{step}x30"


END = "chat_proxy_stream_end_total"
TRIES = "chat_proxy_upstream_attempts_total"
HERE = 'instance="a",job="chat-proxy"'
FIRST = "chat_proxy_first_token_seconds_bucket"

FIRES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    # alert: the series for which it fires, its labels, what it says
    "ChatProxyDown": (
        {f"up{{{HERE}}}": "0x30"},
        {"instance": "a", "job": "chat-proxy"},
        "a does not answer Prometheus.",
    ),
    "ChatProxyAnswersFail": (
        {f'{END}{{reason="done",route="r"}}': rising(90), f'{END}{{reason="upstream_error",route="r"}}': rising(10)},
        {"route": "r"},
        "10% of the answers of route r fail.",
    ),
    "ChatProxyInternalErrors": (
        {f'{END}{{reason="internal"}}': "_x15 1x20"},
        {},
        "Requests that ended by a fault of the proxy itself: 1.",
    ),
    "ChatProxyBackendFails": (
        {
            f'{TRIES}{{backend="b",outcome="upstream_connect"}}': rising(6),
            f'{TRIES}{{backend="b",outcome="ok"}}': rising(2),
            f'{TRIES}{{backend="b",outcome="circuit_open"}}': rising(100),
        },
        {"backend": "b"},
        "75% of the attempts at backend b fail.",
    ),
    "ChatProxyAnswersCut": (
        {
            f'{END}{{reason="done",backend="b"}}': rising(90),
            f'{END}{{reason="upstream_truncated",backend="b"}}': rising(10),
        },
        {"backend": "b"},
        "10% of the answers of backend b are cut in the middle.",
    ),
    "ChatProxyFirstTokenSlow": (
        {
            f'{FIRST}{{route="r",le="20"}}': "0x30",
            f'{FIRST}{{route="r",le="+Inf"}}': rising(5),
            f'{FIRST}{{route="r",le="40"}}': rising(5),
        },
        {"route": "r"},
        "One request in twenty of route r waits 39s for its first token.",
    ),
    "ChatProxyQueuesWait": (
        {'chat_proxy_target_slots{target="t",state="waiting"}': "3x30"},
        {"target": "t"},
        "Requests have been waiting for t all the time.",
    ),
    "ChatProxyConnectionsWait": (
        {'chat_proxy_connections_waiting{instance="a"}': "21x30"},
        {"instance": "a"},
        "21 connections wait to be accepted by a.",
    ),
    "ChatProxyLimitsRefuse": (
        {'chat_proxy_limit_denials_total{scope="key",name="web",limit="parallel"}': rising(60)},
        {"scope": "key", "name": "web", "limit": "parallel"},
        "The limit parallel of key web has been refusing requests all the time.",
    ),
    "ChatProxyStoreUnreachable": (
        {'chat_proxy_store_reachable{instance="a"}': "0x30"},
        {"instance": "a"},
        "a cannot reach the store that counts limits and keeps keys.",
    ),
    "ChatProxyCostUnknown": (
        {
            'chat_proxy_cost_unknown_attempts_total{backend="b",model="m"}': rising(30),
            f'{TRIES}{{backend="b",outcome="ok"}}': rising(60),
        },
        {"backend": "b", "model": "m"},
        "What 50% of the answers of b cost is not known: model m.",
    ),
    "ChatProxyUsageLost": (
        {'chat_proxy_usage_rows_total{state="lost"}': "0x15 9x20"},
        {},
        "9 rows of the usage ledger are lost.",
    ),
    "ChatProxyUsageStoreFails": (
        {"chat_proxy_usage_store_failures_total": rising(4)},
        {},
        "The store of the usage ledger could not be reached 20 times in five minutes.",
    ),
    "ChatProxyConfigRejected": (
        {'chat_proxy_config_reload_total{result="rejected",instance="a"}': "0x15 1x20"},
        {"instance": "a"},
        "a turned down a changed config, and serves the one before.",
    ),
    "ChatProxyWorkersDie": (
        {'chat_proxy_worker_restarts_total{instance="a"}': rising(1)},
        {"instance": "a"},
        "15 workers of a died within 15 minutes.",
    ),
    "ChatProxyLogLost": (
        {'chat_proxy_log_lines_dropped_total{instance="a"}': rising(100)},
        {"instance": "a"},
        "500 log lines of a are lost.",
    ),
    "ChatProxyDescriptorsRunOut": (
        {f"process_open_fds{{{HERE}}}": "90x30", f"process_max_fds{{{HERE}}}": "100x30"},
        {"instance": "a", "job": "chat-proxy"},
        "a has 90% of its file descriptors open.",
    ),
}

HEALTHY = {
    f"up{{{HERE}}}": "1x30",
    f'{END}{{reason="done",route="r",backend="b"}}': rising(100),
    f'{END}{{reason="upstream_error",route="r",backend="b"}}': rising(1),
    f'{END}{{reason="rejected",route="r",backend="b"}}': rising(500),
    f'{TRIES}{{backend="b",outcome="ok"}}': rising(100),
    f'{TRIES}{{backend="b",outcome="upstream_error"}}': rising(10),
    f'{FIRST}{{route="r",le="20"}}': rising(100),
    f'{FIRST}{{route="r",le="+Inf"}}': rising(100),
    'chat_proxy_target_slots{target="t",state="waiting"}': "0 9 0 9x3 0x30",
    'chat_proxy_target_slots{target="t",state="taken"}': "9x30",
    'chat_proxy_limit_denials_total{scope="key",name="web",limit="parallel"}': rising(1),
    'chat_proxy_store_reachable{instance="a"}': "1x30",
    'chat_proxy_usage_rows_total{state="kept"}': rising(100),
    'chat_proxy_cost_unknown_attempts_total{backend="b",model="m"}': rising(1),
    'chat_proxy_config_reload_total{result="accepted",instance="a"}': rising(1),
    f"process_open_fds{{{HERE}}}": "20x30",
    f"process_max_fds{{{HERE}}}": "100x30",
}


def unit_tests() -> Iterator[dict[str, Any]]:
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    for name, (series, labels, says) in FIRES.items():
        notes = {"summary": says, "runbook": f"docs/runbook.md#{name.lower()}"}
        alert = {"exp_labels": {"severity": severities[name], **labels}, "exp_annotations": notes}
        yield unit_test(series, [{"eval_time": "20m", "alertname": name, "exp_alerts": [alert]}])
    yield unit_test(HEALTHY, [{"eval_time": "20m", "alertname": name, "exp_alerts": []} for name in FIRES])


def unit_test(series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": inputs, "alert_rule_test": expected}


def test_each_alert_fires_when_it_should_and_not_when_all_is_well(tmp_path: Path) -> None:
    assert list(FIRES) == [rule["alert"] for rule in rules()]
    require("prometheus")
    promtool("check", "rules", str(ALERTS))
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": list(unit_tests())}))
    promtool("test", "rules", str(path))


def promtool(*arguments: str) -> None:
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


# -- a real Prometheus, a live scrape


def fill(proxy: Running) -> None:
    """Make every metric have a sample, as months of traffic would."""
    metrics = proxy.app.metrics
    for end, code in (("done", ""), ("upstream_truncated", "upstream_truncated"), ("internal", "upstream_error")):
        record = StreamRecord(request_id="r", started_at=100.0, route="default", backend="echo", status=200)
        record.content(101.0, 1)
        record.content(102.0, 1)
        record.usage, record.hedge, record.has_finish_reason = Usage(10, 20), "won", False
        cost = None if code else Decimal("0.01")
        times = {"started_at": 100.0, "ended_at": 103.0}
        record.attempts = [
            AttemptRecord("echo", "m", **times, error_code=code, cost_usd=cost, role=role)
            for role in ("answer", "continuation")
        ]
        record.priced = True
        record.finish(end, 103.0)  # type: ignore[arg-type]
        metrics.ended(record)
    meter = Meter(name="n", scope="key", owner="web", unit="parallel", limit=2)
    metrics.limits.rooms([Want(meter, 0, 0)], [Room(1, 0)])
    metrics.limits.denied(meter)
    for result in ("accepted", "rejected"):
        metrics.config_reload(result)


@contextlib.asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus that scrapes `target` and has our alerts; the address of its queries."""
    port = free_port()
    often = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    scrape = {"job_name": "chat-proxy", **often, "static_configs": [{"targets": [target]}]}
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"scrape_configs": [scrape], "rule_files": [str(ALERTS)]}))
    process = await asyncio.create_subprocess_exec(
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}/api/v1/query"
    finally:
        process.kill()
        await process.wait()


CONFIG = """
usage: {store: "sqlite:///FOLDER/usage.db"}
backends: {echo: {kind: echo}}
routes: [{name: default, to: [{target: echo/m, concurrency: 3}]}]
"""


async def test_every_expression_has_an_answer_from_a_live_scrape(start_proxy: StartProxy, tmp_path: Path) -> None:
    require("prometheus")
    proxy = await start_proxy(CONFIG.replace("FOLDER", str(tmp_path)))
    async with aiohttp.ClientSession() as client:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        async with client.post(f"{proxy.url}/chat", json=body) as answer:
            assert answer.status == 200
            await answer.read()
        fill(proxy)
        waiting = [re.sub(r" (==|>) [\d.]+$", "", one) for one in expressions() if "chat_proxy_worker" not in one]
        async with prometheus(tmp_path, f"127.0.0.1:{proxy.port}") as url, asyncio.timeout(120):
            while waiting := [one for one in waiting if not await answered(client, url, one)]:
                await asyncio.sleep(0.2)


async def answered(client: aiohttp.ClientSession, url: str, expression: str) -> bool:
    try:
        async with client.get(url, params={"query": expression}) as answer:
            if answer.status == 503:  # it listens, and is not ready
                return False
            found = await answer.json()
            assert answer.status == 200, (expression, found)
    except aiohttp.ClientConnectionError:  # it is not up yet
        return False
    return bool(found["data"]["result"])
