"""`Journal` on PostgreSQL: one call of one function per flush, in autocommit (`migrations/0003_flush.sql`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from protocol.bodies import Erased, Promoted
from protocol.dialog_types import DIALOG_TYPES
from protocol.ids import NIL
from storage.postgres.pool import translate_errors
from storage.rows import (
    ChangeEntry,
    ChangeResult,
    Entry,
    JournalRow,
    ReceiptRow,
    Verdict,
    VerdictCode,
)
from storage.timelines import Journal, RaisedReceipt

_ERASED = msgspec.msgpack.encode(Erased())
_PROMOTED_PREFIX = msgspec.msgpack.encode(Promoted(NIL)).removesuffix(NIL)
"""SQL appends the heir's id to this, because only SQL knows who it is."""

_CODES = {int(code): code for code in VerdictCode}
"""Calling an enumeration costs more than all the rest of a verdict."""
_FLUSH = "SELECT * FROM flush($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_CHANGE = f"SELECT * FROM change({', '.join(f'${i}' for i in range(1, 25))})"
_MARK = "SELECT * FROM mark($1, $2, $3, $4)"
# Committing the message puts a transaction id past the horizon on disk. Without it PostgreSQL, after a crash, gives
# ids out again that only aborted transactions had, and what is written under them would look older than the horizon.
_HORIZON = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM pg_logical_emit_message(true, 'tchat', 'horizon')
"""
_PUT_TYPE = """
INSERT INTO dialog_types VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (type) DO UPDATE SET members_min = excluded.members_min, members_max = excluded.members_max,
    fixed_roster = excluded.fixed_roster, full_history = excluded.full_history, receipts = excluded.receipts
"""


class PostgresJournal(Journal):
    """See `storage.timelines.Journal`."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    async def begin_incarnation(self, node: str) -> int:
        """See `Journal`."""
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
                )
            number: int = await connection.fetchval(
                "INSERT INTO incarnations (node, started_at_ms) VALUES ($1, $2) RETURNING incarnation",
                node,
                time.time_ns() // 1_000_000,
            )
            return number

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        """See `Journal`."""
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
        """See `Journal`."""
        async with translate_errors():
            rows = await self._pool.fetch(
                _CHANGE,
                incarnation,
                flush_no,
                entry.op,
                entry.dialog,
                entry.author,
                entry.device,
                entry.n,
                entry.body,
                entry.subjects,
                entry.roles,
                entry.target,
                entry.until_ms,
                *_creation_columns(entry),
                _PROMOTED_PREFIX,
                _ERASED,
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
            JournalRow(
                entry.dialog,
                row["seq"],
                entry.author,
                entry.device,
                row["event_n"],
                row["at_ms"],
                row["messages"],
                row["body"],
            )
            for row in rows
            if row["body"] is not None
        )
        return ChangeResult(verdict, events)

    async def mark(self, marks: Sequence[ReceiptRow]) -> list[RaisedReceipt]:
        """See `Journal`."""
        async with translate_errors():
            rows = await self._pool.fetch(
                _MARK,
                [m.dialog for m in marks],
                [m.principal for m in marks],
                [m.delivered for m in marks],
                [m.read for m in marks],
            )
        return [
            RaisedReceipt(dialog, principal, delivered, read, read_messages, shared, roster_seq, members)
            for dialog, principal, delivered, read, read_messages, shared, members, roster_seq in rows
        ]

    async def horizon(self) -> int:
        """See `Journal`."""
        async with translate_errors():
            value: int = await self._pool.fetchval(_HORIZON)
        return value


def _creation_columns(entry: ChangeEntry) -> tuple[object, ...]:
    made = entry.creation
    if made is None:
        return (None,) * 10
    return (
        made.type,
        made.mode,
        DIALOG_TYPES[made.type].admins_only_write,
        made.name,
        made.description,
        made.avatar_url,
        made.settings.is_public,
        made.settings.allow_media,
        made.settings.message_retention_days,
        made.settings.moderation_enabled,
    )
