"""The Helm chart, rendered; `python -m tests.deploy.chart` writes deploy/kubernetes anew from it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.need import cannot_run

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "chat-proxy"
PLAIN = ROOT / "deploy" / "kubernetes"
TOOLS = ROOT / ".make" / "deploy" / "bin"  # of tests/deploy/requirements.lock
PYTHON = TOOLS / "python"

ALL = {"autoscaling": {"enabled": True}, "serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
HEAD = "# {}\n# Made by `make manifests` from deploy/helm/chat-proxy, with the values it comes with.\n"
FILES = {
    "chat-proxy.yaml": (
        "kubectl apply -f chat-proxy.yaml; it needs a Secret `chat-proxy` with CHAT_PROXY_KEY",
        ["configmap", "deployment", "service", "poddisruptionbudget", "networkpolicy"],
    ),
    "autoscaling.yaml": ("Take `replicas` out of chat-proxy.yaml beside this", ["horizontalpodautoscaler"]),
    "servicemonitor.yaml": ("For the Prometheus operator", ["servicemonitor", "prometheusrule"]),
}


def helm(values: dict[str, Any]) -> dict[str, Any]:
    """What Helm makes of the chart: `lint`, `templates` by name, and `error` if it refuses the values."""
    if not PYTHON.exists():
        cannot_run("needs Helm: `make test-deploy` installs it")
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("helm.py"), CHART],
        input=json.dumps(values), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """The text of each template, by its file's stem."""
    found = helm(values)
    assert found["error"] is None, found["error"]
    return {Path(name).stem: text.strip("\n") for name, text in found["templates"].items() if text.strip()}


def manifests() -> dict[str, str]:
    """The files of deploy/kubernetes."""
    texts = rendered(ALL) | rendered({})
    return {
        name: "---\n".join([HEAD.format(what), *(texts[part] + "\n" for part in parts)])
        for name, (what, parts) in FILES.items()
    }


if __name__ == "__main__":
    for name, text in manifests().items():
        (PLAIN / name).write_text(text)
