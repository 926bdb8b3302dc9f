"""Compose files, workflow and bake file against the schemas and grammars of those who read them."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.deploy.chart import PYTHON, ROOT, TOOLS
from tests.support.need import cannot_run

pytestmark = pytest.mark.deploy


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("compose-spec", "deploy/compose.yaml"),
        ("compose-spec", "deploy/team/compose.yaml"),
        ("github-workflows", ".github/workflows/release.yml"),
    ],
)
def test_the_schema_takes_it(schema, file):
    tool = TOOLS / "check-jsonschema"
    if not tool.exists():
        cannot_run("needs check-jsonschema: `make test-deploy` installs it")
    done = subprocess.run(
        [tool, "--builtin-schema", f"vendor.{schema}", ROOT / file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_both_images_are_built_for_two_architectures_with_an_sbom():
    script = "import hcl2, json, sys; json.dump(hcl2.load(sys.stdin), sys.stdout)"
    text = (ROOT / "docker-bake.hcl").read_text()
    done = subprocess.run([PYTHON, "-c", script], input=text, capture_output=True, text=True, check=True)
    targets = {name.strip('"'): body for each in json.loads(done.stdout)["target"] for name, body in each.items()}
    image, full = targets["image"], targets["full"]
    assert [each.strip('"') for each in image["platforms"]] == ["linux/amd64", "linux/arm64"]
    assert '"type=sbom"' in image["attest"]
    assert [each.strip('"') for each in full["inherits"]] == ["image"]
    assert not set(image["tags"]) & set(full["tags"])
    default = re.search(r"^ARG LOCK=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert image["args"]["LOCK"].strip('"') == default
    assert all((ROOT / body["args"]["LOCK"].strip('"')).exists() for body in targets.values())


def test_what_runs_in_the_release_is_pinned_and_may_do_little():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    uses = re.findall(r"uses: (\S+)", text)
    assert uses
    assert all(re.search(r"@[0-9a-f]{40}$", each) for each in uses)
    assert re.search(r"^permissions: \{contents: read\}$", text, re.MULTILINE)
