"""Rows on disk, before they are in the store."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from proxy.ledger import spool as spools
from proxy.ledger.spool import Spool, rows_in
from tests.ledger.rows import row


def lines(*ids: str) -> bytes:
    return b"".join(msgspec.json.encode(row(id)) + b"\n" for id in ids)


def test_rows_are_read_until_they_are_in_the_store(tmp_path: Path):
    spool = Spool.new(tmp_path)
    spool.append(lines("a", "b"))
    rows, position = spool.read()
    assert [one.id for one in rows] == ["a", "b"]
    assert [one.id for one in spool.read()[0]] == ["a", "b"]
    spool.advance(position)
    assert not spool.waiting
    spool.append(lines("c"))
    assert [one.id for one in spool.read()[0]] == ["c"]
    spool.close()
    assert [one.id for one in rows_in(tmp_path)] == ["a", "b", "c"]


def test_many_rows_are_read_in_pieces(tmp_path: Path):
    spool = Spool.new(tmp_path)
    spool.append(lines(*map(str, range(20))))
    ids = []
    while spool.waiting:
        rows, position = spool.read(most=2000)
        ids += [one.id for one in rows]
        spool.advance(position)
    assert ids == [str(number) for number in range(20)]
    spool.close()


def test_a_file_that_is_in_the_store_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spools, "CUT_AT", 100)
    spool = Spool.new(tmp_path)
    spool.append(lines("a"))
    spool.advance(spool.read()[1])
    assert spool.path.stat().st_size == 0
    spool.append(lines("b"))
    assert [one.id for one in spool.read()[0]] == ["b"]
    spool.close()


def test_what_a_process_holds_is_left_alone_and_what_it_left_is_found(tmp_path: Path):
    spool = Spool.new(tmp_path)
    spool.append(lines("a"))
    assert list(Spool.left_behind(tmp_path)) == []
    spool.close()
    for found in Spool.left_behind(tmp_path):
        rows, position = found.read()
        assert [one.id for one in rows] == ["a"]
        found.advance(position)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rest", [b'{"id": "c', b"\xff\x00 no row\n", b"{}\n"])
def test_a_line_that_is_no_row_hides_no_other(tmp_path: Path, rest: bytes):
    (tmp_path / "1.jsonl").write_bytes(lines("a") + rest)
    (found,) = (list_of(spool) for spool in Spool.left_behind(tmp_path))
    assert found == (["a"], 1)
    assert list(tmp_path.iterdir()) == []


def list_of(spool: Spool) -> tuple[list[str], int]:
    ids = []
    while spool.waiting:
        rows, position = spool.read()
        ids += [one.id for one in rows]
        spool.advance(position)
    return ids, spool.unreadable


def test_a_disk_that_is_full_leaves_no_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spool = Spool.new(tmp_path)
    spool.append(lines("a"))
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < len(lines("b", "c")):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:50])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        spool.append(lines("b", "c"))
    monkeypatch.undo()
    spool.append(lines("d"))
    assert [one.id for one in spool.read()[0]] == ["a", "d"]
    spool.close()
