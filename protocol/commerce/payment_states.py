"""The states of a payment and what leads from one to another: one table, which the ledger and every reader follow."""

from __future__ import annotations

import enum


class PaymentState(enum.IntEnum):
    """Where a payment stands. The number is what is stored; names go over HTTP and into timelines."""

    REQUESTED = 1
    HELD = 2
    PAID = 3
    REFUNDING = 4
    REFUNDED = 5
    REFUND_FAILED = 6
    DECLINED = 7
    CANCELLED = 8
    EXPIRED = 9
    DISPUTED = 10

    @property
    def text(self) -> str:
        """The name on the wire: "refund_failed"."""
        return self.name.lower()


class PaymentStep(enum.IntEnum):
    """What happens to a payment."""

    REQUEST = 1
    SEND = 2
    APPROVE = 3
    DECLINE = 4
    CANCEL = 5
    CAPTURE = 6
    VOID = 7
    EXPIRE = 8
    REFUND = 9
    REFUND_AT_GATEWAY = 10
    REFUND_CONFIRMED = 11
    REFUND_REFUSED = 12
    DISPUTE = 13
    DISPUTE_WON = 14
    RESTORE = 30
    DISPUTE_LOST = 31
    """What was taken back stays away from the payee."""

    @property
    def text(self) -> str:
        """The name in the audit and over HTTP."""
        return self.name.lower()


_S, _E = PaymentState, PaymentStep

FIRST: dict[PaymentStep, frozenset[PaymentState]] = {
    _E.REQUEST: frozenset({_S.REQUESTED}),
    _E.SEND: frozenset({_S.HELD, _S.PAID}),
}
"""The steps that make a payment, and the states in which it then is."""

NEXT: dict[PaymentState, dict[PaymentStep, frozenset[PaymentState]]] = {
    _S.REQUESTED: {
        _E.APPROVE: frozenset({_S.HELD, _S.PAID}),
        _E.DECLINE: frozenset({_S.DECLINED}),
        _E.CANCEL: frozenset({_S.CANCELLED}),
        _E.EXPIRE: frozenset({_S.EXPIRED}),
    },
    _S.HELD: {
        _E.CAPTURE: frozenset({_S.PAID}),
        _E.VOID: frozenset({_S.CANCELLED}),
        _E.EXPIRE: frozenset({_S.EXPIRED}),
    },
    _S.PAID: {
        _E.REFUND: frozenset({_S.REFUNDED}),
        _E.REFUND_AT_GATEWAY: frozenset({_S.REFUNDING}),
        _E.DISPUTE: frozenset({_S.DISPUTED}),
    },
    _S.REFUNDING: {
        _E.REFUND_CONFIRMED: frozenset({_S.REFUNDED}),
        _E.REFUND_REFUSED: frozenset({_S.REFUND_FAILED}),
        _E.DISPUTE: frozenset({_S.DISPUTED}),
    },
    _S.REFUNDED: {
        _E.REFUND: frozenset({_S.REFUNDED}),
        _E.REFUND_AT_GATEWAY: frozenset({_S.REFUNDING}),
        _E.DISPUTE: frozenset({_S.DISPUTED}),
    },
    _S.REFUND_FAILED: {
        _E.REFUND: frozenset({_S.REFUNDED}),
        _E.REFUND_AT_GATEWAY: frozenset({_S.REFUNDING}),
        _E.DISPUTE: frozenset({_S.DISPUTED}),
    },
    _S.DECLINED: {},
    _S.CANCELLED: {},
    _S.EXPIRED: {},
    _S.DISPUTED: {
        _E.DISPUTE_WON: frozenset({_S.PAID, _S.REFUNDING, _S.REFUNDED}),
        _E.DISPUTE_LOST: frozenset({_S.REFUNDING, _S.REFUNDED}),
        _E.REFUND_CONFIRMED: frozenset({_S.DISPUTED, _S.REFUNDED}),
        _E.REFUND_REFUSED: frozenset({_S.DISPUTED}),
    },
}
"""By state and step: the states to which a step may lead; where it is missing the step is refused."""

STATES_BY_TEXT: dict[str, PaymentState] = {state.text: state for state in PaymentState}
"""The states by their names on the wire."""
