"""Orders: prices, stock and payment in one step, and an order that follows its payment."""

from __future__ import annotations

import asyncpg
import msgspec
import pytest

from protocol.commerce.currencies import AMOUNT_MINOR_MAX
from protocol.commerce.order_states import OrderEvent, OrderParty, OrderState
from protocol.commerce.payment_states import PaymentStep
from protocol.commerce.shop_terms import CART_LINES_MAX, QUANTITY_MAX, tax_of
from protocol.ids import NIL, new_id
from storage.commerce.announcements import Announcements
from storage.commerce.money_rows import (
    Answer,
    CaptureStep,
    Leg,
    Purpose,
    StepOutcome,
    TransferReason,
    account_id,
)
from tests.support.money_world import HOUR_US, TENANT
from tests.support.shop_world import ShopWorld

pytestmark = pytest.mark.anyio


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


async def test_a_payment_that_names_an_order_does_not_move_it(shops: ShopWorld) -> None:
    """Who pays something else, and names an order in it, has not paid that order."""
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 250)
    cheap = shops.money.payment(ann, shops.shop, 1, order=order.order)
    assert (await shops.money.send(cheap)).outcome is StepOutcome.DONE
    held = shops.money.payment(ann, shops.shop, 1, order=order.order, later=True)
    await shops.money.send(held)
    await shops.money.void(held)
    asked = shops.money.payment(ann, shops.shop, 1, order=order.order)
    await shops.money.request(asked)
    await shops.money.ledger.take_step(shops.money.key(), ann, TENANT, asked.payment, PaymentStep.DECLINE)
    assert (await shops.read(order)).state is OrderState.PENDING
    assert await shops.stock(soup) == (9, 1)


async def test_an_order_expires_with_its_payment(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    asked, held = await shops.buy(ann, soup, 250), await shops.buy(ann, soup, 250, later=True)
    await shops.pay(held)
    assert await shops.stock(soup) == (8, 2)
    await shops.money.step_clock(8 * 24 * HOUR_US)
    assert await shops.money.ledger.expire(asked.payment)
    assert (await shops.step(held, OrderEvent.SHIP)).outcome is StepOutcome.ORDER_STATE
    assert {(await shops.read(each)).state for each in (asked, held)} == {OrderState.CANCELLED}
    assert await shops.stock(soup) == (10, 0)
    assert await shops.money.balance(ann) == 10_000


async def test_a_batch_that_captures_the_payment_of_an_order_leaves_it_confirmed(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    orders = [await shops.buy(ann, soup, 250, later=True) for _ in range(3)]
    for order in orders:
        await shops.pay(order)
    steps = [CaptureStep(shops.money.key(), NIL, TENANT, order.payment) for order in orders]
    assert None not in await shops.money.ledger.capture_many(steps)
    assert {(await shops.read(order)).state for order in orders} == {OrderState.CONFIRMED}
    assert (await shops.step(orders[0], OrderEvent.SHIP)).outcome is StepOutcome.DONE


async def test_a_refund_in_part_changes_nothing_and_the_rest_of_it_cancels_the_order(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 250)
    await shops.pay(order)
    for amount, state in ((100, OrderState.CONFIRMED), (150, OrderState.CANCELLED)):
        await shops.money.ledger.refund(shops.money.key(), shops.shop, TENANT, order.payment, amount=amount)
        assert (await shops.read(order)).state is state
    assert await shops.stock(soup) == (10, 0)


async def test_a_cancel_that_the_shop_cannot_pay_is_refused_and_the_late_copy_too(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 250)
    await shops.pay(order)
    other = shops.money.payment(shops.shop, ann, 250)
    assert (await shops.money.send(other)).outcome is StepOutcome.DONE
    key = shops.money.key()

    async def cancel() -> Answer:
        return await shops.orders.take_step(
            key, shops.owner, TENANT, order.order, OrderEvent.CANCEL, party=OrderParty.STAFF
        )

    assert (await cancel()).outcome is StepOutcome.INSUFFICIENT
    await shops.money.fund(account_id(TENANT, shops.shop, "THB", Purpose.WALLET), 1_000)
    assert (await cancel()).outcome is StepOutcome.INSUFFICIENT
    assert (await shops.read(order)).state is OrderState.CONFIRMED
    assert (await shops.step(order, OrderEvent.CANCEL)).outcome is StepOutcome.DONE
    assert await shops.stock(soup) == (10, 0)


async def test_a_refund_to_who_owes_settles_the_debt_and_cancels_the_order(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(250), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 250)
    await shops.pay(order)
    clearing = account_id(TENANT, NIL, "THB", Purpose.CLEARING)
    owes = Leg(account_id(TENANT, ann, "THB", Purpose.WALLET), clearing, 100)
    await shops.money.ledger.take_anyway(shops.money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, owes)
    assert (await shops.step(order, OrderEvent.CANCEL, customer=True)).outcome is StepOutcome.DONE
    assert (await shops.read(order)).state is OrderState.CANCELLED
    assert await shops.money.balance(ann) == 150


async def test_what_there_is_always_enough_of_has_no_stock(shops: ShopWorld) -> None:
    ann, song = await shops.money.open_person(10_000), await shops.sell(5, None)
    order = await shops.buy(ann, song, 5_000, 1_000)
    await shops.pay(order)
    await shops.step(order, OrderEvent.SHIP)
    assert await shops.stock(song) == (0, 0)
    assert await shops.money.database.fetchval("SELECT count(*) FROM stock_movements") == 0


async def test_a_price_of_later_changes_no_order(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 250)
    variant = await shops.catalogue.read_variant(TENANT, soup)
    assert variant is not None
    dear = msgspec.structs.replace(variant, price=900, tracked=False)
    await shops.catalogue.set_variant(shops.money.key(), shops.owner, dear, version=1)
    await shops.pay(order)
    await shops.step(order, OrderEvent.CANCEL)
    assert (await shops.read(order)).total == 250
    assert await shops.stock(soup) == (10, 0)


async def test_a_cart_of_two_currencies_is_refused(shops: ShopWorld) -> None:
    shop = shops.shop
    shops.shop = await shops.open_shop(shops.owner, "THB", "IDR")
    ann = await shops.money.open_person(10_000)
    for variant in (await shops.sell(250, 10), await shops.sell(250, 10, currency="IDR")):
        await shops.put(ann, variant)
    assert (await shops.place(shops.new_order(ann, 500))).outcome is StepOutcome.CURRENCY
    shops.shop = shop


async def test_a_sum_above_the_largest_amount_is_refused(shops: ShopWorld) -> None:
    ann, gold = await shops.money.open_person(10_000), await shops.sell(AMOUNT_MINOR_MAX, None)
    await shops.put(ann, gold, QUANTITY_MAX)
    assert (await shops.place(shops.new_order(ann, AMOUNT_MINOR_MAX))).outcome is StepOutcome.AMOUNT


async def test_a_cart_has_a_bounded_number_of_lines(shops: ShopWorld) -> None:
    ann, more = await shops.money.open_person(10_000), await shops.sell(1, None)
    await shops.money.database.execute(
        "INSERT INTO cart_lines SELECT $1, $2, gen_random_uuid(), 1 FROM generate_series(1, $3)",
        ann,
        shops.shop,
        CART_LINES_MAX - 1,
    )
    assert (await shops.put(ann, more)).outcome is StepOutcome.DONE
    assert (await shops.put(ann, await shops.sell(1, None))).outcome is StepOutcome.SHOP_BOUND
    assert (await shops.put(ann, more, 5)).outcome is StepOutcome.DONE
    await shops.money.database.execute("DELETE FROM cart_lines")


@pytest.mark.parametrize("basis_points", [0, 1, 700, 1_050, 9_999, 10_000])
async def test_tax_is_rounded_half_upward_here_as_there(shops: ShopWorld, basis_points: int) -> None:
    amounts = [*range(1, 300), 10**15, 10**15 - 1, 99_999_999_999]
    query = (
        "SELECT tax_of(u.amount, $2)::bigint FROM unnest($1::bigint[]) WITH ORDINALITY u(amount, ord) ORDER BY u.ord"
    )
    rows = await shops.money.database.fetch(query, amounts, basis_points)
    assert [row[0] for row in rows] == [tax_of(amount, basis_points) for amount in amounts]
    assert [tax_of(amount, 5_000) for amount in (1, 2, 3)] == [1, 1, 2]


async def test_what_was_written_of_orders_and_stock_is_never_changed(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    await shops.buy(ann, soup, 250)
    for table in ("order_versions", "order_lines", "stock_movements"):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await shops.money.database.execute(statement)


async def test_in_a_dialog_an_order_is_judged_as_its_customer(shops: ShopWorld) -> None:
    """A customer names a dialog: the chat must ask whether they may write there, not whether the shop may."""
    ann, soup, dialog = await shops.money.open_person(10_000), await shops.sell(250, 10), new_id()
    order = await shops.buy(ann, soup, 250, dialog=dialog)
    asked = shops.money.payment(ann, shops.shop, 1, dialog=dialog)
    await shops.money.request(asked)
    announcements = Announcements(shops.orders._writes, shops.orders._reads, TENANT)
    await announcements.spread(100)
    (place,) = [each for each in await announcements.lease(10, rows=10, lease_us=1_000_000) if each.subject == dialog]
    requesters = {row.version.payment: row.version.requester for row in place.rows}
    assert requesters == {order.payment: ann, asked.payment: shops.shop}


async def test_an_order_that_is_due_is_cancelled_by_the_step_that_comes_late(shops: ShopWorld) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    order = await shops.buy(ann, soup, 250, later=True)
    await shops.pay(order)
    await shops.money.step_clock(8 * 24 * HOUR_US)
    assert (await shops.step(order, OrderEvent.PROCESS)).outcome is StepOutcome.ORDER_STATE
    assert await shops.stock(soup) == (10, 0)


@pytest.mark.parametrize("shipped", [False, True])
async def test_an_order_follows_a_dispute_that_is_lost(shops: ShopWorld, shipped: bool) -> None:
    ann, soup = await shops.money.open_person(10_000), await shops.sell(250, 10)
    clearing = account_id(TENANT, bytes(16), "THB", Purpose.CLEARING)
    order = await shops.buy(ann, soup, 250)
    await shops.pay(order)
    if shipped:
        await shops.step(order, OrderEvent.SHIP)
    for step in (PaymentStep.DISPUTE, PaymentStep.DISPUTE_LOST):
        await shops.money.ledger.dispute(
            shops.money.key(), NIL, TENANT, order.payment, step, clearing=clearing, amount=250
        )
    assert (await shops.read(order)).state is (OrderState.REFUNDED if shipped else OrderState.CANCELLED)
    assert await shops.stock(soup) == ((9, 0) if shipped else (10, 0))
