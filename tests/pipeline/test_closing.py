"""Closing a backend's stream: at once where it can, and never for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from proxy.events import Batch
from proxy.pipeline import closing


async def test_a_stream_is_closed_with_all_that_it_awaits() -> None:
    closed: list[str] = []

    async def stream() -> AsyncGenerator[Batch, None]:
        try:
            yield Batch([])
        finally:
            await asyncio.sleep(0)
            closed.append("upstream")

    one = stream()
    await anext(one)
    await closing.close(one)
    await closing.close(one)
    assert closed == ["upstream"]


async def test_a_stream_that_does_not_close_is_given_up_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closing, "CLOSE_S", 0.01)

    async def stream() -> AsyncGenerator[Batch, None]:
        try:
            yield Batch([])
        finally:
            await asyncio.Event().wait()

    one = stream()
    await anext(one)
    async with asyncio.timeout(60):
        await closing.close(one)
    assert "backend_slow_to_close" in capsys.readouterr().out + caplog.text
