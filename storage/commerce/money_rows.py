"""What the ledger stores and answers: purposes of accounts, reasons of transfers, outcomes of steps, rows."""

from __future__ import annotations

import enum
import hashlib
from uuid import UUID

import msgspec

from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL

HOLD_SLOT = -1
"""The slot of a hold in `transfers`: its account is the hold itself."""
SLOTS_SHARED = 16
"""The slots of an account that many steps credit at once."""
CHAIN_LEGS_MAX = 100
BATCH_MAX = 50
"""A batch of steps has so many at most: more would hold its locks too long."""
BALANCE_MAX = 10**18
"""No account grows beyond this in either direction, so no sum overflows."""


class Purpose(enum.IntEnum):
    """What an account is for. Only wallets are somebody's to spend."""

    WALLET = 1
    FEES = 2
    CLEARING = 3
    SUSPENSE = 4
    RECEIVABLE = 5
    EXCHANGE = 6
    OPENING = 7


class AccountStatus(enum.IntEnum):
    """Whether an account takes part in new steps."""

    ACTIVE = 1
    CLOSED = 3


class HoldState(enum.IntEnum):
    """A hold is open, or it has ended once."""

    OPEN = 1
    CAPTURED = 2
    VOIDED = 3
    EXPIRED = 4


class LimitSpan(enum.IntEnum):
    """The two spans of a person's limits."""

    DAY = 1
    MONTH = 2


class TransferReason(enum.IntEnum):
    """Why a transfer was made."""

    TRANSFER = 1
    OPENING_BALANCE = 2
    TOP_UP = 3
    WITHDRAWAL = 4
    EXCHANGE = 5
    PAYMENT = 6
    HOLD = 7
    CAPTURE = 8
    FEE = 9
    RETURN = 10
    REFUND = 11
    FEE_RETURNED = 12
    CHARGEBACK = 13
    PAYOUT_FAILED = 14
    DEBT_SETTLED = 15
    REVERSAL = 16
    CHARGEBACK_RETURNED = 17
    SHARE = 18
    SHARE_RETURNED = 19
    SUSPENDED = 30
    SUSPENSE_RELEASED = 31


class StepOutcome(enum.IntEnum):
    """How a step ended. All but AGAIN, KEY_REUSED and READ_ONLY are kept under its key."""

    DONE = 1
    INSUFFICIENT = 2
    OVER_LIMIT = 3
    CHANGED = 4
    NOT_FOUND = 5
    STATE = 6
    EXPIRED = 7
    AMOUNT = 8
    CURRENCY = 9
    WALLET_NOT_FOUND = 10
    WALLET_CLOSED = 11
    QUOTE = 12
    OWN_PAYEE = 13
    KEY_REUSED = 14
    AGAIN = 15
    """Nothing is written and more must be locked: the ledger repeats the call itself."""
    PROOF = 16
    NOT_ALLOWED = 17
    ITEM_NOT_FOUND = 40
    ITEMS_BOUND = 41
    STILL_OPEN = 42
    PERSON_ERASED = 43
    BUSINESS_NOT_FOUND = 61
    BUSINESS_CLOSED = 62
    PRODUCT_NOT_FOUND = 63
    SKU_TAKEN = 64
    LAST_OWNER = 65
    SHOP_BOUND = 66
    CART_EMPTY = 67
    SHIPPING = 68
    OUT_OF_STOCK = 69
    ORDER_NOT_FOUND = 70
    ORDER_STATE = 71
    GATEWAY = 30
    """No gateway here has this method and currency."""
    NO_SOURCE = 31
    """The payment was not paid by a charge of its own."""
    NO_INTENT = 32
    READ_ONLY = 90
    """The books were restored and are not reconciled: nothing is written, and the call is repeated later."""


class StepKey(msgspec.Struct, frozen=True):
    """The idempotency key of a step: `key_id` names it (`key_id_of`), `body` is a keyed digest of what was asked."""

    key_id: bytes
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """The final answer to a step: ids only.

    `subject` is the payment or chain, `version` that of the payment after the step. `detail`: of a refused chain the
    place of the leg, from 1; of what cannot be refused, what became a debt.
    """

    outcome: StepOutcome
    subject: bytes | None = None
    version: int | None = None
    detail: int | None = None


class ShareRow(msgspec.Struct, frozen=True):
    """A part of what the payee is paid, after the fee: `weight` of the sum of all weights goes to this wallet."""

    account: bytes
    weight: int


class NewPaymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that begins. `from_account` and `to_account` are the wallets of payer and payee."""

    payment: bytes
    tenant: int
    payer: bytes
    payee: bytes
    from_account: bytes
    to_account: bytes
    currency: str
    amount: int
    later: bool = False
    dialog: bytes | None = None
    order: bytes | None = None
    request_us: int = 86_400_000_000
    hold_us: int = 7 * 86_400_000_000
    shares: tuple[ShareRow, ...] = ()


class HoldStep(msgspec.Struct, frozen=True):
    """A step of a batch: the payer sends a payment that is held."""

    key: StepKey
    actor: bytes
    new: NewPaymentRow


class CaptureStep(msgspec.Struct, frozen=True):
    """A step of a batch: a hold is captured in full. `party` as in `Ledger.take_step`."""

    key: StepKey
    actor: bytes
    tenant: int
    payment: bytes
    party: bytes | None = None


class OpeningBalance(msgspec.Struct, frozen=True):
    """A balance that comes from elsewhere; its transfer has the id of the key."""

    key: StepKey
    from_account: bytes
    to_account: bytes
    amount: int


class PaymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as it is now; amounts in minor units, times in microseconds since 1970."""

    payment: bytes
    tenant: int
    dialog: bytes | None
    order: bytes | None
    payer: bytes
    payee: bytes
    from_account: bytes
    to_account: bytes
    currency: str
    amount: int
    later: bool
    expires_us: int
    state: PaymentState
    version: int
    captured: int
    fee: int
    refunded: int
    fee_returned: int
    disputed: int
    moved_us: int


class DueRow(msgspec.Struct, frozen=True):
    """A payment whose time is over, and which has not ended: it expires now."""

    expires_us: int
    payment: bytes


FIRST_DUE = DueRow(0, NIL)
"""Before all."""


class VersionRow(msgspec.Struct, frozen=True):
    """One version of a payment: a line of its audit."""

    version: int
    at_us: int
    step: PaymentStep
    state: PaymentState
    actor: bytes
    captured: int
    fee: int
    refunded: int


class LedgerAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account: `balance` over all slots, `held` what is held of it and not in the balance any more."""

    account: bytes
    tenant: int
    owner: bytes
    currency: str
    purpose: Purpose
    status: AccountStatus
    slots: int
    balance: int
    held: int
    debt: int


class TransferRow(msgspec.Struct, frozen=True):
    """A line of a statement: `amount` is negative for a debit, `after` the balance of the slot that it moved."""

    transfer_no: int
    at_us: int
    amount: int
    slot: int
    after: int
    other: bytes
    reason: TransferReason
    subject: bytes
    reverses: int | None


class Leg(msgspec.Struct, frozen=True):
    """A transfer of a chain. `reverses` is the number of the transfer that it takes back, in full or part."""

    from_account: bytes
    to_account: bytes
    amount: int
    reverses: int | None = None


def account_id(tenant: int, owner: bytes, currency: str, purpose: Purpose) -> bytes:
    """The id of an account, which follows from what it is; `account_of.sql` computes the same."""
    text = f"{tenant}/{UUID(bytes=owner)}/{currency}/{int(purpose)}"
    return hashlib.sha256(text.encode()).digest()[:16]


def gateway_owner(gateway: str) -> bytes:
    """The owner of the accounts of a gateway; `gateway_owner.sql` computes the same."""
    return hashlib.sha256(f"gateway/{gateway}".encode()).digest()[:16]


def key_id_of(tenant: int, caller: bytes, key: str) -> bytes:
    """The name of an idempotency key, which belongs to its tenant and caller. Not keyed: it must hold for ever."""
    return hashlib.blake2b(b"%d/" % tenant + caller + key.encode(), digest_size=16, person=b"step key").digest()
