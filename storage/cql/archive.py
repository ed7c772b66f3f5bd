"""`Archive` on a CQL server.

Invariants: the timestamp of a write is its epoch and its stage, 1 the row and 2 its erasure, so the server itself lets
an erasure win (`migrations/0001_timelines.cql`), and what is written in a later epoch, over both. A row is written
before the entries by which its message and its device find it; who finds it looks whether it is still that row.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.limits import N_MAX
from storage.archive import ABOUT_A_MESSAGE, ARCHIVE_ROWS_MAX, LEAVE_THE_JOURNAL, WRITTEN_MAX, Archive, WrittenPage
from storage.cql.batches import (
    BUCKET,
    ERASED,
    Values,
    about_values,
    bucket_of_written,
    erasure_timestamp,
    erasure_values,
    make_batches,
    row_values,
    written_values,
)
from storage.cql.driver import CqlServer
from storage.cql.session import CqlSession, Prepared, Quota, Rows
from storage.rows import TimelineRow
from storage.timelines import PAGE_BYTES_MAX
from storage.unavailable import StorageTimeoutError

_SENDERS = 16
"""Batches of one call that are on their way at once."""
_WRITES_AT_ONCE = 32
_READS_AT_ONCE = 8
"""A row may have 60 KB, so a read may hold 4 MB before it is cut to a page."""
_FIRST_ROWS = 64
"""Rows that a read of a range asks for first; then as many as should fill the page, by the size of these."""
_IN_MAX = 100
"""Most numbers of one IN: ScyllaDB's limit."""

_PARTITION = "dialog = ? AND bucket = ?"
_COLUMNS = "seq, author, device, n, at_ms, messages, target, tag, body"
_TIMED = "USING TIMESTAMP ?"
_RANGE = f"SELECT {_COLUMNS} FROM timeline WHERE {_PARTITION} AND seq >= ? AND seq <= ? ORDER BY seq"
_ABOUT = (
    f"SELECT target, tag, seq FROM about WHERE {_PARTITION}"
    " AND (target, tag, seq) > (?, ?, ?) AND (target, tag, seq) < (?, ?, ?) ORDER BY target"
)

_STATEMENTS = {
    "row": f"INSERT INTO timeline (dialog, bucket, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {_TIMED}",
    "erasure": f"INSERT INTO timeline (dialog, bucket, seq, tag, body) VALUES (?, ?, ?, ?, ?) {_TIMED}",
    "about": f"INSERT INTO about (dialog, bucket, target, tag, seq) VALUES (?, ?, ?, ?, ?) {_TIMED}",
    "written": f"INSERT INTO written (device, bucket, n, dialog, seq) VALUES (?, ?, ?, ?, ?) {_TIMED}",
    "delete rows": f"DELETE FROM timeline {_TIMED} WHERE {_PARTITION}",
    "delete about": f"DELETE FROM about {_TIMED} WHERE {_PARTITION}",
    "read oldest": f"{_RANGE} ASC LIMIT ?",
    "read newest": f"{_RANGE} DESC LIMIT ?",
    "read rows": f"SELECT {_COLUMNS} FROM timeline WHERE {_PARTITION} AND seq IN ?",
    "read tags": f"SELECT seq, tag, at_ms FROM timeline WHERE {_PARTITION} AND seq >= ? AND seq <= ?",
    "read written": "SELECT seq FROM written WHERE device = ? AND bucket = ? AND n = ? AND dialog = ?",
    "list written": (
        "SELECT n, dialog, seq FROM written WHERE device = ? AND bucket = ?"
        " AND (n, dialog) > (?, ?) AND (n, dialog) < (?, ?) LIMIT ?"
    ),
    "read devices": f"SELECT seq, device, n, tag FROM timeline WHERE {_PARTITION} AND seq IN ?",
    "read oldest about": f"{_ABOUT} ASC LIMIT ?",
    "read newest about": f"{_ABOUT} DESC LIMIT ?",
}

_Entry = tuple[int, int, int]
"""An entry of `about`: target, tag and seq."""


class CqlArchive(Archive):
    """Reads and writes have places of their own: a page never waits behind the rows that are being moved."""

    def __init__(self, server: CqlServer, *, read_timeout_s: float, write_timeout_s: float) -> None:
        self._session = CqlSession(server, _STATEMENTS)
        self._writing = Quota(_WRITES_AT_ONCE, write_timeout_s)
        self._reading = Quota(_READS_AT_ONCE, read_timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def write(self, rows: Sequence[TimelineRow], *, epoch: int = 0) -> None:
        prepared = await self._session.prepare()
        await self._send((prepared["row"], row_values(row, epoch)) for row in rows)
        await self._send(_entries_of(prepared, rows, epoch))

    async def erase(self, keys: Sequence[tuple[bytes, int]], *, epoch: int = 0) -> None:
        erasure = (await self._session.prepare())["erasure"]
        await self._send((erasure, erasure_values(dialog, seq, epoch)) for dialog, seq in keys)

    async def delete_dialog(self, dialog: bytes, last: int, *, epoch: int = 0) -> None:
        # The entries of `written` stay: ids alone, by which nothing is found without its row.
        prepared, timestamp = await self._session.prepare(), erasure_timestamp(epoch)
        for bucket in range(last // BUCKET + 1):
            bound = (prepared[name].bind((timestamp, dialog, bucket)) for name in ("delete rows", "delete about"))
            await asyncio.gather(*(self._session.execute(each, self._writing) for each in bound))

    async def _send(self, writes: Iterable[tuple[Any, Values]]) -> None:
        """Send writes in batches, a few at a time; each of the senders ends with its first failure."""
        batches = make_batches(writes, self._session.find_replicas)

        async def send_some() -> None:
            for batch in batches:
                await self._session.execute(batch, self._writing)

        outcomes = await asyncio.gather(*(send_some() for _ in range(_SENDERS)), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def read_range(
        self, dialog: bytes, first: int, last: int, *, limit: int, newest_first: bool
    ) -> list[TimelineRow]:
        page = _Page(dialog, limit)
        async with self._in_time() as prepared:
            statement = prepared["read newest" if newest_first else "read oldest"]
            for bucket, low, high in _cut_by_bucket(first, last, newest_first=newest_first):
                start, end = low, high
                while start <= end and (asked := page.count_missing()):
                    rows = await self._read(statement, dialog, bucket, start, end, asked)
                    page.extend(rows)
                    if len(rows) < asked:
                        break
                    start, end = (start, rows[-1][0] - 1) if newest_first else (rows[-1][0] + 1, end)
        return page.rows

    async def read_rows(self, dialog: bytes, seqs: Sequence[int]) -> list[TimelineRow]:
        assert len(seqs) <= ARCHIVE_ROWS_MAX
        async with self._in_time() as prepared:
            return await self._read_in_order(prepared, dialog, seqs)

    async def read_tags(self, dialog: bytes, first: int, last: int) -> dict[int, int]:
        assert last - first < ARCHIVE_ROWS_MAX
        found: dict[int, int] = {}
        async with self._in_time() as prepared:
            for bucket, low, high in _cut_by_bucket(first, last, newest_first=False):
                rows = await self._read(prepared["read tags"], dialog, bucket, low, high)
                found |= {seq: tag for seq, tag, at_ms in rows if at_ms is not None}
        return found

    async def read_about(
        self, dialog: bytes, first: int, last: int, *, limit: int, newest_first: bool
    ) -> list[TimelineRow]:
        assert last - first < ARCHIVE_ROWS_MAX
        page = _Page(dialog, limit)
        async with self._in_time() as prepared:
            for bucket, low, high in _cut_by_bucket(first, last, newest_first=newest_first):
                await self._fill(prepared, page, bucket, (low, 0, 0), (high + 1, 0, 0), newest_first=newest_first)
        return page.rows

    async def read_newest_about(
        self, dialog: bytes, target: int, tag: int, *, limit: int, before: int = N_MAX
    ) -> list[TimelineRow]:
        page = _Page(dialog, limit)
        async with self._in_time() as prepared:
            low, high = (target, tag, 0), (target, tag, before)
            await self._fill(prepared, page, target // BUCKET, low, high, newest_first=True)
        return page.rows

    async def find_written(self, dialog: bytes, device: bytes, n: int) -> int | None:
        async with self._in_time() as prepared:
            for (seq,) in await self._read(prepared["read written"], device, bucket_of_written(n), n, dialog):
                row = (await self._read_rows(prepared, dialog, [seq])).get(seq)
                if row is not None and row[2:4] == (device, n):
                    return int(seq)
        return None

    async def list_written(
        self, device: bytes, first: int, last: int, *, after: tuple[int, bytes] | None, limit: int
    ) -> WrittenPage:
        assert limit <= WRITTEN_MAX
        entries: list[tuple[int, bytes, int]] = []
        start, end = after or (first, b""), (last + 1, b"")
        async with self._in_time() as prepared:
            for high in range(start[0] // BUCKET, last // BUCKET + 1):
                bucket, missing = bucket_of_written(high * BUCKET), limit - len(entries)
                entries += await self._read(prepared["list written"], device, bucket, *start, *end, missing)
                if len(entries) == limit:
                    break
            live = await self._find_live(prepared, device, entries)
        keys = [(dialog, seq) for n, dialog, seq in entries if (n, dialog, seq) in live]
        return WrittenPage(keys, entries[-1][:2] if len(entries) == limit else None)

    async def _find_live(
        self, prepared: Prepared, device: bytes, entries: Sequence[tuple[int, bytes, int]]
    ) -> set[tuple[int, bytes, int]]:
        """Those of the entries of a device whose row is still the one that it wrote, and is not erased."""
        parts: dict[tuple[bytes, int], list[int]] = defaultdict(list)
        for _, dialog, seq in entries:
            parts[dialog, seq // BUCKET].append(seq)
        found = await asyncio.gather(
            *(self._read(prepared["read devices"], *part, seqs) for part, seqs in parts.items())
        )
        return {
            (n, dialog, seq)
            for (dialog, _), rows in zip(parts, found, strict=True)
            for seq, its_device, n, tag in rows
            if its_device == device and tag != ERASED
        }

    async def _fill(
        self, prepared: Prepared, page: _Page, bucket: int, low: _Entry, high: _Entry, *, newest_first: bool
    ) -> None:
        """Fill a page with the rows that the entries between these two name."""
        statement = prepared["read newest about" if newest_first else "read oldest about"]
        while page.count_missing():
            entries = await self._read(statement, page.dialog, bucket, *low, *high, _IN_MAX)
            rows = await self._read_rows(prepared, page.dialog, [seq for *_, seq in entries])
            # After another epoch began, a number may be of a row that is about something else.
            found = ((rows.get(seq), target, tag) for target, tag, seq in entries)
            page.extend(row for row, *written in found if row and _is_about(row, *written))
            if len(entries) < _IN_MAX:
                break
            low, high = (low, entries[-1]) if newest_first else (entries[-1], high)

    async def _read_in_order(self, prepared: Prepared, dialog: bytes, seqs: Sequence[int]) -> list[TimelineRow]:
        """The rows with these numbers, in the order of these, up to a page."""
        page = _Page(dialog, len(seqs))
        for start in range(0, len(seqs), _IN_MAX):
            if page.count_missing() == 0:
                break
            some = seqs[start : start + _IN_MAX]
            found = await self._read_rows(prepared, dialog, some)
            page.extend(found[seq] for seq in some if seq in found)
        return page.rows

    async def _read_rows(self, prepared: Prepared, dialog: bytes, seqs: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        by_bucket: dict[int, list[int]] = defaultdict(list)
        for seq in seqs:
            by_bucket[seq // BUCKET].append(seq)
        reads = (self._read(prepared["read rows"], dialog, *asked) for asked in by_bucket.items())
        return {row[0]: row for rows in await asyncio.gather(*reads) for row in rows}

    async def _read(self, statement: Any, *values: object) -> Rows:
        return await self._session.execute(statement.bind(values), self._reading)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[Prepared]:
        """The prepared statements, for a read that has one time-out as a whole."""
        try:
            async with asyncio.timeout(self._reading.timeout_s):
                yield await self._session.prepare()
        except TimeoutError as error:
            raise StorageTimeoutError("the archive took too long to answer a read") from error


def _entries_of(prepared: Prepared, rows: Sequence[TimelineRow], epoch: int) -> Iterator[tuple[Any, Values]]:
    """The entries by which rows are found: by their message, and by the number of their device."""
    for row in rows:
        if row.tag in ABOUT_A_MESSAGE and row.target:
            yield prepared["about"], about_values(row, epoch)
        if row.tag in LEAVE_THE_JOURNAL and row.event.n:
            yield prepared["written"], written_values(row, epoch)


def _is_about(row: tuple[Any, ...], target: int, tag: int) -> bool:
    """Whether a row as it was read is what an entry says, or was."""
    *_, its_target, its_tag, _body = row
    return its_target == target and its_tag in {tag, ERASED}


class _Page:
    """Rows of a dialog until there are `limit`, or one brings their bodies to `PAGE_BYTES_MAX`."""

    def __init__(self, dialog: bytes, limit: int) -> None:
        self.rows: list[TimelineRow] = []
        self.dialog = dialog
        self._limit = limit
        self._bytes = 0

    def count_missing(self) -> int:
        """How many rows to ask for, to fill the page if they are as long as those before; 0: it is full."""
        if self._bytes >= PAGE_BYTES_MAX:
            return 0
        likely = (PAGE_BYTES_MAX - self._bytes) * len(self.rows) // max(self._bytes, 1)
        return min(max(likely, _FIRST_ROWS), self._limit - len(self.rows))

    def extend(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append rows as they were read, while there is room."""
        for seq, author, device, n, at_ms, messages, target, tag, body in rows:
            if self._bytes >= PAGE_BYTES_MAX or len(self.rows) == self._limit:
                break
            if at_ms is None:  # the erasure of a row that is not archived yet
                continue
            event = TimelineEventRaw(self.dialog, seq, author, device, n, at_ms, messages, msgspec.Raw(body))
            self.rows.append(TimelineRow(event, tag, target or None))
            self._bytes += len(body)


def _cut_by_bucket(first: int, last: int, *, newest_first: bool) -> Iterator[tuple[int, int, int]]:
    """The part of a range in each bucket: `(bucket, first, last)`."""
    buckets = range(first // BUCKET, last // BUCKET + 1)
    for bucket in reversed(buckets) if newest_first else buckets:
        yield bucket, max(first, bucket * BUCKET), min(last, (bucket + 1) * BUCKET - 1)
