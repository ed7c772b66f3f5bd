"""Rows by their numbers, from the journal and, for the numbers that it lacks, from the archive.

Rows leave the journal after they have been archived, some of them earlier than others. So the journal is asked first: a
number that it lacks then is in the archive, or this is an error, never a gap in a page. What the journal has whole is
served without the archive.

A row of the archive counts as erased when it is blank there, or still waits to be erased there. What waits is read
before the archive is: an erasure leaves that list only when the archive has it. What hangs on an erased message counts
as erased, wherever either of them is. A row of the journal is not left hanging on an erased message that is only in the
archive: until it is blank the journal knows of the erasure (`erasures`). So it is served while the archive is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import asyncpg

from protocol.bodies import Erased, TimelineEventRaw, tag_of
from storage.archive import ARCHIVE_ROWS_MAX, HANGING, Archive
from storage.postgres.timeline_rows import ROW_COLUMNS, make_row
from storage.rows import TimelineRow, blank_row
from storage.timelines import PAGE_BYTES_MAX, cut_short
from storage.unavailable import StorageUnavailableError

Key = tuple[bytes, int]
"""A dialog and a number in it."""
Run = tuple[bytes, int, int]
"""Numbers of a dialog that follow each other: the lowest and the highest."""
Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_RUNS_AT_ONCE = 8
_TAGS_APART_MAX = 100
"""Tags between two that are asked for, which are read, too, to ask once."""

_ERASED = tag_of(Erased)


def _rows_in(order: str) -> str:
    return f"""
SELECT {ROW_COLUMNS} FROM (
    SELECT r.ord, j.*, coalesce(sum(octet_length(j.body)) OVER (
        ORDER BY r.ord, j.seq {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r(dialog_id, first, last, ord)
    JOIN journal j ON j.dialog_id = r.dialog_id AND j.seq BETWEEN r.first AND r.last) j
WHERE before < {PAGE_BYTES_MAX}
ORDER BY ord, seq {order}
"""


_ROWS = {False: _rows_in("ASC"), True: _rows_in("DESC")}
"""By `newest_first`."""
_WAITING = """
SELECT e.dialog_id, e.seq
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS r(dialog_id, first, last)
JOIN archive_erasures e ON e.dialog_id = r.dialog_id AND e.seq BETWEEN r.first AND r.last
"""
_STATES = """
SELECT k.dialog_id, k.seq, j.tag,
       EXISTS (SELECT FROM archive_erasures e WHERE e.dialog_id = k.dialog_id AND e.seq = k.seq)
       OR EXISTS (SELECT FROM erasures e WHERE e.dialog_id = k.dialog_id AND e.target = k.seq) AS waits
FROM unnest($1::uuid[], $2::bigint[]) AS k(dialog_id, seq)
LEFT JOIN journal j ON j.dialog_id = k.dialog_id AND j.seq = k.seq
"""


class ArchivedRows:
    """Reads both stores; `fetch` asks the journal's."""

    def __init__(self, fetch: Fetch, archive: Archive) -> None:
        self._fetch = fetch
        self._archive = archive

    async def read_page(self, keys: Sequence[Key], *, newest_first: bool) -> list[TimelineEventRaw]:
        """The events with these numbers, in this order, up to the one that brings them to `PAGE_BYTES_MAX`.

        Dialog by dialog, each in rising order, or, with `newest_first`, in falling order.
        """
        page: list[TimelineEventRaw] = []
        size = 0
        while keys:
            rows = await self._read_some(keys, newest_first)
            for row in rows:
                page.append(row.event)
                size += len(row.event.body)
                if size >= PAGE_BYTES_MAX:
                    return page
            keys = keys[len(rows) :]  # more fits in: bodies that were read have been left out
        return page

    async def find_erased(self, keys: Iterable[Key], *, by_journal: bool = False) -> set[Key]:
        """Those of these rows that count as erased, or, `by_journal`, whose erasure the journal knows of.

        What hangs on a message is not looked at.
        """
        wanted = sorted(set(keys))
        if not wanted:
            return set()
        records = await self._fetch(_STATES, [dialog for dialog, _ in wanted], [seq for _, seq in wanted])
        erased = {(dialog, seq) for dialog, seq, tag, waits in records if tag == _ERASED or (tag is None and waits)}
        archived = sorted((dialog, seq) for dialog, seq, tag, waits in records if tag is None and not waits)
        for dialog, first, last in [] if by_journal else _runs(archived, apart_max=_TAGS_APART_MAX):
            tags = await self._archive.read_tags(dialog, first, last)
            for key in archived:
                if key[0] == dialog and first <= key[1] <= last:
                    _must_have(key[1] in tags, dialog, key[1])
                    erased |= {key} if tags[key[1]] == _ERASED else set()
        return erased

    async def _read_some(self, keys: Sequence[Key], newest_first: bool) -> list[TimelineRow]:
        """The rows of the first of these numbers, at least of one."""
        records = await self._fetch(_ROWS[newest_first], *_columns(_runs(keys)))
        rows = await self._blank_hanging(list(map(make_row, records)), by_journal=True)
        found = {(row.event.dialog, row.event.seq): row for row in rows}
        if sum(len(record["body"]) for record in records) >= PAGE_BYTES_MAX:
            keys = keys[: keys.index(list(found)[-1]) + 1]
        lacking = _runs([key for key in keys if key not in found])
        if lacking:
            found |= await self._read_archive(lacking, newest_first)
        rows = []
        for key in keys:
            if key not in found:
                break  # a page of the archive was full
            rows.append(found[key])
        return rows

    async def _read_archive(self, runs: Sequence[Run], newest_first: bool) -> dict[Key, TimelineRow]:
        waiting = {(dialog, seq) for dialog, seq in await self._fetch(_WAITING, *_columns(runs))}
        found: dict[Key, TimelineRow] = {}
        size = 0
        for at in range(0, len(runs), _RUNS_AT_ONCE):
            some = runs[at : at + _RUNS_AT_ONCE]
            pages = await asyncio.gather(
                *(
                    self._archive.read_range(dialog, first, last, limit=last - first + 1, newest_first=newest_first)
                    for dialog, first, last in some
                )
            )
            for (dialog, first, last), page in zip(some, pages, strict=True):
                is_cut = cut_short([row.event for row in page])
                _must_have(is_cut or len(page) == last - first + 1, dialog, first)
                size += sum(len(row.event.body) for row in page)
                for row in page:
                    key = (dialog, row.event.seq)
                    found[key] = blank_row(row) if key in waiting else row
            if size >= PAGE_BYTES_MAX:
                break
        rows = await self._blank_hanging(list(found.values()), by_journal=False)
        return {(row.event.dialog, row.event.seq): row for row in rows}

    async def _blank_hanging(self, rows: list[TimelineRow], *, by_journal: bool) -> list[TimelineRow]:
        """The rows of one store, blank where they are edits and reactions of erased messages."""
        targets = ((row.event.dialog, row.target) for row in rows if row.tag in HANGING and row.target is not None)
        erased = await self.find_erased(targets, by_journal=by_journal)
        return [
            blank_row(row) if row.tag in HANGING and (row.event.dialog, row.target) in erased else row for row in rows
        ]


def _runs(keys: Sequence[Key], *, apart_max: int = 1) -> list[Run]:
    """Keys in rising or falling order as runs, in which numbers are at most so far apart."""
    runs: list[Run] = []
    for dialog, seq in keys:
        before, first, last = runs[-1] if runs else (b"", 0, 0)
        joined = min(first, seq), max(last, seq)
        is_near = first - apart_max <= seq <= last + apart_max and joined[1] - joined[0] < ARCHIVE_ROWS_MAX
        if before == dialog and is_near:
            runs[-1] = (dialog, *joined)
        else:
            runs.append((dialog, seq, seq))
    return runs


def _columns(runs: Sequence[Run]) -> tuple[list[bytes], list[int], list[int]]:
    return [run[0] for run in runs], [run[1] for run in runs], [run[2] for run in runs]


def _must_have(there: bool, dialog: bytes, seq: int) -> None:
    if not there:
        raise StorageUnavailableError(
            f"the archive lacks a row that the journal has no more: dialog {dialog.hex()}, from number {seq} on"
        )
