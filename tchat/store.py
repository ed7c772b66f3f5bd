"""The outbox of a device on disk or in memory: its counter of numbers, and its unanswered commands.

An `OutboxStore` belongs to one device. A command survives the end of the process once `append` returned; what is
written `together`, once that has ended. A command
that was removed after an ack may come back; it is then sent again with its old number, and gets its old ack. No number
is used twice, even if the store is lost: a new store starts at the microseconds of the clock.

A command may have a key of the app (`once.py`): then it is made once, whatever crashes, since the key and the command
are one commit, and so are its answer and its removal.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tchat.once import Made, OnceInMemory, OnceTables

OUTBOX_COMMANDS_MAX = 10_000
_HELD_MAX = 64
OUTBOX_VERSION = 1


class OutboxFullError(Exception):
    """Too many commands await their answer; nothing was stored."""


class WrongDeviceError(Exception):
    """The store belongs to another device: its numbers are not valid for this one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A command that awaits a final answer."""

    n: int
    data: bytes = field(repr=False)


class OutboxStore(Protocol):
    """Commands by number, in order. All calls are short and block until they are durable."""

    def bind(self, device: bytes) -> None:
        """Assign the store to a device; `WrongDeviceError` if it belongs to another."""

    def next_n(self) -> int:
        """The number that the next `append` must carry."""

    def take_n(self) -> int:
        """Use `next_n` up for something that is not stored here; durable on return."""

    def append(self, entry: Stored, key: bytes = b"") -> None:
        """Store a command under `next_n`; durable on return. `OutboxFullError` beyond OUTBOX_COMMANDS_MAX.

        With a `key`, which no command may have yet, `find_made` finds it from now on.
        """

    def replace(self, entry: Stored) -> None:
        """Replace the command of a number; durable on return."""

    def renumber(self, old: int, entry: Stored) -> None:
        """Move a command from its number to `next_n`, in one step; durable on return."""

    def remove(self, n: int, *, durable: bool, seq: int = 0) -> None:
        """Remove a command that became event `seq`, or was refused (0); unless `durable`, a crash may undo that.

        That is fine after an ack, since a retry gets the same one; not after a refusal, since a retry may be accepted.
        """

    def pending(self) -> list[Stored]:
        """The commands that await an answer, in order of number."""

    def find_made(self, key: bytes) -> Made | None:
        """The command of a key, on its way or stored by the server; None if there is none, or it was refused."""

    def handled(self) -> dict[bytes, int]:
        """By dialog: up to where its events are handled."""

    def mark_handled(self, dialog: bytes, seq: int, *, durable: bool) -> None:
        """Note that the events of a dialog up to `seq` are handled, and forget the keys that are of them.

        Unless `durable`, a crash may undo that.
        """

    def together(self) -> AbstractContextManager[None]:
        """What is written inside is one commit, durable when it ends: nothing of it may be shown or sent before."""

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
        self._once = OnceInMemory()

    def bind(self, device: bytes) -> None:
        if self._device not in (None, device):
            raise WrongDeviceError
        self._device = device

    def next_n(self) -> int:
        return self._next_n

    def take_n(self) -> int:
        self._next_n += 1
        return self._next_n - 1

    def append(self, entry: Stored, key: bytes = b"") -> None:
        assert entry.n == self._next_n, "numbers are given out in order"
        if len(self._entries) >= OUTBOX_COMMANDS_MAX:
            raise OutboxFullError
        self._entries[entry.n] = entry
        self._next_n += 1
        if key:
            self._once.make(key, entry.n)

    def replace(self, entry: Stored) -> None:
        if entry.n in self._entries:
            self._entries[entry.n] = entry

    def renumber(self, old: int, entry: Stored) -> None:
        self._entries.pop(old, None)
        self.append(entry)
        self._once.renumber(old, entry.n)

    def remove(self, n: int, *, durable: bool, seq: int = 0) -> None:  # noqa: ARG002 - nothing here outlives the process
        self._entries.pop(n, None)
        self._once.answer(n, seq)

    def pending(self) -> list[Stored]:
        return [self._entries[n] for n in sorted(self._entries)]

    def find_made(self, key: bytes) -> Made | None:
        return self._once.find(key)

    def handled(self) -> dict[bytes, int]:
        return dict(self._once.handled)

    def mark_handled(self, dialog: bytes, seq: int, *, durable: bool) -> None:  # noqa: ARG002 - as above
        self._once.mark(dialog, seq)

    def together(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass


class SqliteOutbox:
    """An outbox in one SQLite file (WAL, every commit on disk before it returns). One process at a time uses it."""

    def __init__(self, path: Path | str, first_n: int | None = None) -> None:
        _make_private(path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._once = OnceTables(self._db)
        self._removed: dict[int, int] = {}
        self._marked: dict[bytes, int] = {}
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._create(first_number() if first_n is None else first_n)
            self._once.create()
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

    def take_n(self) -> int:
        with self._transaction():
            n = self.next_n()
            self._db.execute("UPDATE self SET next_n = ?", (n + 1,))
        return n

    def append(self, entry: Stored, key: bytes = b"") -> None:
        with self._committing():
            self._insert(entry)
            if key:
                self._once.make(key, entry.n)

    def replace(self, entry: Stored) -> None:
        self._db.execute("UPDATE pending SET data = ? WHERE n = ?", (self._to_disk(entry), entry.n))

    def renumber(self, old: int, entry: Stored) -> None:
        with self._committing():
            self._db.execute("DELETE FROM pending WHERE n = ?", (old,))
            self._insert(entry)
            self._once.renumber(old, entry.n)

    def remove(self, n: int, *, durable: bool, seq: int = 0) -> None:
        self._removed[n] = seq
        self._write_held(now=durable)

    def pending(self) -> list[Stored]:
        self._write_held(now=True)
        rows = self._db.execute("SELECT n, data FROM pending ORDER BY n")
        return [self._from_disk(n, data) for n, data in rows]

    def find_made(self, key: bytes) -> Made | None:
        self._write_held(now=True)
        return self._once.find(key)

    def handled(self) -> dict[bytes, int]:
        return self._once.handled()

    def mark_handled(self, dialog: bytes, seq: int, *, durable: bool) -> None:
        self._marked[dialog] = seq
        self._write_held(now=durable)

    def together(self) -> AbstractContextManager[None]:
        return self._transaction()

    def close(self) -> None:
        self._write_held(now=True)
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

    def _write_held(self, *, now: bool) -> None:
        """Write what waits for the next write, now or if it is much: each write costs a sync to disk."""
        held = len(self._removed) + len(self._marked)
        if held >= _HELD_MAX or (now and held):
            with self._committing():
                pass

    @contextlib.contextmanager
    def _committing(self) -> Iterator[None]:
        """A transaction that begins with what waits for one."""
        with self._transaction():
            self._db.executemany("DELETE FROM pending WHERE n = ?", [(n,) for n in self._removed])
            self._once.answer(self._removed)
            self._once.mark(self._marked)
            yield
        self._removed.clear()
        self._marked.clear()

    def _insert(self, entry: Stored) -> None:
        assert entry.n == self.next_n(), "numbers are given out in order"
        (count,) = self._db.execute("SELECT count(*) FROM pending").fetchone()
        if count >= OUTBOX_COMMANDS_MAX:
            raise OutboxFullError
        self._db.execute("INSERT INTO pending (n, data) VALUES (?, ?)", (entry.n, self._to_disk(entry)))
        self._db.execute("UPDATE self SET next_n = ?", (entry.n + 1,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it is on disk at the end, or, after any error, nothing. Inside of another one, at the end of that."""
        inside = self._db.in_transaction
        self._db.execute("SAVEPOINT inside" if inside else "BEGIN")
        try:
            yield
            self._db.execute("RELEASE inside" if inside else "COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO inside" if inside else "ROLLBACK")
            raise


def _make_private(path: Path | str) -> None:
    """Let only its owner read the file, from its first byte on; SQLite gives its other files the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    Path(path).chmod(0o600)
