"""What cannot be refused, and disputes: who is charged, what is owed, and how it ends."""

from __future__ import annotations

import pytest

from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import (
    Leg,
    Purpose,
    StepOutcome,
    TransferReason,
    account_id,
)
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio


async def test_what_cannot_be_refused_becomes_a_debt_that_later_credits_settle(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(10_000), await money.open_person(300)
    wallet, clearing = (
        account_id(TENANT, shop, "THB", Purpose.WALLET),
        account_id(TENANT, bytes(16), "THB", Purpose.CLEARING),
    )
    taken = await money.ledger.take_anyway(
        money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, Leg(wallet, clearing, 1_000)
    )
    assert (taken.outcome, taken.detail) == (StepOutcome.DONE, 700)
    for amount, left, debt in ((500, 0, 200), (150, 0, 50), (150, 100, 0), (150, 250, 0)):
        await money.send(money.payment(ann, shop, amount))
        rows = await money.ledger.read_accounts(TENANT, shop)
        assert [(row.balance, row.debt) for row in rows if row.purpose is Purpose.WALLET] == [(left, debt)]


async def test_a_dispute_takes_from_the_payee_and_returns_when_it_is_won(money: MoneyWorld) -> None:
    ann, shop, bank = await money.open_person(1_000), await money.open_person(), await money.open_person()
    clearing = account_id(TENANT, bytes(16), "THB", Purpose.CLEARING)
    new = money.payment(ann, shop, 1_000)
    await money.send(new)
    await money.send(money.payment(shop, bank, 400))

    async def dispute(step: PaymentStep, amount: int = 0) -> tuple[StepOutcome, int | None]:
        answer = await money.ledger.dispute(
            money.key(), shop, TENANT, new.payment, step, clearing=clearing, amount=amount
        )
        return answer.outcome, answer.detail

    assert await dispute(PaymentStep.DISPUTE_WON) == (StepOutcome.STATE, None)
    assert await dispute(PaymentStep.DISPUTE, 1_001) == (StepOutcome.AMOUNT, None)
    assert await dispute(PaymentStep.DISPUTE, 1_000) == (StepOutcome.DONE, 400)
    assert (await money.balance(shop), await money.balance_of(clearing)) == (0, 1_000)
    refund = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop)
    assert refund.outcome is StepOutcome.STATE
    assert await dispute(PaymentStep.DISPUTE_WON) == (StepOutcome.DONE, None)
    rows = await money.ledger.read_accounts(TENANT, shop)
    assert [(row.balance, row.debt) for row in rows if row.purpose is Purpose.WALLET] == [(600, 0)]
    row = await money.ledger.read_payment(new.payment)
    assert row is not None
    assert (row.state, row.version, row.disputed) == (PaymentState.PAID, 3, 0)


@pytest.mark.parametrize("amount", [1_000, 600])
async def test_a_dispute_that_is_lost_ends_and_what_was_taken_is_never_refunded(money: MoneyWorld, amount: int) -> None:
    await money.set_fee(1_000)
    ann, shop = await money.open_person(1_000), await money.open_person(500)
    clearing = account_id(TENANT, bytes(16), "THB", Purpose.CLEARING)
    before = await money.balance_of(clearing)
    new = money.payment(ann, shop, 1_000)
    await money.send(new)

    async def dispute(step: PaymentStep, amount: int = 0) -> StepOutcome:
        answer = await money.ledger.dispute(
            money.key(), NIL, TENANT, new.payment, step, clearing=clearing, amount=amount
        )
        return answer.outcome

    assert await dispute(PaymentStep.DISPUTE_LOST) is StepOutcome.STATE
    assert await dispute(PaymentStep.DISPUTE, amount) is StepOutcome.DONE
    assert await dispute(PaymentStep.DISPUTE_LOST) is StepOutcome.DONE
    row = await money.ledger.read_payment(new.payment)
    assert row is not None
    assert (row.state, row.version, row.refunded, row.disputed) == (PaymentState.REFUNDED, 3, 0, amount)
    for late in (PaymentStep.DISPUTE_WON, PaymentStep.DISPUTE_LOST, PaymentStep.DISPUTE):
        assert await dispute(late, 1) is StepOutcome.STATE
    refund = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop, amount=1_001 - amount)
    assert refund.outcome is StepOutcome.AMOUNT
    rest = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop)
    assert rest.outcome is (StepOutcome.AMOUNT if amount == 1_000 else StepOutcome.DONE)
    left, fee = 1_000 - amount, 100 - (1_000 - amount) // 10
    assert await money.balance_of(clearing) == before + amount
    assert (await money.balance(ann), await money.balance(shop), await money.fees()) == (left, 500 - fee, fee)
