"""Payments: who may take which step; each is judged here, then by the ledger, and its answer is kept under its key.

A refusal that is decided here is kept like those of the ledger: a repeated key never gets another answer, whatever was
granted or set meanwhile. Only a token or key without the right to ask at all is refused without a trace.
"""

from __future__ import annotations

from uuid import UUID

from protocol.commerce.contract import (
    Approval,
    NewPayment,
    PartOfPayment,
    PaymentReply,
    PaymentShare,
    approval_text,
    send_text,
)
from protocol.commerce.currencies import is_known
from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.approval_proofs import ApprovalProofs
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.step_keys import StepKeys, name_operation
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.gathered_steps import GatheredSteps
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import (
    Answer,
    CaptureStep,
    HoldStep,
    NewPaymentRow,
    PaymentRow,
    Purpose,
    ShareRow,
    StepKey,
    StepOutcome,
    account_id,
)

_S_US = 1_000_000
_REQUEST_S = 86_400
_HOLD_S = 7 * 86_400
_LANES = 2
"""Batches of holds, and as many of captures, that may be under way at once."""
_ENDS = frozenset({PaymentState.REQUESTED, PaymentState.HELD})


class PaymentSteps:
    """The steps of payments over the ledger."""

    def __init__(self, ledger: Ledger, keys: StepKeys, proofs: ApprovalProofs, intents: GatewayIntents) -> None:
        self._ledger = ledger
        self._intents = intents
        self._gathered = GatheredSteps(ledger, lanes=_LANES)
        self._keys = keys
        self._proofs = proofs

    async def begin(self, request: KeyedRequest, new: NewPayment) -> PaymentReply:
        """Request or send; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.PAYMENTS)
        if asker.direct:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "payments begin in a conversation: the command `pay`")
        key = self._keys.make(request, "begin", new)
        refused = await self._judge_new(request, key, new)
        if refused is not None:
            return await self._reply(asker, await self._ledger.answer(key, refused))
        row = _row(asker.tenant, new)
        if new.intent == "request":
            answer = await self._ledger.begin(key, asker.principal, PaymentStep.REQUEST, row)
        elif row.later:
            answer = await self._gathered.hold(HoldStep(key, asker.principal, row))
        else:
            answer = await self._ledger.begin(key, asker.principal, PaymentStep.SEND, row)
        return await self._reply(asker, answer)

    async def approve(self, request: KeyedRequest, payment: UUID, approval: Approval) -> PaymentReply:
        """The payer approves what they saw; raises RequestRefusedError."""
        asker = request.asker
        if asker.is_service:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "a service approves for nobody")
        key = self._keys.make(request, name_operation("approve", payment), approval)
        if not await self._proofs.are_right(
            asker,
            key,
            approval_text(payment, approval),
            approval.proof,
            currency=approval.currency,
            amount_minor=approval.amount_minor,
        ):
            return await self._reply(asker, await self._ledger.answer(key, StepOutcome.PROOF))
        answer = await self._ledger.approve(
            key,
            asker.principal,
            asker.tenant,
            payment.bytes,
            version=approval.version,
            amount=approval.amount_minor,
            currency=approval.currency,
            payee=approval.payee.bytes,
        )
        return await self._reply(asker, answer)

    async def take_step(
        self, request: KeyedRequest, payment: UUID, step: PaymentStep, part: PartOfPayment | None = None
    ) -> PaymentReply:
        """DECLINE by the payer; CANCEL, CAPTURE, REFUND by the payee, or for them; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.PAYMENTS)
        key = self._keys.make(request, name_operation(step.text, payment), part)
        row = await self._find(asker, payment)
        refused = _judge_step(asker, row, step)
        if row is None or refused is not None:
            answer = await self._ledger.answer(key, refused or StepOutcome.NOT_FOUND)
        else:
            amount = None if part is None else part.amount_minor
            answer = await self._take(key, asker, row, step, amount)
        return await self._reply(asker, answer)

    async def read(self, asker: Asker, payment: UUID) -> PaymentReply:
        """A payment of a party as it is now; raises RequestRefusedError."""
        row = await self._find(asker, payment)
        if row is None:
            raise RequestRefusedError(ErrorCode.PAYMENT_NOT_FOUND)
        return _render(asker, row)

    async def read_page(self, asker: Asker, party: bytes, before: bytes, limit: int) -> list[PaymentReply]:
        """Payments of a party, newest first, with ids below `before`; raises RequestRefusedError."""
        if not asker.acts_for(party):
            raise RequestRefusedError(ErrorCode.WALLET_NOT_FOUND)
        rows = await self._ledger.read_payments(asker.tenant, party, before, limit)
        return [_render(asker, row) for row in rows]

    async def _take(self, key: StepKey, asker: Asker, row: PaymentRow, step: PaymentStep, amount: int | None) -> Answer:
        if step is PaymentStep.REFUND:
            return await self._ledger.refund(
                key, asker.principal, asker.tenant, row.payment, party=row.payee, amount=amount
            )
        if step is PaymentStep.REFUND_AT_GATEWAY:
            return await self._intents.begin_refund(
                key, asker.principal, asker.tenant, new_id(), payment=row.payment, payee=row.payee, amount=amount
            )
        if step is PaymentStep.CAPTURE and amount is None:
            return await self._gathered.capture(CaptureStep(key, asker.principal, asker.tenant, row.payment))
        if step is PaymentStep.CANCEL and row.state is not PaymentState.REQUESTED:
            step = PaymentStep.VOID
        return await self._ledger.take_step(key, asker.principal, asker.tenant, row.payment, step, amount=amount)

    async def _judge_new(self, request: KeyedRequest, key: StepKey, new: NewPayment) -> StepOutcome | None:
        """Why a payment is refused here; None when it is for the ledger to judge."""
        asker = request.asker
        if new.payer == new.payee:
            return StepOutcome.OWN_PAYEE
        if not is_known(new.currency):
            return StepOutcome.CURRENCY
        if new.intent == "request":
            return None if asker.acts_for(new.payee.bytes) else StepOutcome.WALLET_NOT_FOUND
        if asker.is_service or new.shares:
            return StepOutcome.NOT_ALLOWED  # who asks for money says how it is divided
        if new.payer.bytes != asker.principal:
            return StepOutcome.WALLET_NOT_FOUND
        is_right = await self._proofs.are_right(
            asker, key, send_text(request.key, new), new.proof, currency=new.currency, amount_minor=new.amount_minor
        )
        return None if is_right else StepOutcome.PROOF

    async def _find(self, asker: Asker, payment: UUID) -> PaymentRow | None:
        """A payment of one of whom the asker acts for."""
        row = await self._ledger.read_payment(payment.bytes)
        if row is None or row.tenant != asker.tenant:
            return None
        return row if asker.acts_for(row.payer) or asker.acts_for(row.payee) else None

    async def _reply(self, asker: Asker, answer: Answer) -> PaymentReply:
        """The payment as it is now: a repeated key gets it, too."""
        row = await self._ledger.read_payment(check_done(answer))
        assert row is not None, "payments stay"
        return _render(asker, row)


def _judge_step(asker: Asker, row: PaymentRow | None, step: PaymentStep) -> StepOutcome | None:
    if row is None:
        return StepOutcome.NOT_FOUND
    by = row.payer if step is PaymentStep.DECLINE else row.payee
    return None if asker.acts_for(by) else StepOutcome.NOT_ALLOWED


def _row(tenant: int, new: NewPayment) -> NewPaymentRow:
    payer, payee = new.payer.bytes, new.payee.bytes
    request_s, hold_s = _REQUEST_S, _HOLD_S
    if new.expires_in_s is not None and new.intent == "request":
        request_s = new.expires_in_s
    elif new.expires_in_s is not None:
        hold_s = new.expires_in_s
    return NewPaymentRow(
        payment=new_id(),
        tenant=tenant,
        payer=payer,
        payee=payee,
        from_account=account_id(tenant, payer, new.currency, Purpose.WALLET),
        to_account=account_id(tenant, payee, new.currency, Purpose.WALLET),
        currency=new.currency,
        amount=new.amount_minor,
        later=new.capture == "later",
        dialog=None if new.dialog is None else new.dialog.bytes,
        order=None if new.order is None else new.order.bytes,
        request_us=request_s * _S_US,
        hold_us=hold_s * _S_US,
        shares=tuple(_share(tenant, new.currency, share) for share in new.shares),
    )


def _share(tenant: int, currency: str, share: PaymentShare) -> ShareRow:
    return ShareRow(account_id(tenant, share.payee.bytes, currency, Purpose.WALLET), share.weight)


def _render(asker: Asker, row: PaymentRow) -> PaymentReply:
    """What a party sees: the fee is the payee's affair."""
    return PaymentReply(
        id=UUID(bytes=row.payment),
        version=row.version,
        state=row.state.text,
        payer=UUID(bytes=row.payer),
        payee=UUID(bytes=row.payee),
        amount_minor=row.amount,
        currency=row.currency,
        captured_minor=row.captured,
        refunded_minor=row.refunded,
        fee_minor=row.fee - row.fee_returned if asker.acts_for(row.payee) else 0,
        dialog=None if row.dialog is None else UUID(bytes=row.dialog),
        order=None if row.order is None else UUID(bytes=row.order),
        expires_at_ms=row.expires_us // 1000 if row.state in _ENDS else None,
    )
