"""Money that comes into a wallet that is closed, or with another amount; requests that end while they are topped up."""

from __future__ import annotations

import asyncio

import pytest

from protocol.commerce.intent_states import EffectKind, EffectUse, IntentState, IntentStep
from protocol.commerce.payment_states import PaymentState
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import Purpose, StepOutcome, account_id
from tests.support.charge_world import GATEWAY, ChargeWorld
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

E, S = EffectKind, IntentState
_WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
async def charges(money: MoneyWorld) -> ChargeWorld:
    """A gateway whose objects the test makes up."""
    return ChargeWorld(money)


async def erase(money: MoneyWorld, person: bytes) -> StepOutcome:
    found = await money.database.fetchval(
        "SELECT outcome FROM begin_erasure($1, $2, $3, $4, $3, $5)", new_id(), b"x", person, TENANT, new_id()
    )
    return StepOutcome(found)


async def test_no_money_comes_into_a_closed_wallet(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person(1_000)
    payout = await charges.withdraw(ann, 1_000)
    await charges.effect(E.PAYOUT_PAID, -1_000, payout)
    code = await charges.top_up(ann, 300, method="promptpay", token=None, life_s=2)
    await charges.effect(E.CHARGE_EXPIRED, 0, code)
    lost = await charges.top_up(ann, 200)
    await charges.effect(E.CHARGE_PAID, 200, lost, object_id="ch_lost")
    await charges.effect(E.CHARGEBACK_OPENED, -200, object_id="cb", parent="ch_lost")
    assert await erase(money, ann) is StepOutcome.DONE
    answers = [
        await charges.effect(E.PAYOUT_RETURNED, 1_000, payout),
        await charges.effect(E.PAYMENT_RECEIVED, 300, code),
        await charges.effect(E.CHARGEBACK_WON, 200, object_id="cb", parent="ch_lost"),
    ]
    assert [answer.detail for answer in answers] == [EffectUse.SUSPENSE] * 3
    assert (await money.balance(ann), await charges.owed()) == (0, (500, 1_500))
    assert (await charges.state(payout), await charges.state(code)) == (S.RETURNED, S.EXPIRED)


async def test_suspense_is_not_released_to_a_closed_wallet(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    await charges.effect(E.PAYMENT_RECEIVED, 500)
    (item,) = await charges.intents.read_suspense(TENANT, 0, 10)
    await erase(money, ann)
    wallet = account_id(TENANT, ann, "THB", Purpose.WALLET)
    answer = await charges.intents.release(money.key(), NIL, TENANT, item.item, wallet)
    assert (answer.outcome, await charges.owed()) == (StepOutcome.WALLET_CLOSED, (500, 500))


async def test_a_top_up_begins_before_an_erasure_or_not_at_all(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    async with money.database.transaction():
        assert await erase(money, ann) is StepOutcome.DONE
        begun = asyncio.create_task(charges.top_up(ann, 300))
        while not (begun.done() or await money.database.fetchval(_WAITS)):
            pass  # each look is a round trip
    await begun
    assert charges.outcome() is StepOutcome.WALLET_CLOSED


async def test_a_charge_that_was_paid_with_another_amount_ends_its_top_up(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500)
    await charges.intents.settle(await charges.claim_one(), IntentStep.ACCEPT, object_id="ch_1")
    await charges.effect(E.CHARGE_PAID, 499, intent, object_id="ch_1")
    row = await charges.read(intent)
    assert (row.state, row.token, row.due_us) == (S.FAILED, None, None)
    assert row.reason == "the charge was paid with another amount"
    assert (await money.balance(ann), await charges.owed()) == (0, (499, 499))


async def test_a_code_that_was_paid_with_too_much_ends_its_top_up(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500, method="promptpay", token=None, life_s=900)
    await charges.intents.settle(await charges.claim_one(), IntentStep.ACCEPT, object_id="ch_1")
    await charges.effect(E.PAYMENT_RECEIVED, 400, intent)
    assert await charges.state(intent) is S.PENDING
    await charges.effect(E.PAYMENT_RECEIVED, 551, intent)
    assert await charges.state(intent) is S.FAILED
    assert (await money.balance(ann), await charges.owed()) == (0, (951, 951))


async def test_a_request_that_a_top_up_finds_expired_has_expired(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann, shop = await money.open_person(), await money.open_person()
    paid = money.payment(ann, shop, 500, request_us=HOUR_US)
    await money.request(paid)
    await money.step_clock(HOUR_US + 1)
    await charges.top_up(ann, 500, paid)
    state = await money.database.fetchval("SELECT state FROM payments WHERE payment_id = $1", paid.payment)
    assert (charges.outcome(), state) == (StepOutcome.EXPIRED, PaymentState.EXPIRED)


async def test_what_is_pending_is_due_again_after_an_hour_until_it_ends(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    ann = await money.open_person()
    intent = await charges.top_up(ann, 500, method="promptpay", token=None, life_s=2)
    await charges.intents.settle(await charges.claim_one(), IntentStep.ACCEPT, object_id="ch_1")
    assert await charges.intents.claim(GATEWAY, 10, lease_us=1_000_000) == []
    await money.step_clock(HOUR_US + 1)
    row = await charges.claim_one()
    assert (row.intent, row.state) == (intent, S.PENDING)
    await charges.intents.settle(row, None)
    assert await charges.intents.claim(GATEWAY, 10, lease_us=1_000_000) == []
    await charges.effect(E.CHARGE_EXPIRED, 0, intent)
    assert (await charges.read(intent)).due_us is None


async def test_what_a_clock_that_was_ahead_put_off_is_due(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person()
    await money.step_clock(3 * HOUR_US)
    intent = await charges.top_up(ann, 300)
    await charges.intents.note_webhook(GATEWAY, ("charge", "ch_1"), new_id(), b"sealed", hints_max=10)
    turn = await charges.intents.claim_cursor(GATEWAY, 5, lease_us=1_000)
    await money.step_clock(0)
    assert (await charges.claim_one()).intent == intent
    assert len(await charges.intents.claim_hints(GATEWAY, 10, lease_us=1_000)) == 1
    again = await charges.intents.claim_cursor(GATEWAY, 5, lease_us=1_000)
    assert (turn, again) == ((1, 5), (2, 5))


async def test_a_turn_is_kept_while_its_window_is_read(money: MoneyWorld, charges: ChargeWorld) -> None:
    turn = await charges.intents.claim_cursor(GATEWAY, 5, lease_us=1_000_000)
    assert turn is not None
    assert await charges.intents.move_cursor(GATEWAY, turn[0], 5, pause_us=2 * HOUR_US)
    await money.step_clock(HOUR_US)
    assert await charges.intents.claim_cursor(GATEWAY, 5, lease_us=1_000_000) is None


async def test_a_gateway_that_restored_books_do_not_know_begins_before_what_they_know(
    money: MoneyWorld, charges: ChargeWorld
) -> None:
    known_us = await money.database.fetchval(
        "UPDATE book_history SET noticed_us = clock_us(), known_us = clock_us() - 48 * $1::bigint RETURNING known_us",
        HOUR_US,
    )
    turn = await charges.intents.claim_cursor(GATEWAY, known_us // 1_000 + HOUR_US // 1_000, lease_us=1_000)
    assert turn == (1, (known_us - HOUR_US) // 1_000)


async def test_a_webhook_that_is_sent_again_is_kept_once(money: MoneyWorld, charges: ChargeWorld) -> None:
    digest = new_id()
    for _ in range(3):
        assert await charges.intents.note_webhook(GATEWAY, ("charge", "ch_1"), digest, b"sealed", hints_max=10)
    assert await money.database.fetchval("SELECT count(*) FROM webhook_bodies") == 1


async def test_the_audit_says_who_asked_for_a_withdrawal(money: MoneyWorld, charges: ChargeWorld) -> None:
    ann = await money.open_person(1_000)
    intent = await charges.withdraw(ann, 400)
    row = await money.database.fetchrow("SELECT actor_id, detail FROM audit WHERE subject_id = $1", intent)
    assert row is not None
    assert (row[0], row[1].split()[1:]) == (ann, [GATEWAY, "400", "THB"])
