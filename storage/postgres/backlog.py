"""`ArchiveBacklog` on PostgreSQL: a connection of its own, whose session holds the lock of the mover.

The transaction that reads a horizon leaves a message in the log (as in `journal.py`), so after a crash no row gets a
stamp below it. `advance` says where it began, so that nobody who had another idea of what was moved leaves a gap.

The lowest stamp may be that of every row: a restore into another cluster gives it to them. Only those rows are read in
the order of the table's key, where a page goes on after the one before; others are of a transaction, and few share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from protocol.dialog_types import Mode
from protocol.ids import NIL
from storage.backlog import ArchiveBacklog, ArchivingState, BacklogHorizon, BacklogPage, Cursor
from storage.postgres.epoch import IS_SETTLED
from storage.postgres.functions import LOWEST_XID, WORK_LOCKS
from storage.postgres.pool import CONNECT_TIMEOUT_S, SESSION_SETTINGS, prepare, translate_errors
from storage.postgres.timeline_rows import ROW_COLUMNS, make_row
from storage.postgres.work_locks import Work, lock_settings
from storage.reports import COMMITMENT_KEPT_MS, find_committed
from storage.rows import TimelineRow
from storage.unavailable import StorageUnavailableError

PAGE_ROWS_MAX = 1000
_PAGE_BYTES_MAX = 4_194_304
_COUNTED_MAX = 10_000

_SILENT_S = 120.0
"""Longer than the archive may take to store a page, while nothing is said on the connection."""
_TRY_LOCK = f"SELECT pg_try_advisory_lock({WORK_LOCKS}, {Work.MOVER})"
# The history is that of the last epoch: after a restore or a promotion the next one begins when a node notices it.
_STATE = f"""
SELECT {IS_SETTLED} AS settled, d.epoch, a.moved::text::bigint, a.covered_ms,
       (SELECT count(*) FROM (SELECT FROM archive_erasures LIMIT {_COUNTED_MAX}) x) AS erasures
FROM archiving a, deployment d
"""
# Who blanks a row locks the list first (`erase_message.sql`): when this has the lock, what was blanked without a note
# is committed, and so is read blank by every later page.
_BEGIN = """
SET LOCAL lock_timeout = '5s';
LOCK TABLE archive_erasures IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO archiving (covered_ms) VALUES (unix_ms()) ON CONFLICT DO NOTHING
"""
_HORIZON = """
SELECT pg_snapshot_xmin(s.snapshot)::text::bigint, pg_snapshot_xmax(s.snapshot)::text::bigint,
       (extract(epoch FROM statement_timestamp()) * 1000)::bigint
FROM pg_current_snapshot() AS s(snapshot), pg_logical_emit_message(true, 'tchat', 'mover')
"""
_PAGE = f"""
SELECT {ROW_COLUMNS}, xid::text::bigint FROM (
    SELECT y.*, coalesce(sum(octet_length(y.body)) OVER (
        ORDER BY y.xid, y.dialog_id, y.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT * FROM journal j
        WHERE j.xid >= $1::text::xid8 AND j.xid < $4::text::xid8
          AND (j.xid, j.dialog_id, j.seq) > ($1::text::xid8, $2, $3)
        ORDER BY j.xid, j.dialog_id, j.seq LIMIT $5) y) x
WHERE before < {_PAGE_BYTES_MAX}
ORDER BY x.xid, x.dialog_id, x.seq
"""
_HAS_LOWEST = f"SELECT EXISTS (SELECT FROM journal j WHERE j.xid = '{LOWEST_XID}')"
# Looks at so many rows, of whichever stamp.
_LOWEST_PAGE = f"""
SELECT {ROW_COLUMNS}, xid::text::bigint FROM (
    SELECT y.*, coalesce(sum(octet_length(y.body)) OVER (
        ORDER BY y.dialog_id, y.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT * FROM journal j WHERE (j.dialog_id, j.seq) > ($1, $2) ORDER BY j.dialog_id, j.seq LIMIT $3) y) x
WHERE before < {_PAGE_BYTES_MAX}
ORDER BY x.dialog_id, x.seq
"""
_ADVANCE = """
UPDATE archiving SET moved = greatest(moved, $2::text::xid8), covered_ms = greatest(covered_ms, $3)
WHERE moved >= $1::text::xid8
"""
_ERASURES = "SELECT dialog_id, seq FROM archive_erasures ORDER BY dialog_id, seq LIMIT $1"
_LEFT = """
SELECT k.seq FROM unnest($2::bigint[]) AS k(seq) JOIN heads h ON h.dialog_id = $1 AND k.seq <= h.seq
WHERE NOT EXISTS (SELECT FROM journal j WHERE j.dialog_id = $1 AND j.seq = k.seq)
"""
_SEALED_LEFT = f"""
SELECT k.dialog_id, k.seq FROM unnest($1::uuid[], $2::bigint[]) AS k(dialog_id, seq)
JOIN heads h ON h.dialog_id = k.dialog_id AND h.mode = {Mode.SEALED} AND k.seq <= h.seq
WHERE NOT EXISTS (SELECT FROM journal j WHERE j.dialog_id = k.dialog_id AND j.seq = k.seq)
ORDER BY k.dialog_id, k.seq
"""
_KEEP_COMMITMENTS = f"""
INSERT INTO erased_commitments
SELECT r.*, unix_ms() + {COMMITMENT_KEPT_MS}
FROM unnest(
    $1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::bigint[], $6::smallint[], $7::bigint[], $8::bytea[]) AS r
ON CONFLICT DO NOTHING
"""
_FORGET = """
DELETE FROM archive_erasures e USING unnest($1::uuid[], $2::bigint[]) AS k(dialog_id, seq)
WHERE e.dialog_id = k.dialog_id AND e.seq = k.seq
"""


class PostgresBacklog(ArchiveBacklog):
    """The backlog in the database at `url`. Not to be called twice at once."""

    def __init__(
        self,
        url: str,
        *,
        statement_timeout_s: float,
        incarnation: int = 0,
        silent_s: float = _SILENT_S,
        page_rows_max: int = PAGE_ROWS_MAX,
    ) -> None:
        self._url = url
        self._settings = SESSION_SETTINGS | lock_settings(incarnation, silent_s=silent_s)
        self._timeout_s = statement_timeout_s
        self._page_rows_max = page_rows_max
        self._connection: asyncpg.Connection[Any] | None = None
        self._held = False

    async def take(self) -> ArchivingState:
        async with translate_errors():
            connection = await self._connect()
            self._held = self._held or await connection.fetchval(_TRY_LOCK)
            row = await connection.fetchrow(_STATE)
            if row is None:
                async with connection.transaction():
                    await connection.execute(_BEGIN)
                row = await connection.fetchrow(_STATE)
        assert row is not None, "archiving has begun"
        settled, *state = row
        if not settled:
            raise StorageUnavailableError("the epoch of this history of the database has not begun")
        return ArchivingState(self._held, *state)

    async def read_horizon(self) -> BacklogHorizon:
        ((horizon, next_xid, now_ms),) = await self._fetch(_HORIZON)
        return BacklogHorizon(horizon, next_xid, now_ms)

    async def read_page(self, after: Cursor, horizon: int) -> BacklogPage:
        if after.xid <= LOWEST_XID and (after.dialog != NIL or (await self._fetch(_HAS_LOWEST))[0][0]):
            found = await self._fetch(_LOWEST_PAGE, after.dialog, after.seq, self._page_rows_max)
            rows = [make_row(record) for record in found if record["xid"] == LOWEST_XID]
            if self._is_full(found):
                return BacklogPage(rows, Cursor(LOWEST_XID, found[-1]["dialog_id"], found[-1]["seq"]))
            return BacklogPage(rows, Cursor(LOWEST_XID + 1))
        found = await self._fetch(_PAGE, str(after.xid), after.dialog, after.seq, str(horizon), self._page_rows_max)
        rows = [make_row(record) for record in found]
        if self._is_full(found):
            last = found[-1]
            return BacklogPage(rows, Cursor(last["xid"], last["dialog_id"], last["seq"]))
        return BacklogPage(rows, Cursor(horizon))

    def _is_full(self, found: list[asyncpg.Record]) -> bool:
        return len(found) == self._page_rows_max or sum(len(row["body"]) for row in found) >= _PAGE_BYTES_MAX

    async def advance(self, first: int, moved: int, covered_ms: int) -> None:
        await self._fetch(_ADVANCE, str(first), str(moved), covered_ms)

    async def list_erasures(self, limit: int) -> list[tuple[bytes, int]]:
        return [(dialog, seq) for dialog, seq in await self._fetch(_ERASURES, limit)]

    async def list_left(self, dialog: bytes, seqs: Sequence[int]) -> list[int]:
        return [seq for (seq,) in await self._fetch(_LEFT, dialog, seqs)]

    async def list_sealed_left(self, keys: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        rows = await self._fetch(_SEALED_LEFT, [dialog for dialog, _ in keys], [seq for _, seq in keys])
        return [(dialog, seq) for dialog, seq in rows]

    async def keep_commitments(self, rows: Sequence[TimelineRow]) -> None:
        kept = [(row.event, committed) for row in rows if (committed := find_committed(row)) is not None]
        if kept:
            columns = [
                (event.dialog, event.seq, of.author, of.device, of.n, of.tag, of.target, of.commitment)
                for event, of in kept
            ]
            await self._fetch(_KEEP_COMMITMENTS, *zip(*columns, strict=True))

    async def forget_erasures(self, keys: Sequence[tuple[bytes, int]]) -> None:
        await self._fetch(_FORGET, [dialog for dialog, _ in keys], [seq for _, seq in keys])

    async def release(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection, self._held = None, False

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            raise StorageUnavailableError("the connection that holds the backlog has broken")
        async with translate_errors():
            return await self._connection.fetch(query, *arguments)

    async def _connect(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            await self.release()
            self._connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=self._timeout_s,
                server_settings=self._settings,
            )
            await prepare(self._connection)
        return self._connection
