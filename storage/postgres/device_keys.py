"""`DeviceKeyStore` on PostgreSQL: each method is one statement over a pool, each write one call of a function.

Whether the epoch is that of this history is asked with each claim: between a restore and the epoch that a node begins
for it, keys would go out that were given out before.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from protocol.device_log import ListedDevice, LogState, hash_of_entry
from protocol.public_keys import DevicePublic
from storage.device_keys import (
    Claimed,
    DeviceKeyStore,
    GivenKey,
    IdentityRow,
    KeyClaim,
    KeysOutcome,
    KeyUpload,
    StoredDeviceKeys,
    StoredKey,
    Uploaded,
)
from storage.postgres.epoch import IS_SETTLED
from storage.postgres.pool import Pool, translate_errors
from storage.unavailable import StorageUnavailableError

_UPLOAD = "SELECT * FROM upload_keys($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"

_CLAIM = f"SELECT {IS_SETTLED} AS settled, c.* FROM claim_keys($1, $2, $3, $4, $5, $6) c"

_IDENTITIES = """
SELECT r.principal_id, NOT m.member AS former,
       CASE WHEN a.generation < i.generation AND f.length IS NULL THEN 0 ELSE a.generation END AS generation,
       CASE WHEN a.generation < i.generation THEN f.length WHEN m.member THEN i.length ELSE l.length END AS length,
       CASE WHEN a.generation < i.generation THEN f.head WHEN m.member THEN i.head ELSE l.head END AS head,
       CASE WHEN m.member THEN i.master END AS master, CASE WHEN m.member THEN i.self_signing END AS self_signing,
       CASE WHEN m.member THEN i.user_signing END AS user_signing,
       CASE WHEN a.generation = i.generation
            THEN ARRAY(SELECT e.entry FROM device_logs e
                       WHERE e.principal_id = r.principal_id AND e.index >= a.first AND (m.member OR e.index < l.length)
                       ORDER BY e.index LIMIT $6)
            ELSE ARRAY(SELECT e.entry FROM former_logs e
                       WHERE e.principal_id = r.principal_id AND e.generation = a.generation AND e.index >= a.first
                       ORDER BY e.index LIMIT $6) END AS entries,
       d.devices, d.generations, d.keys
FROM members me
JOIN unnest($3::uuid[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS r(principal_id, generation, length, nth)
    ON me.dialog_id = $2 AND me.principal_id = $1 AND me.member
JOIN members m ON m.dialog_id = $2 AND m.principal_id = r.principal_id
LEFT JOIN identities i ON i.principal_id = r.principal_id
LEFT JOIN roster_intervals l  -- what the dialog has named of the log of who has left it
    ON NOT m.member AND l.dialog_id = $2 AND l.until_seq = upper(m.visible) - 1 AND l.principal_id = r.principal_id
CROSS JOIN LATERAL (
    SELECT CASE WHEN r.generation < i.generation AND EXISTS (  -- the rest of an identity before, which the asker lacks
                        SELECT FROM former_logs e
                        WHERE e.principal_id = r.principal_id AND e.generation = r.generation AND e.index >= r.length)
                THEN r.generation
                WHEN m.member THEN i.generation ELSE l.generation END AS generation) w
CROSS JOIN LATERAL (
    SELECT w.generation, CASE WHEN w.generation = r.generation THEN r.length ELSE 0 END AS first) a
LEFT JOIN LATERAL (
    SELECT e.index + 1 AS length, e.hash AS head FROM former_logs e
    WHERE e.principal_id = r.principal_id AND e.generation = a.generation
    ORDER BY e.index DESC LIMIT 1) f ON a.generation < i.generation
CROSS JOIN LATERAL (
    SELECT array_agg(k.device_id ORDER BY k.device_id) AS devices,
           array_agg(k.generation ORDER BY k.device_id) AS generations, array_agg(k.keys ORDER BY k.device_id) AS keys
    FROM device_keys k WHERE m.member AND k.principal_id = r.principal_id AND k.keys IS NOT NULL) d
ORDER BY r.nth
"""

_IS_MEMBER = "SELECT m.member FROM members m WHERE m.dialog_id = $1 AND m.principal_id = $2"

_LISTED = ("device_id", "ed25519", "curve25519", "since", "until")
_LOG = f"""
SELECT i.generation, i.master_key,
       ARRAY(SELECT l.hash FROM device_logs l WHERE l.principal_id = i.principal_id ORDER BY l.index) AS heads,
       {
    ", ".join(
        f"ARRAY(SELECT d.{column} FROM log_devices d WHERE d.principal_id = i.principal_id ORDER BY d.since)"
        for column in _LISTED
    )
}
FROM identities i WHERE i.principal_id = $1 AND i.length > 0
"""

_APPEND = "SELECT append_device_log($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"

_PUT_IDENTITY = """
UPDATE identities SET master = $3, self_signing = $4, user_signing = $5 WHERE principal_id = $1 AND master_key = $2
RETURNING true
"""


class PostgresDeviceKeys(DeviceKeyStore):
    """Keys and logs, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def upload(self, upload: KeyUpload) -> Uploaded:
        fallback = upload.fallback
        try:
            async with translate_errors():
                ((outcome, held, used),) = await self._pool.fetch(
                    _UPLOAD,
                    upload.sign_in,
                    upload.device,
                    upload.principal,
                    upload.generation,
                    upload.keys,
                    upload.public.ed25519,
                    upload.public.curve25519,
                    [each.number for each in upload.one_time],
                    [each.key for each in upload.one_time],
                    None if fallback is None else fallback.number,
                    None if fallback is None else fallback.key,
                )
        except asyncpg.UniqueViolationError:  # another device took such a key at the same moment
            return Uploaded(KeysOutcome.REUSED)
        return Uploaded(KeysOutcome(outcome), held or 0, bool(used))

    async def claim(self, claim: KeyClaim) -> Claimed:
        async with translate_errors():
            ((settled, outcome, *columns),) = await self._pool.fetch(
                _CLAIM,
                claim.device,
                claim.principal,
                claim.dialog,
                claim.number,
                list(claim.targets),
                list(claim.limited),
            )
        if not settled:
            raise StorageUnavailableError("an epoch is about to begin")
        given = zip(*(column or () for column in columns), strict=True)
        return Claimed(
            KeysOutcome(outcome),
            tuple(GivenKey(device, StoredKey(number, key), fallback) for device, number, key, fallback in given),
        )

    async def read_identities(
        self, asker: bytes, dialog: bytes, known: Sequence[tuple[bytes, int, int]], *, entries_max: int
    ) -> list[IdentityRow] | None:
        people, generations, lengths = zip(*known, strict=True)
        async with translate_errors():
            rows = await self._pool.fetch(_IDENTITIES, asker, dialog, people, generations, lengths, entries_max)
            if not rows and not await self._pool.fetchval(_IS_MEMBER, dialog, asker):
                return None
        return [_identity(row) for row in rows]

    async def read_log(self, principal: bytes) -> LogState | None:
        async with translate_errors():
            row = await self._pool.fetchrow(_LOG, principal)
        if row is None:
            return None
        generation, master, heads, *columns = row
        devices = (
            ListedDevice(device, DevicePublic(ed25519, curve25519), since, until)
            for device, ed25519, curve25519, since, until in zip(*columns, strict=True)
        )
        return LogState(principal, generation, master, tuple(heads), tuple(devices))

    async def append_log(
        self, before: LogState | None, after: LogState, entries: Sequence[bytes], now_ms: int
    ) -> KeysOutcome:
        first = after.length - len(entries)
        changed = [each for each in after.listed if each.since >= first or (each.until or 0) >= first]
        async with translate_errors():
            outcome = await self._pool.fetchval(
                _APPEND,
                now_ms,
                after.principal,
                after.generation,
                0 if before is None else before.length,
                b"" if before is None else before.head,
                first,
                [hash_of_entry(entry) for entry in entries],
                list(entries),
                after.master,
                [each.since for each in changed],
                [each.until for each in changed],
                [each.device for each in changed],
                [each.keys.ed25519 for each in changed],
                [each.keys.curve25519 for each in changed],
            )
        return KeysOutcome(outcome)

    async def put_identity(
        self, principal: bytes, master_key: bytes, master: bytes, self_signing: bytes, user_signing: bytes
    ) -> KeysOutcome:
        async with translate_errors():
            done = await self._pool.fetchval(_PUT_IDENTITY, principal, master_key, master, self_signing, user_signing)
        return KeysOutcome.OK if done else KeysOutcome.PASSED


def _identity(row: asyncpg.Record) -> IdentityRow:
    devices = zip(row["devices"] or (), row["generations"] or (), row["keys"] or (), strict=True)
    return IdentityRow(
        row["principal_id"],
        row["generation"] or 0,
        row["length"] or 0,
        row["head"] or b"",
        tuple(row["entries"]),
        row["master"] or b"",
        row["self_signing"] or b"",
        row["user_signing"] or b"",
        tuple(StoredDeviceKeys(*each) for each in devices),
        row["former"],
    )
