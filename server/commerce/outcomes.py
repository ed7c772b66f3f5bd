"""What each outcome of the ledger is to a client: one table."""

from __future__ import annotations

from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError
from storage.commerce.money_rows import Answer, StepOutcome

CODE_OF: dict[StepOutcome, ErrorCode] = {
    StepOutcome.INSUFFICIENT: ErrorCode.INSUFFICIENT,
    StepOutcome.OVER_LIMIT: ErrorCode.OVER_LIMIT,
    StepOutcome.CHANGED: ErrorCode.CHANGED,
    StepOutcome.NOT_FOUND: ErrorCode.PAYMENT_NOT_FOUND,
    StepOutcome.STATE: ErrorCode.PAYMENT_STATE,
    StepOutcome.EXPIRED: ErrorCode.PAYMENT_EXPIRED,
    StepOutcome.AMOUNT: ErrorCode.AMOUNT_REFUSED,
    StepOutcome.CURRENCY: ErrorCode.CURRENCY_REFUSED,
    StepOutcome.WALLET_NOT_FOUND: ErrorCode.WALLET_NOT_FOUND,
    StepOutcome.WALLET_CLOSED: ErrorCode.WALLET_CLOSED,
    StepOutcome.QUOTE: ErrorCode.QUOTE_REFUSED,
    StepOutcome.OWN_PAYEE: ErrorCode.OWN_PAYEE,
    StepOutcome.KEY_REUSED: ErrorCode.KEY_REUSED,
    StepOutcome.PROOF: ErrorCode.PROOF_REQUIRED,
    StepOutcome.NOT_ALLOWED: ErrorCode.NOT_ALLOWED,
    StepOutcome.ITEM_NOT_FOUND: ErrorCode.RECORD_NOT_FOUND,
    StepOutcome.ITEMS_BOUND: ErrorCode.RECORDS_BOUND,
    StepOutcome.STILL_OPEN: ErrorCode.ERASURE_REFUSED,
    StepOutcome.PERSON_ERASED: ErrorCode.PERSON_ERASED,
    StepOutcome.BUSINESS_NOT_FOUND: ErrorCode.BUSINESS_NOT_FOUND,
    StepOutcome.BUSINESS_CLOSED: ErrorCode.BUSINESS_CLOSED,
    StepOutcome.PRODUCT_NOT_FOUND: ErrorCode.PRODUCT_NOT_FOUND,
    StepOutcome.SKU_TAKEN: ErrorCode.SKU_TAKEN,
    StepOutcome.LAST_OWNER: ErrorCode.LAST_OWNER,
    StepOutcome.SHOP_BOUND: ErrorCode.SHOP_BOUND,
    StepOutcome.CART_EMPTY: ErrorCode.CART_EMPTY,
    StepOutcome.SHIPPING: ErrorCode.SHIPPING_REFUSED,
    StepOutcome.OUT_OF_STOCK: ErrorCode.OUT_OF_STOCK,
    StepOutcome.ORDER_NOT_FOUND: ErrorCode.ORDER_NOT_FOUND,
    StepOutcome.ORDER_STATE: ErrorCode.ORDER_STATE,
    StepOutcome.GATEWAY: ErrorCode.GATEWAY_REFUSED,
    StepOutcome.NO_SOURCE: ErrorCode.SOURCE_REFUSED,
    StepOutcome.NO_INTENT: ErrorCode.INTENT_NOT_FOUND,
}
"""Of every outcome that a client meets, but DONE."""


def check_done(answer: Answer, detail: str = "") -> bytes:
    """The subject of a step that is done; raises RequestRefusedError of any other."""
    if answer.outcome is not StepOutcome.DONE:
        raise RequestRefusedError(CODE_OF[answer.outcome], detail)
    if answer.subject is None:
        raise RequestRefusedError(ErrorCode.KEY_REUSED, "it was answered long ago, and the answer is forgotten")
    return answer.subject
