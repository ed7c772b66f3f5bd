"""Intents over a ledger, and effects of objects that a test makes up, as a gateway would report them."""

from __future__ import annotations

import itertools
from typing import Any

from protocol.commerce.intent_states import EffectKind, IntentKind, IntentState
from protocol.ids import new_id
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.intent_rows import EffectRow, IntentRow, NewTopUpRow
from storage.commerce.money_rows import Answer, NewPaymentRow, Purpose, StepOutcome, account_id, gateway_owner
from tests.support.money_world import TENANT, MoneyWorld

GATEWAY = "simulated"
E = EffectKind


class ChargeWorld:
    """A gateway in THB, without anybody behind it."""

    def __init__(self, money: MoneyWorld) -> None:
        self.money = money
        self.intents = GatewayIntents(money.ledger._writes, money.ledger._reads)
        self._numbers = itertools.count(1)

    async def top_up(self, owner: bytes, amount: int, paid: NewPaymentRow | None = None, **more: Any) -> bytes:
        """An intent to charge an owner; with a request, for that."""
        if paid is not None:
            more = {"payment": paid.payment, "version": 1, "payee": paid.payee} | more
        fields = {"currency": "THB", "method": "card", "token": "tok_visa", "intent": new_id()} | more
        new = NewTopUpRow(tenant=TENANT, owner=owner, gateway=GATEWAY, amount=amount, **fields)
        self.answer = await self.intents.begin_top_up(self.money.key(), new)
        return new.intent

    async def withdraw(self, owner: bytes, amount: int) -> bytes:
        """An intent to pay an owner out."""
        intent = new_id()
        self.answer = await self.intents.begin_withdrawal(
            self.money.key(),
            owner,
            TENANT,
            intent,
            owner=owner,
            gateway=GATEWAY,
            amount=amount,
            currency="THB",
            to="acct_1",
        )
        return intent

    async def refund(self, paid: NewPaymentRow, amount: int | None = None) -> bytes:
        """An intent to pay back what paid a payment."""
        intent = new_id()
        self.answer = await self.intents.begin_refund(
            self.money.key(), paid.payee, TENANT, intent, payment=paid.payment, payee=paid.payee, amount=amount
        )
        return intent

    async def effect(
        self,
        kind: EffectKind,
        change: int,
        intent: bytes | None = None,
        *,
        object_id: str = "",
        parent: str | None = None,
        currency: str = "THB",
    ) -> Answer:
        """What an object did; a new one unless it is named."""
        await self.intents.open_accounts(TENANT, GATEWAY, currency)
        self.last_object = object_id or f"ob_{next(self._numbers)}"
        row = EffectRow(
            object_id=self.last_object, kind=kind, change=change, currency=currency, intent=intent, parent=parent
        )
        return await self.intents.apply(TENANT, GATEWAY, row)

    async def pay_by_card(self, payer: bytes, payee: bytes, amount: int, *, later: bool = False) -> NewPaymentRow:
        """A request that a card has paid; `last_object` is its charge."""
        paid = self.money.payment(payer, payee, amount, later=later)
        await self.money.request(paid)
        intent = await self.top_up(payer, amount, paid)
        await self.effect(E.CHARGE_PAID, amount, intent)
        return paid

    def outcome(self) -> StepOutcome:
        """How the last intent began, or was refused."""
        return self.answer.outcome

    async def read(self, intent: bytes) -> IntentRow:
        """An intent as it is now."""
        row = await self.intents.read(intent)
        assert row is not None
        return row

    async def state(self, intent: bytes) -> IntentState:
        """Where an intent stands."""
        return (await self.read(intent)).state

    async def owed(self) -> tuple[int, int]:
        """What the gateway owes us by our books, and what of it is in suspense."""
        await self.intents.open_accounts(TENANT, GATEWAY, "THB")
        found = await self.intents.read_totals(TENANT, GATEWAY, "THB")
        return found.owed, found.suspense

    async def claim_one(self) -> IntentRow:
        """The intent that is due."""
        (row,) = await self.intents.claim(GATEWAY, 10, lease_us=1_000_000)
        return row

    async def page(self, owner: bytes, kind: IntentKind) -> list[IntentRow]:
        """The intents of an owner."""
        return await self.intents.read_page(TENANT, owner, kind, b"\xff" * 16, 10)


SUSPENSE_ACCOUNT = account_id(TENANT, gateway_owner(GATEWAY), "THB", Purpose.SUSPENSE)
