"""What a bot must not do twice: which commands it has made, by a key of their cause, and which events it has handled.

A key of an event begins with the dialog (16 bytes) and the number of the event (8 bytes); any other key is shorter.

Invariants: a key has one command; a command that the server refused for good has no key; when an event is handled, the
keys of it and of those before it are gone; of other keys at least the newest `KEYS_KEPT` are remembered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

KEYS_KEPT = 10_000
_OWN_KEY_BYTES_MAX = 16
_PRUNED_EVERY = 100
_TABLES = """
CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY, n INTEGER NOT NULL UNIQUE, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS handled (dialog BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Made:
    """The command of a key: its number, and the number of the event that it became, 0 while it is on its way."""

    n: int
    seq: int


def event_key(dialog: bytes, seq: int, index: int) -> bytes:
    """The key of the command `index` that handling an event makes."""
    return dialog + seq.to_bytes(8, "big") + index.to_bytes(4, "big")


class OnceInMemory:
    """For an outbox that lives as long as the process."""

    def __init__(self) -> None:
        self.handled: dict[bytes, int] = {}
        self._made: dict[bytes, Made] = {}

    def make(self, key: bytes, n: int) -> None:
        self._made[key] = Made(n, 0)

    def renumber(self, old: int, n: int) -> None:
        self._made = {key: Made(n, 0) if made.n == old else made for key, made in self._made.items()}

    def answer(self, n: int, seq: int) -> None:
        for key in [key for key, made in self._made.items() if made.n == n]:
            if seq:
                self._made[key] = Made(n, seq)
            else:
                del self._made[key]

    def mark(self, dialog: bytes, seq: int) -> None:
        self.handled[dialog] = seq
        first, last = event_key(dialog, 0, 0), event_key(dialog, seq, 2**32 - 1)
        self._made = {key: made for key, made in self._made.items() if not first <= key <= last}

    def find(self, key: bytes) -> Made | None:
        return self._made.get(key)


class OnceTables:
    """In the SQLite file of an outbox; every call but `create` is part of a transaction of its, or reads."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def create(self) -> None:
        """Make the tables, if they are not there yet."""
        for table in _TABLES.split(";"):
            self._db.execute(table)

    def make(self, key: bytes, n: int) -> None:
        """A key has a command now."""
        self._db.execute("INSERT INTO made VALUES (?, ?, 0)", (key, n))
        if n % _PRUNED_EVERY == 0:
            self._db.execute(
                "DELETE FROM made WHERE n <= (SELECT n FROM made WHERE length(key) <= ? AND seq > 0 "
                "ORDER BY n DESC LIMIT 1 OFFSET ?) AND length(key) <= ? AND seq > 0",
                (_OWN_KEY_BYTES_MAX, KEYS_KEPT, _OWN_KEY_BYTES_MAX),
            )

    def renumber(self, old: int, n: int) -> None:
        """A command goes on under another number."""
        self._db.execute("UPDATE made SET n = ? WHERE n = ?", (n, old))

    def answer(self, seqs: Mapping[int, int]) -> None:
        """Commands became these events, or were refused (0)."""
        self._db.executemany("UPDATE made SET seq = ? WHERE n = ?", [(seq, n) for n, seq in seqs.items() if seq])
        self._db.executemany("DELETE FROM made WHERE n = ?", [(n,) for n, seq in seqs.items() if not seq])

    def mark(self, handled: Mapping[bytes, int]) -> None:
        """The events of these dialogs are handled up to there."""
        self._db.executemany("REPLACE INTO handled VALUES (?, ?)", handled.items())
        self._db.executemany(
            "DELETE FROM made WHERE key BETWEEN ? AND ?",
            [(event_key(dialog, 0, 0), event_key(dialog, seq, 2**32 - 1)) for dialog, seq in handled.items()],
        )

    def forget(self) -> None:
        """Forget everything."""
        self._db.execute("DELETE FROM made")
        self._db.execute("DELETE FROM handled")

    def find(self, key: bytes) -> Made | None:
        row = self._db.execute("SELECT n, seq FROM made WHERE key = ?", (key,)).fetchone()
        return None if row is None else Made(*row)

    def handled(self) -> dict[bytes, int]:
        return dict(self._db.execute("SELECT dialog, seq FROM handled").fetchall())
