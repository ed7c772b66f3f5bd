"""Reads of rows that the journal has no more: complete, erased when they are erased, and bounded; or an error."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable

import msgspec
import pytest

from protocol import bodies
from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType
from protocol.limits import REACTIONS_PER_MESSAGE_MAX
from server.writing.mover import Mover
from storage.postgres import archived_rows
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.timelines import PAGE_BYTES_MAX, cut_short
from storage.unavailable import StorageUnavailableError
from tests.support.archiving import ArchiveThatMayBeAway, drop_rows, lose_history, moving
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

ERASED = msgspec.msgpack.encode(bodies.Erased())


@pytest.fixture
def archive() -> ArchiveThatMayBeAway:
    return ArchiveThatMayBeAway()


@pytest.fixture
async def mover(database_url: str, archive: ArchiveThatMayBeAway) -> AsyncIterator[Mover]:
    async with moving(database_url, archive) as mover:
        yield mover


@pytest.fixture
def reads(world: World, archive: ArchiveThatMayBeAway) -> ArchivedTimelines:
    return ArchivedTimelines(world.pool, archive, timeout_s=30.0)


async def pair(world: World) -> tuple[Person, Person, bytes]:
    ann, bo = await world.people(2)
    return ann, bo, await world.create(DialogType.DIRECT, ann, bo)


async def leave_the_journal(world: World, mover: Mover, dialog: bytes, last: int) -> None:
    """Move everything, then drop the first rows of a dialog."""
    await mover.move()
    await drop_rows(world, dialog, 1, last)


def seqs(events: list[TimelineEventRaw]) -> list[int]:
    return [event.seq for event in events]


async def test_what_the_journal_has_is_served_without_the_archive(
    world: World, mover: Mover, reads: ArchivedTimelines, archive: ArchiveThatMayBeAway
) -> None:
    ann, bo, dialog = await pair(world)
    for _ in range(9):
        await world.say(dialog, ann)
    await world.flush(reaction(dialog, bo, 7))
    await leave_the_journal(world, mover, dialog, 5)
    archive.answers = 0
    me = bo.principal
    assert seqs(await reads.read_newest(me, dialog, 1, 99, limit=6)) == [6, 7, 8, 9, 10, 11]
    assert seqs(await reads.read_events(me, [(dialog, 6, 99)], limit=99)) == [6, 7, 8, 9, 10, 11]
    assert (await reads.read_later(me, dialog, 6, 10, newest_first=True)).events.keys() == {7}
    assert archive.reads == 0
    for read in (
        reads.read_newest(me, dialog, 1, 99, limit=7),
        reads.read_events(me, [(dialog, 5, 99)], limit=99),
        reads.read_later(me, dialog, 5, 10, newest_first=True),
    ):
        with pytest.raises(StorageUnavailableError, match="away"):
            await read
    archive.answers = math.inf
    assert seqs(await reads.read_newest(me, dialog, 1, 99, limit=7)) == [5, 6, 7, 8, 9, 10, 11]


async def test_a_row_that_neither_has_is_an_error_and_no_gap(
    world: World, mover: Mover, reads: ArchivedTimelines, archive: ArchiveThatMayBeAway
) -> None:
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann) for _ in range(9)))
    await leave_the_journal(world, mover, dialog, 5)
    del archive._rows[dialog][3]
    for newest_first in (False, True):
        with pytest.raises(StorageUnavailableError, match="lacks"):
            await (
                reads.read_newest(bo.principal, dialog, 1, 9, limit=99)
                if newest_first
                else reads.read_events(bo.principal, [(dialog, 1, 9)], limit=99)
            )
    assert await reads.read_missed(bo.principal, dialog, 1, 9, limit=9) is None


async def test_an_erasure_that_the_archive_does_not_have_yet_counts(
    world: World, mover: Mover, reads: ArchivedTimelines
) -> None:
    """Both are only in the archive when the message is erased; what hangs on it counts as erased with it."""
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await world.flush(edit(dialog, ann, 2, "secret"), reaction(dialog, bo, 3))
    await world.say(dialog, bo)
    await leave_the_journal(world, mover, dialog, 6)
    await world.pool.execute("INSERT INTO archive_erasures VALUES ($1, 2)", dialog)

    async def blank() -> list[int]:
        page = await reads.read_events(bo.principal, [(dialog, 1, 99)], limit=99)
        assert seqs(page) == [1, 2, 3, 4, 5, 6, 7]
        assert await reads.read_newest(bo.principal, dialog, 1, 99, limit=99) == page
        return [event.seq for event in page if bytes(event.body) == ERASED]

    async def later() -> set[int]:
        return set((await reads.read_later(bo.principal, dialog, 1, 4, newest_first=True)).events)

    assert (await blank(), await later()) == ([2, 5], {3})
    await mover.move()
    assert await world.pool.fetchval("SELECT count(*) FROM archive_erasures") == 0
    assert (await blank(), await later()) == ([2, 5], {3})


async def test_what_hangs_on_an_erased_message_of_the_archive_counts_as_erased_in_the_journal(
    world: World, mover: Mover, reads: ArchivedTimelines
) -> None:
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await world.flush(edit(dialog, ann, 2, "secret"), reaction(dialog, bo, 3))
    await world.act(bodies.Deleted, dialog, ann, target=2)
    await leave_the_journal(world, mover, dialog, 4)
    page = await reads.read_events(bo.principal, [(dialog, 1, 99)], limit=99)
    assert [event.seq for event in page if bytes(event.body) == ERASED] == [2, 5]
    assert (await reads.read_later(bo.principal, dialog, 1, 4, newest_first=True)).events.keys() == {2, 3}


async def test_what_hangs_on_a_message_that_is_known_as_erased_in_the_archive_alone_counts_as_erased(
    world: World, mover: Mover, reads: ArchivedTimelines, archive: ArchiveThatMayBeAway
) -> None:
    ann, bo, dialog = await pair(world)
    await world.flush(message(dialog, ann))
    await world.flush(edit(dialog, ann, 2, "secret"))
    await leave_the_journal(world, mover, dialog, 3)
    await archive.erase([(dialog, 2)], epoch=await world.pool.fetchval("SELECT epoch FROM deployment"))
    page = await reads.read_events(bo.principal, [(dialog, 1, 99)], limit=99)
    assert [event.seq for event in page if bytes(event.body) == ERASED] == [2, 3]


async def test_a_change_that_is_erased_while_it_is_read_is_not_among_what_was_missed(
    world: World, mover: Mover, reads: ArchivedTimelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    one, two = await world.flush(message(dialog, ann), message(dialog, ann))
    gone = (await world.act(bodies.MemberRemoved, dialog, ann, cy)).verdict.seq
    first, second = await world.flush(edit(dialog, ann, one.seq), edit(dialog, ann, two.seq))
    back = (await world.act(bodies.MembersAdded, dialog, ann, cy)).verdict.seq
    await leave_the_journal(world, mover, dialog, two.seq)
    find_erased = reads._rows.find_erased

    async def find_then_erase(keys: Iterable[tuple[bytes, int]], *, by_journal: bool = False) -> set[tuple[bytes, int]]:
        found = await find_erased(keys, by_journal=by_journal)
        await world.pool.execute("UPDATE journal SET tag = 5, body = $2 WHERE seq = $1", first.seq, ERASED)
        return found

    monkeypatch.setattr(reads._rows, "find_erased", find_then_erase)
    missed = await reads.read_missed(cy.principal, dialog, gone, back, limit=9)
    assert missed is not None
    assert seqs(missed) == [second.seq]


async def test_what_the_journal_has_about_an_archived_message_is_served_without_the_archive(
    world: World, mover: Mover, reads: ArchivedTimelines, archive: ArchiveThatMayBeAway
) -> None:
    """Whether the message is erased the journal knows until what hangs on it is blank."""
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await world.flush(edit(dialog, ann, 2, "secret"), reaction(dialog, bo, 3))
    await world.act(bodies.Deleted, dialog, ann, target=2)
    await leave_the_journal(world, mover, dialog, 4)
    await mover.move()  # the archive has the erasure
    archive.answers = 0
    page = await reads.read_events(bo.principal, [(dialog, 5, 99)], limit=99)
    assert [(event.seq, bytes(event.body) == ERASED) for event in page] == [(5, True), (6, False), (7, False)]


async def test_a_page_whose_bodies_turn_out_erased_goes_on(
    world: World, mover: Mover, reads: ArchivedTimelines
) -> None:
    """The archive ends its page at what it stores; a page is short only when what it shows fills it."""
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann, "x" * 60_000) for _ in range(6)))
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await leave_the_journal(world, mover, dialog, 10)
    await world.pool.execute("INSERT INTO archive_erasures SELECT $1, s FROM generate_series(2, 5) s", dialog)
    for page in (
        await reads.read_events(bo.principal, [(dialog, 1, 99)], limit=99),
        await reads.read_newest(bo.principal, dialog, 1, 99, limit=99),
    ):
        assert seqs(page) == list(range(1, 11))
        assert not cut_short(page)


async def test_a_page_of_both_stores_is_bounded_in_bytes(world: World, mover: Mover, reads: ArchivedTimelines) -> None:
    ann, bo, dialog = await pair(world)
    for _ in range(4):
        await world.flush(message(dialog, ann, "x" * 50_000))
    await leave_the_journal(world, mover, dialog, 3)
    oldest = await reads.read_events(bo.principal, [(dialog, 1, 99)], limit=99)
    newest = await reads.read_newest(bo.principal, dialog, 1, 99, limit=99)
    assert (seqs(oldest), seqs(newest)) == ([1, 2, 3, 4], [3, 4, 5])
    for page in (oldest, newest):
        assert sum(len(event.body) for event in page[1:-1]) < PAGE_BYTES_MAX <= sum(len(event.body) for event in page)


async def test_many_dialogs_at_once_are_read_in_order(
    world: World, mover: Mover, reads: ArchivedTimelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archived_rows, "_RUNS_AT_ONCE", 2)
    ann, *others = await world.people(6)
    dialogs = [await world.create(DialogType.DIRECT, ann, other) for other in others]
    for dialog in dialogs:
        await world.flush(*(message(dialog, ann) for _ in range(4)))
        await leave_the_journal(world, mover, dialog, 3)
    ranges = [(dialog, 2, 9) for dialog in reversed(dialogs)]
    page = await reads.read_events(ann.principal, ranges, limit=3)
    assert [(event.dialog, event.seq) for event in page] == [(d, seq) for d, _, _ in ranges for seq in (2, 3, 4)]


@pytest.mark.parametrize("dropped", [2, 250, 700], ids=["the messages", "some", "nearly all"])
async def test_a_message_with_too_much_later_has_the_newest_of_it(
    world: World, mover: Mover, reads: ArchivedTimelines, dropped: int
) -> None:
    ann, bo, dialog = await pair(world)
    await world.flush(message(dialog, ann), message(dialog, ann))
    for text in ("first", "second"):
        await world.flush(edit(dialog, ann, 3, text), *(reaction(dialog, bo, 3, str(at)) for at in range(350)))
    await world.flush(reaction(dialog, ann, 3, "mine"))
    everything = world.timelines
    told = [
        await everything.read_later(bo.principal, dialog, 2, 3, newest_first=newest_first)
        for newest_first in (False, True)
    ]
    await leave_the_journal(world, mover, dialog, dropped)
    for newest_first, expected in zip((False, True), told, strict=True):
        assert await reads.read_later(bo.principal, dialog, 2, 3, newest_first=newest_first) == expected
    (edited, *reacted) = told[1].events[3]
    assert b"second" in bytes(edited.body)
    assert {event.author for event in reacted} == {ann.principal, bo.principal}
    assert len(reacted) <= REACTIONS_PER_MESSAGE_MAX


async def test_what_is_beyond_the_head_is_of_another_history(
    world: World, mover: Mover, reads: ArchivedTimelines
) -> None:
    """As after a restore from a backup: the archive has numbers that the dialog has not reached again."""
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await world.flush(reaction(dialog, bo, 2))
    await leave_the_journal(world, mover, dialog, 9)
    await world.pool.execute("UPDATE heads SET seq = 3 WHERE dialog_id = $1", dialog)
    assert seqs(await reads.read_events(bo.principal, [(dialog, 1, 99)], limit=99)) == [1, 2, 3]
    assert seqs(await reads.read_newest(bo.principal, dialog, 1, 99, limit=99)) == [1, 2, 3]
    assert (await reads.read_later(bo.principal, dialog, 1, 3, newest_first=True)).events == {}


@pytest.mark.parametrize("lost", [1, 600], ids=["some", "too much for one read"])
async def test_what_is_about_a_message_in_a_lost_history_is_not_shown(
    world: World, mover: Mover, reads: ArchivedTimelines, lost: int
) -> None:
    """The numbers of its reactions are those of messages now, or not given out again yet."""
    ann, bo, dialog = await pair(world)
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await world.flush(reaction(dialog, bo, 3, "kept"))
    await world.flush(*(reaction(dialog, bo, 3, "lost") for _ in range(lost)), edit(dialog, ann, 2, "lost"))
    await mover.move()
    await lose_history(world, dialog, 5)
    await drop_rows(world, dialog, 1, 5)
    await world.flush(*(message(dialog, ann) for _ in range(lost)))
    for newest_first in (False, True):
        later = await reads.read_later(bo.principal, dialog, 3, 3, newest_first=newest_first)
        ((kept,),) = later.events.values()
        assert b"kept" in bytes(kept.body)
        assert (await reads.read_later(bo.principal, dialog, 2, 2, newest_first=newest_first)).events == {}
