"""Steps that waited: what they judge and write is of the time after the wait."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from protocol.commerce.payment_states import PaymentState
from protocol.ids import new_id
from storage.commerce.money_rows import CaptureStep, Purpose, StepOutcome, TransferReason, account_id
from storage.postgres.pool import prepare
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

SECOND_US = 1_000_000
_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def until_somebody_waits(money: MoneyWorld) -> None:
    while not await money.database.fetchval(_WAITS):
        pass


async def test_the_time_of_a_debt_that_began_while_a_step_waited_does_not_fall(
    money: MoneyWorld, money_url: str
) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 1_000, later=True, hold_us=SECOND_US)
    await money.send(new)
    clearing = account_id(TENANT, bytes(16), "THB", Purpose.CLEARING)
    receivable = account_id(TENANT, ann, "THB", Purpose.RECEIVABLE)
    await money.step_clock(2 * HOUR_US)
    other = await asyncpg.connect(money_url)
    await prepare(other)
    async with other.transaction():
        await other.execute(
            "SELECT take_anyway($1, $2, $4, $3::int2, $4, $5::int2, $6, $7, $8)",
            new_id(),
            b"",
            TENANT,
            new_id(),
            int(TransferReason.CHARGEBACK),
            new.from_account,
            clearing,
            500,
        )
        expiring = asyncio.ensure_future(money.ledger.expire(new.payment))
        await until_somebody_waits(money)
        await money.step_clock(HOUR_US)
    await other.close()
    assert await expiring
    times = [line.at_us for line in await money.ledger.read_statement(receivable, 2**62, 9)]
    assert len(times) == 2
    assert times == sorted(times, reverse=True)


async def test_a_request_is_not_approved_after_it_has_expired(money: MoneyWorld, money_url: str) -> None:
    await money.step_clock(0)
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400, request_us=HOUR_US)
    await money.request(new)
    other = await asyncpg.connect(money_url)
    await prepare(other)
    async with other.transaction():
        await other.execute("SELECT FROM accounts WHERE account_id = $1 FOR UPDATE", new.from_account)
        approving = asyncio.ensure_future(
            money.ledger.approve(
                money.key(), ann, TENANT, new.payment, version=1, amount=400, currency="THB", payee=shop
            )
        )
        await until_somebody_waits(money)
        await money.step_clock(2 * HOUR_US)
    await other.close()
    answer = await approving
    row = await money.ledger.read_payment(new.payment)
    assert row is not None
    assert (answer.outcome, row.state) == (StepOutcome.EXPIRED, PaymentState.EXPIRED)


async def test_a_hold_of_a_later_time_goes_alone_and_no_time_falls(money: MoneyWorld) -> None:
    ann, bob, shop = await money.open_person(1_000), await money.open_person(1_000), await money.open_person()
    later, other = money.payment(ann, shop, 100, later=True), money.payment(bob, shop, 100, later=True)
    await money.step_clock(2 * HOUR_US)
    await money.send(later)
    await money.set_fee(1_000)
    await money.step_clock(0)
    await money.send(other)
    steps = [CaptureStep(money.key(), shop, TENANT, each.payment) for each in (later, other)]
    answers = await money.ledger.capture_many(steps)
    assert [answer is not None for answer in answers] == [False, True]
    rows = await money.database.fetch(
        "SELECT at_us FROM transfers WHERE $1 IN (debit_id, credit_id) ORDER BY transfer_no", other.payment
    )
    times = [row[0] for row in rows]
    assert times == sorted(times)
    assert len(times) == 3
