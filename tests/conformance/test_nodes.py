"""What a node learns of the others that share its database: who lives, what they wrote, and when that is all of it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import NIL, new_id
from storage import nodes as contract
from storage.postgres.epoch import settle_epoch
from storage.rows import VerdictCode, WrittenRow
from storage.timelines import PAGE_BYTES_MAX
from storage.unavailable import IncarnationEndedError, OtherHistoryError
from tests.support.world import Person, World, edit, message

pytestmark = pytest.mark.anyio

BEGINNING = (0, NIL, 0)
EVERYTHING = 2**62


async def read_all(world: World, since: int, *incarnations: int) -> list[WrittenRow]:
    """What these wrote from a stamp on."""
    return await world.nodes.read_written(incarnations, since, EVERYTHING, after=BEGINNING)


async def horizon_of(world: World) -> int:
    return (await world.nodes.read_cluster(incarnation=world.incarnation, since=EVERYTHING)).horizon


async def test_rows_of_others_are_read_by_stamp_and_in_the_order_of_each_dialog(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    since, mine = await horizon_of(world), world.incarnation
    world.incarnation = await world.journal.begin_incarnation("another")
    await world.flush(message(dialog, ann), message(dialog, bo))
    await world.say(dialog, ann, "three")
    rows = await read_all(world, since, world.incarnation)
    assert [row.event.seq for row in rows] == [2, 3, 4]
    assert [row.roster_seq for row in rows] == [1, 1, 1]
    assert rows[0].stamp == rows[1].stamp < rows[2].stamp
    assert await read_all(world, since, mine) == []
    assert await read_all(world, rows[2].stamp, world.incarnation, mine) == rows[2:]
    after = rows[0].stamp, dialog, rows[0].event.seq
    assert await world.nodes.read_written([world.incarnation], since, rows[2].stamp, after=after) == [rows[1]]
    assert (await world.timelines.read_events(ann.principal, [(dialog, 2, 4)], limit=9)) == [r.event for r in rows]


async def test_a_horizon_stays_before_a_write_that_is_not_committed_and_then_its_row_is_in_the_next_range(
    world: World,
) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    other = await world.create(DialogType.SELF, ann)
    first = await horizon_of(world)
    async with world.pool.acquire() as connection:
        holding = connection.transaction()
        await holding.start()
        await connection.execute("SELECT pg_current_xact_id()")
        await world.say(other, ann)
        held = await horizon_of(world)
        late = await connection.fetchval(
            "INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation, flush_no,"
            " body) VALUES ($1, 2, $1, $1, 1, 1, 0, 0, $2, 1, 'x') RETURNING xid::text::bigint",
            dialog,
            world.incarnation,
        )
        assert held <= late
        await holding.commit()
    assert await world.nodes.read_written([world.incarnation], first, held, after=BEGINNING) == []
    rows = await world.nodes.read_written([world.incarnation], held, await horizon_of(world), after=BEGINNING)
    assert {row.event.dialog for row in rows} == {dialog, other}


async def test_a_recent_horizon_looks_past_transactions_that_began_before(world: World) -> None:
    async with world.pool.acquire() as one, world.pool.acquire() as other, one.transaction(), other.transaction():
        old, recent = [int(await each.fetchval("SELECT pg_current_xact_id()::text")) for each in (one, other)]
        seen = [
            await world.nodes.read_cluster(incarnation=world.incarnation, since=EVERYTHING, recent_since=since)
            for since in (0, old, old + 1, recent + 1)
        ]
    assert [each.horizon for each in seen] == [old] * 4
    assert [each.recent_horizon for each in seen] == [old, old, recent, seen[3].next_xid]


async def test_a_page_ends_with_its_rows_or_its_bytes(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    since = await horizon_of(world)
    large = "x" * (PAGE_BYTES_MAX // 3)
    for _ in range(5):
        await world.say(dialog, ann, large)
    rows = await read_all(world, since, world.incarnation)
    assert [row.event.seq for row in rows] == [2, 3, 4, 5][: len(rows)]
    assert len(rows) < 5
    assert [row.event.seq for row in await world.nodes.read_rows(dialog, 1, 9)] == [1, 2, 3, 4]
    many = [message(dialog, bo) for _ in range(contract.PAGE_ROWS + 1)]
    await world.flush(*many)
    assert len(await world.nodes.read_rows(dialog, 7, EVERYTHING)) == contract.PAGE_ROWS


async def test_an_edit_of_an_erased_message_is_read_as_erased(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    since = await horizon_of(world)
    await world.say(dialog, ann)
    await world.flush(edit(dialog, ann, 2))
    await world.pool.execute("UPDATE journal SET tag = 5, body = '\\x9105' WHERE dialog_id = $1 AND seq = 2", dialog)
    for rows in (await read_all(world, since, world.incarnation), await world.nodes.read_rows(dialog, 2, 3)):
        assert [bytes(row.event.body) for row in rows] == [b"\x91\x05"] * 2


async def test_what_a_stamp_does_not_cover_is_found_for_each_dialog(world: World) -> None:
    ann, bo = await world.people(2)
    one, two = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.SELF, ann)
    await world.say(one, ann)
    since = await horizon_of(world)
    for _ in range(3):
        await world.say(one, ann)
    assert await world.nodes.find_unseen([(one, 5), (two, 1), (one, 4)], since) == [3, 2, 3]


async def test_a_lease_grows_with_each_reading_and_an_incarnation_is_ended_only_as_it_was_seen(world: World) -> None:
    async def lease() -> int:
        watcher = await world.journal.begin_incarnation("watcher")
        reading = await world.nodes.read_cluster(incarnation=watcher, since=EVERYTHING)
        return next(each.lease for each in reading.incarnations if each.incarnation == world.incarnation)

    assert await lease() == 0
    await horizon_of(world)
    seen = await lease()
    await horizon_of(world)
    assert not await world.nodes.end(world.incarnation, lease=seen)
    await horizon_of(world)  # it lives on
    assert await world.nodes.end(world.incarnation, lease=await lease())
    with pytest.raises(IncarnationEndedError):
        await horizon_of(world)


async def test_what_has_ended_writes_nothing_and_is_fenced_when_nothing_of_it_runs(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    watcher = await world.journal.begin_incarnation("watcher")
    async with world.held(dialog):
        late = asyncio.ensure_future(world.flush(message(dialog, ann), wait=True))
        await world.until_a_flush_waits()
        assert await world.nodes.end(world.incarnation, lease=None)
        with pytest.raises(IncarnationEndedError):
            await world.say(dialog, bo)
        assert not await world.nodes.fence(world.incarnation)
    assert [verdict.code for verdict in await late] == [VerdictCode.OK]
    assert await world.nodes.fence(world.incarnation)
    seen = await world.nodes.read_cluster(incarnation=watcher, since=0)
    (fenced,) = [each for each in seen.incarnations if each.incarnation == world.incarnation]
    rows = await read_all(world, 0, world.incarnation)
    assert fenced.fenced_at is not None
    assert max(row.stamp for row in rows) < fenced.fenced_at
    assert await world.nodes.fence(world.incarnation)  # again: nothing changes
    assert (await world.nodes.read_cluster(incarnation=watcher, since=0)).incarnations[0].fenced_at == fenced.fenced_at
    later = await world.nodes.read_cluster(incarnation=watcher, since=fenced.fenced_at + 1)
    assert [each.incarnation for each in later.incarnations] == [watcher]


async def test_nothing_of_another_history_is_handed_out_before_its_epoch_has_begun(
    world: World, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await settle_epoch(connection, print)
    assert await horizon_of(world)
    await connection.execute("UPDATE deployment SET timeline_id = timeline_id - 1")  # as if a standby were promoted
    with pytest.raises(OtherHistoryError):
        await horizon_of(world)
    with pytest.raises(OtherHistoryError):
        await world.journal.read_horizon(incarnation=world.incarnation)
    await settle_epoch(connection, print)
    assert await horizon_of(world)
    await connection.close()


async def test_stamps_rise_whoever_draws_them(world: World) -> None:
    first = await world.nodes.draw_stamp()
    drawn = await asyncio.gather(*(world.nodes.draw_stamp() for _ in range(5)))
    assert len(set(drawn)) == 5
    assert min(drawn) > first


async def test_a_dialog_is_large_to_all_its_members_from_the_event_that_makes_it_so(world: World) -> None:
    people = await world.people(contract.LARGE_ABOVE + 2)
    members, late, later = people[:-2], people[-2], people[-1]
    dialog = await world.create(DialogType.GROUP, *members)

    async def is_large_to(person: Person) -> bool:
        found = await world.nodes.find_large(person.principal, after=NIL)
        assert found in ([], [dialog])
        return bool(found)

    assert not await is_large_to(members[0])
    assert await world.nodes.read_size(dialog) == (1, contract.LARGE_ABOVE)
    added = (await world.act(bodies.MembersAdded, dialog, members[0], late)).verdict
    assert await world.nodes.read_size(dialog) == (added.seq, contract.LARGE_ABOVE + 1)
    assert [await is_large_to(person) for person in (members[0], members[-1], late, later)] == [True, True, True, False]
    assert await world.nodes.find_large(late.principal, after=dialog) == []
    for gone in (late, members[-1]):
        await world.act(bodies.MemberRemoved, dialog, members[0], gone)
    await world.act(bodies.MembersAdded, dialog, members[0], later)  # it is smaller than it was
    assert [await is_large_to(person) for person in (late, later)] == [False, False]
    await world.act(bodies.MembersAdded, dialog, members[0], late)
    assert [await is_large_to(person) for person in (late, later)] == [True, True]


async def test_a_dialog_may_be_large_when_it_is_created_and_one_that_does_not_exist_has_no_size(world: World) -> None:
    people = await world.people(contract.LARGE_ABOVE + 1)
    dialog = await world.create(DialogType.GROUP, *people)
    assert await world.nodes.find_large(people[-1].principal, after=NIL) == [dialog]
    assert await world.nodes.read_size(new_id()) == (0, 0)
