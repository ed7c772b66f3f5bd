"""What objects of gateways change in the books: once, for what was asked, and else nothing but suspense."""

from __future__ import annotations

import asyncio

import pytest

from protocol.commerce.intent_states import EffectKind, IntentKind, IntentState, IntentStep
from protocol.commerce.payment_states import PaymentState
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import (
    Answer,
    Leg,
    Purpose,
    StepOutcome,
    TransferReason,
    account_id,
    gateway_owner,
)
from tests.support.charge_world import GATEWAY, ChargeWorld
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

E, S = EffectKind, IntentState


@pytest.fixture
async def charges(money: MoneyWorld) -> ChargeWorld:
    """A gateway whose objects the test makes up."""
    return ChargeWorld(money)


async def state_of(money: MoneyWorld, payment: bytes) -> PaymentState:
    row = await money.ledger.read_payment(payment)
    assert row is not None
    return row.state


async def suspense_of(charges: ChargeWorld) -> list[tuple[EffectKind, int]]:
    return [(row.effect, row.amount) for row in await charges.intents.read_suspense(TENANT, 0, 100)]


async def owe(money: MoneyWorld, owner: bytes, amount: int) -> None:
    wallet = account_id(TENANT, owner, "THB", Purpose.WALLET)
    clearing = account_id(TENANT, NIL, "THB", Purpose.CLEARING)
    await money.ledger.take_anyway(
        money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, Leg(wallet, clearing, amount)
    )


async def test_a_paid_charge_is_credited_once(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500)
    assert (await money.balance(ann), await charges.state(intent)) == (0, S.WRITTEN)
    answers = await asyncio.gather(*(charges.effect(E.CHARGE_PAID, 500, intent, object_id="ch_1") for _ in range(6)))
    assert {each.outcome for each in answers} == {StepOutcome.DONE}
    assert (await money.balance(ann), await charges.owed()) == (500, (500, 0))
    row = await charges.read(intent)
    assert (row.state, row.token, row.due_us) == (S.PAID, None, None)


async def test_the_owners_of_accounts_are_the_same_in_sql(money: MoneyWorld) -> None:
    assert await money.database.fetchval("SELECT gateway_owner('other')") == gateway_owner("other")


async def test_an_effect_whose_amount_has_changed_moves_nothing(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500)
    await charges.effect(E.CHARGE_PAID, 500, intent, object_id="ch_1")
    answer = await charges.effect(E.CHARGE_PAID, 600, intent, object_id="ch_1")
    assert answer.outcome is StepOutcome.KEY_REUSED
    assert await charges.owed() == (500, 0)


async def test_a_top_up_settles_debts_first(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person(100)
    await owe(money, ann, 300)
    await charges.effect(E.CHARGE_PAID, 500, await charges.top_up(ann, 500))
    assert await money.balance(ann) == 300


@pytest.mark.parametrize(
    ("amount", "currency", "asked"),
    [(499, "THB", True), (501, "THB", True), (500, "IDR", True), (500, "THB", False)],
)
async def test_money_that_is_not_what_was_asked_is_in_suspense(
    money: MoneyWorld, charges: ChargeWorld, amount: int, currency: str, *, asked: bool
) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500)
    await charges.effect(E.PAYMENT_RECEIVED, amount, intent if asked else new_id(), currency=currency)
    assert (await money.balance(ann), await charges.state(intent)) == (0, S.FAILED if amount > 500 else S.WRITTEN)
    assert await suspense_of(charges) == [(E.PAYMENT_RECEIVED, amount)]


async def test_a_second_payment_of_a_code_is_in_suspense(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500, method="promptpay", token=None, life_s=900)
    for _ in range(2):
        await charges.effect(E.PAYMENT_RECEIVED, 500, intent)
    assert (await money.balance(ann), await charges.owed()) == (500, (1_000, 500))


async def test_a_code_that_expired_may_be_paid_all_the_same(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500, method="promptpay", token=None, life_s=900)
    await charges.intents.settle(await charges.claim_one(), IntentStep.ACCEPT, object_id="ch_1", qr="0002")
    await charges.effect(E.CHARGE_EXPIRED, 0, intent)
    assert await charges.state(intent) is S.EXPIRED
    await charges.effect(E.PAYMENT_RECEIVED, 500, intent)
    assert (await charges.state(intent), await money.balance(ann)) == (S.PAID, 500)


async def test_a_charge_that_failed_and_is_paid_is_in_suspense(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500)
    await charges.effect(E.CHARGE_FAILED, 0, intent)
    assert await charges.state(intent) is S.FAILED
    await charges.effect(E.CHARGE_PAID, 500, intent)
    assert (await money.balance(ann), await charges.owed()) == (0, (500, 500))


@pytest.mark.parametrize("later", [False, True])
async def test_a_charge_pays_the_request_that_it_is_for(
    money: MoneyWorld, charges: ChargeWorld, *, later: bool
) -> None:
    await money.set_fee(100)
    await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', 1)")
    ann, shop = await money.open_person(timezone="UTC", day_max=10_000), await money.open_person(slots=16)
    paid = await charges.pay_by_card(ann, shop, 1_000, later=later)
    assert await state_of(money, paid.payment) is (PaymentState.HELD if later else PaymentState.PAID)
    assert (await money.balance(ann), await money.balance(shop)) == (0, 0 if later else 990)
    (row,) = await charges.page(ann, IntentKind.TOP_UP)
    assert row.fulfils


async def test_money_for_a_request_that_has_ended_stays_in_the_wallet(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    paid = money.payment(ann, shop, 500, request_us=HOUR_US)
    await money.request(paid)
    intent = await charges.top_up(ann, 500, paid)
    await money.step_clock(HOUR_US)
    await charges.effect(E.CHARGE_PAID, 500, intent)
    assert await state_of(money, paid.payment) is PaymentState.EXPIRED
    row = await charges.read(intent)
    assert (await money.balance(ann), await money.balance(shop), row.fulfils) == (500, 0, False)


async def test_two_charges_for_a_request_pay_it_once(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    paid = money.payment(ann, shop, 500)
    await money.request(paid)
    intents = [await charges.top_up(ann, 500, paid) for _ in range(2)]
    await asyncio.gather(*(charges.effect(E.CHARGE_PAID, 500, intent) for intent in intents))
    assert (await money.balance(ann), await money.balance(shop)) == (500, 500)


async def test_a_top_up_for_another_request_than_was_seen_is_refused(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    paid = money.payment(ann, shop, 500)
    await money.request(paid)
    for changed in ({"version": 2}, {"payee": ann}):
        await charges.top_up(ann, 500, paid, **changed)
        assert charges.outcome() is StepOutcome.CHANGED
    await charges.top_up(ann, 499, paid)
    assert charges.outcome() is StepOutcome.CHANGED
    await charges.top_up(shop, 500, paid)
    assert charges.outcome() is StepOutcome.NOT_FOUND
    assert await charges.intents.claim(GATEWAY, 10, lease_us=1) == []


async def test_a_withdrawal_leaves_the_wallet_at_once_and_the_books_when_it_is_paid(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann = await money.open_person(1_000)
    intent = await charges.withdraw(ann, 700)
    assert await money.balance(ann) == 300
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert wallet.held == 700
    await charges.effect(E.PAYOUT_PAID, -700, intent, object_id="po_1")
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert (wallet.balance, wallet.held, await charges.owed()) == (300, 0, (-700, 0))
    await charges.effect(E.PAYOUT_RETURNED, 700, intent, object_id="po_1")
    assert (await money.balance(ann), await charges.owed()) == (1_000, (0, 0))
    assert await charges.state(intent) is S.RETURNED


async def test_a_withdrawal_that_fails_returns_with_its_use_of_the_limit(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', 1)")
    ann = await money.open_person(1_000, timezone="UTC", day_max=700)
    intent = await charges.withdraw(ann, 700)
    await charges.withdraw(ann, 1)
    assert charges.outcome() is StepOutcome.OVER_LIMIT
    await charges.effect(E.PAYOUT_FAILED, 0, intent)
    assert (await money.balance(ann), await charges.state(intent)) == (1_000, S.FAILED)
    await charges.withdraw(ann, 700)
    assert charges.outcome() is StepOutcome.DONE


async def test_a_withdrawal_that_is_paid_in_part_returns_the_rest_with_its_use_of_the_limit(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', 1)")
    ann = await money.open_person(1_000, timezone="UTC", day_max=700)
    intent = await charges.withdraw(ann, 700)
    await charges.effect(E.PAYOUT_PAID, -300, intent)
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert (wallet.balance, wallet.held, await charges.owed()) == (700, 0, (-300, 0))
    row = await charges.read(intent)
    assert (row.state, row.amount, row.reason) == (S.PAID, 300, "the gateway paid another amount than was asked for")
    await charges.withdraw(ann, 401)
    assert charges.outcome() is StepOutcome.OVER_LIMIT
    await charges.withdraw(ann, 400)
    assert charges.outcome() is StepOutcome.DONE
    await charges.effect(E.PAYOUT_RETURNED, 300, intent)
    assert (await money.balance(ann), await charges.owed()) == (600, (0, 0))


async def test_what_a_gateway_pays_out_beyond_the_withdrawal_is_in_suspense(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann = await money.open_person(1_000)
    intent = await charges.withdraw(ann, 700)
    await charges.effect(E.PAYOUT_PAID, -750, intent)
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert (wallet.balance, wallet.held, await charges.state(intent)) == (300, 0, S.PAID)
    assert (await charges.owed(), await suspense_of(charges)) == ((-750, -50), [(E.PAYOUT_PAID, -50)])
    await charges.effect(E.PAYOUT_RETURNED, 750, intent, object_id=charges.last_object)
    assert (await money.balance(ann), await charges.owed(), await charges.state(intent)) == (1_000, (0, 0), S.RETURNED)
    assert await suspense_of(charges) == [(E.PAYOUT_PAID, -50), (E.PAYOUT_RETURNED, 50)]


async def test_what_is_not_there_is_not_withdrawn(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person(1_000)
    outcomes = []
    for amount in (1_001, 0, 600, 600):
        await charges.withdraw(ann, amount)
        outcomes.append(charges.outcome())
    insufficient = StepOutcome.INSUFFICIENT
    assert outcomes == [insufficient, StepOutcome.AMOUNT, StepOutcome.DONE, insufficient]


async def test_a_payout_that_was_paid_twice_is_noticed(money: MoneyWorld, charges: ChargeWorld) -> None:
    intent = await charges.withdraw(await money.open_person(1_000), 700)
    for _ in range(2):
        await charges.effect(E.PAYOUT_PAID, -700, intent)
    assert await charges.owed() == (-1_400, -700)
    assert await suspense_of(charges) == [(E.PAYOUT_PAID, -700)]


async def test_a_refund_at_the_gateway_ends_when_the_gateway_says_so(money: MoneyWorld, charges: ChargeWorld) -> None:
    await money.set_fee(100)
    ann, shop = await money.open_person(), await money.open_person()
    paid = await charges.pay_by_card(ann, shop, 1_000)
    first = await charges.refund(paid, 300)
    assert await state_of(money, paid.payment) is PaymentState.REFUNDING
    assert (await charges.read(first)).token == "ob_1"
    assert (await money.balance(shop), await money.fees()) == (693, 7)
    await charges.refund(paid)
    assert charges.outcome() is StepOutcome.STATE
    await charges.effect(E.REFUND_PAID, -300, first)
    assert await state_of(money, paid.payment) is PaymentState.REFUNDED
    rest = await charges.refund(paid)
    await charges.effect(E.REFUND_PAID, -700, rest)
    row = await money.ledger.read_payment(paid.payment)
    assert row is not None
    assert (row.refunded, row.fee_returned, await money.balance(shop), await money.fees()) == (1_000, 10, 0, 0)
    assert await charges.owed() == (0, 0)


async def test_a_refund_that_fails_returns_to_the_payee(money: MoneyWorld, charges: ChargeWorld) -> None:
    await money.set_fee(100)
    ann, shop = await money.open_person(), await money.open_person()
    paid = await charges.pay_by_card(ann, shop, 1_000)
    intent = await charges.refund(paid)
    await charges.effect(E.REFUND_FAILED, 0, intent)
    assert await state_of(money, paid.payment) is PaymentState.REFUND_FAILED
    assert (await money.balance(shop), await money.fees(), await charges.state(intent)) == (990, 10, S.FAILED)
    await charges.effect(E.REFUND_PAID, -1_000, await charges.refund(paid))
    assert await state_of(money, paid.payment) is PaymentState.REFUNDED


async def test_a_refund_that_comes_back_is_in_suspense(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    intent = await charges.refund(await charges.pay_by_card(ann, shop, 1_000))
    await charges.effect(E.REFUND_PAID, -1_000, intent)
    await charges.effect(E.REFUND_RETURNED, 1_000, intent)
    assert (await charges.state(intent), await charges.owed()) == (S.RETURNED, (1_000, 1_000))
    assert (await money.balance(ann), await money.balance(shop)) == (0, 0)


async def test_what_a_wallet_paid_is_not_refunded_to_a_card(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400)
    await money.send(new)
    await charges.refund(new)
    assert charges.outcome() is StepOutcome.NO_SOURCE
    assert await state_of(money, new.payment) is PaymentState.PAID


async def test_a_chargeback_of_a_paid_request_is_the_payees_until_it_is_won(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    paid = await charges.pay_by_card(ann, shop, 1_000)
    charge = charges.last_object
    await charges.effect(E.CHARGEBACK_OPENED, -1_000, object_id="cb_1", parent=charge)
    assert await state_of(money, paid.payment) is PaymentState.DISPUTED
    assert (await money.balance(shop), await charges.owed()) == (0, (0, 0))
    await charges.effect(E.CHARGEBACK_WON, 1_000, object_id="cb_1", parent=charge)
    assert await state_of(money, paid.payment) is PaymentState.PAID
    assert (await money.balance(shop), await charges.owed()) == (1_000, (1_000, 0))


async def test_a_lost_chargeback_of_a_paid_request_ends_its_dispute(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    paid = await charges.pay_by_card(ann, shop, 1_000)
    charge = charges.last_object
    await charges.effect(E.CHARGEBACK_OPENED, -1_000, object_id="cb_1", parent=charge)
    await charges.effect(E.CHARGEBACK_LOST, 0, object_id="cb_1", parent=charge)
    assert await state_of(money, paid.payment) is PaymentState.REFUNDED
    assert (await money.balance(shop), await charges.owed()) == (0, (0, 0))
    await charges.refund(paid)
    assert charges.outcome() is StepOutcome.AMOUNT
    await charges.effect(E.CHARGEBACK_WON, 1_000, object_id="cb_1", parent=charge)
    assert (await money.balance(ann), await money.balance(shop)) == (0, 0)
    assert await suspense_of(charges) == [(E.CHARGEBACK_WON, 1_000)]


async def test_a_chargeback_of_a_top_up_is_owed_until_it_is_won(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    await charges.effect(E.CHARGE_PAID, 1_000, await charges.top_up(ann, 1_000))
    charge = charges.last_object
    await money.send(money.payment(ann, shop, 800))
    await charges.effect(E.CHARGEBACK_OPENED, -1_000, object_id="cb_1", parent=charge)
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert (wallet.balance, wallet.debt) == (0, 800)
    await charges.effect(E.CHARGEBACK_WON, 1_000, object_id="cb_1", parent=charge)
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert (wallet.balance, wallet.debt) == (200, 0)


async def test_a_chargeback_of_money_in_suspense_is_in_suspense(charges: ChargeWorld) -> None:
    await charges.effect(E.PAYMENT_RECEIVED, 500)
    await charges.effect(E.CHARGEBACK_OPENED, -500, object_id="cb_1", parent=charges.last_object)
    assert await charges.owed() == (0, 0)
    assert await suspense_of(charges) == [(E.PAYMENT_RECEIVED, 500), (E.CHARGEBACK_OPENED, -500)]


async def test_a_lost_chargeback_moves_nothing_more(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    await charges.effect(E.CHARGE_PAID, 1_000, await charges.top_up(ann, 1_000))
    charge = charges.last_object
    await charges.effect(E.CHARGEBACK_OPENED, -1_000, object_id="cb_1", parent=charge)
    answer = await charges.effect(E.CHARGEBACK_LOST, 0, object_id="cb_1", parent=charge)
    assert (answer.outcome, await charges.owed(), await money.balance(ann)) == (StepOutcome.DONE, (0, 0), 0)


async def test_an_admin_releases_an_item_of_suspense_once(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    wallet = account_id(TENANT, ann, "THB", Purpose.WALLET)
    await charges.effect(E.PAYMENT_RECEIVED, 500)
    (item,) = await charges.intents.read_suspense(TENANT, 0, 10)

    async def release() -> Answer:
        return await charges.intents.release(money.key(), NIL, TENANT, item.item, wallet)

    outcomes = sorted(answer.outcome for answer in await asyncio.gather(*(release() for _ in range(4))))
    assert outcomes == [StepOutcome.DONE] + [StepOutcome.NO_INTENT] * 3
    assert (await money.balance(ann), await charges.owed()) == (500, (500, 0))
    assert await charges.intents.read_suspense(TENANT, 0, 10) == []
    assert await money.database.fetchval("SELECT count(*) FROM audit WHERE action = 'release_suspense'") == 1


async def test_what_a_gateway_took_from_nobody_is_taken_from_a_wallet_that_has_it(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann, poor = await money.open_person(500), await money.open_person(499)
    await charges.effect(E.REFUND_PAID, -500)
    (item,) = await charges.intents.read_suspense(TENANT, 0, 10)
    outcomes = []
    for owner in (poor, ann):
        wallet = account_id(TENANT, owner, "THB", Purpose.WALLET)
        outcomes.append((await charges.intents.release(money.key(), NIL, TENANT, item.item, wallet)).outcome)
    assert outcomes == [StepOutcome.INSUFFICIENT, StepOutcome.DONE]
    assert (await money.balance(ann), await charges.owed()) == (0, (-500, 0))


async def test_an_intent_is_claimed_by_one_at_a_time_and_again_when_the_lease_ends(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    await charges.top_up(await money.open_person(), 500)
    row = await charges.claim_one()
    assert await charges.intents.claim(GATEWAY, 10, lease_us=1) == []
    await money.step_clock(2_000_000)
    again = await charges.claim_one()
    assert again.lease == row.lease + 1
    assert not await charges.intents.settle(row, IntentStep.FAIL)
    assert await charges.state(row.intent) is S.WRITTEN
    assert await charges.intents.settle(again, IntentStep.FAIL, reason="card_declined")
    assert await charges.state(row.intent) is S.FAILED


async def test_an_answer_that_comes_after_the_effect_changes_no_state(money: MoneyWorld, charges: ChargeWorld) -> None:
    intent = await charges.top_up(await money.open_person(), 500)
    row = await charges.claim_one()
    await charges.effect(E.CHARGE_PAID, 500, intent)
    assert await charges.intents.settle(row, IntentStep.ACCEPT, object_id="ch_1")
    found = await charges.read(intent)
    assert (found.state, found.object_id, found.due_us) == (S.PAID, "ch_1", None)


async def test_hints_wait_once_for_each_object_and_stay_when_they_are_noted_again(charges: ChargeWorld) -> None:
    for _ in range(2):
        assert await charges.intents.note_webhook(GATEWAY, ("charge", "ch_1"), new_id(), b"sealed", hints_max=2)
    assert await charges.intents.note_webhook(GATEWAY, ("charge", "ch_2"), new_id(), b"sealed", hints_max=2)
    assert not await charges.intents.note_webhook(GATEWAY, ("charge", "ch_3"), new_id(), b"sealed", hints_max=2)
    first, second = await charges.intents.claim_hints(GATEWAY, 10, lease_us=10**9)
    assert await charges.intents.claim_hints(GATEWAY, 10, lease_us=10**9) == []
    await charges.intents.finish_hint(GATEWAY, second)
    await charges.intents.note_webhook(GATEWAY, ("charge", first.object_id), new_id(), b"sealed", hints_max=2)
    await charges.intents.finish_hint(GATEWAY, first)
    (left,) = await charges.intents.claim_hints(GATEWAY, 10, lease_us=10**9)
    assert left.object_id == first.object_id


async def test_bodies_of_webhooks_are_forgotten_in_steps(money: MoneyWorld, charges: ChargeWorld) -> None:
    for _ in range(3):
        await charges.intents.note_webhook(GATEWAY, None, new_id(), b"sealed", hints_max=2)
    now_us = int(await money.database.fetchval("SELECT clock_us()"))
    assert await charges.intents.forget_webhooks(now_us - HOUR_US, 2) == 0
    assert [await charges.intents.forget_webhooks(now_us + 1, 2) for _ in range(2)] == [2, 1]


async def test_one_process_at_a_time_reads_the_changes_of_a_gateway(charges: ChargeWorld) -> None:
    turn = await charges.intents.claim_cursor(GATEWAY, 1_000, lease_us=10**9)
    assert turn is not None
    assert turn[1] == 1_000
    assert await charges.intents.claim_cursor(GATEWAY, 1_000, lease_us=10**9) is None
    assert not await charges.intents.move_cursor(GATEWAY, turn[0] + 1, 9_000, pause_us=0)
    assert await charges.intents.move_cursor(GATEWAY, turn[0], 2_000, pause_us=0)
    again = await charges.intents.claim_cursor(GATEWAY, 1_000, lease_us=10**9)
    assert again is not None
    assert again[1] == 2_000
