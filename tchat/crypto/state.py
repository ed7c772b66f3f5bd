"""What the encryption of a device remembers: rows of bytes, and one commit for a ratchet's step and what it made.

Invariants:

- A ratchet's step is durable before its ciphertext leaves. So the rows of a `Step` and the rows of the outbox that it
  made become durable together, and a step that is not committed has never happened.
- Nothing here is protection: pickles are encrypted under `pickle_key`, and a state on disk seals every value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

PICKLE_KEY_BYTES = 32


class Table(StrEnum):
    """The tables of a state, and the keys of their rows. The name of a table is on disk: never change it."""

    ACCOUNT = "account"
    """One row, with an empty key: the keys of this device."""
    CHANNELS = "channels"
    """Principal, device, its Curve25519 key: the Olm sessions with it."""
    OUTBOUND = "outbound"
    """Dialog: the Megolm session under which this device seals."""
    HANDED = "handed"
    """Id of an outbound session (32 bytes), principal, device, its Curve25519 key: its slice was made."""
    SLICES = "slices"
    """Share, number of the chunk (4 bytes): slices of a share that is not live yet."""
    INBOUND = "inbound"
    """Id of a Megolm session (32 bytes), device that handed it on: its keys, and which events it has opened."""
    SESSIONS = "sessions"
    """Dialog, device: the ids of its sessions in `INBOUND`, in the order in which they came."""
    FRANKED = "franked"
    """Dialog, a range of numbers of events (8 bytes): the keys of the commitments of those that were opened."""
    ACKED = "acked"
    """Dialog: the last number of this device that the server acked."""
    HISTORY = "history"
    """One row, with an empty key: how often the server has lost events."""
    PINS = "pins"
    """Principal: the device log that is believed."""
    TRUST = "trust"
    """Principal: what the own person has said of their identity, and the own generation whose backup has that."""
    OWN_LOG = "own_log"
    """Generation (8 bytes), index (4 bytes): an entry of the own person's log."""
    KEYLESS = "keyless"
    """Principal: devices of their log of which the server has no keys."""
    ROSTERS = "rosters"
    """Dialog that was sealed once: its members, as this device believes them."""
    CLAIMS = "claims"
    """One row, with an empty key: the last claim of one-time keys, and whether it is answered."""
    INVITATIONS = "invitations"
    """Dialog: what an admin has signed to let this person join."""
    BACKED_UP = "backed_up"
    """Generation of the identity (8 bytes): its backup was read; with 32 zeros after that: it has the identity."""
    IDENTITY = "identity"
    """One row, with an empty key: the private keys of the person, on a device that has them."""


OF_A_GENERATION = (Table.CHANNELS, Table.OUTBOUND, Table.HANDED, Table.SLICES)
"""What is written with. It goes with the keys of its generation: ratchets that are behind must not be used again."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """The bytes of a command under its number, as they will leave."""

    n: int
    data: bytes = field(repr=False)


class CryptoState(Protocol):
    """The rows of one device. All calls are short and block until they are durable, unless they are part of a commit.

    The number of rows is bounded by what the device keeps: dialogs, devices it writes to, sessions it can read.
    """

    @property
    def pickle_key(self) -> bytes:
        """PICKLE_KEY_BYTES of secret, the same as long as the state lives."""

    def read(self, table: Table, key: bytes) -> bytes | None:
        """The value of a row; None if there is none."""

    def keys(self, table: Table, prefix: bytes) -> list[bytes]:
        """The keys of a table that begin so, in order."""

    def commit(self, changes: Mapping[tuple[Table, bytes], bytes | None], outbox: Sequence[OutboxRow]) -> None:
        """Write rows (None removes one) and replace commands of the outbox: all or nothing; durable on return."""


class MemoryState:
    """A state that lives as long as the process: for clients without a disk, and for tests."""

    def __init__(self) -> None:
        self.outbox: dict[int, bytes] = {}
        self._pickle_key = os.urandom(PICKLE_KEY_BYTES)
        self._rows: dict[tuple[Table, bytes], bytes] = {}

    @property
    def pickle_key(self) -> bytes:
        return self._pickle_key

    def read(self, table: Table, key: bytes) -> bytes | None:
        return self._rows.get((table, key))

    def keys(self, table: Table, prefix: bytes) -> list[bytes]:
        return sorted(key for owner, key in self._rows if owner == table and key.startswith(prefix))

    def commit(self, changes: Mapping[tuple[Table, bytes], bytes | None], outbox: Sequence[OutboxRow]) -> None:
        for place, value in changes.items():
            if value is None:
                self._rows.pop(place, None)
            else:
                self._rows[place] = value
        self.outbox.update((row.n, row.data) for row in outbox)


@dataclass(slots=True)
class Step:
    """Changes that will be committed together. Reads see them; the state does not, until `commit`."""

    state: CryptoState
    _changes: dict[tuple[Table, bytes], bytes | None] = field(default_factory=dict, repr=False)

    def read(self, table: Table, key: bytes = b"") -> bytes | None:
        if (table, key) in self._changes:
            return self._changes[table, key]
        return self.state.read(table, key)

    def keys(self, table: Table, prefix: bytes = b"") -> list[bytes]:
        found = set(self.state.keys(table, prefix))
        for (changed, key), value in self._changes.items():
            if changed == table and key.startswith(prefix):
                (found.discard if value is None else found.add)(key)
        return sorted(found)

    def write(self, table: Table, key: bytes, value: bytes | None) -> None:
        self._changes[table, key] = value

    def commit(self, outbox: Sequence[OutboxRow] = ()) -> None:
        """Make everything durable; nothing is done when there is nothing to write."""
        if self._changes or outbox:
            self.state.commit(self._changes, outbox)
        self._changes = {}
