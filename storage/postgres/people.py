"""Profiles, finding people, suspension and deletion."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.identity_rows import PersonRow, ProfileChange, ProfileRow, WhoMayAdd
from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalStatus

_PROFILE = """
SELECT p.principal_id, x.phone_key, x.phone_box, x.country, x.display_name, x.avatar_url, x.locale, x.timezone,
       x.findable, p.admin, p.created_at_ms, x.updated_at_ms,
       coalesce(x.who_may_add, d.who_may_add) AS who_may_add
FROM people x JOIN principals p ON p.principal_id = x.principal_id CROSS JOIN deployment d
WHERE x.principal_id = $1
"""

_CHANGE = """
UPDATE people SET
    display_name = coalesce($3, display_name), avatar_url = coalesce($4, avatar_url), locale = coalesce($5, locale),
    timezone = coalesce($6, timezone), findable = coalesce($7, findable),
    who_may_add = coalesce($8, who_may_add), updated_at_ms = $2
WHERE principal_id = $1
RETURNING 1
"""

_PERSON = f"""
SELECT x.principal_id, x.display_name, x.avatar_url
FROM people x JOIN principals p ON p.principal_id = x.principal_id
WHERE x.principal_id = $2 AND p.status <> {PrincipalStatus.DELETED} AND ($1 = $2 OR EXISTS (
    SELECT 1 FROM members me JOIN members them ON them.dialog_id = me.dialog_id
    WHERE me.principal_id = $1 AND me.member AND them.principal_id = $2 AND them.member)
    OR EXISTS (SELECT 1 FROM invitations i WHERE i.principal_id = $1 AND i.invited_by = $2))
"""

_FIND = f"""
SELECT x.principal_id, x.display_name, x.avatar_url
FROM people x JOIN principals p ON p.principal_id = x.principal_id
WHERE x.tenant_id = $1 AND x.phone_hash = $3 AND x.findable AND p.status = {PrincipalStatus.ACTIVE}
  AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = $2 AND b.blocker_id = x.principal_id)
"""

_SET_STATUS = f"""
WITH changed AS (
    UPDATE principals SET status = $5
    WHERE principal_id = $4 AND tenant_id = $2 AND status <> {PrincipalStatus.DELETED}
    RETURNING principal_id, tenant_id
)
INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
SELECT $1, tenant_id, $6, $3, principal_id FROM changed
RETURNING 1
"""

_GRANT_ADMIN = f"""
WITH changed AS (
    UPDATE principals p SET admin = true FROM people x
    WHERE x.principal_id = p.principal_id AND x.tenant_id = $2 AND x.phone_hash = $3
      AND p.status = {PrincipalStatus.ACTIVE}
    RETURNING p.principal_id, p.tenant_id
)
INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
SELECT $1, tenant_id, 'principal.admin_granted', principal_id, principal_id FROM changed
RETURNING subject_id
"""

_SET_CONSENT = "UPDATE deployment SET who_may_add = $1, dialogs_per_person_max = $2"

_ADD_TENANTS = """
INSERT INTO tenants (tenant_id, name) SELECT t, 'tenant ' || t FROM unnest($1::smallint[]) t
ON CONFLICT (tenant_id) DO NOTHING
"""

_STATUS_ACTIONS = {
    PrincipalStatus.SUSPENDED: "principal.suspended",
    PrincipalStatus.ACTIVE: "principal.reinstated",
}


class PeopleStore:
    """Profiles, finding people, suspension and deletion; `storage.identity_rows` has the guarantees."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read_profile(self, principal: bytes) -> ProfileRow | None:
        """A person's own profile; None when there is no such person."""
        async with translate_errors():
            row = await self._pool.fetchrow(_PROFILE, principal)
        if row is None:
            return None
        return msgspec.structs.replace(ProfileRow(*row), who_may_add=WhoMayAdd(row["who_may_add"]))

    async def change_profile(self, now_ms: int, principal: bytes, change: ProfileChange) -> bool:
        """Change a profile; False when there is none."""
        async with translate_errors():
            changed = await self._pool.fetchval(
                _CHANGE,
                principal,
                now_ms,
                change.display_name,
                change.avatar_url,
                change.locale,
                change.timezone,
                change.findable,
                change.who_may_add,
            )
        return changed is not None

    async def read_person(self, asker: bytes, principal: bytes) -> PersonRow | None:
        """A person who is not deleted and is in a dialog with the asker, has invited them, or is them; else None."""
        async with translate_errors():
            row = await self._pool.fetchrow(_PERSON, asker, principal)
        return None if row is None else PersonRow(*row)

    async def find_by_phone(self, tenant: int, asker: bytes, phone_hash: bytes) -> PersonRow | None:
        """The active person of this number, unless they are not findable or have blocked the asker; else None."""
        async with translate_errors():
            row = await self._pool.fetchrow(_FIND, tenant, asker, phone_hash)
        return None if row is None else PersonRow(*row)

    async def delete(self, now_ms: int, principal: bytes) -> bool:
        """Mark an active person as deleted and end all their sign-ins; False when they are not active."""
        async with translate_errors():
            return bool(await self._pool.fetchval("SELECT delete_person($1, $2)", now_ms, principal))

    async def set_status(
        self, now_ms: int, tenant: int, actor: bytes, principal: bytes, status: PrincipalStatus
    ) -> bool:
        """Suspend or reinstate a principal; False when there is none in the tenant, or it is deleted."""
        async with translate_errors():
            changed = await self._pool.fetchval(
                _SET_STATUS, now_ms, tenant, actor, principal, status, _STATUS_ACTIONS[status]
            )
        return changed is not None

    async def grant_admin(self, now_ms: int, tenant: int, phone_hash: bytes) -> bytes | None:
        """Make the active person of this number an admin; None when there is none."""
        async with translate_errors():
            principal: bytes | None = await self._pool.fetchval(_GRANT_ADMIN, now_ms, tenant, phone_hash)
        return principal

    async def purge(
        self, now_ms: int, *, deleted_before_ms: int, ended_before_ms: int, audit_before_ms: int, limit: int
    ) -> tuple[int, bool]:
        """Erase people deleted before, and drop expired codes, long ended sign-ins and old sign-in lines of the audit.

        At most `limit` rows of each sort. Returns how many people were erased, and whether something is left.
        """
        async with translate_errors():
            (row,) = await self._pool.fetch(
                "SELECT * FROM purge_identity($1, $2, $3, $4, $5)",
                now_ms,
                deleted_before_ms,
                ended_before_ms,
                audit_before_ms,
                limit,
            )
        return row["people"], row["more"]

    async def set_consent(self, who_may_add: WhoMayAdd, dialogs_per_person_max: int) -> None:
        """Set who may add people who have not chosen it, and in how many dialogs a person may be."""
        async with translate_errors():
            await self._pool.execute(_SET_CONSENT, who_may_add, dialogs_per_person_max)

    async def add_tenants(self, tenants: Sequence[int]) -> None:
        """Create those of the tenants that do not exist."""
        async with translate_errors():
            await self._pool.execute(_ADD_TENANTS, tenants)
