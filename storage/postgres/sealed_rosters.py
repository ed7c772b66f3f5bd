"""`SealedRosters` on PostgreSQL: each method is one or two statements over a pool."""

from __future__ import annotations

from protocol.bodies import LogHead
from protocol.dialog_types import Mode
from storage.postgres.functions import STILL
from storage.postgres.pool import Pool, translate_errors
from storage.sealed_rosters import Announcement, SealedRosters

_TURN = """
SELECT a.principal_id, a.after, a.turn, i.generation, i.length, i.head
FROM (SELECT * FROM log_announcements ORDER BY turn LIMIT 1) a JOIN identities i USING (principal_id)
"""
_DIALOGS = f"""
SELECT m.dialog_id, h.mode = {Mode.SEALED:d} AND NOT h.deleted
       AND (coalesce(r.generation, 0), coalesce(r.length, 0)) < ($3, $4) AS due
FROM members m
JOIN heads h USING (dialog_id)
LEFT JOIN roster_intervals r
    ON r.dialog_id = m.dialog_id AND r.until_seq = {STILL} AND r.principal_id = m.principal_id
WHERE m.principal_id = $1 AND m.dialog_id > $2 AND m.member
ORDER BY m.dialog_id LIMIT $5
"""
_GO_ON = "UPDATE log_announcements SET after = $3, turn = DEFAULT WHERE principal_id = $1 AND turn = $2"
_END = "DELETE FROM log_announcements WHERE principal_id = $1 AND turn = $2"


class PostgresSealedRosters(SealedRosters):
    """Rosters, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def next_announcement(self, *, limit: int) -> Announcement | None:
        async with translate_errors():
            found = await self._pool.fetchrow(_TURN)
            if found is None:
                return None
            principal, after, turn, *log = found
            rows = await self._pool.fetch(_DIALOGS, principal, after, *log[:2], limit)
        return Announcement(
            principal,
            LogHead(*log),
            tuple(dialog for dialog, due in rows if due),
            after,
            rows[-1][0] if rows else after,
            len(rows) < limit,
            turn,
        )

    async def note_announced(self, announcement: Announcement, reached: bytes | None) -> None:
        which = (announcement.principal, announcement.turn)
        async with translate_errors():
            if reached is None:
                await self._pool.execute(_END, *which)
            else:
                await self._pool.execute(_GO_ON, *which, reached)
