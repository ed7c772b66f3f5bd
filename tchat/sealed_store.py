"""The encrypted state and the outbox of a device in one SQLite file, so that both change in one commit.

It extends `SqliteOutbox`: a ratchet's step and the command that it made must become durable together. Clients without
encryption keep that class; an outbox file of theirs is sealed when it is first opened here.

Invariants:

- What `commit` returned from survives SIGKILL and a loss of power (WAL, synchronous FULL), all of it or nothing; inside
  of `together`, what that has ended with.
- Every value is sealed (XChaCha20-Poly1305) together with the store, table and key that it is of: a value that was
  moved to another row or file is refused. Readable in the file are the keys of rows (ids and public keys), the numbers
  of commands and of handled events, and the sizes of values.
- Values are sealed under a secret of the store, which is in the file sealed under the key of the `KeySource`.
- One process at a time has the store open: an OS lock on a file beside it, which ends with the process.
- Nothing that steps a ratchet is written before the server has said how far this device is, or to a store that is
  behind that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as open_value,
)
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt as seal_value,
)
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES as NONCE_BYTES,
)
from nacl.exceptions import CryptoError

from protocol.canonical import frame
from tchat.crypto.state import OF_A_GENERATION, PICKLE_KEY_BYTES, OutboxRow, Table
from tchat.crypto.store_errors import (
    DamagedStoreError,
    NewerStoreError,
    NotSignedInError,
    StoreBehindError,
    StoreInUseError,
    WrongKeyError,
)
from tchat.store import OUTBOX_VERSION, SqliteOutbox, Stored, first_number
from tchat.store_key import STORE_KEY_BYTES, KeySource

_UNSWEPT_VERSION = 2
"""All values are sealed, and what an outbox held before may still be in unused pages of the file."""
_SEALED_VERSION = 3
_STORE_ID_BYTES = 16
_SECRET_BYTES = STORE_KEY_BYTES + PICKLE_KEY_BYTES
_RATCHETS = frozenset((Table.ACCOUNT, *OF_A_GENERATION))


class SealedStore(SqliteOutbox):
    """The `CryptoState` and the `OutboxStore` of one device, on disk."""

    def __init__(self, path: Path | str, key: KeySource, first_n: int | None = None) -> None:
        """Open the store, or make it. Raises a `SealedStoreError`; then nothing is open."""
        self._key = key
        self._is_current = False
        """The server has said, in this life, that it knows no more of this device than the store does."""
        self._is_behind = False
        self._id = self._value_key = self._pickle_key = b""
        self._lock = _lock(Path(path).resolve())
        try:
            with _readable():
                super().__init__(path, first_n)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def pickle_key(self) -> bytes:
        return self._pickle_key

    @property
    def generation(self) -> int:
        """That of the keys of this device; 0 before its first `signed_in`."""
        (generation,) = self._db.execute("SELECT generation FROM store").fetchone()
        assert isinstance(generation, int)
        return generation

    def read(self, table: Table, key: bytes) -> bytes | None:
        """The value of a row; None if there is none. Raises `DamagedStoreError`."""
        row = self._db.execute("SELECT value FROM state WHERE name = ? AND key = ?", (table.value, key)).fetchone()
        return None if row is None else self._open(table.value, key, row[0])

    def keys(self, table: Table, prefix: bytes) -> list[bytes]:
        above = _above(prefix)
        rows = (
            self._db.execute("SELECT key FROM state WHERE name = ? AND key >= ? ORDER BY key", (table.value, prefix))
            if above is None
            else self._db.execute(
                "SELECT key FROM state WHERE name = ? AND key >= ? AND key < ? ORDER BY key",
                (table.value, prefix, above),
            )
        )
        return [key for (key,) in rows]

    def commit(self, changes: Mapping[tuple[Table, bytes], bytes | None], outbox: Sequence[OutboxRow]) -> None:
        """Write rows (None removes one) and replace commands of the outbox: all or nothing; durable on return.

        `LookupError` if the outbox has no command of such a number. `NotSignedInError` or `StoreBehindError` if a
        ratchet steps and may be an old one.
        """
        if outbox or any(table in _RATCHETS for table, _ in changes):
            self._check_current()
        removed = [(table.value, key) for (table, key), value in changes.items() if value is None]
        written = [
            (table.value, key, self._seal(table.value, key, value))
            for (table, key), value in changes.items()
            if value is not None
        ]
        with self._committing():
            self._db.executemany("DELETE FROM state WHERE name = ? AND key = ?", removed)
            self._db.executemany("REPLACE INTO state VALUES (?, ?, ?)", written)
            for row in outbox:
                self._replace(Stored(row.n, row.data))

    def signed_in(self, n_max: int, generation: int) -> int:
        """The generation of this device's keys, after the server has told what it knows of the device at a sign-in.

        That is the highest number that it stored of the device, and the generation of its keys, 0 if it has none.
        Raises `StoreBehindError` if either is beyond the store: `retire` it then. A higher generation in the store
        was made here, and the server is still to be told.
        """
        own = self.generation
        if self.next_n() <= n_max or 0 < own < generation:
            self._is_current, self._is_behind = False, True
            raise StoreBehindError
        if own == 0:
            own = generation + 1
            with self._transaction():
                self._db.execute("UPDATE store SET generation = ?", (own,))
        self._is_current, self._is_behind = True, False
        return own

    def retire(self, n_max: int, generation: int) -> list[Stored]:
        """Begin a new generation, above the store's and the server's; what was received stays readable.

        A `CryptoMachine` of the new generation makes new keys, and drops what was written with the old ones. The
        commands that had no answer leave the outbox and are returned: a newer copy of the store may have sent them,
        under these or other numbers, so only a person can say whether they are to be sent again.
        """
        given_up = self.pending()
        with self._transaction():
            self._db.execute("DELETE FROM pending")
            self._once.forget()  # what a bot has handled is behind, too: it begins with what comes from now on
            self._db.execute("UPDATE self SET next_n = ?", (max(self.next_n(), n_max + 1, first_number()),))
            self._db.execute("UPDATE store SET generation = ?", (max(self.generation, generation) + 1,))
        self._is_current, self._is_behind = True, False
        return given_up

    def renew(self) -> int:
        """Begin a new generation: the keys of this one are believed by nobody any more. What waits to be sent stays."""
        self._check_current()
        with self._transaction():
            self._db.execute("UPDATE store SET generation = generation + 1")
        return self.generation

    def close(self) -> None:
        try:
            super().close()
        finally:
            os.close(self._lock)

    def _check_current(self) -> None:
        if self._is_behind:
            raise StoreBehindError
        if not self._is_current:
            raise NotSignedInError

    def _replace(self, entry: Stored) -> None:
        replaced = self._db.execute("UPDATE pending SET data = ? WHERE n = ?", (self._to_disk(entry), entry.n))
        if replaced.rowcount != 1:
            raise LookupError(f"the outbox has no command {entry.n}")

    def _to_disk(self, entry: Stored) -> bytes:
        return self._seal("pending", entry.n.to_bytes(8, "big"), entry.data)

    def _from_disk(self, n: int, data: bytes) -> Stored:
        return Stored(n, self._open("pending", n.to_bytes(8, "big"), data))

    def _seal(self, table: str, key: bytes, value: bytes) -> bytes:
        return _seal(self._value_key, self._id, table, key, value)

    def _open(self, table: str, key: bytes, sealed: object) -> bytes:
        try:
            return _open(self._value_key, self._id, table, key, sealed)
        except CryptoError as error:
            raise DamagedStoreError(f"a value of {table}") from error

    def _create(self, first_n: int) -> None:
        version = self._version()
        if version > _SEALED_VERSION:
            raise NewerStoreError(f"version {version}")
        if version in (0, OUTBOX_VERSION):
            self._make(first_n)
        else:
            self._unlock()
        self._sweep()

    def _make(self, first_n: int) -> None:
        """Make the tables, and seal what a file of a `SqliteOutbox` has."""
        key, note = self._key.make()
        self._id, secret = os.urandom(_STORE_ID_BYTES), os.urandom(_SECRET_BYTES)
        self._take(secret)
        with self._transaction():
            if self._version() == 0:
                self._create_outbox(first_n)
            self._db.execute("CREATE TABLE store (id BLOB, note BLOB, secret BLOB, generation INTEGER)")
            sealed = _seal(key, self._id, "store", b"", secret)
            self._db.execute("INSERT INTO store VALUES (?, ?, ?, 0)", (self._id, note, sealed))
            self._db.execute(
                "CREATE TABLE state (name TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (name, key)) WITHOUT ROWID"
            )
            for n, data in self._db.execute("SELECT n, data FROM pending").fetchall():
                self._replace(Stored(n, data))
            self._db.execute(f"PRAGMA user_version = {_UNSWEPT_VERSION}")

    def _unlock(self) -> None:
        row = self._db.execute("SELECT id, note, secret FROM store").fetchone()
        if row is None or not all(isinstance(value, bytes) for value in row):
            raise DamagedStoreError
        self._id, note, sealed = row
        try:
            secret = _open(self._key.read(note), self._id, "store", b"", sealed)
        except CryptoError as error:
            raise WrongKeyError from error
        self._take(secret)

    def _take(self, secret: bytes) -> None:
        self._value_key, self._pickle_key = secret[:STORE_KEY_BYTES], secret[STORE_KEY_BYTES:]

    def _sweep(self) -> None:
        """Leave nothing in unused pages of the file: what is replaced or removed from now on is overwritten there."""
        self._db.execute("PRAGMA secure_delete = ON")
        if self._version() == _UNSWEPT_VERSION:
            self._db.execute("VACUUM")
            self._db.execute(f"PRAGMA user_version = {_SEALED_VERSION}")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _seal(secret: bytes, store: bytes, table: str, key: bytes, value: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + seal_value(value, _place(store, table, key), nonce, secret)


def _open(secret: bytes, store: bytes, table: str, key: bytes, sealed: object) -> bytes:
    """Raises `CryptoError` unless this was sealed for this place under this secret."""
    if not isinstance(sealed, bytes) or len(sealed) <= NONCE_BYTES:
        raise CryptoError
    return open_value(sealed[NONCE_BYTES:], _place(store, table, key), sealed[:NONCE_BYTES], secret)


def _place(store: bytes, table: str, key: bytes) -> bytes:
    return frame(b"tchat/store/1", store, table.encode(), key)


def _above(prefix: bytes) -> bytes | None:
    """The least key that is above all that begin so; None if there is none."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """What SQLite says of a file that is no database, or lacks a table, in words for a person."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise DamagedStoreError(str(error)) from error
        raise


def _lock(path: Path) -> int:
    """Lock a store for this process, as long as the descriptor that is returned is open."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StoreInUseError from error
        raise
    return descriptor
