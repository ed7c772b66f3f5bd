"""`Backups` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from storage.backups import BackupAddition, BackupOutcome, BackupRow, Backups
from storage.postgres.pool import Pool, translate_errors

_PUT = "SELECT put_backup($1, $2, $3, $4, $5, $6, $7, $8)"
_READ = """
SELECT key, version, value FROM backups WHERE principal_id = $1 AND generation = $2 AND key > $3 ORDER BY key LIMIT $4
"""


class PostgresBackups(Backups):
    """Backups, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, addition: BackupAddition, now_ms: int, *, values_max: int) -> BackupOutcome:
        rows = addition.rows
        async with translate_errors():
            outcome = await self._pool.fetchval(
                _PUT,
                now_ms,
                addition.principal,
                addition.device,
                addition.generation,
                [row.key for row in rows],
                [row.version for row in rows],
                [row.value for row in rows],
                values_max,
            )
        return BackupOutcome(outcome)

    async def read(self, principal: bytes, generation: int, *, after: bytes, limit: int) -> list[BackupRow]:
        async with translate_errors():
            rows = await self._pool.fetch(_READ, principal, generation, after, limit)
        return [BackupRow(*row) for row in rows]
