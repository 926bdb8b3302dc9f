"""Lints and renders the chart with Helm's own engine: `helm.py CHART < values.json`, JSON out. Runs in .make/deploy."""

from __future__ import annotations

import json
import sys

import helm_python  # type: ignore[import-not-found]


def main(chart: str, values: dict[str, object]) -> dict[str, object]:
    found = {"lint": helm_python.lint(chart), "templates": {}, "error": None}
    with helm_python.Chart.load(chart) as loaded:
        try:
            found["templates"] = loaded.render(values, name="chat-proxy", namespace="default")
            loaded.validate_schema(values)
        except helm_python.HelmError as error:
            found["error"] = str(error)
    return found


if __name__ == "__main__":
    json.dump(main(sys.argv[1], json.load(sys.stdin)), sys.stdout, default=vars)
