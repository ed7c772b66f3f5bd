"""Service accounts and their API keys."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from protocol.bodies import Posted, tag_of
from protocol.dialog_types import DialogType, Mode
from storage.identity_rows import KeyGrants, PostedDialog, PostedDialogs, PostedRow, ServiceKeyRow
from storage.postgres.event_windows import bytes_before
from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalStatus, PrincipalType
from storage.timelines import PAGE_BYTES_MAX

_POSTED = tag_of(Posted)
_CREATE = f"""
WITH principal AS (
    INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
    VALUES ($4, $2, {PrincipalType.SERVICE}, $1)
), service AS (
    INSERT INTO services (principal_id, name) VALUES ($4, $5)
), device AS (
    INSERT INTO devices (device_id, principal_id, created_at_ms) VALUES ($6, $4, $1)
), key AS (
    INSERT INTO api_keys (api_key_id, principal_id, key_hash, kinds, businesses, all_dialogs, created_at_ms)
    VALUES ($6, $4, $7, $8, $9, $10, $1)
)
INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id) VALUES ($1, $2, 'service.created', $3, $4)
"""

_RENEW_KEY = f"""
WITH renewed AS (
    UPDATE api_keys k SET key_hash = $5 FROM principals p
    WHERE k.principal_id = $4 AND p.principal_id = $4 AND p.tenant_id = $2 AND p.type = {PrincipalType.SERVICE}
    RETURNING k.principal_id
)
INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
SELECT $1, $2, 'service.key_renewed', $3, r.principal_id FROM renewed r RETURNING 1
"""

_BY_KEY = """
SELECT k.principal_id, k.api_key_id, p.tenant_id, p.status, p.type, k.kinds, k.businesses, k.all_dialogs
FROM api_keys k JOIN principals p ON p.principal_id = k.principal_id
WHERE k.key_hash = $1
"""

_ARE_BUSINESSES = f"""
SELECT count(*) FILTER (WHERE tenant_id = $1 AND type = {PrincipalType.BUSINESS}
                          AND status = {PrincipalStatus.ACTIVE}) = cardinality($2::uuid[])
FROM principals WHERE principal_id = ANY ($2)
"""

_MAY_WRITE = """
SELECT EXISTS (SELECT 1 FROM members WHERE dialog_id = $1 AND principal_id = ANY ($2) AND member)
    OR EXISTS (SELECT 1 FROM authors WHERE dialog_id = $1 AND device_id = $3 AND last_n >= $4)
"""

_MODE = "SELECT mode FROM heads WHERE dialog_id = $2 AND tenant_id = $1 AND NOT deleted"
_EPOCH = "SELECT epoch FROM deployment"
# Over heads, not over an index of authors by device, which each first message of a device in a dialog would pay for.
_POSTED_DIALOGS = f"""
SELECT h.dialog_id, a.last_n,
       CASE WHEN h.type = {DialogType.SELF} THEN
           (SELECT m.principal_id FROM members m WHERE m.dialog_id = h.dialog_id LIMIT 1) END
FROM (SELECT x.dialog_id, x.type, x.tenant_id FROM heads x
      WHERE x.dialog_id > $3 ORDER BY x.dialog_id LIMIT $4) h
LEFT JOIN authors a ON a.dialog_id = h.dialog_id AND a.device_id = $2 AND h.tenant_id = $1
ORDER BY h.dialog_id
"""
_POSTED_EVENTS = f"""
SELECT j.n, j.seq, j.tag, j.body FROM (
    SELECT j.*, {bytes_before("j.n DESC")} AS before FROM (
        SELECT * FROM journal x WHERE x.dialog_id = $1 AND x.device_id = $2 AND x.n < $3
        ORDER BY x.n DESC LIMIT $4) j) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY j.n DESC
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
        grants: KeyGrants,
    ) -> None:
        """Create a service principal with one API key, whose id is `device`."""
        async with translate_errors():
            await self._pool.execute(
                _CREATE,
                now_ms,
                tenant,
                actor,
                service,
                name,
                device,
                key_hash,
                sorted(grants.kinds),
                None if grants.businesses is None else sorted(grants.businesses),
                grants.all_dialogs,
            )

    async def renew_key(self, now_ms: int, tenant: int, actor: bytes, *, service: bytes, key_hash: bytes) -> bool:
        """Replace the key of a service, which keeps its device; False if the tenant has no such service."""
        async with translate_errors():
            return bool(await self._pool.fetchval(_RENEW_KEY, now_ms, tenant, actor, service, key_hash))

    async def find_by_key(self, key_hash: bytes) -> ServiceKeyRow | None:
        """The service, bot or business of an API key; None when there is no such key."""
        async with translate_errors():
            row = await self._pool.fetchrow(_BY_KEY, key_hash)
        if row is None:
            return None
        service, device, tenant, status, kind, kinds, businesses, all_dialogs = row
        grants = KeyGrants(frozenset(kinds), None if businesses is None else frozenset(businesses), all_dialogs)
        return ServiceKeyRow(service, device, tenant, PrincipalStatus(status), grants, PrincipalType(kind))

    async def are_businesses(self, tenant: int, principals: Collection[bytes]) -> bool:
        """Whether these, all different, are active businesses of the tenant, for which a service may act."""
        async with translate_errors():
            return bool(await self._pool.fetchval(_ARE_BUSINESSES, tenant, list(principals)))

    async def may_write(self, dialog: bytes, businesses: Collection[bytes], device: bytes, n: int) -> bool:
        """Whether one of these businesses is a member of the dialog, or the key has written there up to `n` before.

        A retry of what is stored is judged by its number, even when the business has left since.
        """
        async with translate_errors():
            return bool(await self._pool.fetchval(_MAY_WRITE, dialog, list(businesses), device, n))

    async def read_mode(self, tenant: int, dialog: bytes) -> Mode | None:
        """The mode of a dialog of the tenant; None if there is none, or it is deleted."""
        async with translate_errors():
            mode = await self._pool.fetchval(_MODE, tenant, dialog)
        return None if mode is None else Mode(mode)

    async def read_epoch(self) -> int:
        """The epoch that the nodes of this database have settled."""
        async with translate_errors():
            return int(await self._pool.fetchval(_EPOCH))

    async def list_posted_dialogs(self, tenant: int, device: bytes, after: bytes, limit: int) -> PostedDialogs:
        """Where a key has posted, among the next `limit` dialogs of the platform behind `after`."""
        async with translate_errors():
            rows = await self._pool.fetch(_POSTED_DIALOGS, tenant, device, after, limit)
        found = [PostedDialog(row[0], row[2], row[1]) for row in rows if row[1] is not None]
        return PostedDialogs(found, rows[-1][0] if len(rows) == limit else None)

    async def list_posted(self, dialog: bytes, device: bytes, before_n: int, limit: int) -> list[PostedRow]:
        """What a key has posted in a dialog under numbers below `before_n`, newest first: a page of bounded bytes."""
        async with translate_errors():
            rows = await self._pool.fetch(_POSTED_EVENTS, dialog, device, before_n, limit)
        return [PostedRow(row[0], row[1], _read_posted(row[2], row[3])) for row in rows]


def _read_posted(tag: int, body: bytes) -> Posted | None:
    return msgspec.msgpack.decode(body, type=Posted) if tag == _POSTED else None
