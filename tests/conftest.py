"""Fixtures for all tests, how long hypothesis may look, and how many processes run tests."""

import gc
import os

import hypothesis
import structlog

from tests.support.app import serve, start_proxy
from tests.support.fixtures import upstream

__all__ = ["serve", "start_proxy", "upstream"]

# No deadlines: on a machine that others use, too, any single example may be slow. `make test` looks at the same examples
# each time, so that it fails for what changed; `make test-heavy` looks at others, and longer.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=600)
hypothesis.settings.load_profile("quick")

# Drawing a traceback with all its variables, as structlog does where rich is installed, takes seconds on a busy machine.
structlog.configure(
    processors=[structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
)

# Processes that tests start find the package compiled: 0.68 s of a CPU to load it are 0.55 then, some hundred times.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nothing that collecting the tests makes is garbage, and to look through it again and again took half of that time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int | None:
    """Two more than there are CPUs: many tests wait, for a process to start or for a timer."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 2
