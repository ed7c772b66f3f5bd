"""What an object of a gateway changes in the ledger, keyed by (gateway, object, effect).

Invariants:

- An effect is applied once. Events do not count: two that report one charge lead to one object, and so to one effect.
- Effects only get more: those of a version of an object are among those of each later version, with the same amount.
  So versions may be read doubled, in any order, or in part; all that counts is that the last one is read at some time.
- The sum of `change_minor` over all effects is what the gateway owes us, currency by currency.
"""

from __future__ import annotations

import msgspec

from protocol.commerce.currencies import Currency
from protocol.commerce.intent_states import EffectKind
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind, ObjectStatus

_SIGNS = {
    EffectKind.CHARGE_PAID: 1,
    EffectKind.PAYMENT_RECEIVED: 1,
    EffectKind.REFUND_PAID: -1,
    EffectKind.REFUND_RETURNED: 1,
    EffectKind.PAYOUT_PAID: -1,
    EffectKind.PAYOUT_RETURNED: 1,
    EffectKind.CHARGEBACK_OPENED: -1,
    EffectKind.CHARGEBACK_WON: 1,
}
"""Which way the money goes, as the gateway's debt to us; what is missing moves nothing, and ends what was waiting."""

_K, _S, _E = ObjectKind, ObjectStatus, EffectKind

_EFFECTS: dict[tuple[ObjectKind, ObjectStatus], tuple[EffectKind, ...]] = {
    (_K.CHARGE, _S.SUCCEEDED): (_E.CHARGE_PAID,),
    (_K.CHARGE, _S.FAILED): (_E.CHARGE_FAILED,),
    (_K.CHARGE, _S.EXPIRED): (_E.CHARGE_EXPIRED,),
    (_K.PAYMENT, _S.SUCCEEDED): (_E.PAYMENT_RECEIVED,),
    (_K.REFUND, _S.SUCCEEDED): (_E.REFUND_PAID,),
    (_K.REFUND, _S.FAILED): (_E.REFUND_FAILED,),
    (_K.REFUND, _S.RETURNED): (_E.REFUND_PAID, _E.REFUND_RETURNED),
    (_K.PAYOUT, _S.SUCCEEDED): (_E.PAYOUT_PAID,),
    (_K.PAYOUT, _S.FAILED): (_E.PAYOUT_FAILED,),
    (_K.PAYOUT, _S.RETURNED): (_E.PAYOUT_PAID, _E.PAYOUT_RETURNED),
    (_K.CHARGEBACK, _S.OPEN): (_E.CHARGEBACK_OPENED,),
    (_K.CHARGEBACK, _S.WON): (_E.CHARGEBACK_OPENED, _E.CHARGEBACK_WON),
    (_K.CHARGEBACK, _S.LOST): (_E.CHARGEBACK_OPENED, _E.CHARGEBACK_LOST),
}
"""What is missing has no effect yet: what is pending."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One effect; `change_minor` is what it adds to the gateway's debt to us, below 0 for what it paid for us."""

    gateway: str
    object_id: str
    kind: EffectKind
    change_minor: int
    currency: Currency

    @property
    def key(self) -> tuple[str, str, EffectKind]:
        """What is applied once."""
        return self.gateway, self.object_id, self.kind


def effects_of(gateway: str, found: GatewayObject) -> list[Effect]:
    """All effects of an object of this gateway so far, in the order in which they happened."""
    amount_minor = found.paid_minor if found.kind is ObjectKind.CHARGE else found.amount_minor
    return [
        Effect(
            gateway=gateway,
            object_id=found.id,
            kind=kind,
            change_minor=_SIGNS.get(kind, 0) * amount_minor,
            currency=found.currency,
        )
        for kind in _EFFECTS.get((found.kind, found.status), ())
        if amount_minor or kind is not EffectKind.CHARGE_PAID  # a QR code that was paid: its payments have the money
    ]
