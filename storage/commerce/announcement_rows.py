"""What goes in and out of the store of announcements: versions of payments, places, numbers, what the chat said."""

from __future__ import annotations

import enum

import msgspec

from protocol.commerce.payment_states import PaymentState

NUMBERS_SKIPPED = 1000
"""How far beyond a number that had passed the next one is: after a restore of the ledger the chat has seen many."""


class Announced(enum.IntEnum):
    """What became of a number."""

    TAKEN = 1
    REFUSED = 2
    PASSED = 3


class PaymentVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a payment as it was; amounts in minor units, times in microseconds since 1970."""

    payment: bytes
    version: int
    dialog: bytes | None
    order: bytes | None
    payer: bytes
    payee: bytes
    currency: str
    amount: int
    state: PaymentState
    expires_us: int | None
    captured: int
    fee: int
    refunded: int
    asked: bool
    """Whether the payee asked for it; else the payer sent it."""
    restored: bool = False
    """Whether it is what the books say after a restore, above what was told before."""

    @property
    def requester(self) -> bytes:
        """Who began it."""
        return self.payee if self.asked else self.payer


class Numbered(msgspec.Struct, frozen=True):
    """What is posted under a number. `admitted`: the place takes it without judging who began the payment."""

    n: int
    admitted: bool
    version: PaymentVersion


class LeasedPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A place that is this relay's for a time, and what to post there, in order.

    `subject` is the dialog, or with `is_self` the person; `sealed` None is not known; `failures`: turns in a row that
    ended with a pause.
    """

    place: int
    lease: int
    is_self: bool
    subject: bytes
    sealed: bool | None
    failures: int
    rows: list[Numbered]


class Fate(msgspec.Struct, frozen=True):
    """What the chat said about a number; `code` of a refusal."""

    n: int
    outcome: Announced
    code: str | None = None


class AnnouncementBacklog(msgspec.Struct, frozen=True):
    """For how long the oldest version waits (0: none does), and how many are refused for ever."""

    oldest_us: int
    refused: int
