"""Products, their variants, and the stock of these. Everybody of the tenant sees what is active, staff see all."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AmountMinor, Currency
from protocol.commerce.shop_terms import (
    ATTRIBUTES_MAX,
    IMAGES_MAX,
    STATUS_BY_TEXT,
    STOCK_MAX,
    ShopStatus,
    StaffRight,
    StockMove,
)
from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import CODE_OF
from server.commerce.shops.business_keeping import BasisPoints, Status, Version
from server.commerce.shops.shop_access import JudgedSteps, judge_staff
from server.commerce.step_keys import StepKeys, name_operation
from server.refusals import RequestRefusedError
from server.texts import ONE_LINE, check_https, check_paragraphs
from storage.commerce.money_rows import Answer, StepOutcome
from storage.commerce.shops.catalogue import Catalogue
from storage.commerce.shops.shop_rows import MovementRow, ProductRow, StockRow, VariantRow

_Line = Annotated[str, msgspec.Meta(max_length=100, pattern=ONE_LINE)]
_AttributeName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
_AttributeText = Annotated[str, msgspec.Meta(max_length=256, pattern=ONE_LINE)]
_Attributes = Annotated[dict[_AttributeName, _AttributeText], msgspec.Meta(max_length=ATTRIBUTES_MAX)]
_Image = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class _ProductFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=ONE_LINE)]
    description: Annotated[str, msgspec.Meta(max_length=5000)] = ""
    category: _Line = ""
    tax_basis_points: BasisPoints = 0
    ships: bool = True
    images: Annotated[list[_Image], msgspec.Meta(max_length=IMAGES_MAX)] = []
    attributes: _Attributes = {}
    status: Status = "draft"


class NewProduct(_ProductFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of a business. Tax is added to the prices of its variants; an active one has an image at least."""

    business: UUID
    currency: Currency


class ProductEdit(_ProductFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of what a product is from now on. `version` is the one that you read: another one is `changed`."""

    version: Version


class ProductReply(msgspec.Struct, frozen=True, kw_only=True):
    """A product."""

    id: UUID
    version: int
    business: UUID
    currency: str
    name: str
    description: str
    category: str
    tax_basis_points: int
    ships: bool
    images: list[str]
    attributes: dict[str, str]
    status: str


class _VariantFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sku: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
    name: _Line = ""
    price_minor: AmountMinor
    tracked: bool = True
    attributes: _Attributes = {}
    status: Status = "active"


class NewVariant(_VariantFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A variant of a product, which is what is sold. Of what is not `tracked` there is always enough."""

    product: UUID


class VariantEdit(_VariantFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of what a variant is from now on. `version` is the one that you read: another one is `changed`."""

    version: Version


class VariantReply(msgspec.Struct, frozen=True, kw_only=True):
    """A variant; `available`: how many there are, null when there are always enough."""

    id: UUID
    version: int
    product: UUID
    sku: str
    name: str
    price_minor: int
    tracked: bool
    attributes: dict[str, str]
    status: str
    available: int | None


class StockChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Received or returned: so many more. Corrected: so many more, or with a minus fewer."""

    variant: UUID
    move: Literal["received", "corrected", "returned"]
    change: Annotated[int, msgspec.Meta(ge=-STOCK_MAX, le=STOCK_MAX)]


class StockReply(msgspec.Struct, frozen=True, kw_only=True):
    """The stock of a variant: what can be sold, and what orders hold."""

    variant: UUID
    available: int
    reserved: int


class MovementReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A movement of stock, with what there was after it."""

    number: int
    at_ms: int
    move: str
    available_change: int
    reserved_change: int
    available_after: int
    reserved_after: int
    by: UUID
    order: UUID | None = None


class CatalogueKeeping:
    """Steps and reads of products, variants and stock."""

    def __init__(self, catalogue: Catalogue, steps: JudgedSteps, keys: StepKeys) -> None:
        self._catalogue = catalogue
        self._steps = steps
        self._keys = keys

    async def create_product(self, request: KeyedRequest, new: NewProduct) -> ProductReply:
        """Make a product; raises RequestRefusedError."""
        asker = request.asker
        _check(new)
        key = self._keys.make(request, "create product", new)
        row = _product_row(asker.tenant, new_id(), new.business.bytes, new.currency, new)
        done = await self._steps.take(
            key,
            judge_staff(asker, row.business, StaffRight.CATALOGUE),
            lambda: self._catalogue.set_product(key, asker.principal, row, version=None),
        )
        return await self.read_product(asker, UUID(bytes=done))

    async def change_product(self, request: KeyedRequest, product: UUID, edit: ProductEdit) -> ProductReply:
        """Change a product; raises RequestRefusedError."""
        asker = request.asker
        _check(edit)
        key = self._keys.make(request, name_operation("change product", product), edit)
        was = await self._catalogue.read_product(asker.tenant, product.bytes)

        async def change() -> Answer:
            assert was is not None, "it is judged"
            row = _product_row(asker.tenant, product.bytes, was.business, was.currency, edit)
            return await self._catalogue.set_product(key, asker.principal, row, version=edit.version)

        done = await self._steps.take(key, _judge(asker, was, StaffRight.CATALOGUE), change)
        return await self.read_product(asker, UUID(bytes=done))

    async def read_product(self, asker: Asker, product: UUID) -> ProductReply:
        """A product that is active, or one's own; raises RequestRefusedError."""
        return _render_product(await self._find_product(asker, product))

    async def list_products(self, asker: Asker, business: UUID, after: bytes, limit: int) -> list[ProductReply]:
        """Products with ids above `after`: those that are active, for its staff all."""
        active = not asker.is_of(business.bytes)
        rows = await self._catalogue.read_products(asker.tenant, business.bytes, after, limit, active=active)
        return [_render_product(row) for row in rows]

    async def create_variant(self, request: KeyedRequest, new: NewVariant) -> VariantReply:
        """Make a variant of a product; raises RequestRefusedError."""
        asker = request.asker
        key = self._keys.make(request, "create variant", new)
        product = await self._catalogue.read_product(asker.tenant, new.product.bytes)

        async def create() -> Answer:
            assert product is not None, "it is judged"
            row = _variant_row(asker.tenant, new_id(), product.product, product.business, new)
            return await self._catalogue.set_variant(key, asker.principal, row, version=None)

        done = await self._steps.take(key, _judge(asker, product, StaffRight.CATALOGUE), create)
        return await self._read_variant(asker.tenant, done)

    async def change_variant(self, request: KeyedRequest, variant: UUID, edit: VariantEdit) -> VariantReply:
        """Change a variant; raises RequestRefusedError."""
        asker = request.asker
        key = self._keys.make(request, name_operation("change variant", variant), edit)
        was = await self._catalogue.read_variant(asker.tenant, variant.bytes)

        async def change() -> Answer:
            assert was is not None, "it is judged"
            row = _variant_row(asker.tenant, was.variant, was.product, was.business, edit)
            return await self._catalogue.set_variant(key, asker.principal, row, version=edit.version)

        done = await self._steps.take(key, _judge(asker, was, StaffRight.CATALOGUE), change)
        return await self._read_variant(asker.tenant, done)

    async def list_variants(self, asker: Asker, product: UUID) -> list[VariantReply]:
        """The variants of a product: those that are active, for its staff all; raises RequestRefusedError."""
        found = await self._find_product(asker, product)
        return [
            _render_variant(row)
            for row in await self._catalogue.read_variants(found.product)
            if row.status is ShopStatus.ACTIVE or asker.is_of(found.business)
        ]

    async def change_stock(self, request: KeyedRequest, change: StockChange) -> VariantReply:
        """Count stock; raises RequestRefusedError."""
        asker = request.asker
        key = self._keys.make(request, "change stock", change)
        was = await self._catalogue.read_variant(asker.tenant, change.variant.bytes)

        async def count() -> Answer:
            assert was is not None, "it is judged"
            return await self._catalogue.change_stock(
                key,
                asker.principal,
                asker.tenant,
                business=was.business,
                variant=was.variant,
                move=_MOVES[change.move],
                change=change.change,
            )

        done = await self._steps.take(key, _judge(asker, was, StaffRight.STOCK), count)
        return await self._read_variant(asker.tenant, done)

    async def list_stock(self, asker: Asker, business: UUID, after: bytes, limit: int) -> list[StockReply]:
        """The stock of one's own business, by variants with ids above `after`; raises RequestRefusedError."""
        refused = judge_staff(asker, business.bytes, StaffRight.STOCK)
        if refused is not None:
            raise RequestRefusedError(CODE_OF[refused])
        return [_render_stock(row) for row in await self._catalogue.read_stock(business.bytes, after, limit)]

    async def list_movements(self, asker: Asker, variant: UUID, before: int, limit: int) -> list[MovementReply]:
        """What moved in the stock of a variant, newest first; raises RequestRefusedError."""
        refused = _judge(asker, await self._catalogue.read_variant(asker.tenant, variant.bytes), StaffRight.STOCK)
        if refused is not None:
            raise RequestRefusedError(CODE_OF[refused])
        return [_render_movement(row) for row in await self._catalogue.read_movements(variant.bytes, before, limit)]

    async def _find_product(self, asker: Asker, product: UUID) -> ProductRow:
        row = await self._catalogue.read_product(asker.tenant, product.bytes)
        if row is None or not (row.status is ShopStatus.ACTIVE or asker.is_of(row.business)):
            raise RequestRefusedError(ErrorCode.PRODUCT_NOT_FOUND)
        return row

    async def _read_variant(self, tenant: int, variant: bytes) -> VariantReply:
        row = await self._catalogue.read_variant(tenant, variant)
        assert row is not None, "variants stay"
        return _render_variant(row)


_MOVES = {"received": StockMove.RECEIVED, "corrected": StockMove.CORRECTED, "returned": StockMove.RETURNED}


def _judge(asker: Asker, row: ProductRow | VariantRow | None, right: StaffRight) -> StepOutcome | None:
    """A foreign product is not found."""
    if row is None or not asker.is_of(row.business):
        return StepOutcome.PRODUCT_NOT_FOUND
    return judge_staff(asker, row.business, right)


def _check(fields: NewProduct | ProductEdit) -> None:
    check_paragraphs("description", fields.description)
    for image in fields.images:
        check_https("images", image)
    if fields.status == "active" and not fields.images:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "images: an active product has one at least")


def _product_row(
    tenant: int, product: bytes, business: bytes, currency: str, fields: NewProduct | ProductEdit
) -> ProductRow:
    return ProductRow(
        product=product,
        business=business,
        tenant=tenant,
        name=fields.name,
        description=fields.description,
        category=fields.category,
        currency=currency,
        tax_basis_points=fields.tax_basis_points,
        ships=fields.ships,
        images=fields.images,
        attributes=fields.attributes,
        status=STATUS_BY_TEXT[fields.status],
    )


def _variant_row(
    tenant: int, variant: bytes, product: bytes, business: bytes, fields: NewVariant | VariantEdit
) -> VariantRow:
    return VariantRow(
        variant=variant,
        product=product,
        business=business,
        tenant=tenant,
        sku=fields.sku,
        name=fields.name,
        price=fields.price_minor,
        tracked=fields.tracked,
        attributes=fields.attributes,
        status=STATUS_BY_TEXT[fields.status],
    )


def _render_product(row: ProductRow) -> ProductReply:
    return ProductReply(
        id=UUID(bytes=row.product),
        version=row.version,
        business=UUID(bytes=row.business),
        currency=row.currency,
        name=row.name,
        description=row.description,
        category=row.category,
        tax_basis_points=row.tax_basis_points,
        ships=row.ships,
        images=row.images,
        attributes=row.attributes,
        status=row.status.text,
    )


def _render_variant(row: VariantRow) -> VariantReply:
    return VariantReply(
        id=UUID(bytes=row.variant),
        version=row.version,
        product=UUID(bytes=row.product),
        sku=row.sku,
        name=row.name,
        price_minor=row.price,
        tracked=row.tracked,
        attributes=row.attributes,
        status=row.status.text,
        available=row.available if row.tracked else None,
    )


def _render_stock(row: StockRow) -> StockReply:
    return StockReply(variant=UUID(bytes=row.variant), available=row.available, reserved=row.reserved)


def _render_movement(row: MovementRow) -> MovementReply:
    return MovementReply(
        number=row.movement_no,
        at_ms=row.at_us // 1000,
        move=row.move.text,
        available_change=row.available_change,
        reserved_change=row.reserved_change,
        available_after=row.available_after,
        reserved_after=row.reserved_after,
        by=UUID(bytes=row.actor),
        order=None if row.order is None else UUID(bytes=row.order),
    )
