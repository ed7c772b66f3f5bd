"""`/v1/products`, `/v1/variants`, `/v1/stock`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from server.commerce.resources.asking import FIRST_ID, NUMBER_MAX, AsAsker, AsKeyed, PageLimit
from server.commerce.resources.commerce_parts import InCommerce
from server.commerce.shops.catalogue_keeping import (
    MovementReply,
    NewProduct,
    NewVariant,
    ProductEdit,
    ProductReply,
    StockChange,
    StockReply,
    VariantEdit,
    VariantReply,
)
from server.http.errors import REFUSALS


class ProductPage(msgspec.Struct):
    """Products by id; `after` of the next page is the last id of this one."""

    products: list[ProductReply]


class VariantList(msgspec.Struct):
    """The variants of a product."""

    variants: list[VariantReply]


class StockPage(msgspec.Struct):
    """Stock by variant; `after` of the next page is the last variant of this one."""

    stock: list[StockReply]


class MovementPage(msgspec.Struct):
    """Movements, newest first; `before` of the next page is the last number of this one."""

    movements: list[MovementReply]


@post("/products", status_code=201, responses=REFUSALS)
async def create_product(data: JSONBody[NewProduct], keyed: AsKeyed, parts: InCommerce) -> ProductReply:
    """Make a product of your business."""
    return await parts.shops.catalogue.create_product(keyed, data)


@post("/products/{product:uuid}", status_code=200, responses=REFUSALS)
async def change_product(
    product: FromPath[UUID], data: JSONBody[ProductEdit], keyed: AsKeyed, parts: InCommerce
) -> ProductReply:
    """Change a product of your business."""
    return await parts.shops.catalogue.change_product(keyed, product, data)


@post("/variants", status_code=201, responses=REFUSALS)
async def create_variant(data: JSONBody[NewVariant], keyed: AsKeyed, parts: InCommerce) -> VariantReply:
    """Make a variant of a product, which is what is sold."""
    return await parts.shops.catalogue.create_variant(keyed, data)


@post("/variants/{variant:uuid}", status_code=200, responses=REFUSALS)
async def change_variant(
    variant: FromPath[UUID], data: JSONBody[VariantEdit], keyed: AsKeyed, parts: InCommerce
) -> VariantReply:
    """Change a variant."""
    return await parts.shops.catalogue.change_variant(keyed, variant, data)


@post("/stock", status_code=200, responses=REFUSALS)
async def change_stock(data: JSONBody[StockChange], keyed: AsKeyed, parts: InCommerce) -> VariantReply:
    """Say that stock was received, returned, or counted otherwise."""
    return await parts.shops.catalogue.change_stock(keyed, data)


@get("/products", responses=REFUSALS)
async def list_products(
    asker: AsAsker,
    parts: InCommerce,
    business: FromQuery[UUID],
    after: FromQuery[UUID] = FIRST_ID,
    limit: PageLimit = 50,
) -> ProductPage:
    """What a business sells; for its staff all of its products."""
    return ProductPage(await parts.shops.catalogue.list_products(asker, business, after.bytes, limit))


@get("/products/{product:uuid}", responses=REFUSALS)
async def read_product(product: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> ProductReply:
    """A product that is active, or of your business."""
    return await parts.shops.catalogue.read_product(asker, product)


@get("/products/{product:uuid}/variants", responses=REFUSALS)
async def list_variants(product: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> VariantList:
    """The variants of a product."""
    return VariantList(await parts.shops.catalogue.list_variants(asker, product))


@get("/stock", responses=REFUSALS)
async def list_stock(
    asker: AsAsker,
    parts: InCommerce,
    business: FromQuery[UUID],
    after: FromQuery[UUID] = FIRST_ID,
    limit: PageLimit = 50,
) -> StockPage:
    """The stock of your business."""
    return StockPage(await parts.shops.catalogue.list_stock(asker, business, after.bytes, limit))


@get("/stock/{variant:uuid}/movements", responses=REFUSALS)
async def list_movements(
    variant: FromPath[UUID],
    asker: AsAsker,
    parts: InCommerce,
    before: Annotated[int, QueryParameter(ge=1, le=NUMBER_MAX)] = NUMBER_MAX,
    limit: PageLimit = 50,
) -> MovementPage:
    """What moved in the stock of a variant of your business."""
    return MovementPage(await parts.shops.catalogue.list_movements(asker, variant, before, limit))
