"""What a step of a shop reads does not grow with what others have stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from protocol.commerce.order_states import OrderEvent, OrderState
from protocol.commerce.payment_states import PaymentStep
from protocol.commerce.shop_terms import StaffRole, StockMove
from protocol.ids import new_id
from storage.commerce.money_rows import Answer
from tests.support.money_world import TENANT, MoneyWorld
from tests.support.shop_world import ShopWorld, done

pytestmark = pytest.mark.anyio

OTHERS = 3_000
READ_MAX = 1_000
"""Rows of indexes and tables that one course of steps may read, far below what others have."""
LAST = b"\xff" * 16

_READ = """
SELECT coalesce(sum(idx_tup_read), 0) + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname <> 'periods')
FROM pg_stat_user_indexes
"""
_FILL = f"""
INSERT INTO businesses SELECT gen_random_uuid(), {TENANT}, 'x', '', '{{THB}}', 2, 1, 1
FROM generate_series(1, {OTHERS});
INSERT INTO staff SELECT business_id, gen_random_uuid(), {TENANT}, 1, 1 FROM businesses;
INSERT INTO shipping_options SELECT gen_random_uuid(), business_id, 'x', 'THB', 1, 0, 2, 1 FROM businesses;
INSERT INTO products SELECT gen_random_uuid(), business_id, {TENANT}, 'x', '', '', 'THB', 0, false, '{{}}', '{{}}', 2,
    1, 1 FROM businesses;
INSERT INTO variants SELECT gen_random_uuid(), product_id, business_id, {TENANT}, 'x' || product_id, '', 1, true,
    '{{}}', 2, 1, 1 FROM products;
INSERT INTO stock SELECT variant_id, business_id, 5, 0, 1 FROM variants WHERE sku LIKE 'x%';
INSERT INTO stock_movements (variant_id, at_us, move, available_change, reserved_change, available_after,
    reserved_after, actor_id) SELECT variant_id, 1, 1, 5, 0, 5, 0, gen_random_uuid() FROM variants WHERE sku LIKE 'x%';
INSERT INTO carts SELECT gen_random_uuid(), business_id FROM businesses;
INSERT INTO cart_lines SELECT gen_random_uuid(), business_id, variant_id, 1 FROM variants;
INSERT INTO orders SELECT gen_random_uuid(), {TENANT}, business_id, gen_random_uuid(), 99, gen_random_uuid(),
    NULL, NULL, 'THB', 1, 0, 0, 1, 1, 1, 1, 1 FROM businesses;
INSERT INTO order_lines SELECT order_id, 1, 1, NULL, NULL, '', 'x', '', 1, 1, 0, 1, 0, false
FROM orders WHERE number = 99;
INSERT INTO order_versions SELECT order_id, 1, 1, 1, 1, gen_random_uuid() FROM orders WHERE number = 99;
INSERT INTO order_numbers SELECT business_id, -1, 100, 0 FROM businesses ON CONFLICT DO NOTHING;
INSERT INTO payments (payment_id, tenant_id, payer_id, payee_id, from_id, to_id, from_slots, to_slots, currency,
    amount, capture_later, hold_us, basis_points, fixed, expires_us, state, version, moved_us)
SELECT payment_id, {TENANT}, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 1,
       'THB', 1, true, 1, 0, 0, 9e15, 2, 1, 1 FROM orders WHERE number = 99;
INSERT INTO keys (key_id, body, at_us, outcome) SELECT gen_random_uuid(), '', 1, 1 FROM generate_series(1, {OTHERS});
"""
"""Those of the shop itself are left out: a business has one shop, and many orders."""


async def ordered(shops: ShopWorld, person: bytes, variant: bytes) -> Answer:
    order = await shops.buy(person, variant, 250, later=True)
    await shops.pay(order)
    await shops.step(order, OrderEvent.PROCESS)
    return await shops.step(order, OrderEvent.SHIP)


async def declined(shops: ShopWorld, person: bytes, variant: bytes) -> Answer:
    return await shops.end_payment(await shops.buy(person, variant, 250), PaymentStep.DECLINE)


async def cancelled(shops: ShopWorld, person: bytes, variant: bytes) -> Answer:
    order = await shops.buy(person, variant, 250)
    await shops.pay(order)
    return await shops.step(order, OrderEvent.CANCEL)


async def kept(shops: ShopWorld, person: bytes, variant: bytes) -> Answer:
    done(await shops.put(person, await shops.sell(5, 1), 0))
    await shops.offer_shipping(5)
    await shops.businesses.set_staff(
        shops.money.key(), shops.owner, TENANT, business=shops.shop, person=new_id(), role=StaffRole.SELLER
    )
    return await shops.count(variant, StockMove.CORRECTED, 1)


async def read(shops: ShopWorld, person: bytes, variant: bytes) -> Answer:
    row = await shops.catalogue.read_variant(TENANT, variant)
    assert row is not None
    await shops.catalogue.read_product(TENANT, row.product)
    for active in (True, False):
        await shops.catalogue.read_products(TENANT, shops.shop, bytes(16), 10, active=active)
    await shops.catalogue.read_variants(row.product)
    await shops.catalogue.read_stock(shops.shop, bytes(16), 10)
    await shops.catalogue.read_movements(variant, 2**60, 10)
    await shops.businesses.read_roles(TENANT, shops.owner)
    await shops.businesses.read_business(TENANT, shops.shop)
    await shops.businesses.read_staff(shops.shop, bytes(16), 10)
    await shops.businesses.read_shipping(shops.shop)
    answer = await shops.put(person, variant)
    await shops.orders.read_cart(person, shops.shop)
    await shops.orders.read_carts(person, bytes(16), 10)
    for order in await shops.orders.read_of_customer(TENANT, person, LAST, 10):
        await shops.orders.read_lines(order.order)
        await shops.orders.read_versions(order.order)
    await shops.orders.read_of_business(TENANT, shops.shop, LAST, 10)
    await shops.orders.read_of_business(TENANT, shops.shop, LAST, 10, OrderState.PENDING)
    return answer


@pytest.mark.parametrize("steps", [ordered, declined, cancelled, kept, read])
async def test_no_step_of_a_shop_reads_what_others_have(
    money_url: str, steps: Callable[[ShopWorld, bytes, bytes], Awaitable[Answer]]
) -> None:
    money = await MoneyWorld.open(money_url, size=1)
    shops = await ShopWorld.open(money, money_url, size=1)
    ann, soup = await money.open_person(10**6), await shops.sell(250, 100)
    for _ in range(3):  # plans are made while there is nothing
        await steps(shops, ann, soup)
    await money.database.execute(_FILL)

    async def rows_read() -> int:
        for writes, reads in ((shops._writes, shops._reads), (money.ledger._writes, money.ledger._reads)):
            await writes.fetch("SELECT pg_stat_force_next_flush()")
            connections = [await reads.acquire() for _ in range(reads.get_size())]
            for connection in connections:
                await connection.execute("SELECT pg_stat_force_next_flush()")
            for connection in connections:
                await reads.release(connection)
        return int(await money.database.fetchval(_READ))

    before = await rows_read()
    done(await steps(shops, ann, soup))
    assert await rows_read() - before < READ_MAX
    await shops.close()
    await money.close()
