"""Fixtures that any test may ask for; `tests/conftest.py` imports them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.testing.upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream on a free port, closed after the test with all its connections."""
    async with ScriptedUpstream() as scripted:
        yield scripted
