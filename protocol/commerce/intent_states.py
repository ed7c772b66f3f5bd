"""The states of what we ask a gateway for, and what leads from one to another: one table, which the SQL follows.

An intent is open until it is paid or failed. One that expired, a QR code, may be paid all the same.
"""

from __future__ import annotations

import enum


class IntentKind(enum.IntEnum):
    """What is asked for."""

    TOP_UP = 1
    WITHDRAWAL = 2
    REFUND = 3

    @property
    def text(self) -> str:
        """The name on the wire."""
        return self.name.lower()


class IntentState(enum.IntEnum):
    """Where an intent stands. The number is what is stored; names go over HTTP."""

    WRITTEN = 1
    """It may have been sent, and has no answer yet."""
    UNKNOWN = 2
    """It is too old to be sent again: what `find` says decides."""
    PENDING = 3
    """The gateway has it."""
    EXPIRED = 4
    PAID = 5
    FAILED = 6
    RETURNED = 7
    """It was paid, and the money came back."""

    @property
    def text(self) -> str:
        """The name on the wire: "paid"."""
        return self.name.lower()


class IntentStep(enum.IntEnum):
    """What happens to an intent."""

    ACCEPT = 1
    LOSE = 2
    """Its key window is over, and its fate is not known."""
    EXPIRE = 3
    PAY = 4
    FAIL = 5
    RETURN = 6


_S, _E = IntentState, IntentStep

NEXT_OF_INTENT: dict[IntentState, dict[IntentStep, IntentState]] = {
    _S.WRITTEN: {
        _E.ACCEPT: _S.PENDING,
        _E.LOSE: _S.UNKNOWN,
        _E.EXPIRE: _S.EXPIRED,
        _E.PAY: _S.PAID,
        _E.FAIL: _S.FAILED,
    },
    _S.UNKNOWN: {_E.ACCEPT: _S.PENDING, _E.EXPIRE: _S.EXPIRED, _E.PAY: _S.PAID, _E.FAIL: _S.FAILED},
    _S.PENDING: {_E.EXPIRE: _S.EXPIRED, _E.PAY: _S.PAID, _E.FAIL: _S.FAILED},
    _S.EXPIRED: {_E.PAY: _S.PAID},
    _S.PAID: {_E.RETURN: _S.RETURNED},
    _S.FAILED: {},
    _S.RETURNED: {},
}
"""By state and step the next state; where it is missing the step changes nothing."""


class EffectKind(enum.IntEnum):
    """What an object of a gateway did. The number is what is stored."""

    CHARGE_PAID = 1
    CHARGE_FAILED = 2
    PAYMENT_RECEIVED = 3
    REFUND_PAID = 4
    REFUND_FAILED = 5
    REFUND_RETURNED = 6
    PAYOUT_PAID = 7
    PAYOUT_FAILED = 8
    PAYOUT_RETURNED = 9
    CHARGEBACK_OPENED = 10
    CHARGEBACK_WON = 11
    CHARGEBACK_LOST = 12
    CHARGE_EXPIRED = 13
    """A QR code that is not to be paid any more."""


STEP_OF_EFFECT: dict[EffectKind, tuple[IntentKind, IntentStep]] = {
    EffectKind.CHARGE_PAID: (IntentKind.TOP_UP, _E.PAY),
    EffectKind.CHARGE_FAILED: (IntentKind.TOP_UP, _E.FAIL),
    EffectKind.CHARGE_EXPIRED: (IntentKind.TOP_UP, _E.EXPIRE),
    EffectKind.PAYMENT_RECEIVED: (IntentKind.TOP_UP, _E.PAY),
    EffectKind.REFUND_PAID: (IntentKind.REFUND, _E.PAY),
    EffectKind.REFUND_FAILED: (IntentKind.REFUND, _E.FAIL),
    EffectKind.REFUND_RETURNED: (IntentKind.REFUND, _E.RETURN),
    EffectKind.PAYOUT_PAID: (IntentKind.WITHDRAWAL, _E.PAY),
    EffectKind.PAYOUT_FAILED: (IntentKind.WITHDRAWAL, _E.FAIL),
    EffectKind.PAYOUT_RETURNED: (IntentKind.WITHDRAWAL, _E.RETURN),
}
"""The step of the intent whose object had the effect. A chargeback is no intent of ours."""


class EffectUse(enum.IntEnum):
    """What an effect was used for."""

    INTENT = 1
    PAYMENT = 2
    """A chargeback: the payee of the payment has it."""
    WALLET = 3
    """A chargeback: the wallet that was topped up has it."""
    SUSPENSE = 4
    """It fits nothing."""
    NOTHING = 5
    """It moves nothing."""


def render_intent_table(table: str) -> str:
    """The rows of a table above, as cases in SQL: `next` by state * 100 + step, `step` by effect, kind * 100 + step."""
    pairs: list[tuple[int, int]]
    if table == "next":
        pairs = [(state * 100 + step, to) for state, steps in NEXT_OF_INTENT.items() for step, to in steps.items()]
    else:
        pairs = [(effect, kind * 100 + step) for effect, (kind, step) in STEP_OF_EFFECT.items()]
    return " ".join(f"WHEN {when:d} THEN {then:d}" for when, then in pairs)
