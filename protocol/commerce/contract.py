"""The HTTP contract of commerce, as far as chat and its clients call it: a platform may put its own wallet behind it.

    POST /v1/payments                       NewPayment          201 PaymentReply
    POST /v1/payments/{id}/approve          Approval            200 PaymentReply
    POST /v1/payments/{id}/decline          -                   200 PaymentReply
    POST /v1/payments/{id}/cancel           -                   200 PaymentReply
    POST /v1/payments/{id}/capture          PartOfPayment       200 PaymentReply
    POST /v1/payments/{id}/refund           RefundPart          200 PaymentReply
    GET  /v1/payments/{id}                                      200 PaymentReply

Every POST has an `Idempotency-Key` header of 1 to 255 printable characters, which belongs to the caller: the same key
with the same body gets the first final answer again, refusals included; with another body it is `key_reused`. A refusal
is `{"code", "message", "retry_after_s"}`; `unavailable`, `rate_limited`, `internal`, and what is said of the token
(401) or of a missing right (`not_allowed`) are not final.

`Authorization: Bearer TOKEN`: a JWT (EdDSA) of the chat's key with `aud` "commerce", `sub`, `tenant`, `device`, `iat`,
`exp` (at most 60 s later), `jti`, and `digest`: the base64url SHA-256 of method, path, idempotency key and body, each
followed by a newline but the last (`request_digest`). With a `proof` that a device has signed it has `device_key`, too:
the public key (Ed25519, base64) of that device.

For their own requests people get tokens of the chat, too (`POST /v1/commerce-tokens`), with `aud` "commerce person":
nobody has judged what they are for, so they neither request nor send. Who takes the contract alone refuses them.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AmountMinor, Currency
from protocol.commerce.payment_notice import Version

AUDIENCE = "commerce"
PERSON_AUDIENCE = "commerce person"
STEP_UP_AUDIENCE = "commerce step-up"
TOKEN_LIFE_S = 60
IDEMPOTENCY_HEADER = "Idempotency-Key"
KEY_CHARS_MAX = 255
EXPIRES_IN_S_MIN = 60
EXPIRES_IN_S_MAX = 30 * 86_400
SHARES_MAX = 16
WEIGHT_MAX = 1_000_000

IdempotencyKey = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_CHARS_MAX, pattern="^[!-~]+$")]


class PaymentShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets a part of what the payee is paid: `weight` of the sum of all weights."""

    payee: UUID
    weight: Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the person saw what they pay.

    A signature of their device over `approval_text` (of a send: `send_text`), or a step-up: a JWT that a key of the
    platform has signed, with `aud` STEP_UP_AUDIENCE, `sub` and `tenant` of the person, `iat`, `exp` (at most
    TOKEN_LIFE_S later), `jti`, and `digest` of the same text (`step_up_digest`). One request spends it.
    """

    device: UUID | None = None
    signature: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    step_up: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


class NewPayment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`request`: the caller, or the business that they act for, asks `payer`. `send`: the caller pays `payee`.

    With `capture` "later" the money is held until it is captured, in full or in part, cancelled or expired. Without
    `dialog` only the two parties hear of it, in their `self` dialogs. `proof` is for a send.

    Who requests may name `shares`: what is captured, after the fee, is divided among them by weight (largest remainder,
    ties by their order). The payee is among them or gets nothing; refunds take from the shares in proportion.
    """

    intent: Literal["request", "send"]
    payer: UUID
    payee: UUID
    amount_minor: AmountMinor
    currency: Currency
    capture: Literal["now", "later"] = "now"
    dialog: UUID | None = None
    order: UUID | None = None
    expires_in_s: Annotated[int, msgspec.Meta(ge=EXPIRES_IN_S_MIN, le=EXPIRES_IN_S_MAX)] | None = None
    shares: Annotated[list[PaymentShare], msgspec.Meta(max_length=SHARES_MAX)] = []
    proof: Proof | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the person saw when they approved. Where it differs from the payment it is `changed`."""

    version: Version
    amount_minor: AmountMinor
    currency: Currency
    payee: UUID
    proof: Proof | None = None


class PartOfPayment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is captured or refunded; None: all that is left."""

    amount_minor: AmountMinor | None = None


class RefundPart(PartOfPayment, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With `to` "source" it goes to the card or account that paid this payment; else to the payer's wallet."""

    to: Literal["source"] | None = None


class PaymentReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A payment as it is now, for one of its parties. `fee_minor` is for the payee."""

    id: UUID
    version: Version
    state: str
    payer: UUID
    payee: UUID
    amount_minor: AmountMinor
    currency: Currency
    captured_minor: int = 0
    refunded_minor: int = 0
    fee_minor: int = 0
    dialog: UUID | None = None
    order: UUID | None = None
    expires_at_ms: int | None = None


def request_digest(method: str, path: str, key: str, body: bytes) -> str:
    """The `digest` of a token: what it is for, and nothing else. `path` is as sent, with its query."""
    content = b"\n".join((method.encode(), path.encode(), key.encode(), body))
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def approval_text(payment: UUID, approval: Approval) -> bytes:
    """What a device signs (Ed25519) to prove an approval."""
    fields = (payment, approval.version, approval.amount_minor, approval.currency, approval.payee)
    return "\n".join(("tchat payment approval 1", *map(str, fields))).encode()


def send_text(key: str, new: NewPayment) -> bytes:
    """What a device signs (Ed25519) to prove a send; `key` is the idempotency key of the request."""
    fields = (key, new.payer, new.payee, new.amount_minor, new.currency, new.capture, new.dialog, new.order)
    return "\n".join(("tchat payment send 1", *map(str, fields), str(new.expires_in_s))).encode()


def withdrawal_text(key: str, owner: UUID, amount_minor: int, currency: str, destination: str) -> bytes:
    """What a device signs (Ed25519) to prove a withdrawal; `key` as in `send_text`."""
    return "\n".join(("tchat withdrawal 1", key, str(owner), str(amount_minor), currency, destination)).encode()


def step_up_digest(text: bytes) -> str:
    """The `digest` of a step-up: the base64url SHA-256 of the text that a device would sign."""
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()


def chat_key(device: UUID, dialog: UUID, n: int) -> str:
    """The idempotency key under which the chat passes number `n` of a device in a dialog on."""
    return f"{device.hex}.{dialog.hex}.{n}"
