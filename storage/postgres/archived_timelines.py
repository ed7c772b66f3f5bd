"""`Timelines` where old rows are only in the archive: what `timelines.py` reads, from both stores (`archived_rows.py`).

Who may see what, and how far a dialog goes, comes from PostgreSQL, and is asked before the rows. What was done later to
messages is asked of the journal alone first, in one statement; only if the journal turns out to lack numbers is it
asked again, with the archive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from protocol.bodies import Deleted, Edited, Reacted, TimelineEventRaw, tag_of
from protocol.limits import N_MAX, REACTIONS_PER_MESSAGE_MAX
from storage.archive import ABOUT_A_MESSAGE, ARCHIVE_ROWS_MAX, Archive
from storage.postgres.archived_rows import ArchivedRows, Key
from storage.postgres.pool import Pool
from storage.postgres.timeline_rows import ROW_COLUMNS, make_row
from storage.postgres.timelines import (
    ARE_ABOUT_A_MESSAGE,
    HELD_FROM,
    LATER_ROWS_MAX,
    MISSED_LOOKED_AT_MAX,
    PostgresTimelines,
)
from storage.rows import BLANK, Later, TimelineRow
from storage.timelines import PAGE_BYTES_MAX, cut_short
from storage.unavailable import StorageTimeoutError, StorageUnavailableError

_EDITED, _DELETED, _REACTED = tag_of(Edited), tag_of(Deleted), tag_of(Reacted)

_PARTS = """
SELECT r.ord, r.dialog_id, lower(p.part) AS first, upper(p.part) - 1 AS last
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS r(dialog_id, first, last, ord)
JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = $1
JOIN heads h ON h.dialog_id = r.dialog_id
CROSS JOIN unnest(m.visible * int8multirange(int8range(r.first, greatest(least(r.last, h.seq) + 1, r.first))))
    AS p(part)
ORDER BY r.ord, lower(p.part)
"""
_MEMBER = f"""
SELECT m.visible, {HELD_FROM} AS held_from, h.seq AS head
FROM members m JOIN heads h ON h.dialog_id = m.dialog_id CROSS JOIN trimming t
WHERE m.principal_id = $1 AND m.dialog_id = $2
"""


def _about(order: str) -> str:
    ordered = f"j.target {order}, j.seq {order}"
    return f"""
SELECT {ROW_COLUMNS} FROM (
    SELECT j.*, coalesce(sum(octet_length(j.body)) OVER (
        ORDER BY {ordered} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (SELECT * FROM journal j
          WHERE j.dialog_id = $1 AND j.tag IN ({ARE_ABOUT_A_MESSAGE}) AND j.target BETWEEN $2 AND $3
          ORDER BY {ordered} LIMIT {LATER_ROWS_MAX + 1}) j) j
WHERE before < {PAGE_BYTES_MAX}
ORDER BY {ordered}
"""


_ABOUT = {False: _about("ASC"), True: _about("DESC")}
"""By `newest_first`."""
_NEWEST_ABOUT = f"""
SELECT {ROW_COLUMNS} FROM journal j
WHERE j.dialog_id = $1 AND j.target = $2 AND j.tag IN ({ARE_ABOUT_A_MESSAGE}) AND j.tag = $3 AND j.seq < $4
ORDER BY j.seq DESC LIMIT $5
"""
_HELD_OF = "SELECT j.seq FROM journal j WHERE j.dialog_id = $1 AND j.seq = ANY ($2::bigint[])"
_HEADERS = "SELECT seq, tag, target FROM journal j WHERE j.dialog_id = $1 AND j.seq > $2 AND j.seq < $3"


class _Member(msgspec.Struct, frozen=True):
    """What somebody may see of a dialog up to its head, and from which number on the journal holds it whole.

    `visible` are numbers and, for each, one past the last of them.
    """

    visible: list[tuple[int, int]]
    held_from: int

    def sees(self, seq: int) -> bool:
        """Whether this number is visible."""
        return any(first <= seq < end for first, end in self.visible)

    def is_told(self, seq: int, target: int) -> bool:
        """Whether something done to a message concerns them: they see the message, and it is from before they left."""
        return self.sees(target) and seq < self.visible[-1][1]


class ArchivedTimelines(PostgresTimelines):
    """The read half, over a pool of connections and an archive. A page takes at most `timeout_s`."""

    def __init__(self, pool: Pool, archive: Archive, *, timeout_s: float, pages_at_once: int = 4) -> None:
        super().__init__(pool, pages_at_once=pages_at_once)
        self._archive = archive
        self._timeout_s = timeout_s
        self._rows = ArchivedRows(self._fetch_page, archive)

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        async with self._bounded():
            keys = await self._list_visible(principal, ranges, limit=limit, newest_first=False)
            return await self._rows.read_page(keys, newest_first=False)

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        async with self._bounded():
            keys = await self._list_visible(principal, [(dialog, from_seq, to_seq)], limit=limit, newest_first=True)
            return (await self._rows.read_page(keys, newest_first=True))[::-1]

    async def read_later(self, principal: bytes, dialog: bytes, first: int, last: int, *, newest_first: bool) -> Later:
        async with self._bounded():
            found = await super().read_later(principal, dialog, first, last, newest_first=newest_first)
            member = await self._find_member(principal, dialog)  # after it: numbers may leave the journal meanwhile
            if member is None or member.held_from <= first:
                return found
            return await self._read_later(member, dialog, first, last, newest_first)

    async def read_missed(
        self, principal: bytes, dialog: bytes, after: int, before: int, *, limit: int
    ) -> list[TimelineEventRaw] | None:
        if before - after - 1 > MISSED_LOOKED_AT_MAX:
            return None
        async with self._bounded():
            found = await super().read_missed(principal, dialog, after, before, limit=limit)
            member = await self._find_member(principal, dialog)
            if member is None or member.held_from <= 1:  # the messages that it is about are anywhere before
                return found
            try:
                return await self._read_missed(member, dialog, after, before, limit)
            except StorageUnavailableError:
                return None

    async def _list_visible(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int, newest_first: bool
    ) -> list[Key]:
        """The visible numbers of each range, up to the head, at most `limit` of each."""
        dialogs, firsts, lasts = zip(*ranges, strict=True)
        listed: list[list[Key]] = [[] for _ in ranges]
        parts = await self._fetch_page(_PARTS, principal, dialogs, firsts, lasts)
        for ord_, dialog, first, last in reversed(parts) if newest_first else parts:
            keys = listed[ord_ - 1]
            numbers = range(last, first - 1, -1) if newest_first else range(first, last + 1)
            keys += [(dialog, seq) for seq in numbers[: limit - len(keys)]]
        return [key for keys in listed for key in keys]

    async def _find_member(self, principal: bytes, dialog: bytes) -> _Member | None:
        records = await self._fetch_page(_MEMBER, principal, dialog)
        if not records:
            return None
        visible, held_from, head = records[0]
        return _Member([(part.lower, part.upper or head + 1) for part in visible], held_from)

    async def _read_later(self, member: _Member, dialog: bytes, first: int, last: int, newest_first: bool) -> Later:
        if newest_first:
            first = max(first, last - ARCHIVE_ROWS_MAX + 1)
        else:
            last = min(last, first + ARCHIVE_ROWS_MAX - 1)
        journal = [make_row(row) for row in await self._fetch_page(_ABOUT[newest_first], dialog, first, last)]
        archived = await self._archive.read_about(
            dialog, first, last, limit=LATER_ROWS_MAX + 1, newest_first=newest_first
        )
        kept = await self._without_lost(dialog, archived)
        both = list({row.event.seq: row for row in (*kept, *journal)}.values())
        stops = [stop for rows in (journal, archived, both) if (stop := _stops_at(rows, newest_first)) is not None]
        rows = [row for row in both if row.event.seq > last or not member.sees(row.event.seq)]
        if stops:
            stopped_at = max(stops) if newest_first else min(stops)
            if stopped_at == (last if newest_first else first):
                first = last = stopped_at
                rows = await self._read_newest_about(member, dialog, stopped_at)
            else:
                first, last = (stopped_at + 1, last) if newest_first else (first, stopped_at - 1)
        rows = [row for row in rows if row.target is not None and first <= row.target <= last]
        rows = await self._keep_told(member, dialog, rows)
        events: dict[int, list[TimelineEventRaw]] = {}
        for row in sorted(rows, key=lambda row: (row.tag == _REACTED, -row.event.seq)):
            events.setdefault(row.target or 0, []).append(row.event)
        return Later(first, last, events)

    async def _read_newest_about(self, member: _Member, dialog: bytes, target: int) -> list[TimelineRow]:
        """Of one message with too much: the newest edit, the deletion, the newest reaction of each of some people."""
        end = member.visible[-1][1]
        newest: dict[tuple[int, bytes], TimelineRow] = {}
        for tag in (_EDITED, _DELETED, _REACTED):
            records = await self._fetch_page(_NEWEST_ABOUT, dialog, target, tag, end, LATER_ROWS_MAX)
            archived = await self._read_newest_archived(dialog, target, tag)
            rows = {row.event.seq: row for row in (*archived, *map(make_row, records)) if row.tag == tag}
            for seq in sorted(rows, reverse=True)[:LATER_ROWS_MAX]:
                if seq < end:
                    newest.setdefault((tag, rows[seq].event.author if tag == _REACTED else b""), rows[seq])
        reactions = [row for (tag, _), row in newest.items() if tag == _REACTED][:REACTIONS_PER_MESSAGE_MAX]
        return [row for (tag, _), row in newest.items() if tag != _REACTED] + reactions

    async def _read_missed(
        self, member: _Member, dialog: bytes, after: int, before: int, limit: int
    ) -> list[TimelineEventRaw] | None:
        headers = {seq: (tag, target) for seq, tag, target in await self._fetch_page(_HEADERS, dialog, after, before)}
        lacking = [seq for seq in range(after + 1, before) if seq not in headers]
        if lacking:
            tags = await self._archive.read_tags(dialog, lacking[0], lacking[-1])
            about = [seq for seq in lacking if tags.get(seq) in ABOUT_A_MESSAGE]
            rows = await self._archive.read_rows(dialog, about) if about else []
            if len(rows) < len(about) and cut_short([row.event for row in rows]):
                return None
            if len(rows) < len(about) or not tags.keys() >= set(lacking):
                raise StorageUnavailableError(f"the archive lacks rows of dialog {dialog.hex()} after number {after}")
            headers |= {row.event.seq: (row.tag, row.target) for row in rows}
        shown = [
            (seq, tag, target)
            for seq, (tag, target) in sorted(headers.items())
            if tag in ABOUT_A_MESSAGE and not member.sees(seq) and member.is_told(seq, target or 0)
        ]
        erased = await self._rows.find_erased((dialog, target) for _, _, target in shown)
        keys = [(dialog, seq) for seq, tag, target in shown if tag == _DELETED or (dialog, target) not in erased]
        page = await self._rows.read_page(keys, newest_first=False)
        if not len(page) == len(keys) <= limit:
            return None
        return [event for event in page if bytes(event.body) != bytes(BLANK)]  # their message was erased a moment ago

    async def _read_newest_archived(self, dialog: bytes, target: int, tag: int) -> list[TimelineRow]:
        kept: list[TimelineRow] = []
        before = N_MAX
        while len(kept) < LATER_ROWS_MAX:
            rows = await self._archive.read_newest_about(dialog, target, tag, limit=LATER_ROWS_MAX, before=before)
            some = await self._without_lost(dialog, rows)
            kept += some
            if len(some) == len(rows):
                break
            before = rows[-1].event.seq
        return kept

    async def _without_lost(self, dialog: bytes, archived: list[TimelineRow]) -> list[TimelineRow]:
        """Rows of the archive that the journal has no more: other numbers may be of a history that was lost."""
        seqs = [row.event.seq for row in archived]
        held = {seq for (seq,) in await self._fetch_page(_HELD_OF, dialog, seqs)} if seqs else set()
        return [row for row in archived if row.event.seq not in held]

    async def _keep_told(self, member: _Member, dialog: bytes, rows: list[TimelineRow]) -> list[TimelineRow]:
        """What concerns the member, of rows about messages, without those about erased ones."""
        told = [row for row in rows if row.tag in ABOUT_A_MESSAGE and member.is_told(row.event.seq, row.target or 0)]
        erased = await self._rows.find_erased((dialog, row.target or 0) for row in told)
        return [row for row in told if row.tag == _DELETED or (dialog, row.target) not in erased]

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise StorageTimeoutError("a page of both stores took too long") from error


def _stops_at(rows: Sequence[TimelineRow], newest_first: bool) -> int | None:
    """The message at which rows about messages are too many for one read; None: they are all there are."""
    size = 0
    for at, row in enumerate(sorted(rows, key=lambda row: row.target or 0, reverse=newest_first), 1):
        size += len(row.event.body)
        if at > LATER_ROWS_MAX or size >= PAGE_BYTES_MAX:
            return row.target
    return None
