"""The contract of shares: the keys of sessions that devices hand to each other, until they have them.

Guarantees of every engine:

* A share stands for one dialog, session and `keys_seq` of its device. It is `complete` only at the dialog's present
  `keys_seq`, when all devices that may read have the session or a slice of this share, and nobody else was ever handed
  the session: an uploaded slice counts as handed, whatever became of its share.
* A share becomes live in the commit of the event that names it, and only if it is complete and the dialog's `keys_seq`
  is still its own (`Journal.flush`). What is live is read by the devices that it is for, and by nobody else.
* A live slice stays until its device has confirmed it, or for SLICES_KEPT_DAYS. A share that did not become live goes
  when its device uploads another one in the dialog at a higher `keys_seq`, or after a day. What is too old is deleted
  with the rest of the purge (`purge_identity`).
* A call that is repeated changes nothing. The work of a call is bounded by its arguments and the size of the dialog.
* No call waits for a flush, and no flush for a call.
* Every method raises `StorageUnavailableError` when it cannot answer now; an upload may have happened then.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec


class StagingOutcome(enum.IntEnum):
    """What became of an upload. Only OK stores anything."""

    OK = 1
    NOT_FOUND = 2
    """The device's person is not a member of such a dialog."""
    OPEN = 3
    """The dialog is not sealed."""
    STALE = 4
    """`keys_seq` is not that of the dialog."""
    LEFT = 5
    """The device has left the session for another one, and goes back to it."""
    CONFLICT = 6
    """The share stands for something else, or has another slice for one of the devices."""
    STRANGER = 7
    """One of the devices may not read, or has no keys."""
    UNLISTED = 9
    """The device itself has no keys, or is not in its person's log: nobody would believe what it hands on."""


class StagedSlices(msgspec.Struct, frozen=True, kw_only=True):
    """Slices of a share that a device uploads: `(device, body)`, each device once. `more`: others follow."""

    principal: bytes
    device: bytes
    share: bytes
    dialog: bytes
    session: bytes
    keys_seq: int
    slices: Sequence[tuple[bytes, bytes]]
    more: bool = False


class Staged(msgspec.Struct, frozen=True):
    """The answer to an upload. With OK, `missing` and `extra` devices keep the share from being complete.

    While more slices follow, neither is looked for. Both lists have at most SHARE_DEVICES_NAMED_MAX. `keys_seq` is that
    of the dialog.
    """

    outcome: StagingOutcome
    keys_seq: int = 0
    complete: bool = False
    """Whether an event may name the share."""
    missing: tuple[bytes, ...] = ()
    extra: tuple[bytes, ...] = ()


class SliceRow(msgspec.Struct, frozen=True):
    """A slice for the device `to_device`, and where its keys come from. `number` grows in the order of uploads."""

    to_device: bytes
    number: int
    author: bytes
    device: bytes
    dialog: bytes
    share: bytes
    session: bytes
    keys_seq: int
    body: bytes


class Shares(Protocol):
    """Shares, from their upload until they are confirmed."""

    async def stage(self, staged: StagedSlices, now_ms: int) -> Staged:
        """Store slices of a share that is not live yet."""

    async def read(self, device: bytes, *, after: int, limit: int) -> list[SliceRow]:
        """The live slices for a device that it has not confirmed, with numbers above `after`, the lowest first."""

    async def read_newest(self, device: bytes, dialog: bytes, *, limit: int) -> list[SliceRow]:
        """The live slices of a dialog among the newest `limit` that a device has not confirmed, the lowest first."""

    async def read_shared(self, shares: Sequence[tuple[bytes, bytes]], to: Sequence[bytes]) -> list[SliceRow]:
        """The slices of live shares `(device, share)` that these devices have not confirmed, the lowest first."""

    async def confirm(self, confirmed: Sequence[tuple[bytes, int]]) -> None:
        """Devices have slices, as `(device, number)`; others' numbers, and those of shares not live, change nothing."""
