"""`/v1/payments`: the contract of `protocol/commerce/contract.py`, and pages of payments."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from protocol.commerce.contract import Approval, NewPayment, PartOfPayment, PaymentReply, RefundPart
from protocol.commerce.payment_states import PaymentStep
from server.commerce.resources.asking import LAST_ID, AsAsker, AsKeyed, NoFields, PageLimit, named_or_own
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


class PaymentPage(msgspec.Struct):
    """Payments, newest first; `before` of the next page is the last id of this one."""

    payments: list[PaymentReply]


@post("/payments", status_code=201, responses=REFUSALS)
async def create_payment(data: JSONBody[NewPayment], keyed: AsKeyed, parts: InCommerce) -> PaymentReply:
    """Request a payment, or send one."""
    return await parts.payments.begin(keyed, data)


@post("/payments/{payment:uuid}/approve", status_code=200, responses=REFUSALS)
async def approve_payment(
    payment: FromPath[UUID], data: JSONBody[Approval], keyed: AsKeyed, parts: InCommerce
) -> PaymentReply:
    """Approve what you saw, as the payer. What differs from the payment is `changed`."""
    return await parts.payments.approve(keyed, payment, data)


@post("/payments/{payment:uuid}/decline", status_code=200, responses=REFUSALS)
async def decline_payment(
    payment: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> PaymentReply:
    """Decline a request, as the payer."""
    del data  # it has no fields
    return await parts.payments.take_step(keyed, payment, PaymentStep.DECLINE)


@post("/payments/{payment:uuid}/cancel", status_code=200, responses=REFUSALS)
async def cancel_payment(
    payment: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> PaymentReply:
    """Cancel your request, or give back what is held for you, as the payee."""
    del data  # it has no fields
    return await parts.payments.take_step(keyed, payment, PaymentStep.CANCEL)


@post("/payments/{payment:uuid}/capture", status_code=200, responses=REFUSALS)
async def capture_payment(
    payment: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[PartOfPayment | None] = None
) -> PaymentReply:
    """Take what is held for you, as the payee, once: in full or part. The rest returns."""
    return await parts.payments.take_step(keyed, payment, PaymentStep.CAPTURE, data or PartOfPayment())


@post("/payments/{payment:uuid}/refund", status_code=200, responses=REFUSALS)
async def refund_payment(
    payment: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[RefundPart | None] = None
) -> PaymentReply:
    """Give back what you were paid, as the payee, in full or part: to the payer's wallet, or to what paid it."""
    part = data or RefundPart()
    step = PaymentStep.REFUND if part.to is None else PaymentStep.REFUND_AT_GATEWAY
    return await parts.payments.take_step(keyed, payment, step, part)


@get("/payments/{payment:uuid}", responses=REFUSALS)
async def read_payment(payment: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> PaymentReply:
    """A payment as it is now, for its parties."""
    return await parts.payments.read(asker, payment)


@get("/payments", responses=REFUSALS)
async def list_payments(
    asker: AsAsker,
    parts: InCommerce,
    party: FromQuery[UUID | None] = None,
    before: FromQuery[UUID] = LAST_ID,
    limit: PageLimit = 50,
) -> PaymentPage:
    """The payments of a party: yours, or those of a business for which your key acts."""
    return PaymentPage(await parts.payments.read_page(asker, named_or_own(party, asker), before.bytes, limit))
