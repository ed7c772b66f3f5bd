"""Businesses, their staff, and how they ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocol.commerce.shop_terms import (
    BUSINESSES_OF_PERSON_MAX,
    SHIPPING_OPTIONS_MAX,
    ShopStatus,
    StaffRole,
)
from storage.commerce.crowds import gather_reads
from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import Answer, StepKey
from storage.commerce.shops.shop_rows import BusinessRow, ShippingRow, StaffRow
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_ROLES = f"""
SELECT s.tenant_id, s.person_id, s.business_id, s.role FROM unnest($1::uuid[]) u(person_id)
CROSS JOIN LATERAL (SELECT * FROM staff x WHERE x.person_id = u.person_id
                    ORDER BY x.business_id LIMIT {BUSINESSES_OF_PERSON_MAX}) s
"""
_COLUMNS = "business_id, tenant_id, name, description, currencies, status, version"
_BUSINESSES = f"SELECT {_COLUMNS} FROM businesses WHERE business_id = ANY ($1) AND tenant_id = $2 ORDER BY business_id"
_STAFF = """
SELECT business_id, person_id, role, since_us FROM staff WHERE business_id = $1 AND person_id > $2
ORDER BY person_id LIMIT $3
"""
_SHIPPING = f"""
SELECT option_id, business_id, name, currency, price, tax_basis_points, status, version FROM shipping_options
WHERE business_id = $1 ORDER BY option_id LIMIT {SHIPPING_OPTIONS_MAX}
"""


class Businesses:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads
        self._roles = gather_reads(self._read_roles)

    async def set_business(
        self, key: StepKey, actor: bytes, new: BusinessRow, *, version: int | None, owner: bytes | None = None
    ) -> Answer:
        """Make a business with its owner (`version` None), or change it, if it still has this version."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM set_business($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            key.key_id,
            key.body,
            actor,
            new.tenant,
            new.business,
            version,
            new.name,
            new.description,
            new.currencies,
            int(new.status),
            owner,
        )
        return read_answer(row)

    async def set_staff(
        self, key: StepKey, actor: bytes, tenant: int, *, business: bytes, person: bytes, role: StaffRole | None
    ) -> Answer:
        """Give a person a role in a business; None takes it."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM set_staff($1, $2, $3, $4, $5, $6, $7)",
            key.key_id,
            key.body,
            actor,
            tenant,
            business,
            person,
            None if role is None else int(role),
        )
        return read_answer(row)

    async def set_shipping(
        self, key: StepKey, actor: bytes, tenant: int, new: ShippingRow, *, version: int | None
    ) -> Answer:
        """Offer a way of shipping (`version` None), or change it, if it still has this version."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM set_shipping_option($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            key.key_id,
            key.body,
            actor,
            tenant,
            new.business,
            new.option,
            version,
            new.name,
            new.currency,
            new.price,
            new.tax_basis_points,
            int(new.status),
        )
        return read_answer(row)

    async def read_roles(self, tenant: int, person: bytes) -> Mapping[bytes, StaffRole]:
        """The businesses in which a person is staff, with their roles."""
        return await self._roles.read((tenant, person))

    async def _read_roles(self, asked: Sequence[tuple[int, bytes]]) -> list[dict[bytes, StaffRole]]:
        async with translate_errors():
            rows = await self._reads.fetch(_ROLES, {person for _, person in asked})
        found: dict[tuple[int, bytes], dict[bytes, StaffRole]] = {}
        for row in rows:
            found.setdefault((row[0], row[1]), {})[row[2]] = StaffRole(row[3])
        return [found.get(each, {}) for each in asked]

    async def read_business(self, tenant: int, business: bytes) -> BusinessRow | None:
        """A business."""
        found = await self.read_businesses(tenant, [business])
        return found[0] if found else None

    async def read_businesses(self, tenant: int, businesses: list[bytes]) -> list[BusinessRow]:
        """Those of these businesses that are of this tenant."""
        async with translate_errors():
            rows = await self._reads.fetch(_BUSINESSES, businesses, tenant)
        return [
            BusinessRow(
                business=row[0],
                tenant=row[1],
                name=row[2],
                description=row[3],
                currencies=row[4],
                status=ShopStatus(row[5]),
                version=row[6],
            )
            for row in rows
        ]

    async def read_staff(self, business: bytes, after: bytes, limit: int) -> list[StaffRow]:
        """The staff of a business, by ids above `after`."""
        async with translate_errors():
            rows = await self._reads.fetch(_STAFF, business, after, limit)
        return [StaffRow(row[0], row[1], StaffRole(row[2]), row[3]) for row in rows]

    async def read_shipping(self, business: bytes) -> list[ShippingRow]:
        """How a business ships: all of it, which is bounded."""
        async with translate_errors():
            rows = await self._reads.fetch(_SHIPPING, business)
        return [
            ShippingRow(
                option=row[0],
                business=row[1],
                name=row[2],
                currency=row[3],
                price=row[4],
                tax_basis_points=row[5],
                status=ShopStatus(row[6]),
                version=row[7],
            )
            for row in rows
        ]
