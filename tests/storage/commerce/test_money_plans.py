"""What a step reads does not grow with what others have stored, whatever the tables looked like when it was planned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import (
    FIRST_DUE,
    Answer,
    CaptureStep,
    HoldStep,
    Leg,
    NewPaymentRow,
    Purpose,
    TransferReason,
    account_id,
)
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

OTHERS = 3_000
READ_MAX = 1_000
"""Rows of indexes and tables that two steps may read, far below what others have."""

_READ = """
SELECT coalesce(sum(idx_tup_read), 0) + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname <> 'periods')
FROM pg_stat_user_indexes
"""
_FILL = f"""
INSERT INTO accounts (account_id, slot, slots, tenant_id, owner_id, currency, purpose, floored, limited, status)
SELECT gen_random_uuid(), 0, 1, {TENANT}, gen_random_uuid(), 'THB', {Purpose.WALLET}, true, false, 1
FROM generate_series(1, {OTHERS});
INSERT INTO holds (hold_id, account_id, slot, currency, amount, balance, state)
SELECT gen_random_uuid(), gen_random_uuid(), 0, 'THB', 1, 1, 1 FROM generate_series(1, {OTHERS});
INSERT INTO persons SELECT gen_random_uuid(), {TENANT}, 'UTC' FROM generate_series(1, {OTHERS});
INSERT INTO limit_use SELECT person_id, s, 0, 1, 1 FROM persons, (VALUES (1), (2)) x(s);
INSERT INTO payments (payment_id, tenant_id, payer_id, payee_id, from_id, to_id, from_slots, to_slots, currency, amount,
    capture_later, hold_us, basis_points, fixed, expires_us, state, version, moved_us)
SELECT gen_random_uuid(), {TENANT}, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 1,
       'THB', 1, true, 1, 0, 0, 9e15, 2, 1, 1 FROM generate_series(1, {OTHERS});
INSERT INTO keys (key_id, body, at_us, outcome) SELECT gen_random_uuid(), '', 1, 1 FROM generate_series(1, {OTHERS});
INSERT INTO transfers (at_us, debit_id, debit_slot, credit_id, credit_slot, amount, currency, reason, subject_id,
    debit_after, credit_after)
SELECT 1, gen_random_uuid(), 0, gen_random_uuid(), 0, 1, 'THB', 1, gen_random_uuid(), 0, 0
FROM generate_series(1, {OTHERS});
"""


async def batch(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    (held,) = await money.ledger.hold_many([HoldStep(money.key(), new.payer, new)])
    assert held is not None
    (captured,) = await money.ledger.capture_many([CaptureStep(money.key(), NIL, TENANT, new.payment)])
    return captured


async def single(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    await money.send(new)
    return await money.capture(new, 50)


async def refunded(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    await money.send(new)
    await money.capture(new)
    return await money.ledger.refund(money.key(), new.payee, TENANT, new.payment)


async def approved(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    await money.request(new)
    await money.ledger.approve(
        money.key(), new.payer, TENANT, new.payment, version=1, amount=100, currency="THB", payee=new.payee
    )
    return await money.ledger.take_step(money.key(), NIL, TENANT, new.payment, PaymentStep.VOID)


async def chained(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    legs = [Leg(new.from_account, new.to_account, 1)] * 3
    return await money.ledger.post_chain(money.key(), TENANT, new_id(), TransferReason.TRANSFER, legs)


async def charged_back(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    clearing = account_id(TENANT, NIL, "THB", Purpose.CLEARING)
    return await money.ledger.take_anyway(
        money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, Leg(new.to_account, clearing, 1_000)
    )


async def read(money: MoneyWorld, new: NewPaymentRow) -> Answer | None:
    await money.ledger.read_accounts(TENANT, new.payer)
    await money.ledger.read_statement(new.from_account, 2**62, 10)
    await money.ledger.read_payments(TENANT, new.payer, b"\xff" * 16, 10)
    await money.ledger.read_versions(new.payment)
    await money.ledger.list_due(FIRST_DUE, 10)
    return Answer(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [batch, single, refunded, approved, chained, charged_back, read])
async def test_no_step_reads_what_others_have(
    money_url: str, steps: Callable[[MoneyWorld, NewPaymentRow], Awaitable[Answer | None]]
) -> None:
    money = await MoneyWorld.open(money_url, size=1)
    await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', 1)")
    await money.set_fee(100)
    ann, shop = await money.open_person(10**6, timezone="UTC", day_max=10**6), await money.open_person(slots=16)
    await money.send(money.payment(ann, shop, 1))
    for _ in range(3):  # plans are made while there is nothing
        await steps(money, money.payment(ann, shop, 100, later=True))
    await money.database.execute(_FILL)

    async def rows_read() -> int:
        await money.ledger._writes.fetch("SELECT pg_stat_force_next_flush()")
        await money.ledger._reads.execute("SELECT pg_stat_force_next_flush()")
        return int(await money.database.fetchval(_READ))

    before = await rows_read()
    assert (answer := await steps(money, money.payment(ann, shop, 100, later=True))) is not None
    assert answer.outcome == 1
    assert await rows_read() - before < READ_MAX
    await money.close()
