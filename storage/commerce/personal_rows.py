"""What is stored of personal data: kinds of keys and items, what keeps a person from being erased, rows."""

from __future__ import annotations

import enum

import msgspec


class KeyKind(enum.IntEnum):
    """What a person's keys seal. LEGAL outlives the erasure, until nothing is under it that the law wants kept."""

    PROFILE = 1
    LEGAL = 2


class ItemKind(enum.IntEnum):
    """What an item is."""

    ADDRESS = 1
    IDENTITY = 2
    LEGAL_COPY = 3
    """The address and the identity of a person as they were when they ordered something."""
    EXPORT_PART = 4
    """No row of the items: what seals of parts of exports are bound to."""


class StillOpen(enum.IntFlag):
    """What is open of a person's money and businesses."""

    BALANCE = 1
    HOLD = 2
    DEBT = 4
    DISPUTE = 8
    PAYMENT = 16
    INTENT = 32
    ORDER = 64
    LAST_OWNER = 128
    """Of a business: it gets another owner, or keeps this one."""


class NewItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item to store; without `must_be` it may be new, then the person has fewer than `most` of its kind.

    `keep_us`: how long the law wants it kept, from now if `keep_begins`, else from the erasure of the person.
    """

    item: bytes
    kind: ItemKind
    key_id: bytes
    sealed: bytes
    subject: bytes | None = None
    keep_us: int | None = None
    keep_begins: bool = False
    must_be: bool = False
    most: int


class ItemRow(msgspec.Struct, frozen=True):
    """A stored item."""

    item: bytes
    kind: ItemKind
    key_id: bytes
    subject: bytes | None
    version: int
    at_us: int
    keep_until_us: int | None
    sealed: bytes


class GivenUp(msgspec.Struct, frozen=True):
    """Keys that nobody has any more, and what was deleted with them: `items`, of which the law wants `kept_by_law`."""

    keys: int = 0
    items: int = 0
    kept_by_law: int = 0


class ErasureRow(msgspec.Struct, frozen=True):
    """An erasure; `gone`: the keys are gone from the key store, too."""

    erasure: bytes
    person: bytes
    at_us: int
    gone: bool


class ErasedKey(msgspec.Struct, frozen=True):
    """A key that is erased, and whose it was."""

    key_id: bytes
    tenant: int
    person: bytes
    kind: KeyKind


class Forgotten(msgspec.Struct, frozen=True):
    """How many keys or people a restored database had as not erased, and of how many of those people money is open."""

    count: int
    still_open: int
