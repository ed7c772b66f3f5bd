"""What a purged person wrote to others is erased, wherever it is; what others wrote, and who was there, stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from protocol import bodies
from protocol.bodies import tag_of
from protocol.dialog_types import DialogType
from protocol.kinds import DAY_MS, Kind
from server.config.settings import EraserSettings
from server.writing.author_purge import AuthorPurge
from server.writing.mover import Mover
from storage.archive import Archive
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.purged_authors import PostgresPurgedAuthors
from storage.postgres.trimming import PostgresTrimming
from storage.rows import TimelineRow
from storage.unavailable import StorageUnavailableError
from tests.support.archiving import archived_rows, drop_rows, journal_rows, lose_history
from tests.support.clock import ManualClock
from tests.support.harness import running
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

ERASED = tag_of(bodies.Erased)
CONTENT = {tag_of(bodies.Posted), tag_of(bodies.Edited), tag_of(bodies.Reacted)}
GONE = [3, 5, 6, 7, 9]
"""Numbers of the group that are erased with Ann: what she wrote, and a reaction to it."""


class Group:
    """Ann, who is purged, and Bo, in a group; and what erases what she wrote."""

    def __init__(self, world: World, ann: Person, bo: Person, dialog: bytes) -> None:
        self.world = world
        self.ann, self.bo, self.dialog = ann, bo, dialog
        self.clock = ManualClock()
        self.authors = PostgresPurgedAuthors(world.pool)
        self.trimming = PostgresTrimming(world.pool, world.writes or world.pool)

    async def purge_ann(self, *, later_s: float = 120.0) -> None:
        """As it is done when her grace is over; some time ago."""
        self.clock = ManualClock(await self.world.pool.fetchval("SELECT unix_ms()"))
        await self.world.chooses(self.ann, None)
        await self.world.pool.execute("SELECT purge_person($1, $2, 100)", self.clock.wall_ms(), self.ann.principal)
        self.clock.advance(later_s)

    async def erase_all(self, archive: Archive | None, *, step_rows: int = 3) -> AuthorPurge:
        """All that is due now, and what hangs on it."""
        purge = AuthorPurge(self.authors, archive, EraserSettings(step_rows=step_rows), self.clock)
        while await purge.erase_some():
            pass
        self.clock.advance(120)
        while (await self.world.journal.erase_due(self.clock.wall_ms(), limit=10)).more:
            pass
        return purge

    async def trim(self) -> None:
        """All content leaves that the archive has; what hangs on a message leaves after it."""
        for _ in range(2):
            while not (await self.trimming.trim(2**42, kept_ms=DAY_MS)).done:
                pass

    async def waits(self) -> bool:
        """Whether something of a purged person is left to erase."""
        found: bool = await self.world.pool.fetchval("SELECT EXISTS (SELECT FROM purged_authors)")
        return found


def erased_of(rows: list[TimelineRow], dialog: bytes) -> list[int]:
    """The numbers of the erased rows of a dialog, of which no content is left."""
    blank = [row for row in rows if row.event.dialog == dialog and row.tag == ERASED]
    assert all(len(row.event.body) < 10 for row in blank)
    return [row.event.seq for row in blank]


@pytest.fixture
async def group(world: World) -> Group:
    """A group with messages, edits and reactions of both, and a dialog of Bo and another person."""
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, bo, ann, cy)
    await world.say(dialog, bo)
    await world.flush(message(dialog, ann), message(dialog, bo), message(dialog, ann, reply_to=2))
    await world.flush(edit(dialog, ann, 3), reaction(dialog, bo, 3), edit(dialog, bo, 2), reaction(dialog, ann, 2))
    await world.say(await world.create(DialogType.DIRECT, bo, cy), bo)
    await world.act(bodies.MemberLeft, dialog, ann)
    return Group(world, ann, bo, dialog)


@pytest.fixture
async def mover_of(database_url: str) -> AsyncIterator[Callable[[Archive], Awaitable[Mover]]]:
    """What moves all that there is to an archive."""
    backlog = PostgresBacklog(database_url, statement_timeout_s=30.0)

    async def move(archive: Archive) -> Mover:
        mover = Mover(backlog, archive, ManualClock())
        await mover.move()
        return mover

    yield move
    await backlog.release()


@pytest.mark.parametrize("step_rows", [1, 3, 500])
async def test_what_a_purged_person_wrote_is_erased_and_the_rest_stays(group: Group, step_rows: int) -> None:
    before = await journal_rows(group.world)
    await group.purge_ann()
    await group.erase_all(None, step_rows=step_rows)
    after = await journal_rows(group.world)
    assert erased_of(after, group.dialog) == GONE
    for old, new in zip(before, after, strict=True):
        assert new == old or (new.event.dialog, new.event.seq) in {(group.dialog, seq) for seq in GONE}
        assert (new.event.seq, new.event.author, new.event.n) == (old.event.seq, old.event.author, old.event.n)
    assert not await group.waits()


async def test_nothing_is_erased_while_a_flush_of_theirs_may_be_under_way(group: Group) -> None:
    await group.purge_ann(later_s=59)
    await AuthorPurge(group.authors, None, EraserSettings(), group.clock).erase_some()
    assert erased_of(await journal_rows(group.world), group.dialog) == []


async def test_what_is_in_the_archive_alone_is_erased_there_and_stays_erased(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    """Also when a mover that has read the rows before writes them again, and when they are put back."""
    mover = await mover_of(archive)
    await group.trim()
    held = await archived_rows(group.world, archive)
    assert not {row.tag for row in await journal_rows(group.world)} & CONTENT
    await group.purge_ann()
    await group.erase_all(archive)
    await mover.move()
    for _ in range(2):
        assert erased_of(await archived_rows(group.world, archive), group.dialog) == GONE
        epoch = (await mover._backlog.take()).epoch
        await archive.write(held, epoch=epoch)
    assert not await group.waits()
    assert not await group.world.pool.fetchval("SELECT count(*) FROM archive_erasures")


async def test_rows_of_both_stores_are_erased(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    mover = await mover_of(archive)
    await group.trim()
    await group.world.act(bodies.MembersAdded, group.dialog, group.bo, group.ann)
    (late,) = await group.world.flush(message(group.dialog, group.ann))
    await mover.move()
    await group.purge_ann()
    await group.erase_all(archive, step_rows=1)
    await mover.move()
    assert erased_of(await archived_rows(group.world, archive), group.dialog) == [*GONE, late.seq]
    assert erased_of(await journal_rows(group.world), group.dialog) == [late.seq]


async def test_what_they_wrote_is_erased_whatever_its_kind_with_its_edits(group: Group) -> None:
    world, dialog, ann = group.world, group.dialog, group.ann
    await world.act(bodies.MembersAdded, dialog, group.bo, ann)
    paid, _ = await world.flush(message(dialog, ann, kind=Kind.PAYMENT), message(dialog, ann))
    (changed,) = await world.flush(edit(dialog, ann, paid.seq))
    await group.purge_ann()
    await group.erase_all(None)
    assert erased_of(await journal_rows(world), dialog) == [*GONE, paid.seq, paid.seq + 1, changed.seq]


async def test_a_row_that_is_being_put_back_at_that_moment_is_blanked(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    """Who puts it back has not seen its erasure, which has not seen the row."""
    await mover_of(archive)
    await group.trim()
    held = [row for row in await archived_rows(group.world, archive) if row.event.seq == 3]
    await group.purge_ann()
    async with group.world.pool.acquire() as slow, slow.transaction():
        putting = PostgresTrimming(slow, slow)  # type: ignore[arg-type]
        await putting.put_back(held, group.clock.wall_ms(), incarnation=group.world.incarnation)
        purge = AuthorPurge(group.authors, archive, EraserSettings(), group.clock)
        while await purge.erase_some():
            pass
    await group.erase_all(archive)
    assert 3 in erased_of(await journal_rows(group.world), group.dialog)


async def test_what_was_put_back_is_erased_where_it_is(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    """The journal has been gone through when the row comes back to it."""
    mover = await mover_of(archive)
    await group.trim()
    held = [row for row in await archived_rows(group.world, archive) if row.event.dialog == group.dialog]
    await group.purge_ann()
    await group.authors.erase_some(group.clock.wall_ms(), limit=100)
    await group.trimming.put_back(held, group.clock.wall_ms(), incarnation=group.world.incarnation)
    await group.erase_all(archive)
    await mover.move()
    assert erased_of(await journal_rows(group.world), group.dialog) == GONE
    assert erased_of(await archived_rows(group.world, archive), group.dialog) == GONE


async def test_no_number_of_a_lost_history_is_touched(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    """Of the history that was lost, the archive has rows of hers that the journal has for others, or not yet."""
    world, dialog, bo = group.world, group.dialog, group.bo
    mover = await mover_of(archive)
    await world.pool.execute(
        "INSERT INTO left_numbers SELECT DISTINCT device_id, n - n % 10000 FROM journal WHERE n > 0"
    )
    await lose_history(world, dialog, 4)
    await drop_rows(world, dialog, 3, 3)
    await world.flush(message(dialog, bo))
    await group.purge_ann()
    await group.erase_all(archive)
    await world.flush(*(message(dialog, bo) for _ in range(5)))
    await mover.move()
    assert erased_of(await archived_rows(world, archive), dialog) == [3]


async def test_two_at_once_erase_what_one_does(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    mover = await mover_of(archive)
    await group.trim()
    await group.purge_ann()
    await asyncio.gather(*(group.erase_all(archive, step_rows=1) for _ in range(3)))
    await group.erase_all(archive)
    await mover.move()
    assert erased_of(await archived_rows(group.world, archive), group.dialog) == GONE
    assert not await group.waits()


async def test_a_page_of_the_archive_that_is_noted_again_changes_nothing(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    """By who was paused meanwhile, and does not know that all is done."""
    mover = await mover_of(archive)
    await group.trim()
    await group.purge_ann()
    while (step := await group.authors.erase_some(group.clock.wall_ms(), limit=100)).left is None:
        pass
    keys = [(group.dialog, 3), (group.dialog, 5)]
    for reached in ((group.ann.n(), group.dialog), None):
        await group.authors.erase_left(step.left, group.clock.wall_ms(), keys=keys, reached=reached)
    await group.erase_all(archive)
    before = await group.world.pool.fetch("SELECT * FROM purged_authors")
    await group.authors.erase_left(step.left, group.clock.wall_ms(), keys=keys, reached=None)
    await mover.move()
    assert set(erased_of(await archived_rows(group.world, archive), group.dialog)) >= {3, 5}
    assert await group.world.pool.fetch("SELECT * FROM purged_authors") == before == []


async def test_without_the_archive_that_others_have_it_waits(
    group: Group, archive: Archive, mover_of: Callable[[Archive], Awaitable[Mover]]
) -> None:
    await mover_of(archive)
    await group.trim()
    await group.purge_ann()
    with pytest.raises(StorageUnavailableError):
        await group.erase_all(None)
    assert await group.waits()


async def test_a_node_erases_what_purged_people_wrote(group: Group, database_url: str) -> None:
    await group.purge_ann()
    await group.world.pool.execute("UPDATE purged_authors SET due_ms = 0")
    async with running(database_url), asyncio.timeout(20):
        while await group.waits():
            pass
    assert set(GONE) - {7} <= set(erased_of(await journal_rows(group.world), group.dialog))
