"""`Journal` on PostgreSQL: one call of one function per flush, in autocommit (`migrations/0003_flush.sql`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from protocol import bodies as b
from protocol.bodies import Body, Erased, Promoted, TimelineEventRaw, tag_of
from protocol.dialog_types import DIALOG_TYPES, Role
from protocol.ids import NIL
from storage.postgres.pool import translate_errors
from storage.rows import (
    ChangeEntry,
    ChangeResult,
    Entry,
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
                tag_of(type(entry.body)),
                entry.dialog,
                entry.author,
                entry.device,
                entry.n,
                msgspec.msgpack.encode(entry.body),
                *_arguments(entry.body),
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

    async def raise_receipts(self, marks: Sequence[ReceiptRow]) -> list[RaisedReceipt]:
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

    async def read_horizon(self) -> int:
        """See `Journal`."""
        async with translate_errors():
            value: int = await self._pool.fetchval(_HORIZON)
        return value


def _arguments(body: Body) -> tuple[object, ...]:
    """Subjects, roles, target, until, and what a creation or settings say."""
    subjects: list[bytes] = []
    roles: list[Role] = []
    target: int | None = None
    until_ms = 0
    match body:
        case b.DialogCreated(members=seats):
            subjects, roles = [each.principal for each in seats], [each.role for each in seats]
        case b.MembersAdded(members=members):
            subjects = members
        case b.MemberRemoved(member=who) | b.Promoted(member=who) | b.Demoted(member=who):
            subjects = [who]
        case b.Blocked(principal=who) | b.Unblocked(principal=who):
            subjects = [who]
        case b.Muted(dialog=dialog, until_ms=until):
            subjects, until_ms = [dialog], until
        case b.Deleted(target=deleted):
            target = deleted
    return subjects, roles, target, until_ms, *_settings_columns(body)


def _settings_columns(body: Body) -> tuple[object, ...]:
    if not isinstance(body, b.DialogCreated | b.SettingsChanged):
        return (None,) * 10
    kind: tuple[object, ...] = (None, None, None)
    if isinstance(body, b.DialogCreated):
        kind = (body.type, body.mode, DIALOG_TYPES[body.type].admins_only_write)
    settings = body.settings
    return (
        *kind,
        body.name,
        body.description,
        body.avatar_url,
        settings.is_public,
        settings.allow_media,
        settings.message_retention_days,
        settings.moderation_enabled,
    )
