"""Fixtures for all tests, and how long hypothesis may look."""

import hypothesis
import structlog

from tests.support.app import serve, start_proxy
from tests.support.fixtures import upstream

__all__ = ["serve", "start_proxy", "upstream"]

# No deadlines: on a machine that others use, too, any single example may be slow. `make test-heavy` looks longer.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=40)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=600)
hypothesis.settings.load_profile("quick")

# Drawing a traceback with all its variables, as structlog does where rich is installed, takes seconds on a busy machine.
structlog.configure(
    processors=[structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
)
