"""`/v1/businesses`, their `/staff` and `/shipping-options`."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from server.commerce.resources.asking import FIRST_ID, AsAsker, AsKeyed, PageLimit
from server.commerce.resources.commerce_parts import InCommerce
from server.commerce.shops.business_keeping import (
    BusinessEdit,
    BusinessReply,
    NewBusiness,
    ShippingOption,
    StaffReply,
    StaffRoleChange,
)
from server.http.errors import REFUSALS


class BusinessList(msgspec.Struct):
    """Businesses."""

    businesses: list[BusinessReply]


class StaffPage(msgspec.Struct):
    """Staff by id; `after` of the next page is the last person of this one."""

    staff: list[StaffReply]


class ShippingList(msgspec.Struct):
    """How a business ships."""

    options: list[ShippingOption]


@post("/businesses", status_code=201, responses=REFUSALS)
async def create_business(data: JSONBody[NewBusiness], keyed: AsKeyed, parts: InCommerce) -> BusinessReply:
    """Make a business of a principal of the chat, as an admin of the platform."""
    return await parts.shops.businesses.create(keyed, data)


@post("/businesses/{business:uuid}", status_code=200, responses=REFUSALS)
async def change_business(
    business: FromPath[UUID], data: JSONBody[BusinessEdit], keyed: AsKeyed, parts: InCommerce
) -> BusinessReply:
    """Change what your business says of itself."""
    return await parts.shops.businesses.change(keyed, business, data)


@post("/businesses/{business:uuid}/staff", status_code=204, responses=REFUSALS)
async def place_staff(
    business: FromPath[UUID], data: JSONBody[StaffRoleChange], keyed: AsKeyed, parts: InCommerce
) -> None:
    """Give a person a role in your business, or take it."""
    await parts.shops.businesses.place_staff(keyed, business, data)


@post("/businesses/{business:uuid}/shipping-options", status_code=201, responses=REFUSALS)
async def offer_shipping(
    business: FromPath[UUID], data: JSONBody[ShippingOption], keyed: AsKeyed, parts: InCommerce
) -> ShippingOption:
    """Offer a way of shipping, or change one."""
    return await parts.shops.businesses.offer_shipping(keyed, business, data)


@get("/businesses", responses=REFUSALS)
async def list_businesses(asker: AsAsker, parts: InCommerce) -> BusinessList:
    """The businesses of whose staff you are."""
    return BusinessList(await parts.shops.businesses.list_own(asker))


@get("/businesses/{business:uuid}", responses=REFUSALS)
async def read_business(business: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> BusinessReply:
    """A business that is active, or yours."""
    return await parts.shops.businesses.read(asker, business)


@get("/businesses/{business:uuid}/staff", responses=REFUSALS)
async def list_staff(
    business: FromPath[UUID],
    asker: AsAsker,
    parts: InCommerce,
    after: FromQuery[UUID] = FIRST_ID,
    limit: PageLimit = 50,
) -> StaffPage:
    """The staff of your business."""
    return StaffPage(await parts.shops.businesses.list_staff(asker, business, after.bytes, limit))


@get("/businesses/{business:uuid}/shipping-options", responses=REFUSALS)
async def list_shipping(business: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> ShippingList:
    """How a business ships now; for its staff all, also what is not offered any more."""
    return ShippingList(await parts.shops.businesses.read_shipping(asker, business))
