"""Products and their variants, and the stock of these."""

from __future__ import annotations

import asyncpg
import msgspec

from protocol.commerce.shop_terms import VARIANTS_MAX, ShopStatus, StockMove
from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import Answer, StepKey
from storage.commerce.shops.shop_rows import MovementRow, ProductRow, StockRow, VariantRow
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_PRODUCT_COLUMNS = """product_id, business_id, tenant_id, name, description, category, currency,
tax_basis_points, ships, images, attributes, status, version"""
_PRODUCT = f"SELECT {_PRODUCT_COLUMNS} FROM products WHERE product_id = $1 AND tenant_id = $2"
_PRODUCTS = f"""
SELECT {_PRODUCT_COLUMNS} FROM products WHERE business_id = $1 AND tenant_id = $2 AND product_id > $3 {{active}}
ORDER BY product_id LIMIT $4
"""
_ALL = _PRODUCTS.format(active="")
_ACTIVE = _PRODUCTS.format(active=f"AND status = {ShopStatus.ACTIVE}")
_VARIANT_COLUMNS = """v.variant_id, v.product_id, v.business_id, v.tenant_id, v.sku, v.name, v.price, v.tracked,
v.attributes, v.status, v.version, (SELECT s.available FROM stock s WHERE s.variant_id = v.variant_id)"""
_VARIANT = f"SELECT {_VARIANT_COLUMNS} FROM variants v WHERE v.variant_id = $1 AND v.tenant_id = $2"
_VARIANTS = f"""
SELECT {_VARIANT_COLUMNS} FROM variants v WHERE v.product_id = $1 ORDER BY v.variant_id LIMIT {VARIANTS_MAX}
"""
_STOCK = """
SELECT variant_id, available, reserved FROM stock WHERE business_id = $1 AND variant_id > $2
ORDER BY variant_id LIMIT $3
"""
_MOVEMENTS = """
SELECT movement_no, at_us, move, available_change, reserved_change, available_after, reserved_after, order_id, actor_id
FROM stock_movements WHERE variant_id = $1 AND movement_no < $2 ORDER BY movement_no DESC LIMIT $3
"""


class Catalogue:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads

    async def set_product(self, key: StepKey, actor: bytes, new: ProductRow, *, version: int | None) -> Answer:
        """Make a product (`version` None), or change it, if it still has this version."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM set_product($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            key.key_id,
            key.body,
            actor,
            new.tenant,
            new.business,
            new.product,
            version,
            new.name,
            new.description,
            new.category,
            new.currency,
            new.tax_basis_points,
            new.ships,
            new.images,
            _as_json(new.attributes),
            int(new.status),
        )
        return read_answer(row)

    async def set_variant(self, key: StepKey, actor: bytes, new: VariantRow, *, version: int | None) -> Answer:
        """Make a variant (`version` None), or change it, if it still has this version."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM set_variant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            key.key_id,
            key.body,
            actor,
            new.tenant,
            new.business,
            new.product,
            new.variant,
            version,
            new.sku,
            new.name,
            new.price,
            new.tracked,
            _as_json(new.attributes),
            int(new.status),
        )
        return read_answer(row)

    async def change_stock(
        self, key: StepKey, actor: bytes, tenant: int, *, business: bytes, variant: bytes, move: StockMove, change: int
    ) -> Answer:
        """RECEIVED or RETURNED: so many more. CORRECTED: so many more or less."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM change_stock($1, $2, $3, $4, $5, $6, $7, $8)",
            key.key_id,
            key.body,
            actor,
            tenant,
            business,
            variant,
            int(move),
            change,
        )
        return read_answer(row)

    async def read_product(self, tenant: int, product: bytes) -> ProductRow | None:
        """A product."""
        async with translate_errors():
            row = await self._reads.fetchrow(_PRODUCT, product, tenant)
        return None if row is None else _product(row)

    async def read_products(
        self, tenant: int, business: bytes, after: bytes, limit: int, *, active: bool
    ) -> list[ProductRow]:
        """Products of a business with ids above `after`; only what is `active`, or all."""
        async with translate_errors():
            rows = await self._reads.fetch(_ACTIVE if active else _ALL, business, tenant, after, limit)
        return [_product(row) for row in rows]

    async def read_variant(self, tenant: int, variant: bytes) -> VariantRow | None:
        """A variant."""
        async with translate_errors():
            row = await self._reads.fetchrow(_VARIANT, variant, tenant)
        return None if row is None else _variant(row)

    async def read_variants(self, product: bytes) -> list[VariantRow]:
        """The variants of a product: all of them, which are bounded."""
        async with translate_errors():
            rows = await self._reads.fetch(_VARIANTS, product)
        return [_variant(row) for row in rows]

    async def read_stock(self, business: bytes, after: bytes, limit: int) -> list[StockRow]:
        """The stock of a business, by ids of variants above `after`."""
        async with translate_errors():
            return [StockRow(*row) for row in await self._reads.fetch(_STOCK, business, after, limit)]

    async def read_movements(self, variant: bytes, before: int, limit: int) -> list[MovementRow]:
        """What moved in the stock of a variant, newest first, with numbers below `before`."""
        async with translate_errors():
            rows = await self._reads.fetch(_MOVEMENTS, variant, before, limit)
        return [MovementRow(row[0], row[1], StockMove(row[2]), *row[3:]) for row in rows]


def _as_json(attributes: dict[str, str]) -> str:
    return msgspec.json.encode(attributes).decode()


def _product(row: asyncpg.Record) -> ProductRow:
    return ProductRow(
        product=row[0],
        business=row[1],
        tenant=row[2],
        name=row[3],
        description=row[4],
        category=row[5],
        currency=row[6],
        tax_basis_points=row[7],
        ships=row[8],
        images=row[9],
        attributes=msgspec.json.decode(row[10], type=dict[str, str]),
        status=ShopStatus(row[11]),
        version=row[12],
    )


def _variant(row: asyncpg.Record) -> VariantRow:
    return VariantRow(
        variant=row[0],
        product=row[1],
        business=row[2],
        tenant=row[3],
        sku=row[4],
        name=row[5],
        price=row[6],
        tracked=row[7],
        attributes=msgspec.json.decode(row[8], type=dict[str, str]),
        status=ShopStatus(row[9]),
        version=row[10],
        available=row[11],
    )
