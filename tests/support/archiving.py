"""What the journal has, and what an archive has of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from protocol.bodies import TimelineEventRaw
from server.clock import SystemClock
from server.writing.mover import Mover
from storage.archive import Archive
from storage.backlog import ArchiveBacklog, Cursor
from storage.local.archive import LocalArchive
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.timeline_rows import ROW_COLUMNS, make_row
from storage.rows import Later, TimelineRow
from storage.unavailable import StorageUnavailableError
from tests.support.world import World

_ROWS = f"SELECT {ROW_COLUMNS} FROM journal ORDER BY dialog_id, seq"

_DROP = """
WITH gone AS (DELETE FROM journal WHERE dialog_id = $1 AND seq BETWEEN $2 AND $3 RETURNING xid)
UPDATE trimming SET newest = greatest(newest, (SELECT max(xid) FROM gone))
"""


class ArchiveThatMayBeAway(LocalArchive):
    """Counts its reads, of which it answers so many more."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = math.inf
        self.reads = 0

    async def read_tags(self, dialog: bytes, first: int, last: int) -> dict[int, int]:
        self._look()
        return await super().read_tags(dialog, first, last)

    def _page(self, dialog: bytes, seqs: Iterable[int]) -> list[TimelineRow]:
        self._look()
        return super()._page(dialog, seqs)

    def _look(self) -> None:
        self.reads += 1
        self.answers -= 1
        if self.answers < 0:
            raise StorageUnavailableError("away")


@asynccontextmanager
async def moving(url: str, archive: Archive) -> AsyncIterator[Mover]:
    """What moves the rows of a database."""
    backlog = PostgresBacklog(url, statement_timeout_s=30.0)
    try:
        yield Mover(backlog, archive, SystemClock())
    finally:
        await backlog.release()


async def journal_rows(world: World) -> list[TimelineRow]:
    """All of it, dialog by dialog."""
    return [make_row(record) for record in await world.pool.fetch(_ROWS)]


async def archived_rows(world: World, archive: Archive) -> list[TimelineRow]:
    """All that it has of the dialogs of a world, dialog by dialog."""
    rows: list[TimelineRow] = []
    for dialog, head in await world.pool.fetch("SELECT dialog_id, seq FROM heads ORDER BY dialog_id"):
        first = 1
        while page := await archive.read_range(dialog, first, head, limit=1000, newest_first=False):
            rows += page
            first = page[-1].event.seq + 1
    return rows


async def drop_rows(world: World, dialog: bytes, first: int, last: int) -> None:
    """Delete rows of a dialog from the journal, as if they had left it."""
    await world.pool.execute(_DROP, dialog, first, last)


async def lose_history(world: World, dialog: bytes, head: int) -> None:
    """As a restore does: the numbers of a dialog above this one will be given out again, in the next epoch."""
    await world.pool.execute("DELETE FROM journal WHERE dialog_id = $1 AND seq > $2", dialog, head)
    await world.pool.execute("UPDATE heads SET seq = $2 WHERE dialog_id = $1", dialog, head)
    await world.pool.execute("UPDATE deployment SET epoch = epoch + 1")


async def pages_of(backlog: ArchiveBacklog, first: int, horizon: int) -> list[list[TimelineRow]]:
    """The pages of a range of stamps."""
    pages = []
    cursor = Cursor(first)
    while cursor.xid < horizon:
        page = await backlog.read_page(cursor, horizon)
        pages.append(page.rows)
        cursor = page.reached
    return pages


_HIDE = """
WITH gone AS (
    DELETE FROM journal j USING heads h, archiving a
    WHERE h.dialog_id = j.dialog_id AND j.seq <= h.seq * $1::float8 AND j.xid < a.moved RETURNING j.*
)
INSERT INTO hidden SELECT * FROM gone
"""
_NOTE = "UPDATE trimming SET newest = coalesce((SELECT max(xid) FROM hidden), '0')"
_SHOW = "WITH back AS (DELETE FROM hidden RETURNING *) INSERT INTO journal SELECT * FROM back"


class HidingTimelines(ArchivedTimelines):
    """While it reads rows, this share of each dialog is only in the archive: from the first number on.

    Between the reads all is in the journal, so that what writes need is there.
    """

    def __init__(self, world: World, mover: Mover, archive: Archive, share: float) -> None:
        super().__init__(world.pool, archive, timeout_s=30.0)
        self._mover = mover
        self._share = share
        self._alone = asyncio.Lock()

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        async with self._hidden():
            return await super().read_events(principal, ranges, limit=limit)

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        async with self._hidden():
            return await super().read_newest(principal, dialog, from_seq, to_seq, limit=limit)

    async def read_later(self, principal: bytes, dialog: bytes, first: int, last: int, *, newest_first: bool) -> Later:
        async with self._hidden():
            return await super().read_later(principal, dialog, first, last, newest_first=newest_first)

    async def read_missed(
        self, principal: bytes, dialog: bytes, after: int, before: int, *, limit: int
    ) -> list[TimelineEventRaw] | None:
        async with self._hidden():
            return await super().read_missed(principal, dialog, after, before, limit=limit)

    @asynccontextmanager
    async def _hidden(self) -> AsyncIterator[None]:
        async with self._alone:
            await self._mover.move()
            await self._pool.execute(_HIDE, self._share)
            await self._pool.execute(_NOTE)
            try:
                yield
            finally:
                await self._pool.execute(_SHOW)
                await self._pool.execute(_NOTE)


@asynccontextmanager
async def hiding(world: World, url: str, archive: Archive, *, share: float) -> AsyncIterator[None]:
    """Let the timelines of a world read this share of each dialog from an archive."""
    await world.pool.execute("CREATE TABLE hidden (LIKE journal)")
    async with moving(url, archive) as mover:
        world.timelines = HidingTimelines(world, mover, archive, share)
        yield
