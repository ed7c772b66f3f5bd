"""`Trimming` on PostgreSQL: a sweep through the blocks of the table deletes, and the vacuum makes room for new rows.

The table has no parts that could be dropped: docs/architecture.md says what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.postgres.journal import Writes
from storage.postgres.pool import Pool, translate_errors
from storage.rows import TimelineRow
from storage.trimming import Trimming, TrimStep

_STEP_BLOCKS = 128
"""1 MB of the table: some thousand rows, some milliseconds."""

_TRIM = "SELECT rows, done FROM trim_journal($1, $2, $3)"
_PUT_BACK = "SELECT put_back_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"


class PostgresTrimming(Trimming):
    """Deletes over a pool; what it puts back goes over `writes`."""

    def __init__(self, pool: Pool, writes: Writes, *, step_blocks: int = _STEP_BLOCKS) -> None:
        self._pool = pool
        self._writes = writes
        self._step_blocks = step_blocks

    async def trim(self, now_ms: int, *, kept_ms: int) -> TrimStep:
        async with translate_errors():
            (row,) = await self._pool.fetch(_TRIM, now_ms, kept_ms, self._step_blocks)
        return TrimStep(*row)

    async def put_back(self, rows: Sequence[TimelineRow], now_ms: int, *, incarnation: int) -> None:
        events = [row.event for row in rows]
        await self._writes.fetch(
            _PUT_BACK,
            incarnation,
            now_ms,
            [event.dialog for event in events],
            [event.seq for event in events],
            [event.author for event in events],
            [event.device for event in events],
            [event.n for event in events],
            [row.tag for row in rows],
            [row.target for row in rows],
            [event.at_ms for event in events],
            [event.messages for event in events],
            [bytes(event.body) for event in events],
        )
