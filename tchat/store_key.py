"""Where the 32-byte key of a store is kept: the system's keyring, a passphrase, or a file.

A key is durable before the store that needs it is made. It is in no log and in no `repr`. A key that is already there
is used and never replaced: another store may need it.
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import keyring
import keyring.errors
import msgspec
from nacl.pwhash import argon2id

from protocol.canonical import from_base64, to_base64
from tchat.crypto.store_errors import ExposedKeyError, NoKeyError, NoKeyringError, WrongKeyError

STORE_KEY_BYTES = 32
ARGON2_OPERATIONS = argon2id.OPSLIMIT_MODERATE
ARGON2_MEMORY_BYTES = argon2id.MEMLIMIT_MODERATE
"""256 MiB, most of a second."""
_OPERATIONS_MAX = 16
_MEMORY_BYTES_MAX = argon2id.MEMLIMIT_SENSITIVE
_SERVICE = "tchat"


class KeySource(Protocol):
    """Keeps the key of one store. Both calls block; both raise `NoKeyringError` where that is the place."""

    def make(self) -> tuple[bytes, bytes]:
        """A key for a new store, and what `read` must be given to find it again, which is no secret."""

    def read(self, note: bytes) -> bytes:
        """The key of a store, or what is taken for it; `NoKeyError` if there is none, `WrongKeyError` if it is none."""


@dataclass(frozen=True, slots=True)
class KeyringKey:
    """The key is in the system's keyring, under this name."""

    name: str

    def make(self) -> tuple[bytes, bytes]:
        found = self._read()
        if found is None:
            found = os.urandom(STORE_KEY_BYTES)
            try:
                keyring.set_password(_SERVICE, self.name, to_base64(found))
            except keyring.errors.KeyringError as error:
                raise NoKeyringError(type(error).__name__) from error
            if self._read() != found:
                raise NoKeyringError("it does not keep what it is given")
        return found, b""

    def read(self, note: bytes) -> bytes:  # noqa: ARG002 - a keyring finds the key by its name
        found = self._read()
        if found is None:
            raise NoKeyError(f"the keyring has no entry {self.name!r} of {_SERVICE}")
        return found

    def _read(self) -> bytes | None:
        try:
            text = keyring.get_password(_SERVICE, self.name)
        except keyring.errors.KeyringError as error:
            raise NoKeyringError(type(error).__name__) from error
        if text is None:
            return None
        try:
            return _checked(from_base64(text))
        except ValueError:  # its text may be a secret of something else: it is not shown
            raise WrongKeyError(f"the entry {self.name!r} of {_SERVICE} in the keyring is no key") from None


class _Argon2(msgspec.Struct, array_like=True):
    salt: bytes
    operations: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class PassphraseKey:
    """The key is made of a passphrase by Argon2id; salt and cost are kept in the store. Takes most of a second."""

    passphrase: str = field(repr=False)

    def make(self) -> tuple[bytes, bytes]:
        if not self.passphrase:
            raise WrongKeyError("an empty passphrase protects nothing")
        cost = _Argon2(os.urandom(argon2id.SALTBYTES), ARGON2_OPERATIONS, ARGON2_MEMORY_BYTES)
        return self._derive(cost), msgspec.msgpack.encode(cost)

    def read(self, note: bytes) -> bytes:
        try:
            return self._derive(msgspec.msgpack.decode(note, type=_Argon2))
        except msgspec.DecodeError as error:
            raise WrongKeyError("this store has no passphrase") from error

    def _derive(self, cost: _Argon2) -> bytes:
        if not (
            len(cost.salt) == argon2id.SALTBYTES
            and argon2id.OPSLIMIT_MIN <= cost.operations <= _OPERATIONS_MAX
            and argon2id.MEMLIMIT_MIN <= cost.memory_bytes <= _MEMORY_BYTES_MAX
        ):
            raise WrongKeyError("what the store says of its passphrase is out of bounds")
        # The same however a keyboard writes it. What a terminal could not decode is taken: an error would show it.
        typed = unicodedata.normalize("NFKC", self.passphrase).encode(errors="surrogatepass")
        return argon2id.kdf(STORE_KEY_BYTES, typed, cost.salt, cost.operations, cost.memory_bytes)


@dataclass(frozen=True, slots=True)
class FileKey:
    """The key is in a file that only its owner may read: for machines without a person."""

    path: Path

    def make(self) -> tuple[bytes, bytes]:
        if not self.path.exists():
            self._write(os.urandom(STORE_KEY_BYTES))
        return self.read(b""), b""

    def read(self, note: bytes) -> bytes:  # noqa: ARG002 - the file is found by its path
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise ExposedKeyError(str(self.path))
                return _checked(file.read(STORE_KEY_BYTES + 1))
        except FileNotFoundError as error:
            raise NoKeyError(f"there is no {self.path}") from error
        except ValueError:
            raise WrongKeyError(f"{self.path} has not {STORE_KEY_BYTES} bytes") from None

    def _write(self, key: bytes) -> None:
        """Whole and on disk under its name, or not there; one that is there stays."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
                file.write(key)
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.path)
        finally:
            draft.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _checked(key: bytes) -> bytes:
    if len(key) != STORE_KEY_BYTES:
        raise ValueError
    return key
