"""The read half: snapshots from a position, pages, rosters; each only what the asker may see."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from protocol import bodies
from protocol.bodies import Settings, SettingsChanged
from protocol.dialog_types import DialogType, Role
from protocol.ids import NIL, new_id
from storage.rows import ChangeEntry, ReceiptRow, SignInState, Snapshot
from storage.timelines import cut_short
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(each_world: World) -> World:
    """Its rows are read from the journal, from an archive, and from both."""
    return each_world


async def snapshot(
    world: World, who: Person, since: int | None, *, window: int = 10, events_max: int = 100
) -> Snapshot:
    return await world.timelines.take_snapshot(who.principal, who.sign_in, since, window=window, events_max=events_max)


def unseen(taken: Snapshot) -> dict[bytes, tuple[int, int]]:
    """By dialog the first number that may be lacking, and the head."""
    return {row.state.dialog: (row.unseen_from, row.head_seq) for row in taken.page.dialogs}


async def test_without_a_position_all_ones_dialogs_come_from_their_window(world: World) -> None:
    ann, bo, cy = await world.people(3)
    mine = await world.create(DialogType.DIRECT, ann, bo)
    await world.create(DialogType.DIRECT, bo, cy)
    for _ in range(20):
        await world.say(mine, ann)
    taken = await snapshot(world, ann, None, window=5)
    assert not taken.recovered
    assert unseen(taken) == {mine: (17, 21)}


async def test_from_a_position_only_what_changed_comes(world: World) -> None:
    ann, bo, cy = await world.people(3)
    quiet = await world.create(DialogType.DIRECT, ann, cy)
    busy = await world.create(DialogType.DIRECT, ann, bo)
    await world.say(busy, bo)
    before = await snapshot(world, ann, None)
    assert set(unseen(before)) == {quiet, busy}
    await world.say(busy, bo)
    await world.say(busy, bo)
    after = await snapshot(world, ann, before.horizon)
    assert (after.recovered, unseen(after)) == (True, {busy: (3, 4)})
    assert unseen(await snapshot(world, ann, after.horizon)) == {}


async def test_a_write_that_commits_late_is_not_passed_over(world: World) -> None:
    """A transaction older than a position's snapshot commits after it: the horizon stays before it."""
    ann, bo, cy = await world.people(3)
    late = await world.create(DialogType.DIRECT, ann, bo)
    other = await world.create(DialogType.DIRECT, ann, cy)
    async with world.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("SELECT pg_current_xact_id()")
        await world.say(other, cy)
        position = await snapshot(world, ann, None)
        await slow.execute(
            "WITH h AS (UPDATE heads SET seq = seq + 1, xid = pg_current_xact_id() WHERE dialog_id = $1 RETURNING seq)"
            " INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation,"
            " flush_no, body) SELECT $1, seq, $2, $3, 1, 1, 0, 1, 1, 1, '' FROM h",
            late,
            bo.principal,
            bo.device,
        )
        await transaction.commit()
    taken = unseen(await snapshot(world, ann, position.horizon))
    assert taken[late] == (2, 2)
    assert taken[other][1] == 2


async def test_too_much_missed_is_not_recovered(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    position = await snapshot(world, ann, None)
    await world.flush(*(message(dialog, bo) for _ in range(30)))
    assert (await snapshot(world, ann, position.horizon, events_max=30)).recovered
    far = await snapshot(world, ann, position.horizon, events_max=29)
    assert (far.recovered, unseen(far)) == (False, {dialog: (22, 31)})


async def test_a_position_of_the_future_is_not_recovered(world: World) -> None:
    ann = await world.person()
    now = await snapshot(world, ann, None)
    assert not (await snapshot(world, ann, now.horizon + 1000)).recovered


async def test_joining_and_being_removed_are_changes_like_others(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    outside = await snapshot(world, di, None)
    await world.act(bodies.MembersAdded, dialog, ann, di)
    joined = await snapshot(world, di, outside.horizon)
    assert [(row.state.member, row.state.visible) for row in joined.page.dialogs] == [(True, [(2, 0)])]
    await world.act(bodies.MemberRemoved, dialog, ann, di)
    await world.say(dialog, ann)
    removed = await snapshot(world, di, joined.horizon)
    assert [(row.state.member, row.state.visible) for row in removed.page.dialogs] == [(False, [(2, 3)])]
    assert unseen(await snapshot(world, di, removed.horizon)) == {}
    assert unseen(await snapshot(world, di, None)) == {}


async def test_who_was_removed_sees_the_dialog_as_it_was_then(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, di)
    before = await snapshot(world, di, None)

    async def rename(name: str) -> None:
        changed = SettingsChanged(name, name, name, Settings(moderation_enabled=name == "after"))
        await world.change(ChangeEntry(dialog, ann.principal, ann.device, ann.n(), changed))

    await world.say(dialog, ann)
    await rename("then")
    await world.act(bodies.MemberRemoved, dialog, ann, di)
    await rename("after")
    await world.say(dialog, ann)
    (of_removed,) = (await snapshot(world, di, before.horizon)).page.dialogs
    (as_read,) = await world.timelines.read_dialogs(di.principal, [dialog])
    assert msgspec.structs.replace(of_removed, unseen_from=as_read.unseen_from) == as_read
    then = of_removed.state
    assert (then.name, then.description, then.avatar_url) == ("then", "then", "then")
    assert (then.settings, then.messages) == (Settings(), 1)
    (of_member,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    now = of_member.state
    assert (now.name, now.settings.moderation_enabled, now.messages) == ("after", True, 2)


async def test_others_receipts_are_changes_and_ones_mute_too(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    before = await snapshot(world, ann, None)
    await world.raise_receipts(ReceiptRow(dialog, bo.principal, 1, 1))
    after = await snapshot(world, ann, before.horizon)
    assert unseen(after) == {dialog: (2, 1)}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("UPDATE sign_ins SET revoked_at_ms = 1", SignInState.REVOKED),
        ("DELETE FROM sign_ins", SignInState.REVOKED),
        ("UPDATE principals SET status = 2", SignInState.SUSPENDED),
        ("UPDATE principals SET status = 3", SignInState.DELETED),
    ],
)
async def test_who_may_not_go_on_gets_no_dialogs(world: World, change: str, state: SignInState) -> None:
    ann, bo = await world.people(2)
    await world.create(DialogType.DIRECT, ann, bo)
    await world.pool.execute(change)
    taken = await snapshot(world, ann, None)
    assert (taken.sign_in, taken.page.dialogs) == (state, ())


async def test_who_asks_at_the_same_moment_gets_ones_own_snapshot(world: World) -> None:
    """With and without a position or dialogs, signed out, with another window, and from the future."""
    ann, bo, cy, di, away = await world.people(5)
    one, other = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, ann, cy)
    before = (await snapshot(world, ann, None)).horizon
    await world.say(one, bo)
    await world.pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE principal_id = $1", away.principal)
    calls = ((ann, before, 10), (ann, None, 10), (bo, None, 1), (di, None, 10), (away, before, 10), (cy, 2**60, 10))
    taken = await asyncio.gather(*(snapshot(world, who, since, window=window) for who, since, window in calls))
    assert [unseen(each) for each in taken] == [
        {one: (2, 2)},
        {one: (1, 2), other: (1, 1)},
        {one: (2, 2)},
        {},
        {},
        {other: (1, 1)},
    ]
    assert [each.recovered for each in taken] == [True, False, False, False, True, False]
    assert [each.sign_in is SignInState.LIVE for each in taken] == [True, True, True, True, False, True]


async def test_a_sign_in_of_somebody_else_admits_nobody(world: World) -> None:
    ann, bo = await world.people(2)
    taken = await world.timelines.take_snapshot(ann.principal, bo.sign_in, None, window=1, events_max=1)
    assert taken.sign_in is SignInState.REVOKED


async def test_events_are_cut_to_what_the_asker_may_see(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.say(dialog, ann)
    await world.act(bodies.MembersAdded, dialog, ann, di)
    await world.say(dialog, ann)
    await world.act(bodies.MemberRemoved, dialog, ann, di)
    await world.say(dialog, ann)
    await world.act(bodies.MembersAdded, dialog, ann, di)

    async def seqs(who: Person) -> list[int]:
        return [row.seq for row in await world.timelines.read_events(who.principal, [(dialog, 1, 99)], limit=99)]

    assert await seqs(ann) == [1, 2, 3, 4, 5, 6, 7]
    assert await seqs(di) == [3, 4, 5, 7]
    assert await seqs(await world.person()) == []
    newest = await world.timelines.read_newest(di.principal, dialog, 1, 6, limit=2)
    assert [row.seq for row in newest] == [4, 5]


async def test_a_channel_shows_its_past_to_who_joins(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.CHANNEL, ann, public=True)
    await world.say(dialog, ann)
    await world.act(bodies.MembersAdded, dialog, bo, bo)
    rows = await world.timelines.read_events(bo.principal, [(dialog, 1, 99)], limit=99)
    assert [row.seq for row in rows] == [1, 2, 3]
    assert (await world.timelines.read_roster(dialog)).members == {ann.principal: 1, bo.principal: 3}


async def test_who_was_removed_between_two_events_is_found_with_the_last_of_their_removals(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, di)
    for change, who in ((bodies.MemberRemoved, bo), (bodies.MembersAdded, bo), (bodies.MemberRemoved, bo)):
        await world.act(change, dialog, ann, who)
    await world.act(bodies.MemberLeft, dialog, cy)
    await world.act(bodies.MemberRemoved, dialog, ann, di)
    assert await world.timelines.find_removed(dialog, 1, 5) == {bo.principal: 4, cy.principal: 5}
    assert await world.timelines.find_removed(dialog, 5, 5) == {}


async def test_several_ranges_come_dialog_by_dialog_each_with_its_limit(world: World) -> None:
    ann, bo, cy = await world.people(3)
    first, second = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, ann, cy)
    for _ in range(4):
        await world.flush(message(first, ann), message(second, ann))
    rows = await world.timelines.read_events(ann.principal, [(second, 2, 9), (first, 3, 4)], limit=3)
    assert [(row.dialog, row.seq) for row in rows] == [(second, 2), (second, 3), (second, 4), (first, 3), (first, 4)]


async def test_later_events_are_those_about_the_page(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    one, two = await world.flush(message(dialog, ann), message(dialog, ann))
    await world.flush(edit(dialog, ann, one.seq), reaction(dialog, bo, two.seq), message(dialog, bo, reply_to=one.seq))
    await world.act(bodies.Deleted, dialog, ann, target=two.seq)

    async def later(first: int, last: int) -> dict[int, list[int]]:
        found = await world.timelines.read_later(bo.principal, dialog, first, last, newest_first=True)
        assert (found.first, found.last) == (first, last)
        return {target: [row.seq for row in rows] for target, rows in found.events.items()}

    assert await later(1, one.seq) == {2: [4]}
    assert await later(two.seq, two.seq) == {3: [7]}
    assert await later(1, 99) == {}


async def test_a_page_ends_with_the_row_that_fills_it(world: World) -> None:
    ann, bo = await world.people(2)
    dialogs = [await world.create(DialogType.DIRECT, ann, other) for other in (bo, await world.person())]
    for dialog in dialogs:
        await world.flush(*(message(dialog, ann, "x" * 6_000) for _ in range(15)))
        await world.flush(*(edit(dialog, ann, 2, "x" * 12_000) for _ in range(15)))
    first, second = dialogs
    page = await world.timelines.read_events(ann.principal, [(first, 1, 16), (second, 1, 99)], limit=99)
    assert [(row.dialog, row.seq) for row in page[15:]] == [(first, 16), *((second, seq) for seq in range(1, 9))]
    newest = await world.timelines.read_newest(ann.principal, first, 1, 16, limit=99)
    assert not cut_short(newest)
    assert [row.seq for row in newest] == list(range(1, 17))
    newest = await world.timelines.read_newest(ann.principal, first, 1, 99, limit=99)
    assert [row.seq for row in newest] == list(range(21, 32))
    assert [cut_short(each) for each in (page, newest)] == [True, True]


async def test_members_come_in_pages_to_members_only(world: World) -> None:
    people = sorted(await world.people(4), key=lambda person: person.principal)
    dialog = await world.create(DialogType.GROUP, *people)
    ask = world.timelines.read_members
    first = (await ask(people[0].principal, [dialog], after=NIL, limit=3))[dialog]
    rest = (await ask(people[0].principal, [dialog], after=first[-1].principal, limit=3))[dialog]
    assert [row.principal for row in [*first, *rest]] == [person.principal for person in people]
    assert [row.role for row in first] == [Role.ADMIN, Role.MEMBER, Role.MEMBER]
    stranger = await world.person()
    assert await ask(stranger.principal, [dialog, new_id()], after=NIL, limit=3) == {}


async def test_members_that_come_with_a_state_are_those_that_a_read_finds(world: World) -> None:
    """And none come to who has left."""
    ann, bo, cy = await world.people(3)
    mine, direct = await world.create(DialogType.SELF, bo), await world.create(DialogType.DIRECT, ann, bo)
    group = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.chooses(bo, None)
    await world.pool.execute("UPDATE people SET display_name = 'Bo' WHERE principal_id = $1", bo.principal)
    await world.say(direct, ann)
    await world.raise_receipts(ReceiptRow(direct, ann.principal, 2, 1), ReceiptRow(direct, bo.principal, 2, 2))
    await world.change(ChangeEntry(group, cy.principal, cy.device, cy.n(), bodies.MemberLeft()))
    for who, dialogs in ((bo, [mine, direct, group]), (ann, [direct, group]), (cy, [group])):
        taken = await world.timelines.take_snapshot(who.principal, who.sign_in, None, window=9, events_max=99)
        rows = (*taken.page.dialogs, *await world.timelines.read_dialogs(who.principal, dialogs))
        found = await world.timelines.read_members(who.principal, dialogs, after=NIL, limit=9)
        came = {row.state.dialog: row.state.members for row in rows}
        assert came == {dialog: [] if dialog == group else found[dialog] for dialog in came}


async def test_a_dialog_that_is_not_there_has_no_roster(world: World) -> None:
    assert (await world.timelines.read_roster(new_id())).members == {}


async def test_dialogs_of_which_nothing_has_left_are_held_whole(world: World) -> None:
    ann, bo = await world.people(2)
    dialogs = [await world.create(DialogType.SELF, ann), await world.create(DialogType.DIRECT, ann, bo)]
    await world.flush(*(message(dialogs[0], ann) for _ in range(3)))
    assert await world.timelines.find_held([*dialogs, new_id()]) == dict.fromkeys(dialogs, 1)


async def test_presence_peers_share_a_direct_dialog_without_a_block(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    await world.create(DialogType.SELF, cy)
    await world.create(DialogType.DIRECT, ann, bo)
    await world.create(DialogType.DIRECT, ann, cy)
    await world.create(DialogType.GROUP, ann, bo, di)
    everybody = [bo.principal, cy.principal, di.principal]
    assert await world.timelines.find_direct_peers(ann.principal, everybody) == {bo.principal, cy.principal}
    await world.pool.execute("INSERT INTO blocks VALUES ($1, $2)", ann.principal, cy.principal)
    assert await world.timelines.find_direct_peers(ann.principal, everybody) == {bo.principal}
    assert await world.timelines.find_direct_peers(cy.principal, [ann.principal]) == set()


async def test_resuming_from_any_moment_of_a_busy_time_misses_nothing(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialogs = [await world.create(DialogType.GROUP, ann, bo, cy) for _ in range(3)]
    seen: dict[bytes, set[int]] = {dialog: set() for dialog in dialogs}
    done = asyncio.Event()

    async def write(author: Person) -> None:
        for step in range(40):
            pending = [message(dialog, author) for dialog in dialogs[step % 3 :]]
            await world.flush(*pending, wait=True)

    async def follow() -> None:
        position: int | None = None
        while True:
            last = done.is_set()
            taken = await snapshot(world, ann, position, window=10_000, events_max=10_000)
            for row in taken.page.dialogs:
                rows = await world.timelines.read_events(
                    ann.principal, [(row.state.dialog, row.unseen_from, row.head_seq)], limit=10_000
                )
                seen[row.state.dialog].update(each.seq for each in rows)
            position = taken.horizon
            if last:
                return

    following = asyncio.ensure_future(follow())
    await asyncio.gather(*(write(author) for author in (ann, bo, cy)))
    done.set()
    await following
    for dialog in dialogs:
        head = await world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", dialog)
        assert seen[dialog] == set(range(1, head + 1))


async def test_members_are_paged_by_id_and_only_shown_to_members(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    group = await world.create(DialogType.GROUP, ann, bo, cy)
    first, second, third = sorted([ann.principal, bo.principal, cy.principal])

    async def page(asker: Person, after: bytes) -> list[bytes] | None:
        found = await world.timelines.read_members(asker.principal, [group], after=after, limit=2)
        return [member.principal for member in found[group]] if group in found else None

    assert await page(ann, NIL) == [first, second]
    assert await page(ann, second) == [third]
    assert await page(di, NIL) is None


async def test_what_was_done_while_a_member_was_away_is_listed_for_what_they_may_see(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    one, two, three = await world.flush(*(message(dialog, ann) for _ in range(3)))
    gone = (await world.act(bodies.MemberRemoved, dialog, ann, cy)).verdict.seq
    (unseen,) = await world.flush(message(dialog, ann))
    done = [
        *await world.flush(edit(dialog, ann, one.seq), reaction(dialog, bo, two.seq), edit(dialog, ann, three.seq)),
        (await world.act(bodies.Deleted, dialog, ann, target=three.seq)).verdict,
    ]
    await world.flush(edit(dialog, ann, unseen.seq), reaction(dialog, bo, unseen.seq))
    await world.act(bodies.Deleted, dialog, ann, target=unseen.seq)

    async def missed(who: Person, before: int, *, limit: int = 9) -> list[int] | None:
        rows = await world.timelines.read_missed(who.principal, dialog, gone, before, limit=limit)
        return None if rows is None else [row.seq for row in rows]

    async def later(who: Person, last: int) -> list[int]:
        found = await world.timelines.read_later(who.principal, dialog, 1, last, newest_first=True)
        return sorted(row.seq for rows in found.events.values() for row in rows)

    listed = [done[0].seq, done[1].seq, done[3].seq]
    assert await later(cy, gone) == []
    back = (await world.act(bodies.MembersAdded, dialog, ann, cy)).verdict.seq
    assert await missed(cy, back) == await later(cy, back) == await later(cy, gone) == listed
    assert await missed(cy, back, limit=3) == listed
    assert await missed(cy, back, limit=2) is None
    assert await missed(ann, back) == await missed(await world.person(), back) == []

    await world.act(bodies.MemberRemoved, dialog, ann, cy)
    await world.flush(edit(dialog, ann, one.seq))
    assert await later(cy, back) == listed


async def test_more_than_a_page_is_not_listed(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    (said,) = await world.flush(message(dialog, ann))
    gone = (await world.act(bodies.MemberRemoved, dialog, ann, cy)).verdict.seq

    async def listed(before: int) -> bool:
        return await world.timelines.read_missed(cy.principal, dialog, gone, before, limit=9999) is not None

    await world.flush(*(edit(dialog, ann, said.seq, "x" * 60_000) for _ in range(5)))
    back = (await world.act(bodies.MembersAdded, dialog, ann, cy)).verdict.seq
    assert [await listed(back - 3), await listed(back)] == [True, False]


async def test_more_than_is_looked_through_is_not_listed(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    (said,) = await world.flush(message(dialog, ann))
    gone = (await world.act(bodies.MemberRemoved, dialog, ann, cy)).verdict.seq
    (unseen,) = await world.flush(message(dialog, ann))
    await world.flush(edit(dialog, ann, said.seq))
    back = (await world.act(bodies.MembersAdded, dialog, ann, cy)).verdict.seq
    await world.flush(*(reaction(dialog, bo, unseen.seq) for _ in range(2001)))

    async def listed(before: int) -> bool:
        return await world.timelines.read_missed(cy.principal, dialog, gone, before, limit=9999) is not None

    assert [await listed(back), await listed(gone + 2001), await listed(gone + 2002)] == [True, True, False]
