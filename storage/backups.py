"""The contract of backups: what people keep at the server, sealed under a recovery key that it does not have.

Guarantees of every engine:

* A value belongs to one identity of a person (a generation of their device log) and has a key and a version in it. It
  is replaced by one of a higher version only.
* Only a device that the device log has now, with the keys that are here, adds to the backup, and only to that of the
  present identity: somebody who gets hold of a sign-in can neither replace what is there nor fill it.
* The backup of an identity that another one has followed stays for BACKUP_KEPT_DAYS after its last addition. All of it
  goes with the person.
* A person has at most as many values as a call allows, those of former identities counted.
* The work of a call is bounded by its arguments.
* Every method raises `StorageUnavailableError` when it cannot answer now; values may have been stored then.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec


class BackupOutcome(enum.IntEnum):
    """What became of values. Only OK stores any."""

    OK = 1
    PASSED = 2
    """The identity is not that of the person's log now, or the device is not in it."""
    BOUND = 3


class BackupRow(msgspec.Struct, frozen=True):
    """A value, under its key."""

    key: bytes
    version: int
    value: bytes


class BackupAddition(msgspec.Struct, frozen=True, kw_only=True):
    """Values, each under another key, that a device adds to the backup of an identity."""

    principal: bytes
    device: bytes
    generation: int
    rows: Sequence[BackupRow]


class Backups(Protocol):
    """The backups of people."""

    async def put(self, addition: BackupAddition, now_ms: int, *, values_max: int) -> BackupOutcome:
        """Store values; those that are not newer than what is there are passed over."""

    async def read(self, principal: bytes, generation: int, *, after: bytes, limit: int) -> list[BackupRow]:
        """Values of an identity with keys above `after`, in their order; b"" is below all."""
