"""What the archive lacks: found by stamps, held by one, and complete up to a horizon whatever commits late."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from storage.backlog import ArchiveBacklog, Cursor
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.epoch import settle_epoch
from storage.rows import TimelineRow
from storage.unavailable import StorageUnavailableError
from tests.support.archiving import drop_rows, journal_rows, lose_history, pages_of
from tests.support.filling import add_messages
from tests.support.world import Person, World, message, reaction

pytestmark = pytest.mark.anyio

ERASED = msgspec.msgpack.encode(bodies.Erased())
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'archive_erasures'::regclass"


async def pair(world: World) -> tuple[Person, Person, bytes]:
    """Two people and their dialog."""
    ann, bo = await world.people(2)
    return ann, bo, await world.create(DialogType.DIRECT, ann, bo)


async def until_one_waits(world: World) -> None:
    """Return when somebody waits for the lock of the list of erasures."""
    async with asyncio.timeout(20):
        while not await world.pool.fetchval(WAITING):
            pass


async def settle(url: str) -> None:
    """What a node does that serves."""
    connection = await asyncpg.connect(url)
    await settle_epoch(connection, lambda _line: None)
    await connection.close()


async def read_until_it_breaks(backlog: ArchiveBacklog) -> None:
    while True:
        await backlog.read_page(Cursor(0), 10)


def seqs(pages: list[list[TimelineRow]]) -> list[int]:
    return [row.event.seq for page in pages for row in page]


async def test_one_holds_the_backlog_until_it_lets_go(world: World, backlogs: list[ArchiveBacklog]) -> None:
    del world
    first, second, _ = backlogs
    assert [(await each.take()).held for each in (first, second, first)] == [True, False, True]
    await first.release()
    async with asyncio.timeout(20):
        while not (await second.take()).held:
            pass


async def test_pages_are_bounded_and_together_all_rows_as_they_are(
    world: World, backlogs: list[ArchiveBacklog]
) -> None:
    ann, bo, dialog = await pair(world)
    other = await world.create(DialogType.SELF, ann)
    await world.flush(*(message(dialog, ann) for _ in range(4)), message(other, ann))
    await world.flush(reaction(dialog, bo, 2))
    (backlog, *_) = backlogs
    state = await backlog.take()
    horizon = (await backlog.read_horizon()).horizon
    pages = await pages_of(backlog, state.moved, horizon)
    assert {len(page) <= 3 for page in pages} == {True}
    found = sorted((row for page in pages for row in page), key=lambda row: (row.event.dialog, row.event.seq))
    assert found == await journal_rows(world)


async def test_pages_follow_the_stamps(world: World, backlogs: list[ArchiveBacklog]) -> None:
    people = await world.people(8)
    dialogs = [await world.create(DialogType.SELF, person) for person in people]
    await world.flush(*(message(dialog, person) for dialog, person in zip(dialogs, people, strict=True)))
    (backlog, *_) = backlogs
    await backlog.take()
    pages = await pages_of(backlog, 0, (await backlog.read_horizon()).horizon)
    assert seqs(pages) == [1] * 8 + [2] * 8
    assert [row.event.dialog for page in pages for row in page][:8] == dialogs


async def test_rows_of_the_lowest_stamp_come_first_each_once(world: World, backlogs: list[ArchiveBacklog]) -> None:
    """All rows have it after a restore into another cluster; a page looks at no more than it may bring."""
    people = await world.people(4)
    dialogs = [await world.create(DialogType.SELF, person) for person in people]
    for dialog, person in zip(dialogs, people, strict=True):
        await world.flush(*(message(dialog, person) for _ in range(3)))
    await world.pool.execute("UPDATE journal SET xid = '3' WHERE dialog_id = ANY ($1)", dialogs[::2])
    (backlog, *_) = backlogs
    await backlog.take()
    pages = await pages_of(backlog, 0, (await backlog.read_horizon()).horizon)
    found = [(row.event.dialog, row.event.seq) for page in pages for row in page]
    restored = sorted(dialogs[::2])
    assert found[:8] == [(dialog, seq) for dialog in restored for seq in (1, 2, 3, 4)]
    assert sorted(found) == [(row.event.dialog, row.event.seq) for row in await journal_rows(world)]
    assert max(len(page) for page in pages) == 3


async def test_a_page_of_many_rows_of_one_stamp_costs_the_page(world: World, backlogs: list[ArchiveBacklog]) -> None:
    ann = await world.person()
    dialog = await world.create(DialogType.SELF, ann)
    await add_messages(world.pool, dialog, ann, 2_000)
    await world.pool.execute("UPDATE journal SET xid = '3'")
    backlog = backlogs[0]
    assert isinstance(backlog, PostgresBacklog)
    await backlog.take()
    counted = []
    for _ in range(2):
        page = await backlog.read_page(Cursor(3, dialog, 1_000), 2**40)
        await backlog._fetch("SELECT pg_stat_force_next_flush()")
        read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'journal'"
        counted.append(await world.pool.fetchval(read))
    assert seqs([page.rows]) == [1_001, 1_002, 1_003]
    assert 0 < counted[1] - counted[0] < 100


async def test_a_page_is_bounded_in_bytes(world: World, backlogs: list[ArchiveBacklog]) -> None:
    _, _, dialog = await pair(world)
    await world.pool.execute(
        "INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation, flush_no,"
        " body) SELECT $1, 1 + g, $1, $1, g, 1, 0, g, 1, 1, convert_to(repeat('x', 3000000), 'UTF8')"
        " FROM generate_series(1, 5) g",
        dialog,
    )
    (backlog, *_) = backlogs
    await backlog.take()
    horizon = (await backlog.read_horizon()).horizon
    assert [len(page) for page in await pages_of(backlog, 0, horizon) if page] == [3, 2, 1]


async def test_what_commits_late_lies_beyond_the_horizon(world: World, backlogs: list[ArchiveBacklog]) -> None:
    ann, bo, dialog = await pair(world)
    other = await world.create(DialogType.SELF, ann)
    (backlog, *_) = backlogs
    await backlog.take()
    async with world.pool.acquire() as slow, slow.transaction():
        await world.over(slow).say(dialog, bo)
        await world.say(other, ann)
        before = (await backlog.read_horizon()).horizon
        assert seqs(await pages_of(backlog, 0, before)) == [1, 1]
    after = (await backlog.read_horizon()).horizon
    assert sorted(seqs(await pages_of(backlog, before, after))) == [2, 2]


async def test_a_horizon_outlives_a_crash(world: World, backlogs: list[ArchiveBacklog]) -> None:
    """Its own transaction has committed past it: after a crash no row gets a stamp below it."""
    (backlog, *_) = backlogs
    await backlog.take()
    found = await backlog.read_horizon()
    next_xid = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    assert await world.pool.fetchval(next_xid) > found.horizon


async def test_moved_grows_only_from_where_it_stands(world: World, backlogs: list[ArchiveBacklog]) -> None:
    del world
    backlog, *_ = backlogs

    async def moved() -> int:
        return (await backlog.take()).moved

    assert await moved() == 0
    await backlog.advance(0, 100, 5)
    await backlog.advance(200, 300, 6)  # 100..199 are missing
    assert await moved() == 100
    await backlog.advance(0, 50, 7)  # a holder that woke late
    assert await moved() == 100
    await backlog.advance(70, 150, 8)
    assert ((await backlog.take()).moved, (await backlog.take()).covered_ms > 8) == (150, True)


async def test_without_an_archive_no_erasure_is_noted(world: World) -> None:
    ann, _, dialog = await pair(world)
    await world.say(dialog, ann)
    await world.act(bodies.Deleted, dialog, ann, target=2)
    assert await world.pool.fetchval("SELECT count(*) FROM archive_erasures") == 0


async def test_every_row_that_is_blanked_is_noted_until_it_is_forgotten(
    world: World, backlogs: list[ArchiveBacklog]
) -> None:
    ann, bo, dialog = await pair(world)
    (backlog, *_) = backlogs
    await backlog.take()
    await world.flush(message(dialog, ann), message(dialog, ann, expires_at_ms=1), message(dialog, ann))
    await world.flush(reaction(dialog, bo, 2), reaction(dialog, bo, 3), reaction(dialog, bo, 4))
    await world.act(bodies.Deleted, dialog, ann, target=2)
    assert await backlog.list_erasures(9) == [(dialog, 2)]
    for now_ms in (2**50, 2**51):  # what hangs on an expired message is blanked a while later
        while (await world.journal.erase_due(now_ms, limit=10)).more:
            pass
    blank = await world.pool.fetch("SELECT dialog_id, seq FROM journal WHERE body = $1 ORDER BY seq", ERASED)
    assert [seq for _, seq in blank] == [2, 3, 5, 6]
    assert await backlog.list_erasures(9) == [tuple(row) for row in blank]
    assert (await backlog.take()).erasures == 4
    await backlog.forget_erasures([(dialog, 2), (dialog, 5)])
    assert await backlog.list_erasures(1) == [(dialog, 3)]
    assert await backlog.list_erasures(9) == [(dialog, 3), (dialog, 6)]


async def test_a_row_has_left_when_its_number_is_taken_and_the_journal_lacks_it(
    world: World, backlogs: list[ArchiveBacklog]
) -> None:
    ann, _, dialog = await pair(world)
    (backlog, *_) = backlogs
    await backlog.take()
    await world.flush(*(message(dialog, ann) for _ in range(4)))
    await drop_rows(world, dialog, 2, 3)
    assert sorted(await backlog.list_left(dialog, [1, 2, 3, 4, 5, 6, 2**53])) == [2, 3]
    assert await backlog.list_left(dialog, [3, 4]) == [3]
    assert await backlog.list_left(new_id(), [1]) == []
    await lose_history(world, dialog, 2)
    assert await backlog.list_left(dialog, [1, 2, 3, 4, 5]) == [2]


@pytest.mark.parametrize("how", ["a deletion", "the eraser"])
async def test_what_is_being_erased_when_archiving_begins_is_read_blank_or_noted(
    world: World, backlogs: list[ArchiveBacklog], how: str
) -> None:
    ann, bo, dialog = await pair(world)
    (backlog, *_) = backlogs
    await world.say(dialog, ann)
    await world.flush(reaction(dialog, bo, 2))
    if how == "the eraser":
        await world.act(bodies.Deleted, dialog, ann, target=2)
    async with world.pool.acquire() as connection:
        held = world.over(connection)
        async with connection.transaction():
            if how == "the eraser":
                await held.journal.erase_due(2**53, limit=10)
            else:
                await held.act(bodies.Deleted, dialog, ann, target=2)
            beginning = asyncio.ensure_future(backlog.take())
            await until_one_waits(world)
        await beginning
    horizon = (await backlog.read_horizon()).horizon
    rows = {row.event.seq: bytes(row.event.body) for page in await pages_of(backlog, 0, horizon) for row in page}
    assert rows[2] == ERASED
    assert rows[3] == ERASED or how == "a deletion"


async def test_it_waits_for_the_epoch_of_another_history(
    world: World, backlogs: list[ArchiveBacklog], database_url: str
) -> None:
    (backlog, *_) = backlogs
    epoch = (await backlog.take()).epoch
    assert epoch == await world.pool.fetchval("SELECT epoch FROM deployment")
    await world.pool.execute("UPDATE deployment SET system_identifier = 7, timeline_id = 1")
    with pytest.raises(StorageUnavailableError):
        await backlog.take()
    await settle(database_url)
    assert (await backlog.take()).epoch > epoch


async def test_after_a_break_it_is_to_be_taken_again(world: World, backlogs: list[ArchiveBacklog]) -> None:
    (backlog, *_) = backlogs
    with pytest.raises(StorageUnavailableError):
        await backlog.read_horizon()
    assert (await backlog.take()).held
    await world.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
    )
    with pytest.raises(StorageUnavailableError):
        await read_until_it_breaks(backlog)
    assert (await backlog.take()).held
