"""`Reports` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from storage.postgres.pool import Pool, translate_errors
from storage.postgres.timeline_rows import make_row
from storage.reports import Committed, NumberedReport, ReportedEvent, Reports, SealedReport, find_committed

_FIND = """
SELECT m.visible @> $3::bigint AND $3 <= h.seq AS visible, j.seq IS NULL AS archived,
       e.author_id, e.device_id, e.n, e.tag, e.target, e.commitment,
       j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.at_ms, j.messages, j.body, j.tag, j.target
FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
LEFT JOIN journal j ON j.dialog_id = m.dialog_id AND j.seq = $3
LEFT JOIN erased_commitments e ON e.dialog_id = m.dialog_id AND e.seq = $3 AND e.until_ms > $4
WHERE m.dialog_id = $2 AND m.principal_id = $1
"""
_KEEP = "SELECT keep_report($1, $2, $3, $4, $5, $6, $7)"
_LIST = """
SELECT at_ms, reporter_id, author_id, dialog_id, seq, sealed, report_id
FROM reports WHERE report_id > $1 ORDER BY report_id LIMIT $2
"""


class PostgresReports(Reports):
    """Reports, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, reporter: bytes, dialog: bytes, seq: int, now_ms: int) -> ReportedEvent | None:
        async with translate_errors():
            rows = await self._pool.fetch(_FIND, reporter, dialog, seq, now_ms)
        if not rows:
            return None
        visible, archived, *values = rows[0]
        if not visible:
            return ReportedEvent(False)
        erased, row = values[:6], values[6:]
        committed = None if archived else find_committed(make_row(row))
        if committed is None and erased[-1] is not None:
            committed = Committed(*erased)
        return ReportedEvent(True, committed, archived and committed is None)

    async def keep(self, report: SealedReport, *, until_ms: int) -> None:
        async with translate_errors():
            await self._pool.fetch(
                _KEEP,
                report.at_ms,
                until_ms,
                report.reporter,
                report.author,
                report.dialog,
                report.seq,
                report.sealed,
            )

    async def list(self, *, after: int, limit: int) -> list[NumberedReport]:
        async with translate_errors():
            return [NumberedReport(*row) for row in await self._pool.fetch(_LIST, after, limit)]
