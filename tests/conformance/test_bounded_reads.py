"""A read touches about as many blocks as it returns rows, however much there is: counted, not timed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import NIL, new_id
from protocol.limits import REACTIONS_PER_MESSAGE_MAX
from storage.postgres.pool import open_pool
from storage.rows import DialogRow, Snapshot
from storage.timelines import cut_short
from tests.support.filling import add_dialogs, add_edits, add_members, add_messages, add_reactions, count_blocks
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A world with two connections, which no vacuum disturbs: one is for counting."""
    opened = World(await open_pool(database_url, size=2, statement_timeout_s=60.0))
    for (table,) in await opened.pool.fetch("SELECT relname FROM pg_stat_user_tables"):
        await opened.pool.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    opened.incarnation = await opened.journal.begin_incarnation("test")
    yield opened
    await opened.close()


async def blocks_of(world: World, ask: Callable[[], Awaitable[Any]]) -> int:
    """Blocks that a call touches when its plan is made and its pages are warm."""
    await ask()
    before = await count_blocks(world.pool)
    await ask()
    return await count_blocks(world.pool) - before


async def all_pages(world: World, who: Person, taken: Snapshot) -> list[DialogRow]:
    """The dialogs of all pages of a snapshot."""
    page = taken.page
    rows = [*page.dialogs]
    while page.after is not None:
        page = await world.timelines.read_snapshot_page(who.principal, page)
        rows += page.dialogs
    return rows


async def test_history_before_ones_joining_reads_no_row_that_one_may_not_see(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, di)
    await add_messages(world.pool, dialog, ann, 20_000)
    await world.act(bodies.MembersAdded, dialog, ann, cy)
    await world.say(dialog, ann)
    reads, me = world.timelines, cy.principal
    assert await reads.read_newest(me, dialog, 1, 20_001, limit=50) == []
    assert await blocks_of(world, lambda: reads.read_newest(me, dialog, 1, 20_001, limit=50)) < 40
    assert [row.seq for row in await reads.read_events(me, [(dialog, 1, 2**53 - 1)], limit=50)] == [20_002, 20_003]
    assert await blocks_of(world, lambda: reads.read_events(me, [(dialog, 1, 2**53 - 1)], limit=50)) < 40


async def test_pages_run_through_all_parts_that_one_may_see(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, di)
    visible: list[int] = []
    for _ in range(3):
        added = await world.act(bodies.MembersAdded, dialog, ann, cy)
        await world.flush(*(message(dialog, ann) for _ in range(3)))
        removed = await world.act(bodies.MemberRemoved, dialog, ann, cy)
        visible += range(added.verdict.seq, removed.verdict.seq + 1)
        await world.flush(*(message(dialog, ann) for _ in range(4)))
    reads, me = world.timelines, cy.principal
    for limit in range(1, len(visible) + 2):
        oldest = await reads.read_events(me, [(dialog, 1, 2**53 - 1)], limit=limit)
        newest = await reads.read_newest(me, dialog, 1, 2**53 - 1, limit=limit)
        assert [row.seq for row in oldest] == visible[:limit]
        assert [row.seq for row in newest] == visible[-limit:]
    assert [row.seq for row in await reads.read_newest(me, dialog, 4, 12, limit=3)] == [4, 5, 6, 11, 12][-3:]
    assert await reads.read_newest(me, dialog, 5, 4, limit=3) == []


async def test_what_is_later_about_a_message_costs_the_same_with_many_reactions_and_edits(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.flush(message(dialog, ann), message(dialog, ann))
    reads, me = world.timelines, cy.principal

    async def later(first: int) -> Any:
        return await reads.read_later(me, dialog, first, 3, newest_first=True)

    people = [new_id() for _ in range(300)]
    await add_reactions(world.pool, dialog, people, 3, 1200)
    few = await blocks_of(world, lambda: later(3))
    await add_edits(world.pool, dialog, ann, 3, 20_000)
    await world.flush(edit(dialog, ann, 3, "the last"))
    await add_reactions(world.pool, dialog, people, 3, 20_000)
    assert await blocks_of(world, lambda: later(3)) < few * 1.5
    found = await later(2)
    assert (found.first, found.last, set(found.events)) == (3, 3, {3})
    edited, *reacted = found.events[3]
    assert b"the last" in bytes(edited.body)
    assert len({row.author for row in reacted}) == len(reacted) == REACTIONS_PER_MESSAGE_MAX
    head = await world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", dialog)
    assert [row.seq for row in reacted] == list(range(head, head - REACTIONS_PER_MESSAGE_MAX, -1))


async def test_messages_with_too_much_later_are_left_to_the_next_page(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, ann) for _ in range(4)))
    for target in (2, 3, 4, 5):
        await add_reactions(world.pool, dialog, [ann.principal, bo.principal], target, 200)

    async def later(*, newest_first: bool) -> tuple[int, int, dict[int, int]]:
        found = await world.timelines.read_later(bo.principal, dialog, 1, 5, newest_first=newest_first)
        return found.first, found.last, {target: len(rows) for target, rows in found.events.items()}

    assert await later(newest_first=True) == (4, 5, {4: 200, 5: 200})
    assert await later(newest_first=False) == (1, 3, {2: 200, 3: 200})


async def test_what_was_done_while_one_was_away_is_later_about_what_one_may_see(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.say(dialog, ann)
    await world.act(bodies.MemberRemoved, dialog, ann, cy)
    await world.flush(edit(dialog, ann, 2), reaction(dialog, bo, 2))

    async def later(last: int) -> dict[int, list[int]]:
        found = await world.timelines.read_later(cy.principal, dialog, 1, last, newest_first=True)
        return {target: [row.seq for row in rows] for target, rows in found.events.items()}

    assert await later(3) == {}
    await world.act(bodies.MembersAdded, dialog, ann, cy)
    assert await later(3) == {2: [4, 5]} == await later(6)


async def test_a_page_of_later_events_is_bounded_in_bytes(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(message(dialog, ann), message(dialog, ann))
    await world.flush(*(edit(dialog, ann, 2 + i % 2, "x" * 30_000) for i in range(10)))
    found = await world.timelines.read_later(bo.principal, dialog, 2, 3, newest_first=True)
    assert (found.first, found.last) == (3, 3)
    assert [row.seq for row in found.events[3]] == [13]
    assert not cut_short(found.events[3])


async def test_what_a_position_lacks_is_found_without_reading_it(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    reads = world.timelines

    async def resume(since: int) -> Snapshot:
        return await reads.take_snapshot(ann.principal, ann.sign_in, since, window=5, events_max=10**6)

    first = (await resume(1)).horizon
    await add_messages(world.pool, dialog, bo, 20_000)
    middle = (await resume(1)).horizon
    for _ in range(3):
        await world.say(dialog, bo)
    assert [row.unseen_from for row in (await resume(first)).page.dialogs] == [2]
    assert [row.unseen_from for row in (await resume(middle)).page.dialogs] == [20_002]
    assert [row.unseen_from for row in (await resume(1)).page.dialogs] == [1]
    assert await blocks_of(world, lambda: resume(first)) < 250


async def test_a_snapshot_of_many_dialogs_comes_in_pages_of_bounded_work(world: World) -> None:
    ann = await world.person()
    await add_dialogs(world.pool, ann, 1000)
    reads = world.timelines

    async def take(since: int | None, events_max: int = 10**6) -> Snapshot:
        return await reads.take_snapshot(ann.principal, ann.sign_in, since, window=5, events_max=events_max)

    taken = await take(None)
    assert len(taken.page.dialogs) < 300
    assert len({row.state.dialog for row in await all_pages(world, ann, taken)}) == 1000
    whole = await blocks_of(world, lambda: take(None))
    await add_dialogs(world.pool, ann, 4000)
    assert await blocks_of(world, lambda: take(None)) < whole * 1.2
    resumed = await take(taken.horizon)
    assert resumed.recovered
    assert len(await all_pages(world, ann, resumed)) == 4000
    assert not (await take(taken.horizon, events_max=3999)).recovered


async def test_former_memberships_count_as_work_of_a_page(world: World) -> None:
    ann = await world.person()
    await add_dialogs(world.pool, ann, 1000)
    await world.pool.execute("UPDATE members SET member = false, visible = '{[1,1]}'")
    last = await world.create(DialogType.SELF, ann)
    taken = await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=5, events_max=99)
    assert taken.page.after is not None
    assert [row.state.dialog for row in await all_pages(world, ann, taken)] == [last]


async def test_a_resume_with_many_changes_without_events_is_over_its_budget(world: World) -> None:
    """A mark of somebody else in each dialog: nothing to read, but a state to send."""
    ann = await world.person()
    await add_dialogs(world.pool, ann, 300)
    before = await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=5, events_max=99)
    await world.pool.execute("INSERT INTO receipt_heads SELECT dialog_id, pg_current_xact_id() FROM heads")
    for events_max, recovered in ((300, True), (299, False)):
        taken = await world.timelines.take_snapshot(
            ann.principal, ann.sign_in, before.horizon, window=5, events_max=events_max
        )
        assert taken.recovered is recovered


async def test_members_are_read_without_those_who_have_left(world: World) -> None:
    people = await world.people(3)
    dialog = await world.create(DialogType.GROUP, *people)
    await add_members(world.pool, dialog, 5000)
    await world.pool.execute("UPDATE members SET member = false WHERE joined_at_ms = $1", 2**53 - 1)
    await world.pool.execute("VACUUM members")
    reads, me = world.timelines, people[0].principal
    assert len((await reads.read_members(me, [dialog], after=NIL, limit=9))[dialog]) == 3
    assert await blocks_of(world, lambda: reads.read_members(me, [dialog], after=NIL, limit=9)) < 40
    assert len((await reads.read_roster(dialog)).members) == 3


async def test_peers_are_found_without_a_look_at_ones_other_dialogs(world: World) -> None:
    ann, bo = await world.people(2)
    await world.create(DialogType.DIRECT, ann, bo)
    await add_dialogs(world.pool, ann, 2000)
    peers = [bo.principal, ann.principal, new_id()]
    assert await world.timelines.find_direct_peers(ann.principal, peers) == {bo.principal}
    assert await blocks_of(world, lambda: world.timelines.find_direct_peers(ann.principal, peers)) < 100


async def test_a_resume_that_takes_too_long_becomes_a_windowed_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await world.person()
    await add_dialogs(world.pool, ann, 500)
    before = await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=5, events_max=99)

    async def slow(*_args: Any) -> Any:
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(world.timelines, "_next_page", slow)
        taken = await world.timelines.take_snapshot(ann.principal, ann.sign_in, before.horizon, window=5, events_max=99)
    assert not taken.recovered
    assert taken.page.since is None
    assert taken.page.after == before.page.after
    assert msgspec.structs.replace(taken.page, dialogs=()) == msgspec.structs.replace(before.page, dialogs=())
