"""Top-ups and withdrawals: who may ask for which; what gateways then do with them is the driver's."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from protocol.commerce.contract import Approval, Proof, approval_text, withdrawal_text
from protocol.commerce.currencies import AmountMinor, Currency
from protocol.commerce.intent_states import IntentKind
from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.approval_proofs import ApprovalProofs
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.outcomes import check_done
from server.commerce.step_keys import StepKeys
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.intent_rows import IntentRow, NewTopUpRow
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import Answer, StepKey, StepOutcome

GatewayToken = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern="^[!-~]+$")]
"""What a gateway calls a card or an account: its page or its library made it, and no number of a card comes here."""


class NewTopUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money into your wallet: by a card, whose token of the gateway is `source`, or by a QR code that you are shown.

    With `payment`, a request to you, the money pays it as you approve it here, if that is still possible when it comes.
    """

    amount_minor: AmountMinor
    currency: Currency
    method: Literal["card", "promptpay", "qris"]
    source: GatewayToken | None = None
    payment: UUID | None = None
    approval: Approval | None = None


class NewWithdrawal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money out of a wallet, to the bank account that has this token. `owner`: a business for which the asker acts.

    `proof`: over `withdrawal_text`, of what a person may not withdraw without one, as with a send.
    """

    amount_minor: AmountMinor
    currency: Currency
    destination: GatewayToken
    owner: UUID | None = None
    proof: Proof | None = None


class IntentReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a gateway was asked for. `qr` is the text to show as a QR code, until `expires_at_ms`.

    `state`: `written`, `unknown`, `pending`, `expired`, `paid`, `failed`, `returned`. `pays_payment`: `payment` was
    approved with this money; else the money is in the wallet.
    """

    id: UUID
    kind: str
    state: str
    owner: UUID
    amount_minor: int
    currency: str
    method: str
    created_at_ms: int
    payment: UUID | None = None
    pays_payment: bool = False
    qr: str | None = None
    expires_at_ms: int | None = None


class Charging:
    """Top-ups and withdrawals over the books."""

    def __init__(
        self,
        ledger: Ledger,
        intents: GatewayIntents,
        keys: StepKeys,
        proofs: ApprovalProofs,
        gateways: ConfiguredGateways,
    ) -> None:
        self._ledger = ledger
        self._intents = intents
        self._keys = keys
        self._proofs = proofs
        self._gateways = gateways

    async def top_up(self, request: KeyedRequest, new: NewTopUp) -> IntentReply:
        """Ask to be charged; raises RequestRefusedError."""
        asker = request.asker
        if asker.is_service:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "a service charges nobody")
        _check_form(new)
        key = self._keys.make(request, "top up", new)
        gateway = self._gateways.choose(asker.tenant, new.method, new.currency)
        refused = StepOutcome.GATEWAY if gateway is None else await self._judge_approval(asker, key, new)
        if gateway is None or refused is not None:
            return await self._reply(await self._ledger.answer(key, refused or StepOutcome.GATEWAY))
        row = NewTopUpRow(
            intent=new_id(),
            tenant=asker.tenant,
            owner=asker.principal,
            gateway=gateway.engine.name,
            amount=new.amount_minor,
            currency=new.currency,
            method=new.method,
            token=new.source,
            life_s=None if new.method == "card" else gateway.code_life_s,
            payment=None if new.payment is None else new.payment.bytes,
            version=None if new.approval is None else new.approval.version,
            payee=None if new.approval is None else new.approval.payee.bytes,
        )
        return await self._reply(await self._intents.begin_top_up(key, row))

    async def withdraw(self, request: KeyedRequest, new: NewWithdrawal) -> IntentReply:
        """Ask to be paid out; raises RequestRefusedError."""
        asker = request.asker
        if asker.is_service:
            asker.check_right(Right.PAYOUTS)
        key = self._keys.make(request, "withdraw", new)
        owner = asker.principal if new.owner is None else new.owner.bytes
        gateway = self._gateways.choose(asker.tenant, "bank", new.currency)
        refused: StepOutcome | None = None
        if not asker.acts_for(owner):
            refused = StepOutcome.WALLET_NOT_FOUND
        elif gateway is None:
            refused = StepOutcome.GATEWAY
        elif not asker.is_service and not await self._is_proven(asker, key, request.key, UUID(bytes=owner), new):
            refused = StepOutcome.PROOF
        if gateway is None or refused is not None:
            return await self._reply(await self._ledger.answer(key, refused or StepOutcome.GATEWAY))
        answer = await self._intents.begin_withdrawal(
            key,
            asker.principal,
            asker.tenant,
            new_id(),
            owner=owner,
            gateway=gateway.engine.name,
            amount=new.amount_minor,
            currency=new.currency,
            to=new.destination,
        )
        return await self._reply(answer)

    async def read(self, asker: Asker, kind: IntentKind, intent: UUID) -> IntentReply:
        """What its owner asked for, as it is now; raises RequestRefusedError."""
        row = await self._intents.read(intent.bytes)
        if row is None or row.tenant != asker.tenant or row.kind is not kind or not asker.acts_for(row.owner):
            raise RequestRefusedError(ErrorCode.INTENT_NOT_FOUND)
        return _render(row)

    async def read_page(
        self, asker: Asker, kind: IntentKind, owner: bytes, before: bytes, limit: int
    ) -> list[IntentReply]:
        """What an owner asked for, newest first; raises RequestRefusedError."""
        if not asker.acts_for(owner):
            raise RequestRefusedError(ErrorCode.WALLET_NOT_FOUND)
        return [_render(row) for row in await self._intents.read_page(asker.tenant, owner, kind, before, limit)]

    async def _is_proven(self, asker: Asker, key: StepKey, name: str, owner: UUID, new: NewWithdrawal) -> bool:
        text = withdrawal_text(name, owner, new.amount_minor, new.currency, new.destination)
        return await self._proofs.are_right(
            asker, key, text, new.proof, currency=new.currency, amount_minor=new.amount_minor
        )

    async def _judge_approval(self, asker: Asker, key: StepKey, new: NewTopUp) -> StepOutcome | None:
        """Why what is approved with it is refused here: the rule of `approve` holds."""
        if new.payment is None or new.approval is None:
            return None
        seen = new.approval
        if (seen.amount_minor, seen.currency) != (new.amount_minor, new.currency):
            return StepOutcome.CHANGED
        right = await self._proofs.are_right(
            asker,
            key,
            approval_text(new.payment, seen),
            seen.proof,
            currency=seen.currency,
            amount_minor=seen.amount_minor,
        )
        return None if right else StepOutcome.PROOF

    async def _reply(self, answer: Answer) -> IntentReply:
        row = await self._intents.read(check_done(answer))
        assert row is not None, "intents stay"
        return _render(row)


def _check_form(new: NewTopUp) -> None:
    if (new.method == "card") != (new.source is not None):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "source: the token of a card, and of nothing else")
    if (new.payment is None) != (new.approval is None):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "approval: what you approve of the payment, with it")


def _render(row: IntentRow) -> IntentReply:
    return IntentReply(
        id=UUID(bytes=row.intent),
        kind=row.kind.text,
        state=row.state.text,
        owner=UUID(bytes=row.owner),
        amount_minor=row.amount,
        currency=row.currency,
        method=row.method,
        created_at_ms=row.written_us // 1000,
        payment=None if row.payment is None else UUID(bytes=row.payment),
        pays_payment=row.fulfils,
        qr=row.qr,
        expires_at_ms=None if row.expires_us is None else row.expires_us // 1000,
    )
