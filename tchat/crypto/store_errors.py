"""Why the encrypted store of a device is not used: one catalogue, with a stable code and a sentence for a person.

Nothing in a store was changed when one of these is raised.
"""

from __future__ import annotations

from typing import ClassVar


class SealedStoreError(Exception):
    """The store, or its key, cannot be used; `code` is stable, the text says what to do."""

    code: ClassVar[str]
    sentence: ClassVar[str]

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"{self.sentence} ({detail})" if detail else self.sentence)


class NoKeyringError(SealedStoreError):
    """This system has no keyring, or it does not answer."""

    code = "no_keyring"
    sentence = "The system's keyring cannot be used: unlock it, or keep the key under a passphrase or in a file."


class NoKeyError(SealedStoreError):
    """The store is there and its key is not."""

    code = "no_key"
    sentence = "The key of this store is missing: bring it back from where it was kept, or remove the store."


class WrongKeyError(SealedStoreError):
    """The key or passphrase does not open this store."""

    code = "wrong_key"
    sentence = "This is not the key or passphrase of this store: try again with the right one."


class ExposedKeyError(SealedStoreError):
    """Others than its owner may read the file of the key."""

    code = "exposed_key"
    sentence = "Others may read the file of this store's key: let only its owner (chmod 600)."


class DamagedStoreError(SealedStoreError):
    """A value is not what this store wrote at this place, or the file is no store."""

    code = "damaged_store"
    sentence = "The store is damaged or was changed by something else: remove it, and sign in as a new device."


class NewerStoreError(SealedStoreError):
    """A later version has written this file."""

    code = "newer_store"
    sentence = "The store was written by a newer version of this program: update it."


class StoreInUseError(SealedStoreError):
    """Another process, or another part of this one, has the store open."""

    code = "store_in_use"
    sentence = "Another process uses this store: end it first."


class StoreBehindError(SealedStoreError):
    """The server knows more of this device than the store: this is an older copy of it."""

    code = "store_behind"
    sentence = "This store is an older copy: its keys must not be used again. Retire them, and make new ones."


class NotSignedInError(SealedStoreError):
    """Only the server knows whether the store is an older copy, and it was not asked yet."""

    code = "not_signed_in"
    sentence = "Nothing is sealed before the server has said how far this device is: sign in first."
