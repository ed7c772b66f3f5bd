"""`Nodes` on PostgreSQL: each call is one statement in autocommit."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from protocol.bodies import TimelineEventRaw
from storage.nodes import PAGE_ROWS, Nodes
from storage.postgres.epoch import IS_SETTLED
from storage.postgres.event_windows import ROW_COLUMNS, TIMELINE, bytes_before
from storage.postgres.journal import Writes
from storage.postgres.pool import Pool, translate_errors
from storage.rows import ClusterReading, IncarnationRow, WrittenRow
from storage.timelines import PAGE_BYTES_MAX
from storage.unavailable import IncarnationEndedError, OtherHistoryError

# Renewing the lease commits a transaction whose id is past the horizon: see `_HORIZON` in `journal.py`.
_READ_CLUSTER = f"""
WITH renewed AS (
    INSERT INTO leases AS l VALUES ($1, 1) ON CONFLICT (incarnation) DO UPDATE SET lease = l.lease + 1
), known AS MATERIALIZED (
    SELECT i.incarnation FROM incarnations i WHERE i.fenced_at_ms IS NULL
    UNION ALL SELECT i.incarnation FROM incarnations i WHERE i.fenced_xid >= $2::text::xid8
)
SELECT pg_snapshot_xmin(s.snapshot)::text::bigint AS horizon, pg_snapshot_xmax(s.snapshot)::text::bigint AS next_xid,
       coalesce((SELECT min(x::text::bigint) FROM pg_snapshot_xip(s.snapshot) AS x WHERE x >= $3::text::xid8),
                pg_snapshot_xmax(s.snapshot)::text::bigint) AS recent_horizon,
       {IS_SETTLED} AS settled, (SELECT epoch FROM deployment) AS epoch,
       i.incarnation, i.node, coalesce(l.lease, 0) AS lease, i.ended_at_ms IS NOT NULL AS ended,
       i.fenced_xid::text::bigint AS fenced_at
FROM pg_current_snapshot() AS s(snapshot) CROSS JOIN known k
JOIN incarnations i ON i.incarnation = k.incarnation LEFT JOIN leases l ON l.incarnation = k.incarnation
ORDER BY i.incarnation
"""


def _page(where: str, order: str) -> str:
    return f"""
SELECT {ROW_COLUMNS}, h.roster_seq, j.xid::text::bigint AS stamp FROM (
    SELECT {ROW_COLUMNS}, j.xid, {bytes_before(order)} AS before
    FROM (SELECT * FROM {TIMELINE} x WHERE {where} ORDER BY {order.replace("j.", "x.")} LIMIT {PAGE_ROWS}) j) j
JOIN heads h ON h.dialog_id = j.dialog_id
WHERE j.before < {PAGE_BYTES_MAX} ORDER BY {order}
"""


_READ_WRITTEN = _page(
    "x.incarnation = ANY ($1) AND x.xid >= $2::text::xid8 AND x.xid < $3::text::xid8"
    " AND (x.xid, x.dialog_id, x.seq) > ($4::text::xid8, $5, $6)",
    "j.xid, j.dialog_id, j.seq",
)
_READ_ROWS = _page("x.dialog_id = $1 AND x.seq BETWEEN $2 AND $3", "j.seq")
_FIND_UNSEEN = """
SELECT first_unseen(r.dialog_id, r.seq, $3::text::xid8)
FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS r(dialog_id, seq, ord) ORDER BY r.ord
"""
# The order of the index's columns: no other index has the rows in it.
_FIND_LARGE = f"""
SELECT m.dialog_id FROM members m
WHERE m.principal_id = $1 AND m.large AND m.member AND m.dialog_id > $2
ORDER BY m.principal_id, m.dialog_id LIMIT {PAGE_ROWS}
"""


class PostgresNodes(Nodes):
    """The nodes that share a database. What is read each second goes over `readings`, the rest over a pool.

    So a lease is renewed although many wait for the pool; and a reading that gets no answer in time loses its socket.
    """

    def __init__(self, pool: Pool, readings: Writes) -> None:
        self._pool = pool
        self._readings = readings

    async def read_cluster(self, *, incarnation: int, since: int, recent_since: int = 0) -> ClusterReading:
        async with translate_errors():
            rows = await self._readings.fetch(_READ_CLUSTER, incarnation, str(since), str(recent_since))
        found = [IncarnationRow(*row[5:]) for row in rows]
        if not any(each.incarnation == incarnation and not each.ended for each in found):
            raise IncarnationEndedError
        horizon, next_xid, recent_horizon, settled, epoch = rows[0][:5]
        if not settled:
            raise OtherHistoryError
        return ClusterReading(horizon, next_xid, recent_horizon, epoch, tuple(found))

    async def read_written(
        self, incarnations: Sequence[int], since: int, before: int, *, after: tuple[int, bytes, int]
    ) -> list[WrittenRow]:
        stamp, dialog, seq = after
        first = max(since, stamp)
        async with translate_errors():
            return _rows(
                await self._readings.fetch(
                    _READ_WRITTEN, incarnations, str(first), str(before), str(stamp), dialog, seq
                )
            )

    async def read_rows(self, dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        return _rows(await self._fetch(_READ_ROWS, dialog, first, last))

    async def find_unseen(self, heads: Sequence[tuple[bytes, int]], since: int) -> list[int]:
        dialogs, seqs = [dialog for dialog, _ in heads], [seq for _, seq in heads]
        return [first for (first,) in await self._fetch(_FIND_UNSEEN, dialogs, seqs, str(since))]

    async def end(self, incarnation: int, *, lease: int | None) -> bool:
        [(ended,)] = await self._fetch("SELECT end_incarnation($1, $2)", incarnation, lease)
        return bool(ended)

    async def fence(self, incarnation: int) -> bool:
        try:
            await self._fetch("SELECT fence_incarnation($1)", incarnation)
        except asyncpg.LockNotAvailableError:
            return False
        return True

    async def find_large(self, principal: bytes, *, after: bytes) -> list[bytes]:
        return [dialog for (dialog,) in await self._fetch(_FIND_LARGE, principal, after)]

    async def read_size(self, dialog: bytes) -> tuple[int, int]:
        rows = await self._fetch("SELECT roster_seq, member_count FROM heads WHERE dialog_id = $1", dialog)
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    async def draw_stamp(self) -> int:
        [(stamp,)] = await self._fetch("SELECT nextval('connection_stamps')")
        return int(stamp)

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with translate_errors():
            rows: list[asyncpg.Record] = await self._pool.fetch(query, *arguments)
        return rows


def _rows(rows: list[asyncpg.Record]) -> list[WrittenRow]:
    return [
        WrittenRow(
            TimelineEventRaw(dialog, seq, author, device, n, at_ms, messages, msgspec.Raw(body)), roster_seq, stamp
        )
        for dialog, seq, author, device, n, at_ms, messages, body, roster_seq, stamp in rows
    ]
