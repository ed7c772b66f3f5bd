"""The fake gateway's book, in SQLite: objects, money that moved, what is due, and first answers to references.

It knows nothing of our ledger or of `effects_of`: an auditor compares the two. Each operation of the bank is one
transaction, and a process that is killed loses none that it committed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_PREFIXES = {"charge": "ch", "payment": "pm", "refund": "re", "payout": "po", "chargeback": "cb"}
_TABLES = """
CREATE TABLE IF NOT EXISTS objects (number INTEGER PRIMARY KEY, id TEXT UNIQUE, kind TEXT, reference TEXT, parent TEXT,
    amount_minor INTEGER, paid_minor INTEGER DEFAULT 0, currency TEXT, status TEXT, version INTEGER DEFAULT 1,
    created_at_ms INTEGER, changed_at_ms INTEGER, qr TEXT, expires_at_ms INTEGER, reason TEXT);
CREATE INDEX IF NOT EXISTS by_reference ON objects (reference);
CREATE INDEX IF NOT EXISTS by_parent ON objects (parent);
CREATE INDEX IF NOT EXISTS by_change ON objects (changed_at_ms, number);
CREATE TABLE IF NOT EXISTS movements (object TEXT, change_minor INTEGER, currency TEXT);
CREATE TABLE IF NOT EXISTS due (number INTEGER PRIMARY KEY, at_ms INTEGER, what TEXT, body TEXT);
CREATE INDEX IF NOT EXISTS by_time ON due (at_ms);
CREATE TABLE IF NOT EXISTS answers (reference TEXT PRIMARY KEY, first_at_ms INTEGER, asked TEXT, object TEXT,
    code TEXT);
CREATE TABLE IF NOT EXISTS shift (id INTEGER PRIMARY KEY CHECK (id = 1), by_ms INTEGER);
INSERT OR IGNORE INTO shift VALUES (1, 0);
"""


class Book:
    """Rows in and out; what may happen is the bank's to know."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, isolation_level=None)
        self._sql.row_factory = sqlite3.Row
        self._sql.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_TABLES}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        self._sql.execute("COMMIT")

    def add(self, kind: str, now_ms: int, fields: Row) -> Row:
        """A new object, at version 1."""
        number = self._one("SELECT coalesce(max(number), 0) + 1 FROM objects")[0]
        row = {**fields, "number": number, "id": f"{_PREFIXES[kind]}_{number}", "kind": kind}
        row |= {"created_at_ms": now_ms, "changed_at_ms": now_ms}
        marks = ", ".join(f":{name}" for name in row)
        self._sql.execute(f"INSERT INTO objects ({', '.join(row)}) VALUES ({marks})", row)
        return self.get(row["id"])

    def change(self, object_id: str, now_ms: int, fields: Row) -> Row:
        """The next version of an object."""
        changes = ", ".join(f"{name} = :{name}" for name in fields)
        self._sql.execute(
            f"UPDATE objects SET {changes}, version = version + 1, changed_at_ms = :now WHERE id = :id",
            {**fields, "now": now_ms, "id": object_id},
        )
        return self.get(object_id)

    def move(self, row: Row, change_minor: int) -> None:
        """Note money that the gateway took for us (above 0) or paid."""
        self._sql.execute("INSERT INTO movements VALUES (?, ?, ?)", (row["id"], change_minor, row["currency"]))

    def get(self, object_id: str) -> Row:
        """An object; raises KeyError."""
        rows = self._objects("id = ?", object_id)
        if not rows:
            raise KeyError(object_id)
        return rows[0]

    def find(self, column: str, value: str) -> list[Row]:
        """Objects by id, reference or parent, oldest first."""
        return self._objects(f"{column} = ?", value)

    def changed(self, since_ms: int, until_ms: int, after: tuple[int, int], limit: int) -> list[Row]:
        """Objects by the time of their last change, those after (time, number) in that order."""
        window = "changed_at_ms >= ? AND changed_at_ms < ? AND (changed_at_ms, number) > (?, ?)"
        return self._objects(window, since_ms, until_ms, *after, order="changed_at_ms, number", limit=limit)

    def schedule(self, at_ms: int, what: str, body: Row) -> None:
        """Have something happen later."""
        self._sql.execute("INSERT INTO due (at_ms, what, body) VALUES (?, ?, ?)", (at_ms, what, json.dumps(body)))

    def next_due(self, now_ms: int) -> tuple[str, Row] | None:
        """What is due first, taken off the list: what it is, and its body."""
        row = self._sql.execute(
            "SELECT * FROM due WHERE at_ms <= ? ORDER BY at_ms, number LIMIT 1", (now_ms,)
        ).fetchone()
        if row is None:
            return None
        self._sql.execute("DELETE FROM due WHERE number = ?", (row["number"],))
        return row["what"], json.loads(row["body"])

    def first_answer(self, reference: str, since_ms: int) -> Row | None:
        """What a reference was answered first, if that is not older."""
        row = self._sql.execute(
            "SELECT * FROM answers WHERE reference = ? AND first_at_ms > ?", (reference, since_ms)
        ).fetchone()
        return None if row is None else dict(row)

    def keep_answer(self, reference: str, now_ms: int, asked: str, object_id: str | None, code: str | None) -> None:
        """Answer the reference so from now on."""
        self._sql.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", (reference, now_ms, asked, object_id, code)
        )

    @property
    def shift_ms(self) -> int:
        """How far the gateway's clock is ahead."""
        return int(self._one("SELECT by_ms FROM shift")[0])

    def shift(self, by_ms: int) -> None:
        """Put the gateway's clock forward."""
        self._sql.execute("UPDATE shift SET by_ms = by_ms + ?", (by_ms,))

    def audit(self) -> Row:
        """Every object as it is, and by currency what the gateway owes us."""
        sums = self._sql.execute("SELECT currency, sum(change_minor) FROM movements GROUP BY currency").fetchall()
        return {"objects": self._objects("true"), "sums": dict(map(tuple, sums))}

    def _one(self, query: str) -> sqlite3.Row:
        row: sqlite3.Row = self._sql.execute(query).fetchone()
        return row

    def _objects(self, where: str, *values: Any, order: str = "number", limit: int = -1) -> list[Row]:
        rows = self._sql.execute(f"SELECT * FROM objects WHERE {where} ORDER BY {order} LIMIT {limit}", values)
        return [dict(row) for row in rows.fetchall()]


def as_wire(row: Row) -> Row:
    """An object as it goes over HTTP."""
    return {name: value for name, value in row.items() if value is not None and name != "number"}
