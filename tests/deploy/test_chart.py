"""The Helm chart, rendered by Helm's own engine, against the schemas of Kubernetes and the proxy's own config check."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import ALL, PLAIN, ROOT, TOOLS, helm, manifests, rendered
from tests.project.test_kubernetes import config_of, load, one_drain

pytestmark = pytest.mark.deploy

OWN = """
# mine
server: {drain_s: "${DRAIN_SECONDS}", reload: off}
backends: {far: {kind: openai-compatible, base_url: "http://far.example/v1", api_key: "${CHAT_PROXY_KEY}"}}
auth: {keys: [{name: mine, key: "${CHAT_PROXY_KEY}"}]}
routes:
  - {name: second, match: {model: "z*"}, to: far/z}
  - {name: first, to: far/a}
"""


def test_helm_has_no_complaint():
    lint = helm(ALL)["lint"]
    assert [each["error"] for each in lint["messages"]] == ["icon is recommended"]
    assert lint["errors"] == []


@pytest.mark.parametrize("name", ["chat-proxy.yaml", "autoscaling.yaml", "servicemonitor.yaml"])
def test_the_plain_manifests_are_up_to_date(name):
    assert (PLAIN / name).read_text() == manifests()[name], "run `make manifests`"


@pytest.mark.parametrize("values", [{}, ALL], ids=["as it comes", "all on"])
def test_kubernetes_knows_every_field(values, tmp_path):
    for name, text in rendered(values).items():
        if name in {"NOTES", "servicemonitor", "prometheusrule"}:  # the operator's schemas are not at hand
            continue
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        done = subprocess.run(
            [TOOLS / "kubernetes-validate", "--strict", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("drain", "sleep"), [(1, 1), (30, 5), (3600, 90)])
def test_one_number_drives_drain_and_grace(drain: int, sleep: int, tmp_path: Path):
    objects = whole({"drainSeconds": drain, "preStopSeconds": sleep})
    assert one_drain(objects, config_of(objects, tmp_path)) == (drain, sleep, drain + sleep + 10)


def whole(values: dict[str, Any]) -> dict[str, Any]:
    texts = rendered(values)
    del texts["NOTES"]
    return load("\n---\n".join(texts.values()))


def test_your_config_takes_the_place_of_the_whole(tmp_path):
    objects = whole({"config": OWN})
    assert objects["ConfigMap"]["data"]["config.yaml"].strip() == OWN.strip().replace('"${DRAIN_SECONDS}"', "300")
    config = config_of(objects, tmp_path)
    assert list(config.backends) == ["far"]
    assert config.settings.server.reload == "off"


def test_the_operator_is_given_the_alerts_that_promtool_checked():
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    assert load(rendered(ALL)["prometheusrule"])["PrometheusRule"]["spec"] == alerts
    assert "prometheusrule" not in rendered({})


def test_the_autoscaler_alone_says_how_many():
    assert "replicas" not in load(rendered(ALL)["deployment"])["Deployment"]["spec"]
    assert load(rendered({"replicas": 3})["deployment"])["Deployment"]["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"drainSeconds": 0}, "drainSeconds"),
        ({"drainSecond": 30}, "drainSecond"),
        ({"image": {"digest": "sha256:no"}}, "digest"),
        ({"config": "server: {drain_s: 5}"}, "drainSeconds"),
        ({"config": "server:"}, "drainSeconds"),
        ({"config": "a: [b"}, "YAML"),
    ],
)
def test_a_mistake_is_named(values, says):
    assert says in (helm(values)["error"] or "")
