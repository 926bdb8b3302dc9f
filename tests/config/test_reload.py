"""A change of the config file is seen once, however it is made (E02). Real files."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from proxy.config import reload
from proxy.config.reload import watch


class Seen:
    """What a watch reports, as it reports it, from the content that the file has now."""

    def __init__(self, path: Path) -> None:
        self._watch = watch(path, known=digest(path) if path.exists() else None)
        self._items: asyncio.Queue[None] = asyncio.Queue()

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with aclosing(self._watch) as changes:
            async for _ in changes:
                self._items.put_nowait(None)

    async def _changed(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._items.get()
        except TimeoutError:
            return False
        return True

    async def change(self) -> None:
        assert await self._changed(within=60)

    async def nothing(self) -> None:
        assert not await self._changed(within=0.4)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(reload, "LOOK_S", 0.05)
    monkeypatch.setattr(reload, "DEBOUNCE_S", 0.06)
    monkeypatch.setattr(reload, "GONE_S", 3600)  # a file that is gone is news then; a busy machine may take 2 s


@pytest.fixture
async def seen(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("one")
    async with Seen(file) as seen:
        yield seen


async def test_a_rewrite_in_place_is_seen(seen, tmp_path):
    (tmp_path / "config.yaml").write_text("two")
    await seen.change()


async def test_a_new_file_renamed_over_the_old_is_seen(seen, tmp_path):
    for text in ("two", "three"):
        (tmp_path / "config.yaml~").write_text(text)
        (tmp_path / "config.yaml~").replace(tmp_path / "config.yaml")
        await seen.change()


async def test_a_file_deleted_and_written_again_is_seen_once_it_is_back(seen, tmp_path):
    (tmp_path / "config.yaml").unlink()
    await seen.nothing()
    (tmp_path / "config.yaml").write_text("two")
    await seen.change()


async def test_the_same_content_written_again_is_no_change(seen, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text())
    os.utime(file, (1, 1))
    (tmp_path / "neighbour.yaml").write_text("x")
    await seen.nothing()
    file.write_text("two")
    await seen.change()


async def test_a_file_written_in_pieces_is_reported_when_it_stands_still(seen, tmp_path, monkeypatch):
    monkeypatch.setattr(reload, "DEBOUNCE_S", 0.6)  # a busy machine may take a piece's 0.03 s ten times over
    with (tmp_path / "config.yaml").open("w") as file:
        for _ in range(10):
            file.write("piece\n")
            file.flush()
            await asyncio.sleep(0.03)
            assert seen._items.empty()
    await seen.change()
    await seen.nothing()


async def test_a_swapped_symlink_is_seen_and_what_it_leads_to_is_watched(tmp_path):
    (tmp_path / "releases").mkdir()
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir()
        (tmp_path / "releases" / name / "config.yaml").write_text(f"release {name}")
    link = tmp_path / "config.yaml"
    link.symlink_to("releases/1/config.yaml")
    async with Seen(link) as seen:
        (tmp_path / "new").symlink_to("releases/2/config.yaml")
        (tmp_path / "new").replace(link)
        await seen.change()
        (tmp_path / "releases" / "2" / "config.yaml").write_text("edited where the link leads")
        await seen.change()


async def test_a_kubernetes_config_map_update_is_seen(tmp_path):
    """The kubelet writes a new dated directory and renames the link `..data` to it."""

    def publish(date: str, text: str) -> None:
        (tmp_path / date).mkdir()
        (tmp_path / date / "config.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(date)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    publish("..2026_01", "one")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    async with Seen(tmp_path / "config.yaml") as seen:
        for date in ("..2026_02", "..2026_03"):
            publish(date, date)
            await seen.change()
        await seen.nothing()


async def test_a_directory_that_goes_away_and_comes_back_is_waited_for(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "config.yaml"
    file.write_text("one")
    async with Seen(file) as seen:
        file.unlink()
        folder.rmdir()
        await seen.nothing()
        folder.mkdir()
        file.write_text("two")
        await seen.change()


async def test_links_in_a_circle_are_no_file_and_no_endless_loop(tmp_path):
    (tmp_path / "config.yaml").symlink_to("b.yaml")
    (tmp_path / "b.yaml").symlink_to("config.yaml")
    async with Seen(tmp_path / "config.yaml") as seen:
        await seen.nothing()
        (tmp_path / "b.yaml").unlink()
        (tmp_path / "b.yaml").write_text("out of the circle")
        await seen.change()


async def test_a_change_between_reading_the_file_and_watching_it_is_seen(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a")
    read = digest(path)
    path.write_text("b")
    async with aclosing(watch(path, known=read)) as changes, asyncio.timeout(60):
        await anext(changes)
    async with aclosing(watch(path, known=digest(path))) as changes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await anext(changes)
