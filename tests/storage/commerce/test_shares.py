"""A payment that is divided: who gets what, to the last unit, and that refunds take it back."""

from __future__ import annotations

import msgspec
import pytest

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import (
    CaptureStep,
    Leg,
    NewPaymentRow,
    Purpose,
    ShareRow,
    StepOutcome,
    TransferReason,
    account_id,
)
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio


def wallet_of(owner: bytes, currency: str = "THB") -> bytes:
    return account_id(TENANT, owner, currency, Purpose.WALLET)


def shares_of(weights: dict[bytes, int]) -> tuple[ShareRow, ...]:
    return tuple(ShareRow(wallet_of(owner), weight) for owner, weight in weights.items())


async def asked(money: MoneyWorld, ann: bytes, shop: bytes, amount: int, weights: dict[bytes, int]) -> NewPaymentRow:
    """A payment that is approved, to be captured."""
    new = money.payment(ann, shop, amount, later=True, shares=shares_of(weights))
    assert (await money.request(new)).outcome is StepOutcome.DONE
    await approve(money, new)
    return new


async def approve(money: MoneyWorld, new: NewPaymentRow) -> None:
    approved = await money.ledger.approve(
        money.key(), new.payer, TENANT, new.payment, version=1, amount=new.amount, currency="THB", payee=new.payee
    )
    assert approved.outcome is StepOutcome.DONE


@pytest.mark.parametrize("slots", [1, 16])
@pytest.mark.parametrize(
    ("captured", "weights", "parts"),
    [
        (103, (1, 1, 1), (34, 33, 33)),  # 100 after the fee; of equal remainders the first place has the unit
        (104, (1, 1, 1), (34, 34, 33)),
        (103, (1, 0, 2), (33, 0, 67)),
        (103, (0, 2, 1), (0, 67, 33)),
        (1_003, (70, 20, 10), (700, 200, 100)),
        (4, (1, 1, 1), (1, 0, 0)),
        (10**12 + 3, (1, 10**9, 3), (1_000, 999_999_996_000, 3_000)),
    ],
)
async def test_what_is_captured_is_divided_by_the_largest_remainders(
    money: MoneyWorld, slots: int, captured: int, weights: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    await money.set_fee(0, 3)
    ann = await money.open_person(10**12 + 100)
    shop, rider, cook = [await money.open_person(slots=slots) for _ in range(3)]
    owners = (rider, shop, cook)
    named = {owner: weight for owner, weight in zip(owners, weights, strict=True) if weight}
    new = await asked(money, ann, shop, captured + 50, named)
    assert (await money.capture(new, captured)).outcome is StepOutcome.DONE
    got = [await money.balance(owner) for owner in owners]
    assert sum(got) == captured - 3
    assert tuple(got) == parts
    assert (await money.balance(ann), await money.fees()) == (10**12 + 100 - captured, 3)


async def test_a_payment_at_once_is_divided_too_and_who_owes_settles_from_their_share(money: MoneyWorld) -> None:
    ann, shop, rider = await money.open_person(1_000), await money.open_person(), await money.open_person()
    clearing = account_id(TENANT, NIL, "THB", Purpose.CLEARING)
    for owner in (shop, rider):
        leg = Leg(wallet_of(owner), clearing, 300)
        await money.ledger.take_anyway(money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, leg)
    new = money.payment(ann, shop, 1_000, shares=shares_of({shop: 1, rider: 1}))
    await money.request(new)
    await approve(money, new)
    for owner in (shop, rider):
        (row,) = await money.ledger.read_accounts(TENANT, owner)
        assert (row.balance, row.debt) == (200, 0)


async def test_refunds_take_the_shares_back_by_their_sum(money: MoneyWorld) -> None:
    await money.set_fee(290)
    ann, shop, rider, cook = [await money.open_person(balance) for balance in (10_000, 100, 0, 0)]
    new = await asked(money, ann, shop, 9_999, {rider: 7, cook: 2})
    await money.capture(new)
    assert (await money.balance(shop), await money.fees()) == (100, 290)
    for part in (1, 3_333, 3, 6_000, 662):
        answer = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop, amount=part)
        assert answer.outcome is StepOutcome.DONE
        assert await money.balance(shop) >= 98, "the payee gives a unit more for each share, until all is refunded"
    left = [await money.balance(owner) for owner in (ann, shop, rider, cook)]
    assert (left, await money.fees()) == ([10_000, 100, 0, 0], 0)


async def test_a_refund_waits_for_a_share_that_was_spent(money: MoneyWorld) -> None:
    ann, shop, rider, bank = [await money.open_person(balance) for balance in (1_000, 5_000, 0, 0)]
    new = await asked(money, ann, shop, 1_000, {shop: 1, rider: 1})
    await money.capture(new)
    await money.send(money.payment(rider, bank, 1))

    async def refund() -> StepOutcome:
        return (await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop)).outcome

    assert await refund() is StepOutcome.INSUFFICIENT
    await money.send(money.payment(bank, rider, 1))
    assert await refund() is StepOutcome.DONE
    assert [await money.balance(owner) for owner in (ann, shop, rider)] == [1_000, 5_000, 0]


async def test_a_batch_leaves_what_is_divided_to_the_single_step(money: MoneyWorld) -> None:
    ann, shop, rider = await money.open_person(1_000), await money.open_person(), await money.open_person()
    new = await asked(money, ann, shop, 1_000, {rider: 1})
    assert await money.ledger.capture_many([CaptureStep(money.key(), NIL, TENANT, new.payment)]) == [None]
    assert (await money.capture(new)).outcome is StepOutcome.DONE
    assert await money.balance(rider) == 1_000


async def test_what_ends_without_money_is_divided_among_nobody(money: MoneyWorld) -> None:
    ann, shop, rider = await money.open_person(1_000), await money.open_person(), await money.open_person()
    new = await asked(money, ann, shop, 1_000, {rider: 1})
    assert (await money.void(new)).outcome is StepOutcome.DONE
    assert [await money.balance(owner) for owner in (ann, shop, rider)] == [1_000, 0, 0]


async def test_shares_that_cannot_be_are_refused_and_leave_nothing(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    rupiah = await money.open_wallet(new_id(), currency="IDR")
    new = money.payment(ann, shop, 100)

    async def ask(*shares: ShareRow, step: PaymentStep = PaymentStep.REQUEST) -> StepOutcome:
        changed = msgspec.structs.replace(new, shares=shares)
        return (await money.ledger.begin(money.key(), shop, step, changed)).outcome

    assert await ask(ShareRow(new_id(), 1)) is StepOutcome.WALLET_NOT_FOUND
    assert await ask(ShareRow(account_id(TENANT, NIL, "THB", Purpose.FEES), 1)) is StepOutcome.WALLET_NOT_FOUND
    assert await ask(ShareRow(wallet_of(ann), 1)) is StepOutcome.OWN_PAYEE
    assert await ask(ShareRow(wallet_of(shop), 1), ShareRow(rupiah, 1)) is StepOutcome.CURRENCY
    assert await ask(ShareRow(wallet_of(shop), 1), step=PaymentStep.SEND) is StepOutcome.NOT_ALLOWED
    assert await money.database.fetchval("SELECT count(*) FROM payment_shares") == 0
