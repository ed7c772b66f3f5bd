"""Keys that outlive nothing they should not: each is durable in two folders before it is used, and erased in both.

Invariants
  * A key that `create` has returned is on disk in both copies. One that is in one copy only was never used, or its copy
    is older: at the start both get what the other has.
  * `erase` writes the lists of erased keys before it overwrites. At the start both lists become their union, and what
    is on it is overwritten, before anything is read. So no older copy brings an erased key back.
  * A person who is erased is on a list of people: a database that is older than their first key knows no id of a key of
    theirs. This list is sealed under the master key, and key ids are random: without that key no file names a person.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.utils import random

from storage.person_keys.key_copy import KeyCopy, StoreMark, read_mark
from storage.unavailable import StorageUnavailableError

KEY_BYTES = 32
_ID_BYTES = 16
_PEOPLE = b"erased people"
_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES


class PersonKeysError(Exception):
    """The folders of keys cannot be used; the message says why and what to do."""


class PersonOfTenant(NamedTuple):
    """Somebody who is erased."""

    tenant: int
    person: bytes


class PersonKeyStore:
    """The store in two folders. Every call blocks; one thread at a time is let in."""

    def __init__(self, copies: tuple[KeyCopy, KeyCopy], master: bytes, store_id: bytes) -> None:
        self._copies = copies
        self._master = master
        self._lock = threading.Lock()
        self.store_id = store_id
        self.rebuilt = 0
        """Keys that a copy lacked at the start."""

    @classmethod
    def open(cls, folders: tuple[Path, Path], master: bytes, *, expected: bytes | None) -> PersonKeyStore:
        """Open both copies, and make them equal.

        `expected` is the store that the database was written with, None when it was written with none. Raises
        PersonKeysError, and then nothing was changed but what was missing in one copy.
        """
        copies: list[KeyCopy] = []
        try:
            copies.extend(KeyCopy(folder) for folder in folders)
            one, other = copies
            store = cls((one, other), master, _agree(one, other, master, expected))
            store._level()
        except (OSError, ValueError, sqlite3.Error) as error:
            _close(copies)
            raise _damaged(folders, error) from error
        except BaseException:
            _close(copies)
            raise
        return store

    def close(self) -> None:
        """Close both files."""
        with self._lock:
            _close(self._copies)

    def create(self, key_id: bytes) -> bytes:
        """A new key, durable in both copies. Raises StorageUnavailableError."""
        key = random(KEY_BYTES)
        wrapped = _wrap(self._master, key_id, key)
        with self._used():
            for copy in self._copies:
                copy.add(key_id, wrapped)
        return key

    def read(self, key_id: bytes) -> bytes | None:
        """A key; None when it is erased or not there. Raises StorageUnavailableError."""
        with self._used():
            wrapped = self._copies[0].read(key_id)
        return None if wrapped is None else unwrap(self._master, key_id, wrapped)

    def erase(self, ids: Sequence[bytes], people: Sequence[PersonOfTenant] = ()) -> int:
        """Erase keys for ever, present or not; how many were present. Raises StorageUnavailableError: repeat it.

        `people` are those who are erased with them.
        """
        sealed = [_seal_person(self._master, each) for each in people]
        with self._used():
            for copy in self._copies:
                copy.erased_people.append(sealed)
                copy.erased.append(ids)
            return max(copy.erase(ids) for copy in self._copies)

    def list_erased(self) -> list[bytes]:
        """All keys that were ever erased, sorted."""
        with self._used():
            return sorted(self._copies[0].erased.read())

    def list_erased_people(self) -> list[PersonOfTenant]:
        """All people who were ever erased, sorted. Raises StorageUnavailableError."""
        with self._used():
            sealed = self._copies[0].erased_people.read()
            return sorted(_open_person(self._master, each) for each in sealed)

    def _level(self) -> None:
        """Give both copies what either has, then overwrite what either has erased."""
        one, other = self._copies
        lists = [copy.erased.read() for copy in self._copies]
        erased = set.union(*lists, *(copy.list_erased() for copy in self._copies))
        for copy, listed in zip(self._copies, lists, strict=True):
            copy.erased.append(sorted(erased - listed))
            copy.erase(sorted(erased))
        people = [copy.erased_people.read() for copy in self._copies]
        for copy, listed in zip(self._copies, people, strict=True):
            copy.erased_people.append(sorted(set.union(*people) - listed))
        self.rebuilt = one.take_over(other) + other.take_over(one)

    @contextmanager
    def _used(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except (sqlite3.Error, OSError, ValueError, CryptoError) as error:
                raise StorageUnavailableError(f"the keys of personal data: {error}") from error


def read_stores(folders: tuple[Path, Path]) -> list[bytes | None]:
    """Of which store each folder has keys, None: it has none. Writes nothing, blocks; raises PersonKeysError."""
    try:
        marks = [read_mark(folder) for folder in folders]
    except (OSError, sqlite3.Error) as error:
        raise _damaged(folders, error) from error
    return [None if mark is None else mark.store_id for mark in marks]


def _damaged(folders: tuple[Path, Path], error: Exception) -> PersonKeysError:
    return PersonKeysError(
        f"The keys of personal data in {folders[0]} and {folders[1]} cannot be used ({error}): restore the folder that "
        "is damaged, or remove it, and it is made again from the other."
    )


def _agree(one: KeyCopy, other: KeyCopy, master: bytes, expected: bytes | None) -> bytes:
    """The store that both are copies of; a copy that is new becomes one. Raises PersonKeysError."""
    marks = [mark for copy in (one, other) if (mark := copy.mark) is not None]
    if not marks:
        if expected is not None:
            raise PersonKeysError(
                f"The keys of personal data are neither in {one.folder} nor in {other.folder}, but the database was "
                "written with some: restore one of the two folders from its newest backup. If there is none, "
                "`tchat commerce give-up-keys` says what can be done."
            )
        store_id = random(_ID_BYTES)
        marks = [StoreMark(store_id, _wrap(master, store_id, random(KEY_BYTES)))]
    if len({mark.store_id for mark in marks} | ({expected} if expected else set())) > 1:
        raise PersonKeysError(
            f"The keys of personal data in {one.folder} and {other.folder} are of another database, or not of one "
            "deployment: set commerce_service.key_dir and second_key_dir to the folders of this one."
        )
    try:
        unwrap(master, marks[0].store_id, marks[0].probe)
    except CryptoError:
        raise PersonKeysError(
            "commerce_service.personal_key does not open the keys of personal data: set the one that made them."
        ) from None
    for copy in (one, other):
        if copy.mark is None:
            copy.set_mark(marks[0])
    return marks[0].store_id


def _close(copies: Sequence[KeyCopy]) -> None:
    for copy in copies:
        copy.close()


def _seal_person(master: bytes, of: PersonOfTenant) -> bytes:
    """The same bytes for the same person, so both lists can be compared."""
    text = of.tenant.to_bytes(2, "big") + of.person
    nonce = hashlib.blake2b(text, digest_size=_NONCE_BYTES, key=master, person=b"erased person").digest()
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(text, _PEOPLE, nonce, master)


def _open_person(master: bytes, sealed: bytes) -> PersonOfTenant:
    text = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[_NONCE_BYTES:], _PEOPLE, sealed[:_NONCE_BYTES], master)
    return PersonOfTenant(int.from_bytes(text[:2], "big"), text[2:])


def _wrap(master: bytes, name: bytes, key: bytes) -> bytes:
    nonce = random(_NONCE_BYTES)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(key, name, nonce, master)


def unwrap(master: bytes, name: bytes, wrapped: bytes) -> bytes:
    """A key that was wrapped under the master key for this id."""
    nonce, box = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
    return crypto_aead_xchacha20poly1305_ietf_decrypt(box, name, nonce, master)
