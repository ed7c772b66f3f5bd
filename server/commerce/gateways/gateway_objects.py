"""What a gateway keeps of money: its objects, in one form for all gateways.

An object has one money movement, so that an effect of it is one transfer with one amount. A QR code that is paid twice
is one charge, under which no money is, and two payments.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from protocol.commerce.currencies import AMOUNT_MINOR_MAX, AmountMinor, Currency, is_known

ObjectId = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern="^[!-~]+$")]
Reference = Annotated[str, msgspec.Meta(max_length=255)]
"""Our id of what we asked for, by which the gateway knows a repeated call. One reference is one call, of any kind."""
Reason = Annotated[str, msgspec.Meta(max_length=200)]


class ObjectKind(enum.StrEnum):
    """What an object is."""

    CHARGE = "charge"
    """What we asked to be paid: a card, with the money under it; or a QR code, whose payments are their own objects."""
    PAYMENT = "payment"
    """One payment of a QR code. It exists once the money is there. `parent` is the charge, if it was for one."""
    REFUND = "refund"
    """`parent` is the charge of a card, or the payment."""
    PAYOUT = "payout"
    CHARGEBACK = "chargeback"
    """Money that a bank took back. `parent` is the charge of a card, or the payment."""


class ObjectStatus(enum.StrEnum):
    """Where an object stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """No money moved, and none will."""
    RETURNED = "returned"
    """It had succeeded, and the money came back: the account of a payout was closed."""
    EXPIRED = "expired"
    """A QR code that is not to be paid any more. It may be paid all the same."""
    OPEN = "open"
    """The money is taken, and the dispute is not decided."""
    WON = "won"
    LOST = "lost"


_K, _S = ObjectKind, ObjectStatus

STATUSES: dict[ObjectKind, frozenset[ObjectStatus]] = {
    _K.CHARGE: frozenset({_S.PENDING, _S.SUCCEEDED, _S.FAILED, _S.EXPIRED}),
    _K.PAYMENT: frozenset({_S.SUCCEEDED}),
    _K.REFUND: frozenset({_S.PENDING, _S.SUCCEEDED, _S.FAILED, _S.RETURNED}),
    _K.PAYOUT: frozenset({_S.PENDING, _S.SUCCEEDED, _S.FAILED, _S.RETURNED}),
    _K.CHARGEBACK: frozenset({_S.OPEN, _S.WON, _S.LOST}),
}
"""The statuses that an object of each kind may have."""
WITH_PARENT = frozenset({_K.REFUND, _K.CHARGEBACK})


class GatewayObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object as the gateway had it at `version`. Raises ValueError for what no gateway may say.

    `reference` is that of the call that made it. An object without one was made by no call of ours: a payment, a
    chargeback, a refund by hand. `version` grows with every change; a reader keeps the highest. `paid_minor` is what
    was paid under this object itself, which for a charge may differ from what was asked: 0 until it succeeded, and
    always for a QR code. `qr` is the text to show as a QR code. `reason` is the gateway's own word for a failure.
    """

    kind: ObjectKind
    id: ObjectId
    amount_minor: AmountMinor
    currency: Currency
    status: ObjectStatus
    version: Annotated[int, msgspec.Meta(ge=1)]
    created_at_ms: int
    changed_at_ms: int
    reference: Reference | None = None
    parent: ObjectId | None = None
    paid_minor: Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MINOR_MAX)] = 0
    qr: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    expires_at_ms: int | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES[self.kind]:
            raise ValueError(f"a {self.kind} is never {self.status}")
        if not is_known(self.currency):
            raise ValueError(f"unknown currency {self.currency}")
        if self.kind in WITH_PARENT and self.parent is None:
            raise ValueError(f"a {self.kind} has a parent")
