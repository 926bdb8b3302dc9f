"""What a test does when the machine lacks something it needs.

On a developer's machine the test is skipped, with the reason in pytest's summary. In CI nothing may be
skipped in silence: there the same thing is a failure.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def cannot_run(reason: str) -> NoReturn:
    """Skip the test; in CI, fail it."""
    if in_ci():
        pytest.fail(f"{reason} (in CI this is a failure, not a skip)", pytrace=False)
    pytest.skip(reason)
