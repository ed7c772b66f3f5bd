"""What a customer who has nothing, and staff who count wrongly, cannot do to a shop."""

from __future__ import annotations

import asyncio

import pytest

from protocol.commerce.order_states import OrderEvent
from protocol.commerce.payment_states import PaymentState
from protocol.commerce.shop_terms import ORDER_REQUEST_S_MAX, PENDING_ORDERS_MAX, STOCK_MAX, StockMove
from storage.commerce.money_rows import StepOutcome
from tests.support.money_world import HOUR_US
from tests.support.shop_world import ShopWorld, done

pytestmark = pytest.mark.anyio


async def test_what_is_reserved_counts_for_the_most_that_a_stock_may_have(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(1_000), await shops.sell(5, STOCK_MAX)
    order = await shops.buy(ann, soup, 5, later=True)
    done(await shops.pay(order))
    for move in (StockMove.RECEIVED, StockMove.CORRECTED, StockMove.RETURNED):
        assert (await shops.count(soup, move, 1)).outcome is StepOutcome.AMOUNT
    done(await shops.step(order, OrderEvent.CANCEL, customer=True))
    assert await shops.stock(soup) == (STOCK_MAX, 0)
    assert await shops.money.balance(ann) == 1_000


async def test_an_order_that_is_not_paid_reserves_for_an_hour_at_most(shops: ShopWorld) -> None:
    eve, soup = await shops.money.open_person(0), await shops.sell(5, 10)
    order = await shops.buy(eve, soup, 50, 10, request_us=30 * 24 * HOUR_US)
    await shops.money.step_clock(ORDER_REQUEST_S_MAX * 1_000_000)
    assert await shops.money.ledger.expire(order.payment)
    assert await shops.stock(soup) == (10, 0)


async def test_a_customer_has_few_orders_at_a_business_that_are_not_paid(shops: ShopWorld) -> None:
    eve, ann, soup = await shops.money.open_person(0), await shops.money.open_person(1_000), await shops.sell(5, 100)
    orders = [await shops.buy(eve, soup, 5) for _ in range(PENDING_ORDERS_MAX)]
    done(await shops.put(eve, soup))
    refused = await asyncio.gather(*(shops.place(shops.new_order(eve, 5)) for _ in range(3)))
    assert {each.outcome for each in refused} == {StepOutcome.SHOP_BOUND}
    assert await shops.stock(soup) == (100 - PENDING_ORDERS_MAX, PENDING_ORDERS_MAX)
    done(await shops.pay(await shops.buy(ann, soup, 5)))
    done(await shops.step(orders[0], OrderEvent.CANCEL, customer=True))
    done(await shops.place(shops.new_order(eve, 5)))
    row = await shops.money.ledger.read_payment(orders[0].payment)
    assert row is not None
    assert row.state is PaymentState.DECLINED
