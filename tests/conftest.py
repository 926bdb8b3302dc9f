"""Fixtures for all tests, and how long hypothesis may look."""

import hypothesis

from tests.support.fixtures import upstream
from tests.support.house import open_house, serve

__all__ = ["open_house", "serve", "upstream"]

# On a machine that others use, too, any single example may be slow.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
