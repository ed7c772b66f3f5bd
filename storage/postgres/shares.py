"""`Shares` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from collections.abc import Sequence

from storage.postgres.pool import Pool, translate_errors
from storage.shares import Shares, SliceRow, Staged, StagedSlices, StagingOutcome

_STAGE = "SELECT outcome, keys_seq, missing, extra FROM stage_slices($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_READ = """
SELECT s.number, h.principal_id, h.device_id, h.dialog_id, h.share_id, h.session, s.body
FROM slices s JOIN shares h ON h.device_id = s.device_id AND h.share_id = s.share_id AND h.live
WHERE s.to_device = $1 AND s.number > $2 ORDER BY s.number LIMIT $3
"""


class PostgresShares(Shares):
    """Shares, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stage(self, staged: StagedSlices, now_ms: int) -> Staged:
        async with translate_errors():
            ((outcome, keys_seq, missing, extra),) = await self._pool.fetch(
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
            )
        return Staged(StagingOutcome(outcome), keys_seq or 0, tuple(missing or ()), tuple(extra or ()))

    async def read(self, device: bytes, *, after: int, limit: int) -> list[SliceRow]:
        async with translate_errors():
            rows = await self._pool.fetch(_READ, device, after, limit)
        return [SliceRow(*row) for row in rows]

    async def confirm(self, device: bytes, numbers: Sequence[int]) -> None:
        async with translate_errors():
            await self._pool.fetch("SELECT confirm_slices($1, $2)", device, numbers)
