"""Shops in a fresh database of commerce, and the audit of their stock and orders."""

from __future__ import annotations

from typing import Any, Self

from protocol.commerce.order_states import OrderEvent, OrderParty, OrderState
from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.commerce.shop_terms import ShopStatus, StockMove
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import Answer, StepKey, StepOutcome
from storage.commerce.schema import MONEY_SETTINGS
from storage.commerce.shops.businesses import Businesses
from storage.commerce.shops.catalogue import Catalogue
from storage.commerce.shops.orders import Orders
from storage.commerce.shops.shop_rows import BusinessRow, NewOrderRow, OrderRow, ProductRow, ShippingRow, VariantRow
from storage.postgres.pool import Pool, open_pool
from storage.postgres.write_connections import WriteConnections
from tests.support.money_world import TENANT, MoneyWorld

AUDIT = {
    "stock_differs": """
        SELECT count(*) FROM stock s LEFT JOIN (
            SELECT variant_id, sum(available_change) AS available, sum(reserved_change) AS reserved
            FROM stock_movements GROUP BY 1) m USING (variant_id)
        WHERE (s.available, s.reserved) IS DISTINCT FROM (coalesce(m.available, 0), coalesce(m.reserved, 0))""",
    "movements_differ": """
        SELECT count(*) FROM (
            SELECT available_after, reserved_after, sum(available_change) OVER w AS available,
                   sum(reserved_change) OVER w AS reserved
            FROM stock_movements WINDOW w AS (PARTITION BY variant_id ORDER BY movement_no)) m
        WHERE (available_after, reserved_after) <> (available, reserved)""",
    "reserved_differs": f"""
        SELECT count(*) FROM stock s LEFT JOIN (
            SELECT l.variant_id, sum(l.quantity) AS held FROM order_lines l JOIN orders o USING (order_id)
            WHERE l.tracked AND o.state IN ({OrderState.PENDING}, {OrderState.CONFIRMED}, {OrderState.PROCESSING})
            GROUP BY 1) h USING (variant_id)
        WHERE s.reserved <> coalesce(h.held, 0)""",
    "unfollowed": f"""
        SELECT count(*) FROM orders o JOIN payments p USING (payment_id)
        WHERE NOT CASE WHEN o.state = {OrderState.PENDING} THEN p.state = {PaymentState.REQUESTED}
            WHEN o.state IN ({OrderState.CONFIRMED}, {OrderState.PROCESSING})
                THEN p.state IN ({PaymentState.HELD}, {PaymentState.PAID}, {PaymentState.DISPUTED},
                                 {PaymentState.REFUNDING}, {PaymentState.REFUND_FAILED})
                     OR p.state = {PaymentState.REFUNDED} AND p.refunded + p.disputed < p.captured
            WHEN o.state = {OrderState.CANCELLED}
                THEN p.state IN ({PaymentState.DECLINED}, {PaymentState.CANCELLED}, {PaymentState.EXPIRED})
                     OR p.state = {PaymentState.REFUNDED} AND p.refunded + p.disputed = p.captured
            WHEN o.state = {OrderState.REFUNDED} THEN p.refunded + p.disputed = p.captured
            ELSE p.state NOT IN ({PaymentState.REQUESTED}, {PaymentState.HELD}) END""",
    "history_differs": """
        SELECT count(*) FROM orders o LEFT JOIN order_versions v USING (order_id, version)
        WHERE v.state IS DISTINCT FROM o.state
           OR o.version <> (SELECT count(*) FROM order_versions v WHERE v.order_id = o.order_id)""",
    "oversold": f"""
        SELECT count(*) FROM (
            SELECT l.variant_id, sum(l.quantity) AS sold FROM order_lines l JOIN orders o USING (order_id)
            WHERE l.tracked AND o.state <> {OrderState.CANCELLED} GROUP BY 1) x
        WHERE x.sold > coalesce((
            SELECT sum(m.available_change) FROM stock_movements m WHERE m.variant_id = x.variant_id
              AND m.move IN ({StockMove.RECEIVED}, {StockMove.CORRECTED}, {StockMove.RETURNED})), 0)""",
    "sums_differ": """
        SELECT count(*) FROM orders o JOIN payments p USING (payment_id)
        WHERE o.total <> p.amount OR o.order_id <> p.order_id
           OR o.total <> (SELECT sum(l.amount + l.tax) FROM order_lines l WHERE l.order_id = o.order_id)""",
}
"""Of each fault a query that counts it: stock is not the sum of its movements; a movement does not follow the one
before; what is reserved is not what open orders hold; an order is not where its payment is, or not the last of its
versions; more of a variant is in orders than there ever was; an order is not the sum of its lines or its payment."""


class ShopWorld:
    """A business with a wallet, and what it sells."""

    def __init__(self, money: MoneyWorld, writes: WriteConnections, reads: Pool) -> None:
        self.money = money
        self.businesses = Businesses(writes, reads)
        self.catalogue = Catalogue(writes, reads)
        self.orders = Orders(writes, reads)
        self._writes = writes
        self._reads = reads
        self.shop = NIL
        self.owner = new_id()

    @classmethod
    async def open(cls, money: MoneyWorld, url: str, *, size: int = 8) -> Self:
        """With an empty shop that sells in THB."""
        writes = WriteConnections(url, size=size, statement_timeout_s=30, settings=MONEY_SETTINGS)
        world = cls(money, writes, await open_pool(url, size=2, statement_timeout_s=30, settings=MONEY_SETTINGS))
        world.shop = await world.open_shop(world.owner)
        return world

    async def close(self) -> None:
        """End all connections."""
        self._writes.terminate()
        await self._reads.close()

    async def open_shop(self, owner: bytes, *currencies: str) -> bytes:
        """A business with a wallet."""
        shop = await self.money.open_person(slots=16)
        new = BusinessRow(
            business=shop,
            tenant=TENANT,
            name="Noodles",
            description="",
            currencies=list(currencies) or ["THB"],
            status=ShopStatus.ACTIVE,
        )
        done(await self.businesses.set_business(self.money.key(), NIL, new, version=None, owner=owner))
        return shop

    def product_row(self, **more: Any) -> ProductRow:
        """A product, not stored."""
        fields: dict[str, Any] = {
            "product": new_id(), "business": self.shop, "tenant": TENANT, "name": "Soup", "description": "",
            "category": "food", "currency": "THB", "tax_basis_points": 0, "ships": False,
            "images": ["https://example.com/a.png"], "attributes": {}, "status": ShopStatus.ACTIVE,
        }  # fmt: skip
        return ProductRow(**(fields | more))

    def variant_row(self, product: bytes, price: int, **more: Any) -> VariantRow:
        """A variant, not stored."""
        variant = new_id()
        fields: dict[str, Any] = {
            "variant": variant, "product": product, "business": self.shop, "tenant": TENANT, "sku": variant.hex(),
            "name": "", "price": price, "tracked": True, "attributes": {}, "status": ShopStatus.ACTIVE,
        }  # fmt: skip
        return VariantRow(**(fields | more))

    async def sell(self, price: int, stock: int | None, *, tax: int = 0, **more: Any) -> bytes:
        """A variant of a new product, so many of which are there; None: always enough."""
        product = self.product_row(tax_basis_points=tax, **more)
        done(await self.catalogue.set_product(self.money.key(), self.owner, product, version=None))
        variant = self.variant_row(product.product, price, tracked=stock is not None, business=product.business)
        done(await self.catalogue.set_variant(self.money.key(), self.owner, variant, version=None))
        if stock:
            done(await self.count(variant.variant, StockMove.RECEIVED, stock))
        return variant.variant

    async def count(self, variant: bytes, move: StockMove, change: int) -> Answer:
        """Staff count stock."""
        return await self.catalogue.change_stock(
            self.money.key(), self.owner, TENANT, business=self.shop, variant=variant, move=move, change=change
        )

    async def offer_shipping(self, price: int, *, tax: int = 0) -> bytes:
        """A way of shipping."""
        new = ShippingRow(
            option=new_id(),
            business=self.shop,
            name="Courier",
            currency="THB",
            price=price,
            tax_basis_points=tax,
            status=ShopStatus.ACTIVE,
        )
        done(await self.businesses.set_shipping(self.money.key(), self.owner, TENANT, new, version=None))
        return new.option

    async def put(self, person: bytes, variant: bytes, quantity: int = 1) -> Answer:
        """So many of it are in the person's cart."""
        return await self.orders.set_cart_line(
            self.money.key(), person, TENANT, business=self.shop, variant=variant, quantity=quantity
        )

    def new_order(self, person: bytes, total: int, **more: Any) -> NewOrderRow:
        """An order of what is in the cart."""
        return NewOrderRow(
            order=new_id(),
            payment=new_id(),
            tenant=TENANT,
            customer=person,
            business=self.shop,
            currency="THB",
            total=total,
            **more,
        )

    async def place(self, new: NewOrderRow, key: StepKey | None = None) -> Answer:
        """The customer orders."""
        return await self.orders.place(key or self.money.key(), new)

    async def buy(self, person: bytes, variant: bytes, total: int, quantity: int = 1, **more: Any) -> NewOrderRow:
        """An order of one line that is placed."""
        done(await self.put(person, variant, quantity))
        new = self.new_order(person, total, **more)
        done(await self.place(new))
        return new

    async def pay(self, new: NewOrderRow) -> Answer:
        """The customer approves the payment of an order."""
        return await self.money.ledger.approve(
            self.money.key(),
            new.customer,
            TENANT,
            new.payment,
            version=1,
            amount=new.total,
            currency=new.currency,
            payee=new.business,
        )

    async def step(self, new: NewOrderRow, event: OrderEvent, *, customer: bool = False) -> Answer:
        """A step of an order, by staff unless it is the customer's."""
        party, actor = (OrderParty.CUSTOMER, new.customer) if customer else (OrderParty.STAFF, self.owner)
        return await self.orders.take_step(self.money.key(), actor, TENANT, new.order, event, party=party)

    async def end_payment(self, new: NewOrderRow, step: PaymentStep) -> Answer:
        """A step of the payment of an order."""
        return await self.money.ledger.take_step(self.money.key(), new.customer, TENANT, new.payment, step)

    async def read(self, new: NewOrderRow) -> OrderRow:
        """An order as it is now."""
        row = await self.orders.read_order(new.order)
        assert row is not None
        return row

    async def stock(self, variant: bytes) -> tuple[int, int]:
        """How many can be sold, and how many are reserved."""
        row = await self.money.database.fetchrow("SELECT available, reserved FROM stock WHERE variant_id = $1", variant)
        assert row is not None
        return row[0], row[1]

    async def audit(self) -> dict[str, int]:
        """The faults that there are."""
        found = {name: int(await self.money.database.fetchval(query)) for name, query in AUDIT.items()}
        return {name: count for name, count in found.items() if count}


def done(answer: Answer) -> Answer:
    """An answer that must be DONE."""
    assert answer.outcome is StepOutcome.DONE, answer
    return answer
