"""Carts and orders: a customer orders what is in their cart, pays it like any request, and staff ship it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from protocol.commerce.contract import EXPIRES_IN_S_MIN
from protocol.commerce.currencies import AmountMinor, Currency
from protocol.commerce.order_states import ORDER_STATES_BY_TEXT, OrderEvent, OrderParty, OrderState
from protocol.commerce.shop_terms import ORDER_REQUEST_S_MAX, QUANTITY_MAX, ShopStatus, StaffRight, tax_of
from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import CODE_OF, check_done
from server.commerce.personal.addresses import PostalAddress
from server.commerce.shops.order_addresses import OrderAddresses
from server.commerce.shops.shop_access import JudgedSteps, judge_staff
from server.commerce.step_keys import StepKeys, name_operation
from server.refusals import RequestRefusedError
from storage.commerce.money_rows import Answer, StepOutcome
from storage.commerce.shops.businesses import Businesses
from storage.commerce.shops.orders import Orders
from storage.commerce.shops.shop_rows import (
    CartLineRow,
    NewOrderRow,
    OrderLineRow,
    OrderRow,
    OrderVersionRow,
    ShippingRow,
)

_S_US = 1_000_000
_MONEY_STEPS = frozenset({OrderEvent.CANCEL, OrderEvent.REFUND})
_UNDER_WAY = frozenset({OrderState.CONFIRMED, OrderState.PROCESSING, OrderState.SHIPPED})
OrderStateName = Literal["pending", "confirmed", "processing", "shipped", "delivered", "cancelled", "refunded"]


class CartLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of a variant are in the cart from now on; 0 takes it out."""

    variant: UUID
    quantity: Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]


class CartLineReply(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a cart with what it costs now. `orderable`: it is sold now, and there are enough."""

    line: int
    product: UUID
    variant: UUID
    sku: str
    name: str
    variant_name: str
    currency: str
    quantity: int
    price_minor: int
    amount_minor: int
    tax_minor: int
    orderable: bool


class CartReply(msgspec.Struct, frozen=True, kw_only=True):
    """A cart: no price is kept in it. `total_minor` is what an order needs to name, if all lines have one currency."""

    business: UUID
    lines: list[CartLineReply]
    subtotal_minor: int
    tax_minor: int
    shipping_minor: int
    total_minor: int


class CartList(msgspec.Struct, frozen=True, kw_only=True):
    """The businesses at which there is something in your cart."""

    businesses: list[UUID]


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Orders all that is in your cart at a business. `total_minor` is what you saw: what differs is `changed`.

    The payment is requested of you, and to be approved within `expires_in_s` (an hour); until then the goods are
    reserved. With `capture` "later" the money is held until the order is shipped. `address` is the id of one of yours.
    """

    business: UUID
    currency: Currency
    total_minor: AmountMinor
    shipping: UUID | None = None
    address: UUID | None = None
    dialog: UUID | None = None
    capture: Literal["now", "later"] = "now"
    expires_in_s: Annotated[int, msgspec.Meta(ge=EXPIRES_IN_S_MIN, le=ORDER_REQUEST_S_MAX)] | None = None


class OrderLineReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of an order, as it was when it was placed. `kind`: product, or shipping."""

    line: int
    kind: str
    name: str
    quantity: int
    price_minor: int
    amount_minor: int
    tax_minor: int
    tax_basis_points: int
    product: UUID | None = None
    variant: UUID | None = None
    variant_name: str = ""
    sku: str = ""


class OrderVersionReply(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to an order."""

    version: int
    at_ms: int
    event: str
    state: str
    by: UUID


class OrderReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order as it is now. `payment` is approved, captured and refunded as every payment."""

    id: UUID
    number: int
    version: int
    state: str
    business: UUID
    customer: UUID
    payment: UUID
    currency: str
    subtotal_minor: int
    tax_minor: int
    shipping_minor: int
    total_minor: int
    placed_at_ms: int
    moved_at_ms: int
    dialog: UUID | None = None
    address: UUID | None = None
    lines: list[OrderLineReply] = []
    history: list[OrderVersionReply] = []


class OrderSteps:
    """Steps and reads of carts and orders."""

    def __init__(
        self,
        orders: Orders,
        businesses: Businesses,
        steps: JudgedSteps,
        keys: StepKeys,
        addresses: OrderAddresses,
    ) -> None:
        self._orders = orders
        self._businesses = businesses
        self._steps = steps
        self._keys = keys
        self._addresses = addresses

    async def put(self, request: KeyedRequest, business: UUID, line: CartLine) -> CartReply:
        """Put something into one's cart; raises RequestRefusedError."""
        asker = request.asker
        _check_person(asker)
        key = self._keys.make(request, name_operation("put", business), line)
        await self._steps.take(
            key,
            None,
            lambda: self._orders.set_cart_line(
                key,
                asker.principal,
                asker.tenant,
                business=business.bytes,
                variant=line.variant.bytes,
                quantity=line.quantity,
            ),
        )
        return await self.read_cart(asker, business, None)

    async def read_cart(self, asker: Asker, business: UUID, shipping: UUID | None) -> CartReply:
        """One's cart, with what it costs now; raises RequestRefusedError."""
        option: ShippingRow | None = None
        if shipping is not None:
            option = await self._find_shipping(asker, business, shipping)
        rows = await self._orders.read_cart(asker.principal, business.bytes)
        subtotal, tax = sum(row.amount for row in rows), sum(row.tax for row in rows)
        cost = 0 if option is None else option.price
        tax += 0 if option is None else tax_of(option.price, option.tax_basis_points)
        return CartReply(
            business=business,
            lines=[_render_cart_line(row) for row in rows],
            subtotal_minor=subtotal,
            tax_minor=tax,
            shipping_minor=cost,
            total_minor=subtotal + tax + cost,
        )

    async def list_carts(self, asker: Asker, after: bytes, limit: int) -> CartList:
        """The businesses at which there is something in one's cart, with ids above `after`."""
        found = await self._orders.read_carts(asker.principal, after, limit)
        return CartList(businesses=[UUID(bytes=each) for each in found])

    async def place(self, request: KeyedRequest, new: NewOrder) -> OrderReply:
        """Order what is in one's cart; raises RequestRefusedError."""
        asker = request.asker
        _check_person(asker)
        key = self._keys.make(request, "place order", new)
        if await self._addresses.is_known(asker, new.address):
            answer = await self._orders.place(key, _row(asker, new))
            order = check_done(answer, _why(answer))
        else:
            order = await self._steps.refuse(key, StepOutcome.ITEM_NOT_FOUND)
        await self._addresses.keep(asker, UUID(bytes=order), new.address)
        return await self._reply(order)

    async def read_address(self, asker: Asker, order: UUID) -> PostalAddress:
        """Where an order goes: for its customer, and for staff while it is under way; raises RequestRefusedError."""
        row = await self._find(asker, order)
        if row is None:
            raise RequestRefusedError(ErrorCode.ORDER_NOT_FOUND)
        if row.customer != asker.principal and row.state not in _UNDER_WAY:
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND, "staff read it while the order is under way")
        return await self._addresses.read(asker.tenant, row.customer, order)

    async def take_step(self, request: KeyedRequest, order: UUID, event: OrderEvent) -> OrderReply:
        """A step of an order, as its customer or as staff; raises RequestRefusedError."""
        asker = request.asker
        key = self._keys.make(request, name_operation(f"order {event.text}", order))
        row = await self._find(asker, order)
        refused, party = _judge_step(asker, row, event)

        async def step() -> Answer:
            return await self._orders.take_step(key, asker.principal, asker.tenant, order.bytes, event, party=party)

        return await self._reply(await self._steps.take(key, refused, step))

    async def read(self, asker: Asker, order: UUID) -> OrderReply:
        """An order with its lines and history, for its customer and staff; raises RequestRefusedError."""
        row = await self._find(asker, order)
        if row is None:
            raise RequestRefusedError(ErrorCode.ORDER_NOT_FOUND)
        lines = await self._orders.read_lines(row.order)
        versions = await self._orders.read_versions(row.order)
        return msgspec.structs.replace(
            _render(row), lines=[_render_line(each) for each in lines], history=[_render_version(v) for v in versions]
        )

    async def list_own(self, asker: Asker, before: bytes, limit: int) -> list[OrderReply]:
        """One's own orders, newest first."""
        rows = await self._orders.read_of_customer(asker.tenant, asker.principal, before, limit)
        return [_render(row) for row in rows]

    async def list_of_business(
        self, asker: Asker, business: UUID, before: bytes, limit: int, state: OrderStateName | None
    ) -> list[OrderReply]:
        """The orders of a business, newest first, for its staff; raises RequestRefusedError."""
        refused = judge_staff(asker, business.bytes, StaffRight.ORDERS)
        if refused is not None:
            raise RequestRefusedError(CODE_OF[refused])
        wanted = None if state is None else ORDER_STATES_BY_TEXT[state]
        rows = await self._orders.read_of_business(asker.tenant, business.bytes, before, limit, wanted)
        return [_render(row) for row in rows]

    async def _find(self, asker: Asker, order: UUID) -> OrderRow | None:
        """An order of the asker, or of a business whose orders they may read."""
        row = await self._orders.read_order(order.bytes)
        if row is None or row.tenant != asker.tenant:
            return None
        own = row.customer == asker.principal and not asker.is_service
        return row if own or asker.may(row.business, StaffRight.ORDERS) else None

    async def _find_shipping(self, asker: Asker, business: UUID, option: UUID) -> ShippingRow:
        if await self._businesses.read_business(asker.tenant, business.bytes) is not None:
            for row in await self._businesses.read_shipping(business.bytes):
                if row.option == option.bytes and row.status is ShopStatus.ACTIVE:
                    return row
        raise RequestRefusedError(ErrorCode.SHIPPING_REFUSED)

    async def _reply(self, order: bytes) -> OrderReply:
        row = await self._orders.read_order(order)
        assert row is not None, "orders stay"
        return _render(row)


def _check_person(asker: Asker) -> None:
    if asker.is_service:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "a service orders for nobody")


def _judge_step(asker: Asker, row: OrderRow | None, event: OrderEvent) -> tuple[StepOutcome | None, OrderParty]:
    """Why the step is refused here; None when it is for the database to judge, for which side."""
    if row is None:
        return StepOutcome.ORDER_NOT_FOUND, OrderParty.CUSTOMER
    if row.customer == asker.principal and not asker.is_service:
        return None, OrderParty.CUSTOMER
    right = StaffRight.MONEY if event in _MONEY_STEPS else StaffRight.ORDERS
    return judge_staff(asker, row.business, right), OrderParty.STAFF


def _why(answer: Answer) -> str:
    """What a refused order adds to its sentence."""
    if answer.detail is None:
        return ""
    return f"the total is {answer.detail}" if answer.outcome is StepOutcome.CHANGED else f"line {answer.detail}"


def _row(asker: Asker, new: NewOrder) -> NewOrderRow:
    return NewOrderRow(
        order=new_id(),
        payment=new_id(),
        tenant=asker.tenant,
        customer=asker.principal,
        business=new.business.bytes,
        currency=new.currency,
        total=new.total_minor,
        shipping=None if new.shipping is None else new.shipping.bytes,
        address=None if new.address is None else new.address.bytes,
        dialog=None if new.dialog is None else new.dialog.bytes,
        later=new.capture == "later",
        request_us=(new.expires_in_s or ORDER_REQUEST_S_MAX) * _S_US,
    )


def _render_cart_line(row: CartLineRow) -> CartLineReply:
    return CartLineReply(
        line=row.line_no,
        product=UUID(bytes=row.product),
        variant=UUID(bytes=row.variant),
        sku=row.sku,
        name=row.name,
        variant_name=row.variant_name,
        currency=row.currency,
        quantity=row.quantity,
        price_minor=row.unit_price,
        amount_minor=row.amount,
        tax_minor=row.tax,
        orderable=row.active and (not row.tracked or row.available >= row.quantity),
    )


def _render_line(row: OrderLineRow) -> OrderLineReply:
    return OrderLineReply(
        line=row.line_no,
        kind=row.kind.name.lower(),
        name=row.name,
        quantity=row.quantity,
        price_minor=row.unit_price,
        amount_minor=row.amount,
        tax_minor=row.tax,
        tax_basis_points=row.tax_basis_points,
        product=None if row.product is None else UUID(bytes=row.product),
        variant=None if row.variant is None else UUID(bytes=row.variant),
        variant_name=row.variant_name,
        sku=row.sku,
    )


def _render_version(row: OrderVersionRow) -> OrderVersionReply:
    return OrderVersionReply(
        version=row.version,
        at_ms=row.at_us // 1000,
        event=row.event.text,
        state=row.state.text,
        by=UUID(bytes=row.actor),
    )


def _render(row: OrderRow) -> OrderReply:
    return OrderReply(
        id=UUID(bytes=row.order),
        number=row.number,
        version=row.version,
        state=row.state.text,
        business=UUID(bytes=row.business),
        customer=UUID(bytes=row.customer),
        payment=UUID(bytes=row.payment),
        currency=row.currency,
        subtotal_minor=row.subtotal,
        tax_minor=row.tax,
        shipping_minor=row.shipping,
        total_minor=row.total,
        placed_at_ms=row.placed_us // 1000,
        moved_at_ms=row.moved_us // 1000,
        dialog=None if row.dialog is None else UUID(bytes=row.dialog),
        address=None if row.address is None else UUID(bytes=row.address),
    )
