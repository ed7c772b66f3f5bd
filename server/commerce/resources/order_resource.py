"""`/v1/carts`, `/v1/orders`."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from protocol.commerce.order_states import OrderEvent
from server.commerce.personal.addresses import PostalAddress
from server.commerce.resources.asking import FIRST_ID, LAST_ID, AsAsker, AsKeyed, NoFields, PageLimit
from server.commerce.resources.commerce_parts import InCommerce
from server.commerce.shops.order_steps import CartLine, CartList, CartReply, NewOrder, OrderReply, OrderStateName
from server.http.errors import REFUSALS


class OrderPage(msgspec.Struct):
    """Orders without lines, newest first; `before` of the next page is the last id of this one."""

    orders: list[OrderReply]


@post("/carts/{business:uuid}/lines", status_code=200, responses=REFUSALS)
async def put_into_cart(
    business: FromPath[UUID], data: JSONBody[CartLine], keyed: AsKeyed, parts: InCommerce
) -> CartReply:
    """Say how many of a variant are in your cart."""
    return await parts.shops.orders.put(keyed, business, data)


@get("/carts", responses=REFUSALS)
async def list_carts(
    asker: AsAsker, parts: InCommerce, after: FromQuery[UUID] = FIRST_ID, limit: PageLimit = 50
) -> CartList:
    """The businesses at which there is something in your cart."""
    return await parts.shops.orders.list_carts(asker, after.bytes, limit)


@get("/carts/{business:uuid}", responses=REFUSALS)
async def read_cart(
    business: FromPath[UUID], asker: AsAsker, parts: InCommerce, shipping: FromQuery[UUID | None] = None
) -> CartReply:
    """Your cart with what it costs now, shipped in this way."""
    return await parts.shops.orders.read_cart(asker, business, shipping)


@post("/orders", status_code=201, responses=REFUSALS)
async def place_order(data: JSONBody[NewOrder], keyed: AsKeyed, parts: InCommerce) -> OrderReply:
    """Order all that is in your cart. Then approve the payment that the order names. The order keeps its address."""
    return await parts.shops.orders.place(keyed, data)


@post("/orders/{order:uuid}/process", status_code=200, responses=REFUSALS)
async def process_order(
    order: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> OrderReply:
    """Begin with an order that is paid, as staff: its customer cannot cancel it any more."""
    del data  # it has no fields
    return await parts.shops.orders.take_step(keyed, order, OrderEvent.PROCESS)


@post("/orders/{order:uuid}/ship", status_code=200, responses=REFUSALS)
async def ship_order(
    order: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> OrderReply:
    """Ship an order, as staff: what is held for it is captured first."""
    del data  # it has no fields
    return await parts.shops.orders.take_step(keyed, order, OrderEvent.SHIP)


@post("/orders/{order:uuid}/deliver", status_code=200, responses=REFUSALS)
async def deliver_order(
    order: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> OrderReply:
    """Say that an order has arrived, as its customer or as staff."""
    del data  # it has no fields
    return await parts.shops.orders.take_step(keyed, order, OrderEvent.DELIVER)


@post("/orders/{order:uuid}/cancel", status_code=200, responses=REFUSALS)
async def cancel_order(
    order: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> OrderReply:
    """Cancel an order that is not shipped: what was paid goes back. Its customer may until staff process it."""
    del data  # it has no fields
    return await parts.shops.orders.take_step(keyed, order, OrderEvent.CANCEL)


@post("/orders/{order:uuid}/refund", status_code=200, responses=REFUSALS)
async def refund_order(
    order: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> OrderReply:
    """Give back all that was paid for an order that is shipped, as staff."""
    del data  # it has no fields
    return await parts.shops.orders.take_step(keyed, order, OrderEvent.REFUND)


@get("/orders", responses=REFUSALS)
async def list_orders(
    asker: AsAsker,
    parts: InCommerce,
    business: FromQuery[UUID | None] = None,
    *,
    in_state: FromQuery[OrderStateName | None] = None,
    before: FromQuery[UUID] = LAST_ID,
    limit: PageLimit = 50,
) -> OrderPage:
    """Your orders; with `business` those of your business, all of them, or those `in_state`."""
    if business is None:
        return OrderPage(await parts.shops.orders.list_own(asker, before.bytes, limit))
    return OrderPage(await parts.shops.orders.list_of_business(asker, business, before.bytes, limit, in_state))


@get("/orders/{order:uuid}", responses=REFUSALS)
async def read_order(order: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> OrderReply:
    """An order with its lines and what happened to it, for its customer and staff."""
    return await parts.shops.orders.read(asker, order)


@get("/orders/{order:uuid}/address", responses=REFUSALS)
async def read_order_address(order: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> PostalAddress:
    """Where an order goes, as its customer had it when they ordered: for them, and for staff until it is delivered."""
    return await parts.shops.orders.read_address(asker, order)
