"""Fixtures for all tests."""

from tests.support.fixtures import upstream
from tests.support.house import open_house, serve

__all__ = ["open_house", "serve", "upstream"]
