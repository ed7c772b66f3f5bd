"""The contract of messages from device to device, outside of dialogs, until they are confirmed.

Guarantees of every engine:

* What is sent under one id is stored whole or not at all, and once: its device repeats it, also after some of it was
  confirmed, while the id is among the last DEVICE_MESSAGES_REMEMBERED of the device.
* The messages of a device have numbers from 1 without a hole, in the order in which they become visible.
* A message is kept until its device confirms it or a later one, until that device has no keys any more or other ones,
  or for DEVICE_MESSAGES_KEPT_DAYS; what is too old is deleted with the rest of the purge (`purge_identity`).
* Only devices that have keys here, of members of a dialog that the author is a member of, are written to, and nobody
  who has blocked the author or is blocked by them.
* At most DEVICE_MESSAGES_BY_ONE_MAX of one person wait for a device, and DEVICE_MESSAGES_WAITING_MAX of others than
  its own. So strangers cannot keep out the person's own devices, and one stranger not the others.
* The work of a call is bounded by its arguments and these bounds.
* Every method raises `StorageUnavailableError` when it cannot answer now; what is sent may have been stored then.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec


class SendOutcome(enum.IntEnum):
    """What became of what was sent. Only OK stores anything."""

    OK = 1
    NOT_FOUND = 2
    """The author is not a member of such a dialog."""
    STRANGER = 3
    """One of the devices is no member's, or has no keys."""
    BLOCKED = 4
    BOUND = 5


class SentMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that a device sends under one id: `(device, body)`, each device once."""

    principal: bytes
    device: bytes
    message: bytes
    dialog: bytes
    messages: Sequence[tuple[bytes, bytes]]


class DeviceMessageRow(msgspec.Struct, frozen=True):
    """A message that waits for a device."""

    number: int
    dialog: bytes
    author: bytes
    device: bytes
    body: bytes


class NewMessages(msgspec.Struct, frozen=True):
    """The devices that messages came for since a horizon, and the horizon to read from next."""

    horizon: int
    devices: list[bytes]


class DeviceMessageStore(Protocol):
    """Messages to devices."""

    async def send(self, sent: SentMessages, now_ms: int) -> SendOutcome:
        """Store messages."""

    async def read(self, device: bytes, *, limit: int) -> list[DeviceMessageRow]:
        """The messages of a device, those with the lowest numbers, in order."""

    async def confirm(self, device: bytes, number: int) -> None:
        """Delete the messages of a device up to this number."""

    async def read_new(self, since: int | None) -> NewMessages:
        """For whom messages became visible since a horizon, some maybe again; None: only where to begin."""
