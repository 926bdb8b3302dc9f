"""The locked SDK is 2.x, for litellm's sake; what the proxy takes from it must be the same in 3.x."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.heavy
def test_all_that_holds_with_sdk_2_holds_with_sdk_3(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]
    subprocess.run([*pip, "--target", str(tmp_path), "openai>=3,<4"], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    version = subprocess.run(
        [sys.executable, "-c", "import openai; print(openai.__version__)"],
        env=environment, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert version.startswith("3.")
    tests = [str(Path(__file__).with_name("test_backend.py"))]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
