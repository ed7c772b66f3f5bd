"""`DeletedDialogs` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from storage.deleted_dialogs import DeletedDialogs, DialogPurgeStep, Look
from storage.postgres.pool import Pool, translate_errors

_PURGE = """
SELECT rows, ended, dialog, grace_from_ms, last_seq, epoch, archived FROM purge_dialog($1, $2, $3)
"""
_FINISH = "SELECT finish_dialog_purge($1, $2, $3, $4)"


class PostgresDeletedDialogs(DeletedDialogs):
    """Deleted dialogs, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def purge_some(self, now_ms: int, *, grace_ms: int, limit: int) -> DialogPurgeStep:
        async with translate_errors():
            ((rows, ended, *look),) = await self._pool.fetch(_PURGE, now_ms, grace_ms, limit)
        return DialogPurgeStep(rows, look[0] is not None, Look(*look) if ended else None)

    async def finish(self, look: Look, now_ms: int, *, grace_ms: int) -> None:
        async with translate_errors():
            await self._pool.fetch(_FINISH, now_ms, grace_ms, look.dialog, look.grace_from_ms)
