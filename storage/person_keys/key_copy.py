"""One of the two copies of all keys: an SQLite file in a folder, beside its lists of erased keys and people.

Invariants
  * A commit is on disk before it returns: `synchronous` EXTRA also syncs the folder after the journal is gone.
  * A key is erased by zeros of the same length in its place. Rows are never deleted or moved: SQLite may leave the
    bytes of a moved row on the page where it was.
  * A key is stored wrapped under the master key, in both copies by the same bytes.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from storage.person_keys.erased_list import PEOPLE_FILE_NAME, ErasedList

FILE_NAME = "person-keys.sqlite"
WRAPPED_BYTES = 72
"""A key of 32 bytes with the nonce and the tag that wrap it."""
SEALED_PERSON_BYTES = 58
"""Tenant (2) and id (16) of a person, with the nonce and the tag that seal them."""
_ZEROS = bytes(WRAPPED_BYTES)
_BATCH = 500
_BUSY_S = 5.0

_TABLES = f"""
CREATE TABLE IF NOT EXISTS store (one INTEGER PRIMARY KEY CHECK (one = 1), store_id BLOB NOT NULL, probe BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys (
    no INTEGER PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, wrapped BLOB NOT NULL CHECK (length(wrapped) = {WRAPPED_BYTES})
);
"""
_LACKING = "SELECT o.key_id, o.wrapped FROM other.keys o LEFT JOIN keys k USING (key_id) WHERE k.key_id IS NULL"
_DIFFERENT = """
SELECT count(*) FROM keys k JOIN other.keys o USING (key_id)
WHERE k.wrapped <> o.wrapped AND k.wrapped <> :zeros AND o.wrapped <> :zeros
"""


class StoreMark(NamedTuple):
    """Which store a copy is of, and a text that only its master key opens."""

    store_id: bytes
    probe: bytes


def read_mark(folder: Path) -> StoreMark | None:
    """Of which store the copy in a folder is, None: there is none. Writes nothing; sqlite3.Error and OSError pass."""
    path = folder / FILE_NAME
    if not path.exists() or not path.stat().st_size:
        return None
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return _mark_in(database)


def _mark_in(database: sqlite3.Connection) -> StoreMark | None:
    row = database.execute("SELECT store_id, probe FROM store").fetchone()
    return None if row is None else StoreMark(*row)


class KeyCopy:
    """The copy in a folder, which is made when it is not there. Every call blocks; sqlite3.Error and OSError pass."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.erased = ErasedList(folder)
        self.erased_people = ErasedList(folder, PEOPLE_FILE_NAME, entry_bytes=SEALED_PERSON_BYTES)
        path = folder / FILE_NAME
        path.touch(mode=0o600)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def mark(self) -> StoreMark | None:
        """What it is a copy of; None when it is new or lost."""
        return _mark_in(self._database)

    def set_mark(self, mark: StoreMark) -> None:
        """Make it a copy of this store."""
        self._database.execute("INSERT INTO store (one, store_id, probe) VALUES (1, ?, ?)", mark)

    def add(self, key_id: bytes, wrapped: bytes) -> None:
        """Store a new key."""
        self._database.execute("INSERT INTO keys (key_id, wrapped) VALUES (?, ?)", (key_id, wrapped))

    def read(self, key_id: bytes) -> bytes | None:
        """A wrapped key; None when it is not there or erased."""
        row = self._database.execute("SELECT wrapped FROM keys WHERE key_id = ?", (key_id,)).fetchone()
        return None if row is None or row[0] == _ZEROS else bytes(row[0])

    def erase(self, ids: Sequence[bytes]) -> int:
        """Overwrite keys; how many were there."""
        erased = 0
        for at in range(0, len(ids), _BATCH):
            batch = ids[at : at + _BATCH]
            places = ", ".join("?" * len(batch))
            erased += self._database.execute(
                f"UPDATE keys SET wrapped = ? WHERE key_id IN ({places}) AND wrapped <> ?",  # noqa: S608 - marks only
                (_ZEROS, *batch, _ZEROS),
            ).rowcount
        return erased

    def list_erased(self) -> set[bytes]:
        """The keys that are zeros here."""
        return {row[0] for row in self._database.execute("SELECT key_id FROM keys WHERE wrapped = ?", (_ZEROS,))}

    def take_over(self, other: KeyCopy) -> int:
        """Add what only the other copy has; how many keys. Raises ValueError when they have different ones."""
        self._database.execute("ATTACH ? AS other", (str(other.folder / FILE_NAME),))
        try:
            (different,) = self._database.execute(_DIFFERENT, {"zeros": _ZEROS}).fetchone()
            if different:
                raise ValueError(f"{self.folder} and {other.folder} differ in {different} keys")
            return self._database.execute(f"INSERT INTO keys (key_id, wrapped) {_LACKING} ORDER BY o.no").rowcount
        finally:
            self._database.execute("DETACH other")
