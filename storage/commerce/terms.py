"""What the platform sets: rates, fees, limits; and what the service looks up: quotes, owners of wallets.

Each setting is a step under a key, with a line in the audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from storage.commerce.crowds import gather_reads
from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import Answer, Purpose, StepKey
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_OWNERS = (
    "SELECT account_id, owner_id, purpose FROM accounts WHERE account_id = ANY ($1) AND slot = 0 AND tenant_id = $2"
)
_RATES = """
SELECT tenant_id, currency, rate FROM unnest($1::smallint[], $2::text[]) AS u(tenant_id, currency)
JOIN reference_rates USING (tenant_id, currency)
"""
_QUOTE = """
SELECT quote_id, owner_id, sell_currency, sell_amount, buy_currency, buy_amount, expires_us, used_us IS NOT NULL
FROM quotes WHERE quote_id = $1 AND tenant_id = $2
"""


class AccountUse(msgspec.Struct, frozen=True):
    """Whose account it is, and what for."""

    owner: bytes
    purpose: Purpose


class QuoteRow(msgspec.Struct, frozen=True):
    """The offer of an exchange."""

    quote: bytes
    owner: bytes
    sell_currency: str
    sell_amount: int
    buy_currency: str
    buy_amount: int
    expires_us: int
    used: bool


class Terms:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads
        self._rates = gather_reads(self._read_rates)

    async def set_rate(
        self, key: StepKey, actor: bytes, tenant: int, *, sell: str, buy: str | None, rate: Decimal
    ) -> Answer:
        """The rate of an exchange; without `buy`, the rate to the reference currency."""
        query = "SELECT * FROM set_rate($1, $2, $3, $4, $5, $6, $7)"
        (row,) = await self._writes.fetch(query, key.key_id, key.body, actor, tenant, sell, buy, rate)
        return read_answer(row)

    async def set_fee_rule(
        self, key: StepKey, actor: bytes, tenant: int, *, owner: bytes, currency: str, basis_points: int, fixed: int
    ) -> Answer:
        """The fee for payments to an owner (NIL: to all others) that begin from now on."""
        query = "SELECT * FROM set_fee_rule($1, $2, $3, $4, $5, $6, $7, $8)"
        (row,) = await self._writes.fetch(
            query, key.key_id, key.body, actor, tenant, owner, currency, basis_points, fixed
        )
        return read_answer(row)

    async def set_limits(
        self,
        key: StepKey,
        actor: bytes,
        tenant: int,
        *,
        person: bytes,
        timezone: str,
        day_max: int | None,
        month_max: int | None,
    ) -> Answer:
        """The limits of a person who has a wallet."""
        query = "SELECT * FROM set_limits($1, $2, $3, $4, $5, $6, $7, $8)"
        (row,) = await self._writes.fetch(
            query, key.key_id, key.body, actor, tenant, person, timezone, day_max, month_max
        )
        return read_answer(row)

    async def make_quote(
        self, key: StepKey, tenant: int, owner: bytes, quote: bytes, *, sell: str, amount: int, buy: str, life_us: int
    ) -> Answer:
        """Offer an exchange at the rate of now."""
        query = "SELECT * FROM make_quote($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        (row,) = await self._writes.fetch(query, key.key_id, key.body, tenant, owner, quote, sell, amount, buy, life_us)
        return read_answer(row)

    async def ensure_reference(self, tenant: int, currency: str) -> None:
        """The reference currency counts as itself."""
        query = "SELECT ensure_reference($1, $2)"
        await self._writes.fetch(query, tenant, currency)

    async def read_quote(self, tenant: int, quote: bytes) -> QuoteRow | None:
        """A quote, used or not."""
        async with translate_errors():
            row = await self._reads.fetchrow(_QUOTE, quote, tenant)
        return None if row is None else QuoteRow(*row)

    async def read_reference_rate(self, tenant: int, currency: str) -> Decimal | None:
        """Minor units of the reference currency for one of this currency; None without a rate."""
        return await self._rates.read((tenant, currency))

    async def _read_rates(self, asked: Sequence[tuple[int, str]]) -> list[Decimal | None]:
        different = set(asked)
        async with translate_errors():
            rows = await self._reads.fetch(_RATES, [each[0] for each in different], [each[1] for each in different])
        found = {(row[0], row[1]): row[2] for row in rows}
        return [found.get(each) for each in asked]

    async def read_owners(self, tenant: int, accounts: Sequence[bytes]) -> dict[bytes, AccountUse]:
        """By account whose it is; accounts of others' tenants and unknown ones are left out."""
        async with translate_errors():
            rows = await self._reads.fetch(_OWNERS, accounts, tenant)
        return {row[0]: AccountUse(row[1], Purpose(row[2])) for row in rows}
