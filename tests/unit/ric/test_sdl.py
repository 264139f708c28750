"""The shared data layer: survives restarts, keeps all or nothing, and shows tampering."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.clock import SimClock
from ric.errors import TwinRicError
from ric.sdl import AuditEntry, Change, Sdl

CLOCK = SimClock(1_700_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ric.sqlite"


def _entries(number: int) -> list[AuditEntry]:
    return [AuditEntry("pms", "a1.put", f"t/p{index}", {"revision": index}) for index in range(number)]


def test_sdl_reads_after_reopening_what_was_committed(path: Path) -> None:
    sdl = Sdl(path, CLOCK)
    sdl.commit([Change("a", "k", "1"), Change("b", "k", "2"), Change("a", "l", "3")])
    sdl.commit([Change("a", "k", "4"), Change("a", "l", None), Change("a", "never there", None)])
    sdl.close()
    again = Sdl(path, CLOCK)
    assert (again.read("a"), again.read("b"), again.read("c")) == ({"k": "4"}, {"k": "2"}, {})
    again.close()


def test_sdl_commit_is_all_or_nothing(path: Path) -> None:
    sdl = Sdl(path, CLOCK)
    with pytest.raises(TypeError):
        sdl.commit([Change("a", "k", "1")], [AuditEntry("x", "y", "z", {"not json": object()})])
    assert (sdl.read("a"), sdl.audit_rows()) == ({}, [])
    sdl.commit([Change("a", "k", "2")])
    assert sdl.read("a") == {"k": "2"}
    sdl.close()


def test_sdl_in_memory_needs_no_file() -> None:
    sdl = Sdl(None, CLOCK)
    sdl.commit([Change("a", "k", "v")])
    assert sdl.read("a") == {"k": "v"}
    sdl.close()


def test_sdl_flushes_every_commit_to_disk(path: Path) -> None:
    sdl = Sdl(path, CLOCK)
    assert sdl._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sdl._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    sdl.close()


@given(st.lists(st.integers(1, 3), max_size=6))
def test_audit_chain_verifies_over_any_batches(sizes: list[int]) -> None:
    sdl = Sdl(None, CLOCK)
    for size in sizes:
        sdl.commit([], _entries(size))
    rows = sdl.audit_rows()
    assert [row.number for row in rows] == list(range(1, sum(sizes) + 1))
    head = sdl.verify_audit()
    assert head == ((len(rows), rows[-1].hash) if rows else (0, b""))
    for row in rows:  # a log that has grown since still holds every head that it had
        assert sdl.verify_audit((row.number, row.hash)) == head
    sdl.close()


def _tamper(path: Path, statement: str) -> Sdl:
    sdl = Sdl(path, CLOCK)
    sdl.commit([], _entries(5))
    sdl.close()
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()
    return Sdl(path, CLOCK)


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        pytest.param("UPDATE audit SET actor = 'me' WHERE number = 3", 3, id="changed"),
        pytest.param("UPDATE audit SET details = '{}' WHERE number = 1", 1, id="details changed"),
        pytest.param("UPDATE audit SET time_ns = time_ns + 1 WHERE number = 4", 4, id="time changed"),
        pytest.param("DELETE FROM audit WHERE number = 2", 3, id="removed"),
        pytest.param("DELETE FROM audit WHERE number = 1", 2, id="cut at the start"),
    ],
)
def test_audit_tampering_is_found_at_the_row(path: Path, statement: str, number: int) -> None:
    sdl = _tamper(path, statement)
    with pytest.raises(TwinRicError, match=rf"AUDIT-TAMPERED audit\.number = {number}"):
        sdl.verify_audit()
    sdl.close()


FORGED = "INSERT OR REPLACE INTO entry VALUES ('audit', 'head', (SELECT number || ':' || lower(hex(hash)) "
FORGED += "FROM audit ORDER BY number DESC LIMIT 1))"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("DELETE FROM audit WHERE number = 5", id="last row cut off"),
        pytest.param("DELETE FROM audit", id="all rows cut off"),
        pytest.param("DELETE FROM entry WHERE namespace = 'audit'", id="note of the head removed"),
    ],
)
def test_audit_cut_at_its_end_is_found_by_the_head_that_the_store_noted(path: Path, statement: str) -> None:
    sdl = _tamper(path, statement)
    with pytest.raises(TwinRicError, match=r"AUDIT-TAMPERED audit\.head"):
        sdl.verify_audit()
    sdl.close()


def test_audit_rows_in_another_order_are_found(path: Path) -> None:
    swap = "UPDATE audit SET number = CASE number WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE number IN (2, 3)"
    sdl = _tamper(path, swap)
    sdl._db.execute("UPDATE audit SET number = -number WHERE number < 0")
    with pytest.raises(TwinRicError, match=r"AUDIT-TAMPERED audit\.number = 2"):
        sdl.verify_audit()
    sdl.close()


def test_audit_cut_with_its_note_is_found_with_the_head_kept_elsewhere(path: Path) -> None:
    sdl = Sdl(path, CLOCK)
    sdl.commit([], _entries(5))
    head = sdl.verify_audit()
    sdl.close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM audit WHERE number = 5")
        db.execute(FORGED)
    db.close()
    again = Sdl(path, CLOCK)
    again.verify_audit()
    with pytest.raises(TwinRicError, match=r"AUDIT-TAMPERED audit\.anchor"):
        again.verify_audit(head)
    again.commit([], _entries(2))  # grown again, to the same length and beyond
    with pytest.raises(TwinRicError, match=r"AUDIT-TAMPERED audit\.anchor"):
        again.verify_audit(head)
    again.close()


def test_audit_of_the_first_layout_gets_its_head_noted(path: Path) -> None:
    sdl = Sdl(path, CLOCK)
    sdl.commit([], _entries(3))
    head = sdl.verify_audit()
    sdl.close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM entry")
        db.execute("PRAGMA user_version = 1")
    db.close()
    again = Sdl(path, CLOCK)
    assert again.verify_audit(head) == head
    again.close()


def test_sdl_full_disk_loses_nothing_and_takes_changes_again(path: Path) -> None:
    sdl = Sdl(path, CLOCK)
    sdl.commit([Change("a", "kept", "x" * 1_000)], _entries(2))
    pages = sdl._db.execute("PRAGMA page_count").fetchone()[0]
    sdl._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(TwinRicError, match="SDL-FAILED"):
        sdl.commit([Change("a", "big", "y" * 100_000)], _entries(1))
    assert sdl.read("a") == {"kept": "x" * 1_000}
    assert sdl.verify_audit().number == 2
    sdl._db.execute("PRAGMA max_page_count = 1000000")
    sdl.commit([Change("a", "big", "y" * 100_000)], _entries(1))
    assert sdl.verify_audit().number == 3
    sdl.close()


def test_audit_pages_through_rows() -> None:
    sdl = Sdl(None, CLOCK)
    sdl.commit([], _entries(5))
    assert [row.number for row in sdl.audit_rows(after=2, limit=2)] == [3, 4]
    assert sdl.audit_rows(after=4)[0].entry == _entries(5)[4]
    sdl.close()


def _no_folder(path: Path) -> None:
    path.parent.rmdir()


def _not_a_database(path: Path) -> None:
    path.write_bytes(b"this is not an SQLite file" * 100)


def _later_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("spoil", [_no_folder, _not_a_database, _later_version])
def test_sdl_unusable_file_is_a_typed_error(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    with pytest.raises(TwinRicError, match="SDL-FAILED"):
        Sdl(path, CLOCK)


def test_sdl_after_close_raises_typed_errors() -> None:
    sdl = Sdl(None, CLOCK)
    sdl.close()
    with pytest.raises(TwinRicError, match="SDL-FAILED"):
        sdl.commit([Change("a", "k", "v")])
