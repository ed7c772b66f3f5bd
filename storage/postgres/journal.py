"""`Journal` on PostgreSQL: each write is one call of one function, in autocommit (`functions/`).

SQL compares a repeated number's body by its bytes. A server of another version may have encoded the same body in other
bytes (a field that was appended with its default), and the store fills device logs into bodies (`fill_logs.sql`), which
are no part of what is compared: on CONFLICT the stored body is read and compared by value, and if it is equal the call
is made again with the stored bytes, so that all that is answered is judged under the head's lock.

Content goes through `flush`, a batch a call. A change goes through the function of its body: `change_promoted` for
`Promoted`. A body is changed into JSON by the names of its fields, so a new change needs its SQL file and nothing here.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar, get_args

import asyncpg
import msgspec

from protocol import ids
from protocol.bodies import AnyBody, Body, DialogCreated, MembersAdded, Posted, TimelineEventRaw, decode_body, tag_of
from protocol.dialog_types import DIALOG_TYPES
from protocol.json_forms import tag_name
from storage.postgres.epoch import IS_SETTLED
from storage.postgres.functions import CHAT
from storage.postgres.oldest_writer import find_oldest_writer
from storage.postgres.pool import Pool, TargetArchivedError, translate_errors
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
from storage.unavailable import IncarnationEndedError, OtherHistoryError, StorageUnavailableError, WriteRefusedError

_FLUSH = "SELECT * FROM flush($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
_FLUSH_ONE = "SELECT * FROM flush_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_STORED = """
SELECT coalesce((SELECT j.body FROM journal j
                 WHERE j.dialog_id = c.dialog_id AND j.device_id = c.device_id AND j.n = c.n LIMIT 1), '')
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS c(dialog_id, device_id, n, ord) ORDER BY c.ord
"""
_ARE_ARCHIVED = """
SELECT coalesce(is_archived(c.dialog_id, c.seq, m.visible), false)
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS c(dialog_id, principal_id, seq, ord)
LEFT JOIN members m ON m.dialog_id = c.dialog_id AND m.principal_id = c.principal_id
ORDER BY c.ord
"""
_OVERTAKE = "UPDATE incarnations SET overtaken = $2 WHERE incarnation = $1 AND overtaken < $2"
_RAISE_RECEIPTS = "SELECT * FROM raise_receipts($1, $2, $3, $4, $5, $6, $7)"
# Committing the message puts a transaction id past the horizon on disk. Without it PostgreSQL, after a crash, gives
# ids out again that only aborted transactions had, and what is written under them would look older than the horizon.
# In a snapshot in which the incarnation has not ended, no row of the node that replaces it is visible.
_HORIZON = f"""
SELECT pg_snapshot_xmin(s.snapshot)::text::bigint AS horizon, pg_snapshot_xmax(s.snapshot)::text::bigint AS next_xid,
       EXISTS (SELECT FROM incarnations i WHERE i.incarnation = $1 AND i.ended_at_ms IS NULL) AS lives,
       {IS_SETTLED} AS settled
FROM pg_current_snapshot() AS s(snapshot), pg_logical_emit_message(true, 'tchat', 'horizon')
"""
_PUT_TYPE = """
INSERT INTO dialog_types (type, members_min, members_max, fixed_roster, full_history, receipts, admins_only_write)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (type) DO UPDATE SET members_min = excluded.members_min, members_max = excluded.members_max,
    fixed_roster = excluded.fixed_roster, full_history = excluded.full_history, receipts = excluded.receipts,
    admins_only_write = excluded.admins_only_write
"""


def _change_queries() -> dict[type[Body], str]:
    names = set(CHAT.list_names())
    called = {body: f"change_{tag_name(body)}" for body in get_args(AnyBody)}
    return {
        body: f"SELECT * FROM {name}($1, $2, $3, $4, $5, $6, $7, $8)" for body, name in called.items() if name in names
    }


CHANGE_QUERIES = _change_queries()
"""The call of its function for every body that is a change."""


_POSTED = tag_of(Posted)
_CODES = {int(code): code for code in VerdictCode}
"""What `VerdictCode(...)` does, in a tenth of the time."""

_T = TypeVar("_T")


class Writes(Protocol):
    """Runs a write in autocommit: in a node `WriteConnections`."""

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows that it returns."""


class PostgresJournal(Journal):
    """The write half: what appends to timelines, and receipts, go over `writes`, the rest over a pool."""

    def __init__(self, pool: Pool, writes: Writes) -> None:
        self._pool = pool
        self._writes = writes

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
                "INSERT INTO incarnations (node, version, started_at_ms) VALUES ($1, $2, $3) RETURNING incarnation",
                node,
                importlib.metadata.version("tchat"),
                time.time_ns() // 1_000_000,
            )
            return number

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        verdicts = await self._flush(entries, incarnation, flush_no, wait)
        conflicts = [index for index, verdict in enumerate(verdicts) if verdict.code is VerdictCode.CONFLICT]
        if conflicts:
            judged = await self._judge_by_value([entries[index] for index in conflicts], incarnation, flush_no, wait)
            for index, verdict in zip(conflicts, judged, strict=True):
                verdicts[index] = verdict
        return verdicts

    async def _judge_by_value(self, entries: list[Entry], incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        """The verdicts on entries whose bytes differ from those stored; BUSY when the database does not say now.

        The rest of their batch has been judged already, so an error would hide what is durable.
        """
        verdicts = [Verdict(VerdictCode.CONFLICT)] * len(entries)
        try:
            stored = await self._read_stored(entries)
            equal = [index for index, entry in enumerate(entries) if _same_value(entry.body, stored[index])]
            if equal:
                repeats = [msgspec.structs.replace(entries[index], body=stored[index]) for index in equal]
                again = await self._flush(repeats, incarnation, flush_no, wait)
                for index, verdict in zip(equal, again, strict=True):
                    verdicts[index] = verdict
        except IncarnationEndedError:
            raise
        except StorageUnavailableError:
            return [Verdict(VerdictCode.BUSY)] * len(entries)
        except WriteRefusedError:
            pass
        return verdicts

    async def _read_stored(self, entries: Sequence[Entry | ChangeEntry]) -> list[bytes]:
        """The stored body under the number of each entry; empty where there is none."""
        rows = await self._writes.fetch(
            _STORED, [e.dialog for e in entries], [e.device for e in entries], [e.n for e in entries]
        )
        return [body for (body,) in rows]

    async def _flush(self, entries: Sequence[Entry], incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        try:
            return await self._flush_all(entries, incarnation, flush_no, wait)
        except TargetArchivedError:
            archived = await self._find_archived(entries)
        verdicts = [Verdict(VerdictCode.TARGET_ARCHIVED)] * len(entries)
        others = [index for index in range(len(entries)) if index not in archived]
        if others:
            judged = await self._flush([entries[index] for index in others], incarnation, flush_no, wait)
            for index, verdict in zip(others, judged, strict=True):
                verdicts[index] = verdict
        return verdicts

    async def _find_archived(self, entries: Sequence[Entry]) -> set[int]:
        """Which entries are about events in the archive, or come after such a one of the same device and dialog."""
        targets = [(index, entry) for index, entry in enumerate(entries) if entry.target is not None]
        rows = await self._writes.fetch(
            _ARE_ARCHIVED,
            [entry.dialog for _, entry in targets],
            [entry.author for _, entry in targets],
            [entry.target for _, entry in targets],
        )
        found: set[int] = set()
        held_back: set[tuple[bytes, bytes]] = set()
        archived = {index for (index, _), (yes,) in zip(targets, rows, strict=True) if yes}
        for index, entry in enumerate(entries):
            if index in archived:
                held_back.add((entry.dialog, entry.device))
            if (entry.dialog, entry.device) in held_back:
                found.add(index)
        return found

    async def _flush_all(self, entries: Sequence[Entry], incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        if len(entries) == 1 and not wait and _is_plain(entries[0]):
            return [await self._flush_one(entries[0], incarnation, flush_no)]
        dialogs, authors, devices, ns, tags, bodies, counts, targets, keys_seqs, *others = zip(
            *map(msgspec.structs.astuple, entries), strict=True
        )
        expire, sessions, shares, requesters = others
        columns = (
            dialogs,
            authors,
            devices,
            ns,
            _column(tags, _POSTED),
            _column(targets, None),
            _column(keys_seqs, 0),
            _column(expire, None),
            _column(counts, True),
            bodies,
            _column(sessions, None),
            _column(shares, None),
            _column(requesters, None),
        )
        rows = await self._writes.fetch(_FLUSH, incarnation, flush_no, wait, *columns)
        return [
            Verdict(_CODES[code], seq, at_ms, messages, members, roster_seq, keys_seq, erased)
            for _, code, seq, at_ms, messages, members, roster_seq, keys_seq, erased in rows
        ]

    async def _flush_one(self, entry: Entry, incarnation: int, flush_no: int) -> Verdict:
        """The usual flush while little is written: one message, about no other event, by a session shared before."""
        ((code, *numbers),) = await self._writes.fetch(
            _FLUSH_ONE,
            incarnation,
            flush_no,
            entry.dialog,
            entry.author,
            entry.device,
            entry.n,
            entry.tag,
            entry.keys_seq,
            entry.expires_at_ms,
            entry.counts,
            entry.body,
            entry.session,
        )
        return Verdict(_CODES[code], *numbers)

    async def change(self, entry: ChangeEntry, *, incarnation: int, flush_no: int) -> ChangeResult:
        body = msgspec.msgpack.encode(entry.body)
        result = await self._change(entry, body, incarnation, flush_no)
        if result.verdict.code is VerdictCode.CONFLICT:
            (stored,) = await self._read_stored([entry])
            if _same_value(body, stored):
                result = await self._change(entry, stored, incarnation, flush_no)
        return result

    async def _change(self, entry: ChangeEntry, body: bytes, incarnation: int, flush_no: int) -> ChangeResult:
        rows = await self._writes.fetch(
            CHANGE_QUERIES[type(entry.body)],
            incarnation,
            flush_no,
            entry.dialog,
            entry.author,
            entry.device,
            entry.n,
            body,
            _fields_text(entry),
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

    async def overtake(self, flush_no: int, *, incarnation: int) -> None:
        await self._writes.fetch(_OVERTAKE, incarnation, flush_no)

    async def raise_receipts(
        self, receipts: Sequence[ReceiptRow], *, incarnation: int, epoch: int
    ) -> list[RaisedReceipt]:
        rows = await self._writes.fetch(
            _RAISE_RECEIPTS,
            incarnation,
            epoch,
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
        done, more, oldest_due_ms, *lacking = row
        return ErasureStep(done, more, oldest_due_ms, tuple(lacking) if lacking[0] is not None else None)

    async def read_horizon(self, *, incarnation: int) -> HorizonReading:
        async with translate_errors():
            row = await self._pool.fetchrow(_HORIZON, incarnation)
        assert row is not None, "one row comes from the message"
        horizon, next_xid, lives, settled = row
        if not lives:
            raise IncarnationEndedError
        if not settled:
            raise OtherHistoryError
        return HorizonReading(horizon, next_xid)

    async def find_oldest_writer(self) -> str:
        async with translate_errors():
            found = await find_oldest_writer(self._pool)
        return f"{found.what}, for {found.open_s:.0f} s" if found else "one that this role may not see"


def _is_plain(entry: Entry) -> bool:
    """Whether `flush_one` can judge it: it is about no other event, brings no keys, and is judged as its author's."""
    return entry.target is None and entry.share is None and entry.requester is None


def _column(values: tuple[_T, ...], usual: _T) -> tuple[_T, ...] | None:
    """A column of a batch, None if all its values are the usual one: the driver looks twice at every value."""
    return None if values.count(usual) == len(values) else values


def _same_value(body: bytes, stored: bytes) -> bool:
    """Whether two bodies, perhaps of servers of different versions, mean the same."""
    try:
        return bool(_given(decode_body(body)) == _given(decode_body(stored)))
    except msgspec.MsgspecError:
        return False


def _given(body: AnyBody) -> AnyBody:
    """The body as its author gave it: without the device logs, which the store fills in."""
    return msgspec.structs.replace(body, logs=[]) if isinstance(body, (DialogCreated, MembersAdded)) else body


def _fields_text(entry: ChangeEntry) -> str:
    """What a function judges by: the fields of the body, and `over_daily_limit` if it is so."""
    fields = {name: fields_of(getattr(entry.body, name)) for name in entry.body.__struct_fields__}
    if entry.over_daily_limit:
        fields["over_daily_limit"] = True
    return msgspec.json.encode(fields).decode()


def fields_of(value: object) -> object:
    """The fields of a struct by name, for JSON: ids as UUID text, other bytes in hex, enums as numbers."""
    if isinstance(value, msgspec.Struct):
        return {name: fields_of(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list):
        return [fields_of(each) for each in value]
    if isinstance(value, bytes):
        return ids.to_text(value) if len(value) == ids.ID_BYTES else value.hex()
    return value
