"""The manifests in deploy/kubernetes: they agree with each other, and with the proxy's own check of their config."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import proxy
from proxy.app import settings_for
from proxy.config.load import Config, load_config
from proxy.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ROOT / "deploy" / "kubernetes"
SECRETS = {"CHAT_PROXY_KEY": "cp-0a1b2c3d4e5f6a7b8c9d"}


def load(text: str) -> dict[str, Any]:
    """The objects by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(text) if each}


def config_of(objects: dict[str, Any], folder: Path) -> Config:
    """The config, as the proxy reads it."""
    path = folder / "config.yaml"
    path.write_text(objects["ConfigMap"]["data"]["config.yaml"])
    return load_config(path, settings_for=settings_for, env=SECRETS, host="0.0.0.0", port=8080)


def one_drain(objects: dict[str, Any], config: Config) -> tuple[float, int, int]:
    """The three times that must agree: drain, preStop, grace."""
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    return config.settings.server.drain_s, sleep, pod["terminationGracePeriodSeconds"]


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    return load("\n---\n".join(path.read_text() for path in sorted(PLAIN.glob("*.yaml"))))


def test_a_pod_is_given_the_time_to_drain(objects, tmp_path):
    drain, sleep, grace = one_drain(objects, config_of(objects, tmp_path))
    assert grace == sleep + drain + 10


def test_the_config_is_the_images_own(objects, tmp_path):
    config = config_of(objects, tmp_path)
    assert config.warnings == ()
    theirs = yaml.safe_load(objects["ConfigMap"]["data"]["config.yaml"])
    del theirs["server"]
    assert theirs == yaml.safe_load((ROOT / "deploy" / "config.yaml").read_text())


def test_the_chart_has_the_version_of_the_code():
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "chat-proxy" / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == proxy.__version__


def test_all_names_lead_to_the_same_pods(objects):
    pod = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == pod for selector in selectors)
    assert (
        objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        <= objects["Service"]["metadata"]["labels"].items()
    )
    assert (
        objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == objects["Deployment"]["metadata"]["name"]
    )
    port = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"][0]
    assert port["name"] == objects["Service"]["spec"]["ports"][0]["targetPort"]
    assert objects["ServiceMonitor"]["spec"]["endpoints"][0]["port"] == objects["Service"]["spec"]["ports"][0]["name"]


def test_no_stream_is_cut_to_save_a_pod(objects):
    assert objects["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    down = objects["HorizontalPodAutoscaler"]["spec"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]


def test_it_scales_by_a_metric_that_there_is(objects):
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert re.search(rf"^{name} ", Metrics().exposition()[0].decode(), re.MULTILINE)


def test_the_container_has_as_little_as_it_needs(objects):
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert "env" not in container, "all comes from the Secret"
