"""The contract of the keys of devices, of what is claimed of them, and of the device logs of people.

Guarantees of every engine:

* A one-time key goes out once: to one claim, whatever races, repeats or is cut off. The same claim gets the same keys
  again while it is among the last `KEY_CLAIMS_KEPT` of its device; it never costs a second key.
* A one-time key that was uploaded once is never taken again, so a repeated upload gives nothing out twice.
* In a new epoch the one-time keys and claims of the one before do not count: a database that was restored has keys that
  were given out after its backup. Fallback keys, which may go out often, stay.
* The keys of a device go with its sign-in, and when the device log removes it. Its generation never falls.
* A log only grows, or gives way to that of a new identity; of two that append at once, one does.
* A caller gets the logs of people who are or were in a dialog that the caller is a member of, and the keys of members
  only. The log of a former member ends where the dialog named it last, or with the identity that they had then.
* The logs of the last `FORMER_IDENTITIES_MAX` identities before the newest can be read.
* The work of a call is bounded by its arguments.
* Every method raises `StorageUnavailableError` when it cannot answer now; an upload, a claim or an addition may have
  happened then.

What is in the objects is checked before: here they are bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from protocol.device_log import LogState
from protocol.public_keys import DevicePublic


class KeysOutcome(enum.IntEnum):
    """What became of an upload, a claim or an addition. Only OK changes anything."""

    OK = 1
    SIGNED_OUT = 2
    REUSED = 3
    """Another device has such a key, or this one had it under a lower generation."""
    PASSED = 4
    """Something higher was stored: another generation, a later claim, more entries."""
    BOUND = 5
    MISSING = 6
    """The device has no keys here, or not those that the entry names."""
    NOT_FOUND = 7
    CONFLICT = 8


class StoredKey(msgspec.Struct, frozen=True):
    """A one-time key or fallback key: its number, which grows within a generation of its device, and its object."""

    number: int
    key: bytes


class KeyUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What a device uploads, under its sign-in."""

    sign_in: bytes
    device: bytes
    principal: bytes
    generation: int
    keys: bytes
    public: DevicePublic
    one_time: Sequence[StoredKey] = ()
    fallback: StoredKey | None = None


class Uploaded(msgspec.Struct, frozen=True):
    """The one-time keys that the device has here, and whether its fallback key was given to somebody; with OK."""

    outcome: KeysOutcome
    held: int = 0
    fallback_used: bool = False


class GivenKey(msgspec.Struct, frozen=True):
    """A key of a device that was claimed."""

    device: bytes
    key: StoredKey
    fallback: bool


class KeyClaim(msgspec.Struct, frozen=True):
    """A claim of a device, by its number: a key of each of `targets`, only the fallback key of those in `limited`."""

    device: bytes
    principal: bytes
    dialog: bytes
    number: int
    targets: Sequence[bytes]
    limited: Collection[bytes] = ()


class Claimed(msgspec.Struct, frozen=True):
    """The keys of the targets that have any and are of members of the dialog; with OK."""

    outcome: KeysOutcome
    keys: tuple[GivenKey, ...] = ()


class StoredDeviceKeys(msgspec.Struct, frozen=True):
    """The keys that a device has uploaded, and under which generation."""

    device: bytes
    generation: int
    keys: bytes


class IdentityRow(msgspec.Struct, frozen=True):
    """A person's identity: their log (0, 0 and nothing without one), some of its entries, objects, device keys."""

    principal: bytes
    generation: int
    length: int
    head: bytes
    entries: tuple[bytes, ...]
    master: bytes
    self_signing: bytes
    user_signing: bytes
    devices: tuple[StoredDeviceKeys, ...]
    former: bool
    """They have left the dialog: without objects and keys, and the log ends where the dialog has last named it."""


class DeviceKeyStore(Protocol):
    """The keys of devices, and the device logs of people."""

    async def upload(self, upload: KeyUpload) -> Uploaded:
        """Store keys of a device: SIGNED_OUT, REUSED, PASSED (a generation) or BOUND (too many one-time keys)."""

    async def claim(self, claim: KeyClaim) -> Claimed:
        """Give keys out: MISSING (of the claimer), NOT_FOUND (the dialog), CONFLICT or PASSED (the number)."""

    async def read_identities(
        self, asker: bytes, dialog: bytes, known: Sequence[tuple[bytes, int, int]], *, entries_max: int
    ) -> list[IdentityRow] | None:
        """Of these people those who are or were members, in order; None: the asker is no member.

        Each is given with the generation and number of entries that the asker has. At most `entries_max` of the
        entries that follow are read for each: the rest of a former identity first.
        """

    async def read_log(self, principal: bytes) -> LogState | None:
        """The state of a person's log, without when keys came, nor the log before; None if they have none."""

    async def append_log(
        self, before: LogState | None, after: LogState, entries: Sequence[bytes], now_ms: int
    ) -> KeysOutcome:
        """Append the last entries of `after`, all of them if it is another identity than `before`: PASSED or MISSING.

        `before` is what `read_log` gave. A device that `after` removes is signed out. One that it adds may have no keys
        here; MISSING: it has others, or is somebody else's.
        """

    async def put_identity(
        self, principal: bytes, master_key: bytes, master: bytes, self_signing: bytes, user_signing: bytes
    ) -> KeysOutcome:
        """Store the objects of an identity whose log names this master key: PASSED if it does not."""
