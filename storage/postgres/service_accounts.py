"""Service accounts and their API keys."""

from __future__ import annotations

from collections.abc import Sequence

from storage.identity_rows import ServiceKeyRow
from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalStatus, PrincipalType

_CREATE = f"""
WITH principal AS (
    INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
    VALUES ($4, $2, {PrincipalType.SERVICE}, $1)
), service AS (
    INSERT INTO services (principal_id, name) VALUES ($4, $5)
), device AS (
    INSERT INTO devices (device_id, principal_id, created_at_ms) VALUES ($6, $4, $1)
), key AS (
    INSERT INTO api_keys (api_key_id, principal_id, key_hash, kinds, created_at_ms) VALUES ($6, $4, $7, $8, $1)
)
INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id) VALUES ($1, $2, 'service.created', $3, $4)
"""

_BY_KEY = """
SELECT k.principal_id, k.api_key_id, p.tenant_id, p.status, k.kinds
FROM api_keys k JOIN principals p ON p.principal_id = k.principal_id
WHERE k.key_hash = $1
"""

_IS_BUSINESS = f"""
SELECT EXISTS (
    SELECT 1 FROM principals
    WHERE principal_id = $2 AND tenant_id = $1
      AND type = {PrincipalType.BUSINESS} AND status = {PrincipalStatus.ACTIVE})
"""


class ServiceAccountStore:
    """Service principals, each with an API key; `storage.identity_rows` has the guarantees."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self,
        now_ms: int,
        tenant: int,
        actor: bytes,
        *,
        service: bytes,
        name: str,
        device: bytes,
        key_hash: bytes,
        kinds: Sequence[int],
    ) -> None:
        """Create a service principal with one API key, whose id is `device`."""
        async with translate_errors():
            await self._pool.execute(_CREATE, now_ms, tenant, actor, service, name, device, key_hash, list(kinds))

    async def find_by_key(self, key_hash: bytes) -> ServiceKeyRow | None:
        """The service of an API key; None when there is no such key."""
        async with translate_errors():
            row = await self._pool.fetchrow(_BY_KEY, key_hash)
        if row is None:
            return None
        service, device, tenant, status, kinds = row
        return ServiceKeyRow(service, device, tenant, PrincipalStatus(status), frozenset(kinds))

    async def is_business(self, tenant: int, principal: bytes) -> bool:
        """Whether this is an active business of the tenant, for which a service may act."""
        async with translate_errors():
            return bool(await self._pool.fetchval(_IS_BUSINESS, tenant, principal))
