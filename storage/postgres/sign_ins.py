"""One-time codes, sign-ins and refresh tokens.

Every method is one query; steps that race with each other are one SQL function, which locks a row. So:

* Two sign-ins of one person at once create one person. A one-time code signs in once. A person never has more live
  sign-ins than allowed, however many requests run at once.
* A device belongs to one principal and never changes owner.
* A refresh token has at most one successor. A used token ends its sign-in when it is used again; except that within a
  short grace, and until the successor is used, it returns the same successor.
"""

from __future__ import annotations

import asyncpg

from protocol import ids
from storage.identity_rows import (
    CallerRow,
    EndedAccessReading,
    EndedAccessRow,
    EndReason,
    ExternalSignIn,
    NewDevice,
    NewProfile,
    OpenedSignIn,
    Outcome,
    PendingCode,
    PhoneRow,
    RefreshedSignIn,
    SignInRow,
    SignInTerms,
)
from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalStatus

_PUT_CODE = """
INSERT INTO codes (tenant_id, phone_hash, network, code_id, code_hash, attempts_left, expires_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, phone_hash, network) DO UPDATE SET
    code_id = excluded.code_id, code_hash = excluded.code_hash,
    attempts_left = excluded.attempts_left, expires_at_ms = excluded.expires_at_ms
"""

_SPEND_ATTEMPT = """
UPDATE codes SET attempts_left = attempts_left - 1
WHERE tenant_id = $2 AND phone_hash = $3 AND CASE WHEN $5::uuid IS NULL THEN network = $4 ELSE code_id = $5 END
  AND attempts_left > 0 AND expires_at_ms > $1
RETURNING code_id, network, code_hash
"""

_BY_CODE = """
SELECT * FROM sign_in_by_code(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
"""

_BY_ISSUER = "SELECT * FROM sign_in_by_issuer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"

_REFRESH = "SELECT * FROM refresh_sign_in($1, $2, $3, $4, $5, $6)"

_CALLER = """
SELECT p.status, p.admin,
       s.sign_in_id IS NOT NULL AND s.revoked_at_ms IS NULL AND coalesce(s.expires_at_ms > $1, true) AS live
FROM principals p LEFT JOIN sign_ins s ON s.sign_in_id = $3 AND s.principal_id = p.principal_id
WHERE p.principal_id = $2
"""

_LIST = """
SELECT sign_in_id, device_id, platform, app_version, device_name, address, created_at_ms, last_used_at_ms
FROM sign_ins
WHERE principal_id = $2 AND revoked_at_ms IS NULL AND coalesce(expires_at_ms > $1, true)
ORDER BY created_at_ms DESC, sign_in_id DESC
"""

_ENDED_ROWS_MAX = 5_000

_ENDED = f"""
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, e.*
FROM (SELECT) s LEFT JOIN LATERAL (
    SELECT xid::text::bigint AS xid, principal_id, sign_in_id, why FROM ended_access
    WHERE xid >= $1::bigint::text::xid8 ORDER BY xid LIMIT {_ENDED_ROWS_MAX}) e ON true
"""

_END = "SELECT end_sign_ins($1, $2, $3, $4, $5, 'sign_in.ended')"


class SignInStore:
    """Codes, sign-ins and refresh tokens; `storage.identity_rows` has the guarantees of all stores of identity."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put_code(
        self, tenant: int, phone_hash: bytes, code: PendingCode, *, attempts: int, expires_at_ms: int
    ) -> None:
        """Store a one-time code; it replaces the former code that this network requested for this number."""
        async with translate_errors():
            await self._pool.execute(
                _PUT_CODE, tenant, phone_hash, code.network, code.code_id, code.hash, attempts, expires_at_ms
            )

    async def spend_attempt(
        self, now_ms: int, tenant: int, phone_hash: bytes, *, network: str, code_id: bytes | None
    ) -> PendingCode | None:
        """Count one guess at the code with this id, or without an id at the one that this network requested.

        None when that code is not pending or has no guess left.
        """
        async with translate_errors():
            row = await self._pool.fetchrow(_SPEND_ATTEMPT, now_ms, tenant, phone_hash, network, code_id)
        return None if row is None else PendingCode(row["code_id"], row["network"], row["code_hash"])

    async def sign_in_by_code(
        self,
        now_ms: int,
        tenant: int,
        phone: PhoneRow,
        code_id: bytes,
        profile: NewProfile,
        *,
        device: NewDevice,
        sign_in: bytes,
        refresh_hash: bytes,
        terms: SignInTerms,
    ) -> OpenedSignIn:
        """Consume the codes of the number and open a sign-in, of a new person if the number is unknown.

        CODE_USED: nothing was changed. NAME_NEEDED: the number is unknown and `profile` has no name; the code stays
        valid, and its guess is given back. A deleted person within the grace is restored.
        """
        row = await self._call(
            _BY_CODE,
            now_ms,
            tenant,
            phone.hash,
            code_id,
            terms.deleted_before_ms,
            ids.new_id(),
            phone.key,
            phone.box,
            phone.country,
            profile.display_name,
            profile.locale,
            profile.timezone,
            sign_in,
            device.device,
            device.spare,
            device.platform,
            device.app_version,
            device.name,
            device.address,
            refresh_hash,
            terms.expires_at_ms,
            terms.sign_ins_max,
        )
        return OpenedSignIn(
            outcome=Outcome(row["outcome"]),
            principal=row["principal_id"] or ids.NIL,
            device=row["device_id"] or ids.NIL,
            crowded_out=tuple(row["crowded_out"] or ()),
            replaced=tuple(row["replaced"] or ()),
        )

    async def sign_in_by_issuer(
        self,
        now_ms: int,
        tenant: int,
        external_id: str,
        issued_at_ms: int,
        profile: NewProfile,
        *,
        sign_in: bytes,
        device: bytes,
        address: str,
        terms: SignInTerms,
    ) -> ExternalSignIn:
        """Extend the live sign-in of this device, or open one; of a new person if the external id is unknown.

        ENDED: the token was issued before the sign-in was ended or the person deleted; a newer token signs in again.
        DEVICE_TAKEN: the device belongs to another principal.
        """
        row = await self._call(
            _BY_ISSUER,
            now_ms,
            tenant,
            external_id,
            issued_at_ms,
            terms.deleted_before_ms,
            ids.new_id(),
            profile.display_name,
            profile.locale,
            profile.timezone,
            sign_in,
            device,
            address,
            terms.expires_at_ms,
            terms.sign_ins_max,
        )
        return ExternalSignIn(
            outcome=Outcome(row["outcome"]),
            principal=row["principal_id"] or ids.NIL,
            sign_in=row["sign_in_id"] or ids.NIL,
            opened=row["opened"],
            crowded_out=tuple(row["crowded_out"] or ()),
        )

    async def refresh(
        self,
        now_ms: int,
        token_hash: bytes,
        next_hash: bytes,
        *,
        address: str,
        expires_at_ms: int,
        grace_ms: int,
    ) -> RefreshedSignIn:
        """Replace a refresh token by its successor. REUSED: it had another one, and its sign-in is ended now."""
        row = await self._call(_REFRESH, now_ms, token_hash, next_hash, address, expires_at_ms, grace_ms)
        return RefreshedSignIn(
            outcome=Outcome(row["outcome"]),
            principal=row["principal_id"] or ids.NIL,
            device=row["device_id"] or ids.NIL,
            sign_in=row["sign_in_id"] or ids.NIL,
            tenant=row["tenant_id"] or 0,
        )

    async def read_caller(self, now_ms: int, principal: bytes, sign_in: bytes) -> CallerRow | None:
        """The principal and whether that sign-in of theirs is live; None when there is no such principal."""
        async with translate_errors():
            row = await self._pool.fetchrow(_CALLER, now_ms, principal, sign_in)
        return None if row is None else CallerRow(PrincipalStatus(row["status"]), row["admin"], row["live"])

    async def list_live(self, now_ms: int, principal: bytes) -> list[SignInRow]:
        """The principal's live sign-ins, newest first."""
        async with translate_errors():
            rows = await self._pool.fetch(_LIST, now_ms, principal)
        return [SignInRow(*row) for row in rows]

    async def end(self, now_ms: int, principal: bytes, sign_in: bytes) -> bool:
        """End a live sign-in of the principal; False when they have no such sign-in."""
        async with translate_errors():
            ended = await self._pool.fetchval(_END, now_ms, principal, [sign_in], None, EndReason.SIGNED_OUT)
        return bool(ended)

    async def end_others(self, now_ms: int, principal: bytes, keep: bytes) -> list[bytes]:
        """End all live sign-ins of the principal but one; returns those that ended."""
        async with translate_errors():
            ended = await self._pool.fetchval(_END, now_ms, principal, None, keep, EndReason.SIGNED_OUT)
        return list(ended)

    async def read_ended(self, since: int | None) -> EndedAccessReading:
        """Whose access was ended since a horizon; None: only where to begin.

        When more was ended than one reading holds, the horizon is that of its last row.
        """
        async with translate_errors():
            found = await self._pool.fetch(_ENDED, since)
        rows = [EndedAccessRow(*row) for _, *row in found if row[0] is not None]
        horizon = found[0]["horizon"]
        return EndedAccessReading(rows[-1].xid if len(rows) >= _ENDED_ROWS_MAX else horizon, rows)

    async def _call(self, query: str, *arguments: object) -> asyncpg.Record:
        async with translate_errors():
            row: asyncpg.Record | None = await self._pool.fetchrow(query, *arguments)
        assert row is not None, "a function with OUT parameters returns a row"
        return row
