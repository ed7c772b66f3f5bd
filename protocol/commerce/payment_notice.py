"""What an event of a payment in a timeline carries: the whole state and its version. Readers keep the highest version.

The event is a `posted` of kind `payment` with the content type CONTENT_TYPE, the `ref` ("payment", its id), and the
JSON of a `PaymentNotice` as payload. The server takes such an event only from a service whose key is for all dialogs,
and only if `ref` names the payment of the notice; readers pass over what differs. What a reader gets depends on where
the event is:

- in a sealed dialog: id and version only; clients read the rest from commerce;
- in an open dialog: also parties, amount and state;
- in the `self` dialog of a party: also what the other members need not know (fee, refunds, reason), and all of it for
  who has left the dialog.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AmountMinor, Currency

CONTENT_TYPE = "application/vnd.tchat.payment+json"
REF_TYPE = "payment"

VERSION_MAX = 2**31 - 1

Version = Annotated[int, msgspec.Meta(ge=1, le=VERSION_MAX)]


class PaymentNotice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One version of a payment. Unknown fields of newer versions are ignored."""

    payment: UUID
    version: Version
    state: str | None = None
    payer: UUID | None = None
    payee: UUID | None = None
    amount_minor: AmountMinor | None = None
    currency: Currency | None = None
    expires_at_ms: int | None = None
    dialog: UUID | None = None
    order: UUID | None = None
    captured_minor: int | None = None
    refunded_minor: int | None = None
    fee_minor: int | None = None
    reason: str | None = None


def encode_notice(notice: PaymentNotice) -> bytes:
    """The payload of the event."""
    return msgspec.json.encode(notice)


def decode_notice(payload: bytes, ref: tuple[str, str]) -> PaymentNotice:
    """The notice in an event whose `ref` has this type and id; raises msgspec.MsgspecError."""
    notice = msgspec.json.decode(payload, type=PaymentNotice)
    if ref != (REF_TYPE, str(notice.payment)):
        raise msgspec.ValidationError("`ref` does not name the payment of the notice")
    return notice
