"""Whose money a chargeback takes, whatever has happened to the payment that a card paid."""

from __future__ import annotations

import pytest

from protocol.commerce.intent_states import EffectKind, EffectUse
from protocol.commerce.payment_states import PaymentState
from storage.commerce.money_rows import NewPaymentRow, Purpose, StepOutcome, account_id
from tests.support.charge_world import ChargeWorld
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

E, S = EffectKind, PaymentState


@pytest.fixture
async def charges(money: MoneyWorld) -> ChargeWorld:
    """A gateway whose objects the test makes up."""
    return ChargeWorld(money)


class Bank:
    """Takes back what paid one payment, and gives it back."""

    def __init__(self, charges: ChargeWorld, paid: NewPaymentRow) -> None:
        self._charges = charges
        self.charge = charges.last_object
        self._paid = paid

    async def take(self) -> EffectUse:
        """Take all of it back."""
        change = -self._paid.amount
        answer = await self._charges.effect(E.CHARGEBACK_OPENED, change, object_id="cb", parent=self.charge)
        assert answer.outcome is StepOutcome.DONE
        return EffectUse(answer.detail or 0)

    async def lose(self) -> None:
        """Give it back after all."""
        change = self._paid.amount
        answer = await self._charges.effect(E.CHARGEBACK_WON, change, object_id="cb", parent=self.charge)
        assert answer.outcome is StepOutcome.DONE

    async def state(self) -> tuple[PaymentState, int]:
        """The state of the payment, and how much of it is disputed."""
        row = await self._charges.money.database.fetchrow(
            "SELECT state, disputed FROM payments WHERE payment_id = $1", self._paid.payment
        )
        assert row is not None
        return S(row[0]), row[1]

    async def owned(self) -> tuple[int, int]:
        """What the payer and the payee have, below zero what they owe."""
        money = self._charges.money
        found = []
        for owner in (self._paid.payer, self._paid.payee):
            debt = await money.balance_of(account_id(TENANT, owner, "THB", Purpose.RECEIVABLE))
            found.append(await money.balance(owner) + debt)
        return found[0], found[1]


async def test_a_refund_of_one_unit_leaves_the_chargeback_of_the_rest_with_the_payee(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000))
    await money.ledger.refund(money.key(), shop, TENANT, paid.payment, party=shop, amount=1)
    assert await bank.take() is EffectUse.PAYMENT
    assert (await bank.state(), await bank.owned()) == ((S.DISPUTED, 999), (0, 0))
    await bank.lose()
    assert (await bank.state(), await bank.owned()) == ((S.REFUNDED, 0), (1, 999))


async def test_what_was_not_captured_is_taken_from_the_payer(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000, later=True))
    await money.capture(paid, 600)
    await charges.withdraw(ann, 400)
    await bank.take()
    assert (await bank.state(), await bank.owned()) == ((S.DISPUTED, 600), (-400, 0))
    await bank.lose()
    assert (await bank.state(), await bank.owned()) == ((S.PAID, 0), (0, 600))


async def test_a_hold_whose_money_a_bank_took_back_is_not_captured(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000, later=True))
    assert await bank.take() is EffectUse.WALLET
    assert (await bank.state(), await bank.owned()) == ((S.CANCELLED, 0), (0, 0))
    assert (await money.capture(paid)).outcome is StepOutcome.STATE
    await bank.lose()
    assert await bank.owned() == (1_000, 0)


async def test_a_refund_that_fails_after_a_chargeback_is_the_payees_who_paid_it(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000))
    refund = await charges.refund(paid)
    assert await bank.take() is EffectUse.PAYMENT
    assert (await bank.state(), await bank.owned()) == ((S.DISPUTED, 1_000), (0, -1_000))
    await charges.effect(E.REFUND_FAILED, 0, refund)
    assert (await bank.state(), await bank.owned()) == ((S.DISPUTED, 1_000), (0, 0))
    await bank.lose()
    assert (await bank.state(), await bank.owned()) == ((S.PAID, 0), (0, 1_000))


async def test_who_has_a_refund_and_a_chargeback_owes_one_of_them_to_the_payee(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000))
    refund = await charges.refund(paid, 700)
    await bank.take()
    await charges.effect(E.REFUND_PAID, -700, refund)
    assert (await bank.state(), await bank.owned()) == ((S.DISPUTED, 300), (-700, 0))
    await bank.lose()
    assert (await bank.state(), await bank.owned()) == ((S.REFUNDED, 0), (0, 300))


async def test_a_dispute_that_is_won_while_a_refund_is_under_way_leaves_it_so(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000))
    refund = await charges.refund(paid)
    await bank.take()
    await bank.lose()
    assert (await bank.state(), await bank.owned()) == ((S.REFUNDING, 0), (0, 0))
    await charges.effect(E.REFUND_PAID, -1_000, refund)
    assert (await bank.state(), await bank.owned()) == ((S.REFUNDED, 0), (0, 0))


async def test_a_dispute_that_is_lost_while_a_refund_is_under_way_ends_with_it(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    bank = Bank(charges, paid := await charges.pay_by_card(ann, shop, 1_000))
    refund = await charges.refund(paid, 400)
    await bank.take()
    await charges.effect(E.CHARGEBACK_LOST, 0, object_id="cb", parent=bank.charge)
    assert (await bank.state(), await bank.owned()) == ((S.REFUNDING, 1_000), (0, -400))
    await charges.effect(E.REFUND_PAID, -400, refund)
    assert (await bank.state(), await bank.owned()) == ((S.REFUNDED, 600), (-400, 0))
    await charges.refund(paid)
    assert charges.outcome() is StepOutcome.AMOUNT
