"""What is said of a payment where: what `protocol/commerce/payment_notice.py` allows in each place, and no more."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import msgspec

from protocol.commerce.payment_notice import CONTENT_TYPE, REF_TYPE, PaymentNotice, encode_notice
from protocol.commerce.payment_states import PaymentState
from protocol.ids import to_text
from storage.commerce.announcement_rows import LeasedPlace, Numbered, PaymentVersion

_MAY_EXPIRE = frozenset({PaymentState.REQUESTED, PaymentState.HELD})


def make_event(place: LeasedPlace, row: Numbered, *, sealed: bool) -> dict[str, Any]:
    """The request of the chat's API that posts a version in a place. The same row gives the same request for ever.

    In a dialog that has taken no version of this payment yet, it is judged as who began the payment.
    """
    event: dict[str, Any] = {
        "n": row.n,
        "kind": "payment",
        "payload": base64.b64encode(encode_notice(make_notice(place, row.version, sealed=sealed))).decode(),
        "content_type": CONTENT_TYPE,
        "ref": {"type": REF_TYPE, "id": to_text(row.version.payment)},
    }
    if not row.admitted:
        event["requester"] = to_text(row.version.requester)
    return event


def make_notice(place: LeasedPlace, version: PaymentVersion, *, sealed: bool) -> PaymentNotice:
    """A version for the readers of a place: a party, the members of an open dialog, or anybody."""
    if place.is_self:
        return _for_party(place.subject, version)
    if sealed:
        return PaymentNotice(payment=UUID(bytes=version.payment), version=version.version)
    return _for_members(version)


def _for_members(version: PaymentVersion) -> PaymentNotice:
    return PaymentNotice(
        payment=UUID(bytes=version.payment),
        version=version.version,
        state=version.state.text,
        payer=UUID(bytes=version.payer),
        payee=UUID(bytes=version.payee),
        amount_minor=version.amount,
        currency=version.currency,
        expires_at_ms=_expires_at_ms(version),
    )


def _for_party(party: bytes, version: PaymentVersion) -> PaymentNotice:
    """What all members read, and more; the fee is for the payee, whom it is taken from."""
    return msgspec.structs.replace(
        _for_members(version),
        dialog=None if version.dialog is None else UUID(bytes=version.dialog),
        order=None if version.order is None else UUID(bytes=version.order),
        captured_minor=version.captured,
        refunded_minor=version.refunded,
        fee_minor=version.fee if party == version.payee else None,
        reason="restored" if version.restored else None,
    )


def _expires_at_ms(version: PaymentVersion) -> int | None:
    if version.expires_us is None or version.state not in _MAY_EXPIRE:
        return None
    return version.expires_us // 1000
