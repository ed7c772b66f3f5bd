"""What the journal has, and what an archive has of it."""

from __future__ import annotations

import msgspec

from protocol.bodies import TimelineEventRaw
from storage.archive import Archive
from storage.backlog import ArchiveBacklog, Cursor
from storage.rows import TimelineRow
from tests.support.world import World

_ROWS = """
SELECT dialog_id, seq, author_id, device_id, n, at_ms, messages, body, tag, target FROM journal ORDER BY dialog_id, seq
"""


async def journal_rows(world: World) -> list[TimelineRow]:
    """All of it, dialog by dialog."""
    return [
        TimelineRow(TimelineEventRaw(dialog, seq, author, device, n, at_ms, messages, msgspec.Raw(body)), tag, target)
        for dialog, seq, author, device, n, at_ms, messages, body, tag, target in await world.pool.fetch(_ROWS)
    ]


async def archived_rows(world: World, archive: Archive) -> list[TimelineRow]:
    """All that it has of the dialogs of a world, dialog by dialog."""
    rows: list[TimelineRow] = []
    for dialog, head in await world.pool.fetch("SELECT dialog_id, seq FROM heads ORDER BY dialog_id"):
        first = 1
        while page := await archive.read_range(dialog, first, head, limit=1000, newest_first=False):
            rows += page
            first = page[-1].event.seq + 1
    return rows


async def pages_of(backlog: ArchiveBacklog, first: int, horizon: int) -> list[list[TimelineRow]]:
    """The pages of a range of stamps."""
    pages = []
    cursor = Cursor(first)
    while cursor.xid < horizon:
        page = await backlog.read_page(cursor, horizon)
        pages.append(page.rows)
        cursor = page.reached
    return pages
