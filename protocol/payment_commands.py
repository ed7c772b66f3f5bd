"""Commands about payments. The chat keeps no money: it passes them on to commerce, and its answer back.

States of a payment come as events of kind `payment` in the timelines of those concerned (`commerce/payment_notice.py`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

from protocol.bodies import N, Signature
from protocol.command_rules import WHEN_LIVE, Command, CommandRule
from protocol.commerce.contract import EXPIRES_IN_S_MAX, EXPIRES_IN_S_MIN
from protocol.commerce.currencies import AmountMinor
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.limits import N_MAX, STEP_UP_CHARS_MAX

Currency = Annotated[str, msgspec.Meta(min_length=3, max_length=3)]
Version = Annotated[int, msgspec.Meta(ge=1, le=N_MAX)]

OF_COMMERCE = frozenset(
    {
        ErrorCode.INSUFFICIENT,
        ErrorCode.OVER_LIMIT,
        ErrorCode.CHANGED,
        ErrorCode.PROOF_REQUIRED,
        ErrorCode.PAYMENT_NOT_FOUND,
        ErrorCode.PAYMENT_STATE,
        ErrorCode.PAYMENT_EXPIRED,
        ErrorCode.AMOUNT_REFUSED,
        ErrorCode.CURRENCY_REFUSED,
        ErrorCode.OWN_PAYEE,
        ErrorCode.WALLET_NOT_FOUND,
        ErrorCode.WALLET_CLOSED,
        ErrorCode.KEY_REUSED,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.NOT_ALLOWED,
        ErrorCode.SUSPENDED,
        ErrorCode.PRINCIPAL_NOT_FOUND,
        ErrorCode.RATE_LIMITED,
        ErrorCode.UNAVAILABLE,
    }
)
"""The refusals of commerce that a client gets as they are. Any other answer is `unavailable` to it."""

_OF_THE_CHAT = frozenset(
    {
        ErrorCode.DIALOG_NOT_FOUND,
        ErrorCode.NOT_MEMBER,
        ErrorCode.ROLE_REQUIRED,
        ErrorCode.BLOCKED,
        ErrorCode.CONFLICT,
    }
)


class PayAction(enum.IntEnum):
    """What to do: begin a payment (the first two), or go on with one."""

    REQUEST = 1
    SEND = 2
    APPROVE = 3
    DECLINE = 4
    CANCEL = 5
    REFUND = 6
    CAPTURE = 7


@dataclass(frozen=True, slots=True)
class PayForm:
    """The fields of `pay` that an action needs, and those that it may have beside them."""

    needs: frozenset[str]
    may_have: frozenset[str] = frozenset()


_BEGINS = frozenset({"party", "amount_minor", "currency"})
_TERMS = frozenset({"capture_later", "order", "expires_in_s"})
_PROOFS = frozenset({"signature", "step_up"})
_NAMES = frozenset({"payment"})

PAY_FORMS: dict[PayAction, PayForm] = {
    PayAction.REQUEST: PayForm(_BEGINS, _TERMS | {"payee"}),
    PayAction.SEND: PayForm(_BEGINS, _TERMS | _PROOFS),
    PayAction.APPROVE: PayForm(_NAMES | {"version", "amount_minor", "currency", "payee"}, _PROOFS),
    PayAction.DECLINE: PayForm(_NAMES),
    PayAction.CANCEL: PayForm(_NAMES),
    PayAction.REFUND: PayForm(_NAMES, frozenset({"amount_minor"})),
    PayAction.CAPTURE: PayForm(_NAMES, frozenset({"amount_minor"})),
}
PEOPLE_ONLY = frozenset({PayAction.SEND, PayAction.APPROVE})
"""What bots and businesses never do: money leaves a wallet only by the act of a person."""


class Pay(Command, tag=113, frozen=True):
    """Request or send money to a member of a dialog, or approve, decline, cancel, refund or capture a payment.

    It appends nothing: what becomes of the payment comes as events. The answer is `payment_answer`, and does not wait
    for commands before it, nor they for it. `n` is a number of the device, as of a send, and used once in the dialog:
    the same command with the same `n` gets the first answer again, also after a reconnect and if it was refused for
    good. So a client that got no answer, or `unavailable`, sends the same again.

    - `request` (from `party`) and `send` (to `party`) need `party`, `amount_minor` and `currency`. With `capture_later`
      the money is held until it is captured. `payee` of a request is the author, unless they act for a business. Above
      an amount, `send` needs a proof: the `signature` of the device over `send_text`, or a `step_up`.
    - `approve` needs what the person saw: `payment`, `version`, `amount_minor`, `currency`, `payee`; else the answer is
      `changed`. `signature` is that of the device over these (`approval_text`), `step_up` the platform's own proof.
    - `decline`, `cancel`, `refund` and `capture` need `payment`. The payee takes what is held with `capture`, once;
      `capture` and `refund` of a part have its `amount_minor`.
    """

    rule: ClassVar = CommandRule(states=WHEN_LIVE, cost=lambda _command: 5, codes=OF_COMMERCE | _OF_THE_CHAT)

    dialog: Id
    n: N
    action: PayAction
    payment: Id | None = None
    party: Id | None = None
    amount_minor: AmountMinor | None = None
    currency: Currency | None = None
    capture_later: bool = False
    order: Id | None = None
    expires_in_s: Annotated[int, msgspec.Meta(ge=EXPIRES_IN_S_MIN, le=EXPIRES_IN_S_MAX)] | None = None
    version: Version | None = None
    payee: Id | None = None
    signature: Signature | None = None
    step_up: Annotated[str, msgspec.Meta(max_length=STEP_UP_CHARS_MAX)] = ""


class ReadPayment(Command, tag=114, frozen=True):
    """A payment as it is now, for one of its parties: an event in a sealed dialog names only its id and version.

    The answer does not wait for commands before it, nor they for it.
    """

    rule: ClassVar = CommandRule(states=WHEN_LIVE, cost=lambda _command: 2, codes=OF_COMMERCE)

    payment: Id


OfPayments = Pay | ReadPayment
"""All commands about payments."""
