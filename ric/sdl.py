"""Shared data layer: what the RIC must still know after a restart, and an audit log that cannot be rewritten unseen.

One SQLite file in WAL mode with synchronous=FULL: :meth:`Sdl.commit` returns when the disk has the change. Each audit
row carries a hash over itself and the row before it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ric.clock import Clock, to_ns
from ric.errors import TwinRicError

__all__ = ["STORE_FILE", "AuditEntry", "AuditHead", "AuditRow", "Change", "Sdl"]

STORE_FILE = "ric.sqlite"
"""Name of the store in the RIC's `data_dir`."""
LAYOUT_VERSION = 2
"""1 kept no copy of the audit log's head."""
HEAD = ("audit", "head")
_LAYOUT = """
CREATE TABLE IF NOT EXISTS entry (
  namespace TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
  number INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
  subject TEXT NOT NULL, details TEXT NOT NULL, hash BLOB NOT NULL
);
"""


@dataclass(frozen=True)
class Change:
    """One key of one namespace set to `value`, or removed when that is None."""

    namespace: str
    key: str
    value: str | None


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to what; `details` must be JSON."""

    actor: str
    action: str
    subject: str
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditRow:
    """One entry as it lies in the log: numbered from 1 without gaps, chained by `hash` (32 octets)."""

    number: int
    time_ns: int
    entry: AuditEntry
    hash: bytes


class AuditHead(NamedTuple):
    """Number and hash of the newest row, (0, b"") for an empty log; in text `NUMBER:HASH`."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"


class Sdl:
    """The store at `path`, or one in memory for None. Threads may share it; every method is synchronous.

    All methods raise TwinRicError (SDL-FAILED) when SQLite does: disk full, file damaged, layout of a later version.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = str(path or ":memory:")
        self._clock = clock
        self._lock = threading.Lock()
        with self._failures():
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            with self._failures():
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
                if version > LAYOUT_VERSION:
                    raise TwinRicError("SDL-FAILED", "layout version", version, f"at most {LAYOUT_VERSION}")
                if version < LAYOUT_VERSION:
                    self._db.executescript(_LAYOUT)
                    self._keep_head(self._newest())
                    self._db.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")
        except TwinRicError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; later calls raise."""
        with self._lock:
            self._db.close()

    def read(self, namespace: str) -> dict[str, str]:
        """All keys of a namespace with their values."""
        with self._lock, self._failures():
            rows = self._db.execute("SELECT key, value FROM entry WHERE namespace = ? ORDER BY key", (namespace,))
            return dict(rows.fetchall())

    def commit(self, changes: Sequence[Change], audit: Sequence[AuditEntry] = ()) -> None:
        """All changes and audit entries, or none of them."""
        with self._lock, self._failures(), self._transaction():
            for change in changes:
                if change.value is None:
                    self._db.execute(
                        "DELETE FROM entry WHERE namespace = ? AND key = ?", (change.namespace, change.key)
                    )
                else:
                    row = (change.namespace, change.key, change.value)
                    self._db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", row)
            self._append(audit)

    def audit_rows(self, *, after: int = 0, limit: int = 1_000) -> list[AuditRow]:
        """At most `limit` rows of the audit log with numbers above `after`, oldest first."""
        with self._lock, self._failures():
            rows = self._db.execute("SELECT * FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
            return [
                AuditRow(number, time_ns, AuditEntry(actor, action, subject, json.loads(details)), octets)
                for number, time_ns, actor, action, subject, details, octets in rows.fetchall()
            ]

    def verify_audit(self, anchor: tuple[int, bytes] | None = None) -> AuditHead:
        """The head of the log, once every row matches the chain and the newest is the one that the store noted.

        Whoever can write the file can rewrite all of it: hand in an `anchor`, a head (number, hash) noted elsewhere at
        any time, which the log must still contain. Raises TwinRicError (AUDIT-TAMPERED) naming the first row that does
        not match.
        """
        head, is_anchored = AuditHead(0, b""), anchor is None
        while rows := self.audit_rows(after=head.number):
            for row in rows:
                number = head.number + 1
                if row.number != number or row.hash != _hash(head.hash, row.number, row.time_ns, row.entry):
                    raise TwinRicError("AUDIT-TAMPERED", "audit.number", row.number, f"row {number} of the hash chain")
                head = AuditHead(number, row.hash)
                is_anchored = is_anchored or head == anchor
        noted = self.read(HEAD[0]).get(HEAD[1])
        if str(head) != noted and not self._grew_past(head):
            raise TwinRicError("AUDIT-TAMPERED", "audit.head", str(head), f"the head that the store noted, {noted}")
        if anchor is not None and not is_anchored:
            raise TwinRicError("AUDIT-TAMPERED", "audit.anchor", str(head), f"a log that holds {AuditHead(*anchor)}")
        return head

    def _grew_past(self, head: AuditHead) -> bool:
        """Whether rows were appended, by whoever runs on this store, since `head` was the newest."""
        with self._lock, self._failures():
            return self._newest().number > head.number

    def _newest(self) -> AuditHead:
        row = self._db.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        return AuditHead(*(row or (0, b"")))

    def _keep_head(self, head: AuditHead) -> None:
        self._db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (*HEAD, str(head)))

    def _append(self, entries: Sequence[AuditEntry]) -> None:
        if not entries:
            return
        number, previous = self._newest()
        time_ns = to_ns(self._clock.now_s())
        for entry in entries:
            number += 1
            previous = _hash(previous, number, time_ns, entry)
            details = json.dumps(entry.details, sort_keys=True)
            row = (number, time_ns, entry.actor, entry.action, entry.subject, details, previous)
            self._db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._keep_head(AuditHead(number, previous))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise TwinRicError("SDL-FAILED", "file", self._path, "a writable SQLite file", str(error)) from error


def _hash(previous: bytes, number: int, time_ns: int, entry: AuditEntry) -> bytes:
    row = [number, time_ns, entry.actor, entry.action, entry.subject, entry.details]
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(previous + text.encode(), digest_size=32).digest()
