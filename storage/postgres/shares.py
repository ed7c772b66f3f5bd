"""`Shares` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from collections.abc import Sequence

from storage.postgres.pool import Pool, translate_errors
from storage.shares import Shares, SliceRow, Staged, StagedSlices, StagingOutcome

_STAGE = "SELECT outcome, keys_seq, complete, missing, extra FROM stage_slices($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_COLUMNS = "s.to_device, s.number, h.principal_id, h.device_id, h.dialog_id, h.share_id, h.session, h.keys_seq, s.body"
_READ = f"""
SELECT {_COLUMNS}
FROM slices s JOIN shares h ON h.device_id = s.device_id AND h.share_id = s.share_id AND h.live
WHERE s.to_device = $1 AND s.number > $2 ORDER BY s.number LIMIT $3
"""
_READ_NEWEST = f"""
SELECT {_COLUMNS}
FROM (SELECT * FROM slices x WHERE x.to_device = $1 ORDER BY x.number DESC LIMIT $3) s
JOIN shares h ON h.device_id = s.device_id AND h.share_id = s.share_id AND h.live AND h.dialog_id = $2
ORDER BY s.number
"""
_READ_SHARED = f"""
SELECT {_COLUMNS}
FROM unnest($1::uuid[], $2::uuid[]) AS x(device_id, share_id)
JOIN shares h ON h.device_id = x.device_id AND h.share_id = x.share_id AND h.live
CROSS JOIN unnest($3::uuid[]) AS d(to_device)
CROSS JOIN LATERAL (  -- OFFSET keeps a plan from reading the whole share for each device
    SELECT * FROM slices x
    WHERE x.device_id = h.device_id AND x.share_id = h.share_id AND x.to_device = d.to_device OFFSET 0) s
ORDER BY s.number
"""


class PostgresShares(Shares):
    """Shares, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stage(self, staged: StagedSlices, now_ms: int) -> Staged:
        async with translate_errors():
            ((outcome, keys_seq, complete, missing, extra),) = await self._pool.fetch(
                _STAGE,
                now_ms,
                staged.principal,
                staged.device,
                staged.share,
                staged.dialog,
                staged.session,
                staged.keys_seq,
                [device for device, _ in staged.slices],
                [body for _, body in staged.slices],
                staged.more,
            )
        return Staged(StagingOutcome(outcome), keys_seq or 0, bool(complete), tuple(missing or ()), tuple(extra or ()))

    async def read(self, device: bytes, *, after: int, limit: int) -> list[SliceRow]:
        async with translate_errors():
            rows = await self._pool.fetch(_READ, device, after, limit)
        return [SliceRow(*row) for row in rows]

    async def read_newest(self, device: bytes, dialog: bytes, *, limit: int) -> list[SliceRow]:
        async with translate_errors():
            rows = await self._pool.fetch(_READ_NEWEST, device, dialog, limit)
        return [SliceRow(*row) for row in rows]

    async def read_shared(self, shares: Sequence[tuple[bytes, bytes]], to: Sequence[bytes]) -> list[SliceRow]:
        async with translate_errors():
            rows = await self._pool.fetch(
                _READ_SHARED, [device for device, _ in shares], [share for _, share in shares], to
            )
        return [SliceRow(*row) for row in rows]

    async def confirm(self, confirmed: Sequence[tuple[bytes, int]]) -> None:
        devices, numbers = [device for device, _ in confirmed], [number for _, number in confirmed]
        async with translate_errors():
            await self._pool.fetch("SELECT confirm_slices($1, $2)", devices, numbers)
