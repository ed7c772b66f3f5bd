"""Accounts of bots and businesses, and their sign-ins by API key; `storage.identity_rows` has the guarantees."""

from __future__ import annotations

from protocol import ids
from storage.identity_rows import AccountRow, ExternalSignIn, NewDevice, Outcome, SignInTerms
from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalStatus, PrincipalType

_LIST = """
SELECT a.principal_id, a.type, coalesce(x.display_name, ''), p.status, a.created_at_ms
FROM accounts a JOIN principals p ON p.principal_id = a.principal_id
LEFT JOIN people x ON x.principal_id = a.principal_id
WHERE a.tenant_id = $1 AND a.owner_id = $2 AND a.principal_id > $3
ORDER BY a.principal_id LIMIT $4
"""


class AccountStore:
    """Bots and businesses. `owner` is the business whose they are; NIL: the platform's."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self,
        now_ms: int,
        tenant: int,
        actor: bytes,
        owner: bytes,
        *,
        kind: PrincipalType,
        principal: bytes,
        name: str,
        locale: str,
        timezone: str,
        device: bytes,
        key_hash: bytes,
        accounts_max: int,
    ) -> bool:
        """Create an account with one API key, whose id is `device`; False if the owner has `accounts_max` already."""
        create = "SELECT create_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        async with translate_errors():
            return bool(
                await self._pool.fetchval(
                    create,
                    now_ms,
                    tenant,
                    actor,
                    owner,
                    kind,
                    accounts_max,
                    principal,
                    name,
                    locale,
                    timezone,
                    device,
                    key_hash,
                )
            )

    async def list(self, tenant: int, owner: bytes, *, after: bytes, limit: int) -> list[AccountRow]:
        """The accounts of an owner, by id, from behind `after` on."""
        async with translate_errors():
            rows = await self._pool.fetch(_LIST, tenant, owner, after, limit)
        return [
            AccountRow(principal, PrincipalType(kind), name, PrincipalStatus(status), created_at_ms)
            for principal, kind, name, status, created_at_ms in rows
        ]

    async def renew_key(
        self, now_ms: int, tenant: int, actor: bytes, owner: bytes, *, principal: bytes, key_hash: bytes
    ) -> bool:
        """Replace the key of an account, and end its sign-ins; False if the owner has no such account."""
        renew = "SELECT renew_key($1, $2, $3, $4, $5, $6)"
        async with translate_errors():
            return bool(await self._pool.fetchval(renew, now_ms, tenant, actor, owner, principal, key_hash))

    async def delete(self, now_ms: int, tenant: int, actor: bytes, owner: bytes, principal: bytes) -> bool:
        """Delete an account; False if the owner has no such account."""
        delete = "SELECT delete_account($1, $2, $3, $4, $5)"
        async with translate_errors():
            return bool(await self._pool.fetchval(delete, now_ms, tenant, actor, owner, principal))

    async def sign_in_by_key(
        self,
        now_ms: int,
        key_hash: bytes,
        principal: bytes,
        *,
        sign_in: bytes,
        device: NewDevice,
        terms: SignInTerms,
    ) -> ExternalSignIn:
        """Extend the live sign-in of this device, or open one. UNKNOWN: the key was replaced meanwhile."""
        async with translate_errors():
            row = await self._pool.fetchrow(
                "SELECT * FROM sign_in_by_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                now_ms,
                key_hash,
                principal,
                sign_in,
                device.device,
                device.platform,
                device.app_version,
                device.name,
                device.address,
                terms.expires_at_ms,
                terms.sign_ins_max,
            )
        assert row is not None, "a function with OUT parameters returns a row"
        found = row["sign_in_id"] or ids.NIL
        return ExternalSignIn(
            outcome=Outcome(row["outcome"]),
            principal=principal,
            sign_in=found,
            opened=found == sign_in,
            crowded_out=tuple(row["crowded_out"] or ()),
        )
