"""The API keys of platform services: only their hashes, whom they act for, and what they may do."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from storage.commerce.crowds import gather_reads
from storage.postgres.pool import Pool, translate_errors

_FIND = "SELECT key_hash, caller_id, tenant_id, rights, businesses FROM api_keys WHERE key_hash = ANY ($1)"
_END = "SELECT end_api_key($1, $2)"
_SET = "SELECT set_api_key($1, $2, $3, $4, $5, $6)"


class Right(enum.IntFlag):
    """What a key may do."""

    PAYMENTS = 1
    TRANSFERS = 2
    ADMIN = 4
    PAYOUTS = 8
    """Withdrawals from the wallets of its businesses."""
    PERSONAL = 64
    """Legal data and erasures of people who are not the caller."""
    SHOPS = 16


class ApiKeyRow(msgspec.Struct, frozen=True):
    """A key: `caller` stays when its secret is changed, so idempotency keys go on."""

    caller: bytes
    tenant: int
    rights: Right
    businesses: frozenset[bytes]


class ApiKeyStore:
    """Reads and makes keys."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found = gather_reads(self._find_all)

    async def find(self, key_hash: bytes) -> ApiKeyRow | None:
        """The key with this hash."""
        return await self._found.read(key_hash)

    async def _find_all(self, hashes: Sequence[bytes]) -> list[ApiKeyRow | None]:
        async with translate_errors():
            rows = await self._pool.fetch(_FIND, set(hashes))
        found = {row[0]: ApiKeyRow(row[1], row[2], Right(row[3]), frozenset(row[4])) for row in rows}
        return [found.get(each) for each in hashes]

    async def set_key(
        self, tenant: int, name: str, caller: bytes, key_hash: bytes, *, rights: Right, businesses: Sequence[bytes]
    ) -> bytes:
        """Make a key, or give the one of this name another secret; returns its caller."""
        async with translate_errors():
            found: bytes = await self._pool.fetchval(_SET, tenant, name, caller, key_hash, int(rights), businesses)
        return found

    async def end_key(self, tenant: int, name: str) -> bool:
        """End the key of this name at once; whether there was one."""
        async with translate_errors():
            found: bool = await self._pool.fetchval(_END, tenant, name)
        return found
