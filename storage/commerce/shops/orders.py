"""Carts, and the orders that are made of them. Who reads an order whose payment is due expires that first."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from protocol.commerce.order_states import OrderEvent, OrderParty, OrderState
from protocol.commerce.payment_states import PaymentState
from protocol.commerce.shop_terms import CART_LINES_MAX, LineKind
from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import Answer, StepKey, StepOutcome
from storage.commerce.shops.shop_rows import CartLineRow, NewOrderRow, OrderLineRow, OrderRow, OrderVersionRow
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_ORDERS = f"""
SELECT o.order_id, o.tenant_id, o.business_id, o.customer_id, o.number, o.payment_id, o.dialog_id, o.address_id,
       o.currency, o.subtotal, o.tax, o.shipping, o.total, o.state, o.version, o.placed_us, o.moved_us,
       (SELECT p.state IN ({PaymentState.REQUESTED}, {PaymentState.HELD}) AND clock_us() >= p.expires_us
        FROM payments p WHERE p.payment_id = o.payment_id)
FROM orders o WHERE o.order_id = ANY ($1) ORDER BY o.order_id DESC
"""
_OF_CUSTOMER = """
SELECT order_id FROM orders WHERE customer_id = $1 AND tenant_id = $2 AND order_id < $3 ORDER BY order_id DESC LIMIT $4
"""
_OF_BUSINESS = """
SELECT order_id FROM orders WHERE business_id = $1 AND tenant_id = $2 AND order_id < $3 ORDER BY order_id DESC LIMIT $4
"""
_IN_STATE = """
SELECT order_id FROM orders WHERE business_id = $1 AND tenant_id = $2 AND order_id < $3 AND state = $5
ORDER BY order_id DESC LIMIT $4
"""
_LINES = f"""
SELECT line_no, kind, product_id, variant_id, sku, name, variant_name, quantity, unit_price, tax_basis_points,
       amount, tax
FROM order_lines WHERE order_id = $1 ORDER BY line_no LIMIT {CART_LINES_MAX + 1}
"""
_VERSIONS = (
    "SELECT version, at_us, event, state, actor_id FROM order_versions WHERE order_id = $1 ORDER BY version LIMIT 100"
)
_CART = "SELECT * FROM priced_lines($1, $2)"
_CARTS = """
SELECT c.business_id FROM carts c WHERE c.person_id = $1 AND c.business_id > $2
  AND EXISTS (SELECT FROM cart_lines l WHERE l.person_id = c.person_id AND l.business_id = c.business_id)
ORDER BY c.business_id LIMIT $3
"""


class Orders:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads

    async def set_cart_line(
        self, key: StepKey, person: bytes, tenant: int, *, business: bytes, variant: bytes, quantity: int
    ) -> Answer:
        """So many of a variant are in the cart of a person at a business; 0: none."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM set_cart_line($1, $2, $3, $4, $5, $6, $7)",
            key.key_id,
            key.body,
            person,
            tenant,
            business,
            variant,
            quantity,
        )
        return read_answer(row)

    async def place(self, key: StepKey, new: NewOrderRow) -> Answer:
        """Order what is in the cart: stock is reserved, and the payment requested of the customer."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM place_order($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            key.key_id,
            key.body,
            new.customer,
            new.tenant,
            new.business,
            new.order,
            new.payment,
            new.dialog,
            new.address,
            new.shipping,
            new.currency,
            new.total,
            new.later,
            new.request_us,
            new.hold_us,
        )
        return read_answer(row)

    async def take_step(
        self, key: StepKey, actor: bytes, tenant: int, order: bytes, event: OrderEvent, *, party: OrderParty
    ) -> Answer:
        """PROCESS, SHIP, DELIVER, CANCEL or REFUND, as the customer or as staff of the business."""
        query, values = "SELECT * FROM step_order($1, $2, $3, $4, $5, $6, $7, $8)", (actor, tenant, order)
        (row,) = await self._writes.fetch(query, key.key_id, key.body, False, *values, int(party), int(event))
        if row["outcome"] == StepOutcome.AGAIN:
            (row,) = await self._writes.fetch(query, key.key_id, key.body, True, *values, int(party), int(event))
        return read_answer(row)

    async def read_cart(self, person: bytes, business: bytes) -> list[CartLineRow]:
        """What is in a cart, and what it costs now."""
        async with translate_errors():
            rows = await self._reads.fetch(_CART, person, business)
        return [_cart_line(row) for row in rows]

    async def read_carts(self, person: bytes, after: bytes, limit: int) -> list[bytes]:
        """The businesses at which a person has something in the cart, by ids above `after`."""
        async with translate_errors():
            return [row[0] for row in await self._reads.fetch(_CARTS, person, after, limit)]

    async def read_order(self, order: bytes) -> OrderRow | None:
        """An order as it is now."""
        found = await self._read_expired([order])
        return found[0] if found else None

    async def read_of_customer(self, tenant: int, customer: bytes, before: bytes, limit: int) -> list[OrderRow]:
        """The orders of a customer, newest first, with ids below `before`."""
        async with translate_errors():
            rows = await self._reads.fetch(_OF_CUSTOMER, customer, tenant, before, limit)
        return await self._read_expired([row[0] for row in rows])

    async def read_of_business(
        self, tenant: int, business: bytes, before: bytes, limit: int, state: OrderState | None = None
    ) -> list[OrderRow]:
        """The orders of a business, newest first, with ids below `before`; only those in a state, or all."""
        async with translate_errors():
            if state is None:
                rows = await self._reads.fetch(_OF_BUSINESS, business, tenant, before, limit)
            else:
                rows = await self._reads.fetch(_IN_STATE, business, tenant, before, limit, int(state))
        return await self._read_expired([row[0] for row in rows])

    async def read_lines(self, order: bytes) -> list[OrderLineRow]:
        """The lines of an order."""
        async with translate_errors():
            rows = await self._reads.fetch(_LINES, order)
        return [OrderLineRow(row[0], LineKind(row[1]), *row[2:]) for row in rows]

    async def read_versions(self, order: bytes) -> list[OrderVersionRow]:
        """What happened to an order, first to last."""
        async with translate_errors():
            rows = await self._reads.fetch(_VERSIONS, order)
        return [OrderVersionRow(row[0], row[1], OrderEvent(row[2]), OrderState(row[3]), row[4]) for row in rows]

    async def _read_expired(self, orders: Sequence[bytes]) -> list[OrderRow]:
        async with translate_errors():
            rows = await self._reads.fetch(_ORDERS, orders)
            due = [row[5] for row in rows if row[-1]]
            for payment in due:
                await self._writes.fetch("SELECT expire_payment($1)", payment)
            if due:
                rows = await self._reads.fetch(_ORDERS, orders)
        return [_order(row) for row in rows]


def _cart_line(row: asyncpg.Record) -> CartLineRow:
    return CartLineRow(
        line_no=row["line_no"],
        product=row["product_id"],
        variant=row["variant_id"],
        sku=row["sku"],
        name=row["name"],
        variant_name=row["variant_name"],
        currency=row["currency"],
        quantity=row["quantity"],
        unit_price=row["unit_price"],
        amount=int(row["amount"]),
        tax=int(row["tax"]),
        tracked=row["tracked"],
        active=row["active"],
        available=row["available"],
    )


def _order(row: asyncpg.Record) -> OrderRow:
    return OrderRow(
        order=row[0],
        tenant=row[1],
        business=row[2],
        customer=row[3],
        number=row[4],
        payment=row[5],
        dialog=row[6],
        address=row[7],
        currency=row[8],
        subtotal=row[9],
        tax=row[10],
        shipping=row[11],
        total=row[12],
        state=OrderState(row[13]),
        version=row[14],
        placed_us=row[15],
        moved_us=row[16],
    )
