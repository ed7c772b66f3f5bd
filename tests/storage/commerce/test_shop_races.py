"""Many at once: the last of a variant, a cancel against a capture, opposed carts, numbers of orders."""

from __future__ import annotations

import asyncio
import random

import pytest

from protocol.commerce.order_states import OrderEvent, OrderState
from protocol.commerce.payment_states import PaymentStep
from storage.commerce.money_rows import Answer, StepOutcome
from storage.commerce.schema import NUMBERS_SINGLE, NUMBERS_TAKEN
from tests.support.money_world import TENANT
from tests.support.shop_world import ShopWorld, done

pytestmark = pytest.mark.anyio

BUYERS = 32
AT_ONCE = 3
_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


def count(answers: list[Answer]) -> dict[StepOutcome, int]:
    found = [answer.outcome for answer in answers]
    return {outcome: found.count(outcome) for outcome in set(found)}


async def test_the_last_of_a_variant_is_sold_once(shops: ShopWorld) -> None:
    soup = await shops.sell(250, 1)
    people = [await shops.money.open_person(1_000) for _ in range(BUYERS)]
    for person in people:
        done(await shops.put(person, soup))
    database = shops.money.database
    async with database.transaction():  # so that several have come as far as they can before the first goes on
        await database.execute("SELECT FROM stock FOR UPDATE")
        orders = [asyncio.ensure_future(shops.place(shops.new_order(person, 250))) for person in people]
        while await database.fetchval(_WAITING) < AT_ONCE:
            await database.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees what it saw first
    assert count(await asyncio.gather(*orders)) == {StepOutcome.DONE: 1, StepOutcome.OUT_OF_STOCK: BUYERS - 1}
    assert await shops.stock(soup) == (0, 1)


async def test_carts_in_opposite_order_do_not_wait_for_each_other_in_a_circle(shops: ShopWorld) -> None:
    variants = [await shops.sell(10, 100) for _ in range(6)]
    people = [await shops.money.open_person(10_000) for _ in range(12)]
    dice = random.Random(5)
    for person in people:
        for variant in dice.sample(variants, 4):
            done(await shops.put(person, variant))
    orders = [shops.new_order(person, 40) for person in people]
    placed = await asyncio.gather(*(shops.place(order) for order in orders))
    assert count(placed) == {StepOutcome.DONE: 12}
    paid = await asyncio.gather(*(shops.pay(order) for order in orders))
    assert count(paid) == {StepOutcome.DONE: 12}
    ended = await asyncio.gather(
        *(shops.step(order, OrderEvent.CANCEL if n % 2 else OrderEvent.SHIP) for n, order in enumerate(orders))
    )
    assert count(ended) == {StepOutcome.DONE: 12}


@pytest.mark.parametrize("seed", range(4))
async def test_a_cancel_against_a_capture_and_a_shipping_ends_one_way(shops: ShopWorld, seed: int) -> None:
    dice = random.Random(seed)
    soup = await shops.sell(250, 50)
    for _ in range(6):
        ann = await shops.money.open_person(1_000)
        order = await shops.buy(ann, soup, 250, later=True)
        done(await shops.pay(order))
        steps = [
            shops.step(order, OrderEvent.CANCEL, customer=True),
            shops.step(order, OrderEvent.SHIP),
            shops.end_payment(order, PaymentStep.CAPTURE),
            shops.end_payment(order, PaymentStep.VOID),
            shops.money.ledger.refund(shops.money.key(), shops.shop, TENANT, order.payment),
        ]
        dice.shuffle(steps)
        await asyncio.gather(*steps)
        state = (await shops.read(order)).state
        given_back = await shops.money.balance(ann) == 1_000
        assert given_back == (state in {OrderState.CANCELLED, OrderState.REFUNDED})
        assert state is not OrderState.PENDING


async def test_the_same_order_sent_twice_at_once_is_one_order(shops: ShopWorld) -> None:
    soup, ann = await shops.sell(250, 10), await shops.money.open_person(1_000)
    done(await shops.put(ann, soup))
    key, new = shops.money.key(), shops.new_order(ann, 250)
    answers = await asyncio.gather(*(shops.place(new, key) for _ in range(8)))
    assert {answer.subject for answer in answers} == {new.order}
    other = await asyncio.gather(*(shops.place(shops.new_order(ann, 250)) for _ in range(4)))
    assert count(other) == {StepOutcome.CART_EMPTY: 4}
    assert await shops.stock(soup) == (9, 1)


async def test_numbers_of_orders_are_dense_while_a_shop_is_small_and_unique_when_it_is_large(shops: ShopWorld) -> None:
    tea = await shops.sell(10, None)
    people = [await shops.money.open_person(10_000) for _ in range(10)]

    async def place_all() -> list[int]:
        orders = []
        for person in people:
            done(await shops.put(person, tea))
            orders.append(shops.new_order(person, 10))
        for answer in await asyncio.gather(*(shops.place(order) for order in orders)):
            done(answer)
        return sorted([(await shops.read(order)).number for order in orders])

    assert await place_all() == list(range(1, 11))
    await shops.money.database.execute(f"UPDATE order_numbers SET next_number = {NUMBERS_SINGLE} WHERE slot = -1")
    large = await place_all() + await place_all()
    assert len(set(large)) == 20
    assert min(large) >= NUMBERS_SINGLE
    assert max(large) < NUMBERS_SINGLE + 20 * NUMBERS_TAKEN
