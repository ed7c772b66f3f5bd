"""Orders: prices, stock and payment in one step, and an order that follows its payment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protocol.commerce.order_states import OrderEvent, OrderState
from protocol.commerce.payment_states import PaymentStep
from storage.commerce.money_rows import StepOutcome
from tests.support.money_world import MoneyWorld
from tests.support.shop_world import ShopWorld

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shops(money: MoneyWorld, money_url: str) -> AsyncIterator[ShopWorld]:
    """A shop in a fresh database, whose books are right at the end."""
    opened = await ShopWorld.open(money, money_url)
    yield opened
    faults = await opened.audit()
    await opened.close()
    assert faults == {}


async def test_an_order_is_placed_and_paid(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10, tax=700)
    order = await shops.buy(ann, soup, 803, 3)  # 750 and 52.5 of tax, halves upward
    assert (await shops.read(order)).state is OrderState.PENDING
    assert await shops.stock(soup) == (7, 3)
    assert await shops.orders.read_cart(ann, shops.shop) == []
    assert (await shops.pay(order)).outcome is StepOutcome.DONE
    row = await shops.read(order)
    assert (row.state, row.version, row.number) == (OrderState.CONFIRMED, 2, 1)
    assert (row.subtotal, row.tax, row.shipping, row.total) == (750, 53, 0, 803)
    assert (await shops.money.balance(ann), await shops.money.balance(shops.shop)) == (9_197, 803)
    assert await shops.stock(soup) == (7, 3)
    (line,) = await shops.orders.read_lines(order.order)
    assert (line.variant, line.quantity, line.unit_price, line.amount, line.tax) == (soup, 3, 250, 750, 53)


@pytest.mark.parametrize("step", [PaymentStep.DECLINE, PaymentStep.CANCEL])
async def test_a_request_that_ends_releases_the_stock(shops: ShopWorld, step: PaymentStep) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 750, 3)
    assert (await shops.end_payment(order, step)).outcome is StepOutcome.DONE
    assert (await shops.read(order)).state is OrderState.CANCELLED
    assert await shops.stock(soup) == (10, 0)


async def test_a_hold_that_is_voided_releases_the_stock(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 750, 3, later=True)
    await shops.pay(order)
    assert (await shops.read(order)).state is OrderState.CONFIRMED
    await shops.end_payment(order, PaymentStep.VOID)
    assert (await shops.read(order)).state is OrderState.CANCELLED
    assert await shops.stock(soup) == (10, 0)
    assert await shops.money.balance(ann) == 10_000


async def test_an_order_that_is_shipped_captures_what_is_held_and_sells_its_stock(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 750, 3, later=True)
    assert (await shops.step(order, OrderEvent.SHIP)).outcome is StepOutcome.ORDER_STATE
    await shops.pay(order)
    assert await shops.money.balance(shops.shop) == 0
    for event in (OrderEvent.PROCESS, OrderEvent.SHIP, OrderEvent.DELIVER):
        assert (await shops.step(order, event)).outcome is StepOutcome.DONE
    assert await shops.money.balance(shops.shop) == 750
    assert await shops.stock(soup) == (7, 0)
    assert (await shops.step(order, OrderEvent.REFUND)).outcome is StepOutcome.DONE
    assert (await shops.read(order)).state is OrderState.REFUNDED
    assert (await shops.money.balance(ann), await shops.stock(soup)) == (10_000, (7, 0))
    history = [each.event for each in await shops.orders.read_versions(order.order)]
    assert [each.text for each in history] == ["place", "pay", "process", "ship", "deliver", "refund"]
