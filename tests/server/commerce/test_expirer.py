"""The expirer ends what is due, in steps of bounded work, and leaves what is not."""

from __future__ import annotations

import asyncio

import pytest

from protocol.commerce.payment_states import PaymentState
from server.commerce.expirer import Expirer
from storage.unavailable import WriteRefusedError
from tests.support.money_world import HOUR_US, MoneyWorld

pytestmark = pytest.mark.anyio


async def states(money: MoneyWorld) -> list[PaymentState]:
    return [
        PaymentState(row[0]) for row in await money.database.fetch("SELECT state FROM payments ORDER BY expires_us")
    ]


async def test_what_is_due_is_expired_in_steps_and_the_rest_stays(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    for hours in (1, 2, 3, 4, 9):
        await money.send(money.payment(ann, shop, 100, later=True, hold_us=hours * HOUR_US))
    await money.send(money.payment(ann, shop, 100, hold_us=HOUR_US // 2))
    await money.step_clock(5 * HOUR_US)
    expirer = Expirer(money.ledger, interval_s=1, step_rows=2)
    assert await expirer.step()
    assert (await states(money)).count(PaymentState.EXPIRED) == 2
    while await expirer.step():
        pass
    assert await states(money) == [PaymentState.PAID] + [PaymentState.EXPIRED] * 4 + [PaymentState.HELD]
    assert await money.balance(ann) == 800
    await money.step_clock(10 * HOUR_US)
    await expirer.step()
    assert await states(money) == [PaymentState.PAID] + [PaymentState.EXPIRED] * 5


async def test_more_than_a_step_may_be_due_in_one_microsecond_and_the_clock_may_go_back(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    for _ in range(5):
        await money.send(money.payment(ann, shop, 100, later=True, hold_us=HOUR_US))
    await money.database.execute("UPDATE payments SET expires_us = (SELECT min(expires_us) FROM payments)")
    expirer = Expirer(money.ledger, interval_s=1, step_rows=2)
    await money.step_clock(50 * HOUR_US)
    await money.send(money.payment(ann, shop, 100, later=True, hold_us=HOUR_US))
    await money.step_clock(2 * HOUR_US)
    assert [await expirer.step() for _ in range(3)] == [True, True, False]
    assert await states(money) == [PaymentState.EXPIRED] * 5 + [PaymentState.HELD]
    await money.step_clock(0)
    await money.send(money.payment(ann, shop, 100, later=True, hold_us=1))
    assert not await expirer.step()
    assert (await states(money)).count(PaymentState.EXPIRED) == 6


async def test_a_payment_that_cannot_be_expired_does_not_stop_the_others(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    held = [money.payment(ann, shop, 100, later=True, hold_us=1) for _ in range(3)]
    for new in held:
        await money.send(new)
    await money.database.execute("DELETE FROM holds WHERE hold_id = $1", held[0].payment)
    expirer = Expirer(money.ledger, interval_s=1)
    for _ in range(2):
        assert not await expirer.step()
        assert await states(money) == [PaymentState.HELD] + [PaymentState.EXPIRED] * 2


async def test_a_step_ends_when_the_database_fails(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    for _ in range(7):
        await money.send(money.payment(ann, shop, 100, later=True, hold_us=1))
    await money.database.execute("DELETE FROM holds")
    with pytest.raises(WriteRefusedError):
        await Expirer(money.ledger, interval_s=1).step()


async def test_it_goes_on_after_a_pause_and_after_an_outage(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    await money.send(money.payment(ann, shop, 100, later=True, hold_us=HOUR_US))
    pauses = 0

    async def sleep(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 1:  # the next pass has no database
            await money.database.execute("ALTER TABLE payments RENAME TO elsewhere")
        elif pauses == 2:
            await money.database.execute("ALTER TABLE elsewhere RENAME TO payments")
            await money.step_clock(2 * HOUR_US)
        else:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await Expirer(money.ledger, interval_s=1, sleep=sleep).run()
    assert pauses == 3
    assert await states(money) == [PaymentState.EXPIRED]
