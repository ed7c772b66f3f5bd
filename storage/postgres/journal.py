"""`Journal` on PostgreSQL: each write is one call of one function, in autocommit (`functions/`).

Content goes through `flush`, a batch a call. A change goes through the function of its body: `change_promoted` for
`Promoted`. A body is changed into JSON by the names of its fields, so a new change needs its SQL file and nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import get_args

import msgspec

from protocol import ids
from protocol.bodies import AnyBody, Body, TimelineEventRaw
from protocol.dialog_types import DIALOG_TYPES
from protocol.json_forms import tag_name
from storage.postgres import functions
from storage.postgres.pool import Pool, translate_errors
from storage.rows import (
    ChangeEntry,
    ChangeResult,
    Entry,
    ErasureStep,
    HorizonReading,
    RaisedReceipt,
    ReceiptRow,
    Verdict,
    VerdictCode,
)
from storage.timelines import Journal
from storage.unavailable import IncarnationEndedError

_FLUSH = "SELECT * FROM flush($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_RAISE_RECEIPTS = "SELECT * FROM raise_receipts($1, $2, $3, $4, $5, $6)"
# Committing the message puts a transaction id past the horizon on disk. Without it PostgreSQL, after a crash, gives
# ids out again that only aborted transactions had, and what is written under them would look older than the horizon.
# In a snapshot in which the incarnation has not ended, no row of the node that replaces it is visible.
_HORIZON = """
SELECT pg_snapshot_xmin(s.snapshot)::text::bigint AS horizon, pg_snapshot_xmax(s.snapshot)::text::bigint AS next_xid,
       EXISTS (SELECT FROM incarnations i WHERE i.incarnation = $1 AND i.ended_at_ms IS NULL) AS lives
FROM pg_current_snapshot() AS s(snapshot), pg_logical_emit_message(true, 'tchat', 'horizon')
"""
# Other roles' transactions are visible to members of pg_read_all_stats only.
_OLDEST_WRITER = """
SELECT 'pid ' || a.pid || ', ' || coalesce(a.state, 'unknown') || ' in database ' || coalesce(a.datname, 'unknown')
       || ' for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int || ' s'
FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start LIMIT 1
"""
_PUT_TYPE = """
INSERT INTO dialog_types (type, members_min, members_max, fixed_roster, full_history, receipts, admins_only_write)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (type) DO UPDATE SET members_min = excluded.members_min, members_max = excluded.members_max,
    fixed_roster = excluded.fixed_roster, full_history = excluded.full_history, receipts = excluded.receipts,
    admins_only_write = excluded.admins_only_write
"""


def _change_queries() -> dict[type[Body], str]:
    names = set(functions.list_names())
    called = {body: f"change_{tag_name(body)}" for body in get_args(AnyBody)}
    return {
        body: f"SELECT * FROM {name}($1, $2, $3, $4, $5, $6, $7, $8)" for body, name in called.items() if name in names
    }


CHANGE_QUERIES = _change_queries()
"""The call of its function for every body that is a change."""


class PostgresJournal(Journal):
    """The write half, over a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin_incarnation(self, node: str) -> int:
        async with translate_errors(), self._pool.acquire() as connection:
            for kind, rule in DIALOG_TYPES.items():
                await connection.execute(
                    _PUT_TYPE,
                    kind,
                    rule.members_min,
                    rule.members_max,
                    rule.fixed_roster,
                    rule.full_history,
                    rule.receipts,
                    rule.admins_only_write,
                )
            number: int = await connection.fetchval(
                "INSERT INTO incarnations (node, started_at_ms) VALUES ($1, $2) RETURNING incarnation",
                node,
                time.time_ns() // 1_000_000,
            )
            return number

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        columns = (
            [e.dialog for e in entries],
            [e.author for e in entries],
            [e.device for e in entries],
            [e.n for e in entries],
            [e.tag for e in entries],
            [e.target for e in entries],
            [e.keys_seq for e in entries],
            [e.expires_at_ms for e in entries],
            [e.counts for e in entries],
            [e.body for e in entries],
        )
        async with translate_errors():
            rows = await self._pool.fetch(_FLUSH, incarnation, flush_no, wait, *columns)
        return [
            Verdict(VerdictCode(code), seq, at_ms, messages, members, roster_seq, keys_seq, erased)
            for _, code, seq, at_ms, messages, members, roster_seq, keys_seq, erased in rows
        ]

    async def change(self, entry: ChangeEntry, *, incarnation: int, flush_no: int) -> ChangeResult:
        async with translate_errors():
            rows = await self._pool.fetch(
                CHANGE_QUERIES[type(entry.body)],
                incarnation,
                flush_no,
                entry.dialog,
                entry.author,
                entry.device,
                entry.n,
                msgspec.msgpack.encode(entry.body),
                msgspec.json.encode(fields_of(entry.body)).decode(),
            )
        first = rows[0]
        verdict = Verdict(
            VerdictCode(first["code"]),
            first["seq"],
            first["at_ms"],
            first["messages"],
            first["member_count"],
            first["roster_seq"],
            first["keys_seq"],
        )
        events = tuple(
            TimelineEventRaw(
                entry.dialog,
                row["seq"],
                entry.author,
                entry.device,
                row["event_n"],
                row["at_ms"],
                row["messages"],
                msgspec.Raw(row["body"]),
            )
            for row in rows
            if row["body"] is not None
        )
        return ChangeResult(verdict, events)

    async def raise_receipts(self, receipts: Sequence[ReceiptRow], *, incarnation: int) -> list[RaisedReceipt]:
        async with translate_errors():
            rows = await self._pool.fetch(
                _RAISE_RECEIPTS,
                incarnation,
                [receipt.dialog for receipt in receipts],
                [receipt.principal for receipt in receipts],
                [receipt.delivered for receipt in receipts],
                [receipt.read for receipt in receipts],
                [receipt.again for receipt in receipts],
            )
        return [RaisedReceipt(*row) for row in rows]

    async def erase_due(self, now_ms: int, *, limit: int) -> ErasureStep:
        async with translate_errors():
            (row,) = await self._pool.fetch("SELECT * FROM erase_due($1, $2)", now_ms, limit)
        return ErasureStep(*row)

    async def read_horizon(self, *, incarnation: int) -> HorizonReading:
        async with translate_errors():
            row = await self._pool.fetchrow(_HORIZON, incarnation)
        assert row is not None, "one row comes from the message"
        horizon, next_xid, lives = row
        if not lives:
            raise IncarnationEndedError
        return HorizonReading(horizon, next_xid)

    async def find_oldest_writer(self) -> str:
        async with translate_errors():
            found: str | None = await self._pool.fetchval(_OLDEST_WRITER)
        return found or "one that this role may not see"


def fields_of(value: object) -> object:
    """The fields of a struct by name, for JSON: ids as UUID text, enums as numbers, structs within alike."""
    if isinstance(value, msgspec.Struct):
        return {name: fields_of(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list):
        return [fields_of(each) for each in value]
    return ids.to_text(value) if isinstance(value, bytes) else value
