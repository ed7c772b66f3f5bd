"""The outbox of a device on disk or in memory: its counter of numbers, and its unanswered commands.

An `OutboxStore` belongs to one device. A command survives the end of the process once `append` returned. A command
that was removed after an ack may come back; it is then sent again with its old number, and gets its old ack. No number
is used twice, even if the store is lost: a new store starts at the microseconds of the clock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

OUTBOX_COMMANDS_MAX = 10_000
_REMOVALS_HELD_MAX = 64
OUTBOX_VERSION = 1


class OutboxFullError(Exception):
    """Too many commands await their answer; nothing was stored."""


class WrongDeviceError(Exception):
    """The store belongs to another device: its numbers are not valid for this one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A command that awaits a final answer."""

    n: int
    data: bytes


class OutboxStore(Protocol):
    """Commands by number, in order. All calls are short and block until they are durable."""

    def bind(self, device: bytes) -> None:
        """Assign the store to a device; `WrongDeviceError` if it belongs to another."""

    def next_n(self) -> int:
        """The number that the next `append` must carry."""

    def append(self, entry: Stored) -> None:
        """Store a command under `next_n`; durable on return. `OutboxFullError` beyond OUTBOX_COMMANDS_MAX."""

    def replace(self, entry: Stored) -> None:
        """Replace the command of a number; durable on return."""

    def renumber(self, old: int, entry: Stored) -> None:
        """Move a command from its number to `next_n`, in one step; durable on return."""

    def remove(self, n: int, *, durable: bool) -> None:
        """Remove an answered command; unless `durable`, a crash may undo that.

        That is fine after an ack, since a retry gets the same one; not after a refusal, since a retry may be accepted.
        """

    def pending(self) -> list[Stored]:
        """The commands that await an answer, in order of number."""

    def close(self) -> None:
        """Release the resources; no other call may follow."""


def first_number() -> int:
    """The first number of a new store: above all numbers of an earlier store of this device."""
    return time.time_ns() // 1000


class MemoryOutbox:
    """An outbox that lives as long as the process: for clients without a disk, and for tests."""

    def __init__(self, first_n: int | None = None) -> None:
        self._next_n = first_number() if first_n is None else first_n
        self._device: bytes | None = None
        self._entries: dict[int, Stored] = {}

    def bind(self, device: bytes) -> None:
        if self._device not in (None, device):
            raise WrongDeviceError
        self._device = device

    def next_n(self) -> int:
        return self._next_n

    def append(self, entry: Stored) -> None:
        assert entry.n == self._next_n, "numbers are given out in order"
        if len(self._entries) >= OUTBOX_COMMANDS_MAX:
            raise OutboxFullError
        self._entries[entry.n] = entry
        self._next_n += 1

    def replace(self, entry: Stored) -> None:
        if entry.n in self._entries:
            self._entries[entry.n] = entry

    def renumber(self, old: int, entry: Stored) -> None:
        self._entries.pop(old, None)
        self.append(entry)

    def remove(self, n: int, *, durable: bool) -> None:  # noqa: ARG002 - nothing here outlives the process
        self._entries.pop(n, None)

    def pending(self) -> list[Stored]:
        return [self._entries[n] for n in sorted(self._entries)]

    def close(self) -> None:
        pass


class SqliteOutbox:
    """An outbox in one SQLite file (WAL, every commit on disk before it returns). One process at a time uses it."""

    def __init__(self, path: Path | str, first_n: int | None = None) -> None:
        _make_private(path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._removed: list[int] = []
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._create(first_number() if first_n is None else first_n)
        except BaseException:
            self._db.close()
            raise

    def bind(self, device: bytes) -> None:
        (held,) = self._db.execute("SELECT device FROM self").fetchone()
        if held not in (None, device):
            raise WrongDeviceError
        if held is None:
            self._db.execute("UPDATE self SET device = ?", (device,))

    def next_n(self) -> int:
        (next_n,) = self._db.execute("SELECT next_n FROM self").fetchone()
        assert isinstance(next_n, int)
        return next_n

    def append(self, entry: Stored) -> None:
        self._write(entry)

    def replace(self, entry: Stored) -> None:
        self._db.execute("UPDATE pending SET data = ? WHERE n = ?", (self._to_disk(entry), entry.n))

    def renumber(self, old: int, entry: Stored) -> None:
        self._removed.append(old)
        self._write(entry)

    def remove(self, n: int, *, durable: bool) -> None:
        self._removed.append(n)
        # others wait for the next write, or until there are many: each write costs a sync to disk
        if durable or len(self._removed) >= _REMOVALS_HELD_MAX:
            self._write(None)

    def pending(self) -> list[Stored]:
        self._write(None)
        rows = self._db.execute("SELECT n, data FROM pending ORDER BY n")
        return [self._from_disk(n, data) for n, data in rows]

    def close(self) -> None:
        self._write(None)
        self._db.close()

    def _to_disk(self, entry: Stored) -> bytes:
        """The bytes of a command as the file has them."""
        return entry.data

    def _from_disk(self, n: int, data: bytes) -> Stored:
        return Stored(n, data)

    def _create(self, first_n: int) -> None:
        """Make the tables of a new file; refuse one of another version."""
        version = self._version()
        if version == OUTBOX_VERSION:
            return
        if version != 0:
            raise sqlite3.DatabaseError(f"the outbox file has another version ({version})")
        with self._transaction():
            self._create_outbox(first_n)

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        assert isinstance(version, int)
        return version

    def _create_outbox(self, first_n: int) -> None:
        self._db.execute("CREATE TABLE self (one INTEGER PRIMARY KEY CHECK (one = 1), device BLOB, next_n INTEGER)")
        self._db.execute("CREATE TABLE pending (n INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        self._db.execute("INSERT INTO self VALUES (1, NULL, ?)", (first_n,))
        self._db.execute(f"PRAGMA user_version = {OUTBOX_VERSION}")

    def _write(self, entry: Stored | None) -> None:
        """Write the waiting removals and perhaps one new command in one transaction."""
        with self._removing():
            if entry is not None:
                self._insert(entry)

    @contextlib.contextmanager
    def _removing(self) -> Iterator[None]:
        """A transaction that begins with the removals that wait for one."""
        with self._transaction():
            self._db.executemany("DELETE FROM pending WHERE n = ?", [(n,) for n in self._removed])
            yield
        self._removed.clear()

    def _insert(self, entry: Stored) -> None:
        assert entry.n == self.next_n(), "numbers are given out in order"
        (count,) = self._db.execute("SELECT count(*) FROM pending").fetchone()
        if count >= OUTBOX_COMMANDS_MAX:
            raise OutboxFullError
        self._db.execute("INSERT INTO pending (n, data) VALUES (?, ?)", (entry.n, self._to_disk(entry)))
        self._db.execute("UPDATE self SET next_n = ?", (entry.n + 1,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it is on disk at the end, or, after any error, nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _make_private(path: Path | str) -> None:
    """Let only its owner read the file, from its first byte on; SQLite gives its other files the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    Path(path).chmod(0o600)
