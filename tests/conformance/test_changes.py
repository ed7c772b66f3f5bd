"""Changes of rosters, settings, older events and one's own state: their judgments, effects and answers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from protocol import bodies
from protocol.bodies import AnyBody
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import new_id, self_dialog_id
from storage.rows import ChangeEntry, VerdictCode
from tests.support.world import Person, World, edit, reaction

pytestmark = pytest.mark.anyio

OK, DUPLICATE, CONFLICT, NUMBER_PASSED = (
    VerdictCode.OK,
    VerdictCode.DUPLICATE,
    VerdictCode.CONFLICT,
    VerdictCode.NUMBER_PASSED,
)
GONE = VerdictCode.NOT_FOUND


def decode(body: bytes) -> AnyBody:
    decoded: AnyBody = msgspec.msgpack.decode(body, type=AnyBody)
    return decoded


async def test_deleting_erases_the_content_and_keeps_the_numbers(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    secret = await world.say(dialog, ann, "secret")
    changed = edit(dialog, ann, secret.seq, "secret too")
    await world.flush(changed, reaction(dialog, bo, secret.seq))
    assert (await world.act(bodies.Deleted, dialog, bo, target=secret.seq)).verdict.code is VerdictCode.EVENT_NOT_FOUND
    assert (await world.act(bodies.Deleted, dialog, ann, target=secret.seq)).verdict.code is OK
    rows = await world.timelines.read_events(bo.principal, [(dialog, 1, 99)], limit=99)
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert [decode(row.body) for row in rows[1:4]] == [bodies.Erased()] * 3
    assert decode(rows[4].body) == bodies.Deleted(secret.seq)
    again = (await world.flush(changed))[0]
    assert (again.code, again.erased) == (DUPLICATE, True)


async def test_an_admin_of_a_group_deletes_anybodys_message(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    said = await world.say(dialog, bo)
    assert (await world.act(bodies.Deleted, dialog, cy, target=said.seq)).verdict.code is VerdictCode.EVENT_NOT_FOUND
    assert (await world.act(bodies.Deleted, dialog, ann, target=said.seq)).verdict.code is OK


async def test_creating_again_under_the_same_number_is_a_duplicate(world: World) -> None:
    ann, bo, cy = await world.people(3)
    first, dialog = await world.try_create(DialogType.GROUP, ann, bo, cy, n=1)
    again, same = await world.try_create(DialogType.GROUP, ann, bo, cy, n=1)
    other, _ = await world.try_create(DialogType.GROUP, ann, cy, bo, n=1)
    assert (first.verdict.code, again.verdict.code, other.verdict.code) == (OK, DUPLICATE, CONFLICT)
    assert (dialog, again.verdict.seq) == (same, 1)


async def test_a_pair_has_one_direct_dialog_however_many_create_it_at_once(world: World) -> None:
    ann, bo = await world.people(2)
    results = await asyncio.gather(*(world.try_create(DialogType.DIRECT, *pair) for pair in [(ann, bo), (bo, ann)] * 4))
    assert sorted(result.verdict.code for result, _ in results) == [OK] + [DUPLICATE] * 7
    assert len({dialog for _, dialog in results}) == 1


async def test_creations_are_judged_alike_in_whatever_order_a_connection_brings_them(world: World) -> None:
    """One call after the other uses one connection, which keeps the plans that the first call made."""
    ann, bo, cy = await world.people(3)
    await world.create(DialogType.DIRECT, ann, bo)
    made, _ = await world.try_create(DialogType.GROUP, ann, bo, cy, n=7)
    assert made.verdict.code is OK
    for _ in range(2):
        there, _ = await world.try_create(DialogType.DIRECT, ann, bo)
        refused, _ = await world.try_create(DialogType.GROUP, ann, bo)
        again, _ = await world.try_create(DialogType.GROUP, ann, bo, cy, n=7)
        codes = (there.verdict.code, refused.verdict.code, again.verdict.code)
        assert codes == (DUPLICATE, VerdictCode.MEMBERS_BOUND, DUPLICATE)


async def test_members_bounds_hold_at_creation_and_after(world: World) -> None:
    ann, bo, cy = await world.people(3)
    too_few, _ = await world.try_create(DialogType.GROUP, ann, bo)
    assert too_few.verdict.code is VerdictCode.MEMBERS_BOUND
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.pool.execute("UPDATE dialog_types SET members_max = 3 WHERE type = 3")
    assert (
        await world.act(bodies.MembersAdded, dialog, ann, await world.person())
    ).verdict.code is VerdictCode.MEMBERS_BOUND
    assert (await world.act(bodies.MemberLeft, dialog, cy)).verdict.code is OK
    assert (await world.act(bodies.MemberLeft, dialog, bo)).verdict.code is OK


async def test_a_direct_dialog_never_changes_its_members(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    for op, *who in (
        (bodies.MembersAdded, cy),
        (bodies.MemberRemoved, bo),
        (bodies.MemberLeft,),
        (bodies.Promoted, bo),
    ):
        assert (await world.act(op, dialog, ann, *who)).verdict.code is VerdictCode.FIXED_ROSTER


async def test_adding_needs_an_admin_unless_the_dialog_is_public(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    private = await world.create(DialogType.GROUP, ann, bo, cy)
    public = await world.create(DialogType.CHANNEL, ann, public=True)
    assert (await world.act(bodies.MembersAdded, private, bo, di)).verdict.code is VerdictCode.ROLE_REQUIRED
    assert (await world.act(bodies.MembersAdded, private, di, di)).verdict.code is GONE
    assert (await world.act(bodies.MembersAdded, public, di, di)).verdict.code is OK
    assert (await world.act(bodies.MembersAdded, public, di, bo)).verdict.code is VerdictCode.ROLE_REQUIRED
    assert (await world.act(bodies.MembersAdded, public, cy, bo)).verdict.code is GONE
    assert (await world.act(bodies.MembersAdded, private, ann, bo)).verdict.code is VerdictCode.ALREADY_MEMBER


async def test_the_last_admin_who_leaves_is_followed_by_the_longest_standing(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.act(bodies.MemberLeft, dialog, bo)
    await world.act(bodies.MembersAdded, dialog, ann, bo)
    await world.act(bodies.MembersAdded, dialog, ann, di)
    result = await world.act(bodies.MemberLeft, dialog, ann)
    assert [decode(row.body) for row in result.events] == [bodies.MemberLeft(), bodies.Promoted(cy.principal)]
    assert [row.n > 0 for row in result.events] == [True, False]
    assert (await world.act(bodies.MemberRemoved, dialog, cy, bo)).verdict.code is OK


async def test_who_is_longest_standing_is_a_matter_of_order_not_of_clocks(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.act(bodies.MembersAdded, dialog, ann, di)
    await world.pool.execute("UPDATE members SET joined_at_ms = 0 WHERE principal_id = $1", di.principal)
    result = await world.act(bodies.MemberLeft, dialog, ann)
    assert decode(result.events[1].body) == bodies.Promoted(min(bo.principal, cy.principal))


async def test_who_must_have_keys_changes_with_members_and_devices(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    sealed = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    changed = bodies.DevicesChanged(bo.principal, bodies.LogHead(1, 2, bytes(32)))
    keys_seqs = [
        result.verdict.keys_seq
        for result in (
            await world.act(bodies.MembersAdded, sealed, ann, di, signed_at=0),
            await world.act(bodies.Promoted, sealed, ann, bo, signed_at=2),
            await world.change(ChangeEntry(sealed, bo.principal, bo.device, 0, changed)),
            await world.act(bodies.MemberRemoved, sealed, ann, di),
            await world.act(bodies.MemberLeft, sealed, cy),
        )
    ]
    assert keys_seqs == [2, 2, 4, 5, 6]
    opened = await world.create(DialogType.GROUP, ann, bo, cy)
    refused = await world.change(ChangeEntry(opened, bo.principal, bo.device, 0, changed))
    assert refused.verdict.code is VerdictCode.NOT_ALLOWED


async def test_a_sealed_dialog_does_not_become_public(world: World) -> None:
    ann, bo, cy = await world.people(3)
    for mode, code in ((Mode.SEALED, VerdictCode.NOT_ALLOWED), (Mode.OPEN, OK)):
        dialog = await world.create(DialogType.GROUP, ann, bo, cy, mode=mode)
        body = bodies.SettingsChanged("name", "", "", bodies.Settings(is_public=True))
        changed = await world.change(ChangeEntry(dialog, ann.principal, ann.device, ann.n(), body))
        assert changed.verdict.code is code


async def test_the_last_admin_cannot_be_demoted(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    assert (await world.act(bodies.Demoted, dialog, ann, ann)).verdict.code is VerdictCode.LAST_ADMIN
    assert (await world.act(bodies.Promoted, dialog, ann, bo)).verdict.code is OK
    assert (await world.act(bodies.Demoted, dialog, bo, ann)).verdict.code is OK
    assert (await world.act(bodies.Promoted, dialog, ann, cy)).verdict.code is VerdictCode.ROLE_REQUIRED


async def test_a_change_is_idempotent_too(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    n = ann.n()
    first = await world.act(bodies.MemberRemoved, dialog, ann, bo, n=n)
    again = await world.act(bodies.MemberRemoved, dialog, ann, bo, n=n)
    other = await world.act(bodies.MemberRemoved, dialog, ann, cy, n=n)
    assert (first.verdict.code, again.verdict.code, other.verdict.code) == (OK, DUPLICATE, CONFLICT)
    assert first.verdict.seq == again.verdict.seq


async def test_a_retried_change_to_a_server_that_knows_more_fields_is_no_conflict(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)

    def renamed(name: str) -> ChangeEntry:
        body = bodies.SettingsChanged(name, "", "", bodies.Settings())
        return ChangeEntry(dialog, ann.principal, ann.device, 50, body)

    first = await world.change(renamed("new"))
    tag, name, description, avatar, settings = msgspec.msgpack.decode(first.events[0].body)
    as_before = msgspec.msgpack.encode([tag, name, description, avatar, settings[:1]])
    await world.pool.execute("UPDATE journal SET body = $1 WHERE n = 50", as_before)
    again = await world.change(renamed("new"))
    assert (again.verdict.code, again.verdict.seq, bytes(again.events[0].body)) == (
        DUPLICATE,
        first.verdict.seq,
        as_before,
    )
    assert (await world.change(renamed("newer"))).verdict.code is CONFLICT


async def test_a_repeated_leaving_returns_the_promotion_of_the_heir_again(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    n = ann.n()
    first = await world.act(bodies.MemberLeft, dialog, ann, n=n)
    again = await world.act(bodies.MemberLeft, dialog, ann, n=n)
    assert (len(first.events), again.events) == (2, first.events)


async def test_a_direct_dialog_that_exists_is_an_answer_and_no_event(world: World) -> None:
    ann, bo = await world.people(2)
    made, dialog = await world.try_create(DialogType.DIRECT, ann, bo)
    found, same = await world.try_create(DialogType.DIRECT, bo, ann)
    assert (same, found.verdict.code, found.verdict.seq) == (dialog, DUPLICATE, made.verdict.seq)
    assert found.events == ()


async def test_a_dialog_that_exists_is_no_answer_to_a_stranger(world: World) -> None:
    ann, bo, eve = await world.people(3)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    created = bodies.DialogCreated(
        DialogType.DIRECT,
        Mode.OPEN,
        "",
        "",
        "",
        bodies.Settings(),
        [bodies.MemberRole(each.principal, Role.MEMBER) for each in (eve, bo)],
    )
    refused = await world.change(ChangeEntry(dialog, eve.principal, eve.device, eve.n(), created))
    assert (refused.verdict.code, refused.verdict.seq, refused.events) == (GONE, 0, ())


async def test_the_servers_own_creation_of_a_self_dialog_repeats_its_event(world: World) -> None:
    ann = await world.person()
    first, _ = await world.try_create(DialogType.SELF, ann, n=0)
    again, _ = await world.try_create(DialogType.SELF, ann, n=0)
    under_a_number, _ = await world.try_create(DialogType.SELF, ann)
    assert (first.verdict.code, again.verdict.code, under_a_number.verdict.code) == (OK, DUPLICATE, DUPLICATE)
    assert (again.events, under_a_number.events) == (first.events, ())


async def test_a_creator_suspended_since_still_learns_of_the_first_ack(world: World) -> None:
    ann, bo, cy = await world.people(3)
    first, _ = await world.try_create(DialogType.GROUP, ann, bo, cy, n=1)
    await world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", ann.principal)
    again, _ = await world.try_create(DialogType.GROUP, ann, bo, cy, n=1)
    other, _ = await world.try_create(DialogType.GROUP, ann, bo, cy, n=2)
    assert (again.verdict.code, again.events) == (DUPLICATE, first.events)
    assert other.verdict.code is VerdictCode.SUSPENDED


async def test_a_change_is_judged_by_its_author_before_anything_else(world: World) -> None:
    await world.pool.execute("INSERT INTO tenants VALUES (2, 'other')")
    ann, bo, cy, eve = await world.people(4)
    foreign = await world.person(tenant=2)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)

    async def promote(author: Person, *, n: int | None = None) -> VerdictCode:
        return (await world.act(bodies.Promoted, dialog, author, bo, n=n)).verdict.code

    assert [await promote(author) for author in (eve, foreign, bo)] == [GONE, GONE, VerdictCode.ROLE_REQUIRED]
    await world.act(bodies.Promoted, dialog, ann, cy, n=9)
    assert await promote(ann, n=8) is NUMBER_PASSED
    await world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", ann.principal)
    assert await promote(ann, n=8) is NUMBER_PASSED
    assert await promote(ann, n=10) is VerdictCode.SUSPENDED
    assert (await world.act(bodies.Promoted, new_id(), cy, bo)).verdict.code is GONE


async def test_a_conflict_names_the_first_number_and_tells_nothing_more(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    first = await world.act(bodies.MemberRemoved, dialog, ann, bo, n=9)
    conflict = await world.act(bodies.MemberRemoved, dialog, ann, cy, n=9)
    assert (conflict.verdict.code, conflict.verdict.seq, conflict.events) == (CONFLICT, first.verdict.seq, ())


async def test_a_change_under_the_number_of_an_erased_message_is_a_duplicate(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    said = await world.say(dialog, ann)
    n = await world.pool.fetchval("SELECT n FROM journal WHERE dialog_id = $1 AND seq = $2", dialog, said.seq)
    assert (await world.act(bodies.Deleted, dialog, ann, target=said.seq)).verdict.code is OK
    again = await world.act(bodies.Promoted, dialog, ann, bo, n=n)
    assert (again.verdict.code, again.verdict.seq) == (DUPLICATE, said.seq)
    assert (await world.act(bodies.Deleted, dialog, ann, target=said.seq)).verdict.code is VerdictCode.EVENT_NOT_FOUND


async def test_a_change_of_a_member_needs_one(world: World) -> None:
    ann, bo, cy, eve = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    for change in (bodies.MemberRemoved, bodies.Promoted, bodies.Demoted):
        assert (await world.act(change, dialog, ann, eve)).verdict.code is VerdictCode.NOT_MEMBER
    assert (await world.act(bodies.MemberRemoved, dialog, ann, ann)).verdict.code is VerdictCode.NOT_MEMBER
    await world.act(bodies.MemberRemoved, dialog, ann, bo)
    assert (await world.act(bodies.Promoted, dialog, ann, bo)).verdict.code is VerdictCode.NOT_MEMBER


async def test_promoting_an_admin_and_demoting_a_member_change_nothing_else(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    for change, who in ((bodies.Promoted, ann), (bodies.Demoted, bo), (bodies.Promoted, bo), (bodies.Promoted, bo)):
        assert (await world.act(change, dialog, ann, who)).verdict.code is OK
    assert (await world.act(bodies.Demoted, dialog, ann, bo)).verdict.code is OK
    assert (await world.act(bodies.Demoted, dialog, ann, ann)).verdict.code is VerdictCode.LAST_ADMIN


async def test_who_is_deleted_unknown_or_a_service_cannot_be_added(world: World) -> None:
    ann, bo, cy, gone = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.pool.execute("UPDATE principals SET status = 3 WHERE principal_id = $1", gone.principal)
    for who in (gone, Person(new_id()), await world.person(kind=4)):
        added = await world.act(bodies.MembersAdded, dialog, ann, who)
        assert added.verdict.code is VerdictCode.PRINCIPAL_NOT_FOUND


async def test_only_admins_change_settings_and_all_of_them_are_changed(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    settings = bodies.Settings(is_public=True, allow_media=False, message_retention_days=7, moderation_enabled=True)
    changed = bodies.SettingsChanged("new \N{SNOWMAN} 'name'", "what for", "https://example.org/a.png", settings)

    async def change(author: Person) -> VerdictCode:
        return (
            await world.change(ChangeEntry(dialog, author.principal, author.device, author.n(), changed))
        ).verdict.code

    assert await change(bo) is VerdictCode.ROLE_REQUIRED
    assert await change(ann) is OK
    (row,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    state = row.state
    assert (state.name, state.description, state.avatar_url, state.settings) == (
        changed.name,
        changed.description,
        changed.avatar_url,
        settings,
    )


async def test_nobody_blocks_themself_or_somebody_unknown(world: World) -> None:
    ann = await world.person()
    home = await world.create(DialogType.SELF, ann)
    for who in (ann, Person(new_id())):
        for change in (bodies.Blocked, bodies.Unblocked):
            assert (await world.act(change, home, ann, who)).verdict.code is VerdictCode.PRINCIPAL_NOT_FOUND


async def test_a_changed_profile_is_an_event_of_ones_own(world: World) -> None:
    ann, bo = await world.people(2)
    home = await world.create(DialogType.SELF, ann)
    noted = await world.change(ChangeEntry(home, ann.principal, ann.device, 0, bodies.ProfileChanged()))
    assert (noted.verdict.code, [decode(row.body) for row in noted.events]) == (OK, [bodies.ProfileChanged()])
    again = await world.change(ChangeEntry(home, ann.principal, ann.device, 0, bodies.ProfileChanged()))
    assert (again.verdict.code, again.verdict.seq) == (OK, noted.verdict.seq + 1)
    assert (
        await world.change(ChangeEntry(home, bo.principal, bo.device, 0, bodies.ProfileChanged()))
    ).verdict.code is GONE


async def test_who_comes_back_reads_on_where_they_came_back(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.say(dialog, ann)
    await world.act(bodies.MemberRemoved, dialog, ann, bo)
    await world.say(dialog, ann)
    back = (await world.act(bodies.MembersAdded, dialog, ann, bo)).verdict
    (row,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    state = row.state
    assert (state.role, state.read, state.delivered, state.read_messages) == (Role.MEMBER, back.seq, back.seq, 2)
    assert state.visible == [(1, 3), (back.seq, 0)]
    assert (back.member_count, back.roster_seq, back.keys_seq) == (3, back.seq, back.seq)


async def test_the_last_one_to_leave_has_no_heir(world: World) -> None:
    ann = await world.person()
    dialog = await world.create(DialogType.CHANNEL, ann)
    left = await world.act(bodies.MemberLeft, dialog, ann)
    assert (left.verdict.code, len(left.events), left.verdict.member_count) == (OK, 1, 0)


async def test_only_a_member_may_mute(world: World) -> None:
    ann, bo, cy = await world.people(3)
    await world.create(DialogType.SELF, ann)
    mine, foreign = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, bo, cy)

    async def mute(dialog: bytes) -> VerdictCode:
        home = self_dialog_id(ann.principal)
        entry = ChangeEntry(home, ann.principal, ann.device, ann.n(), bodies.Muted(dialog, 77))
        return (await world.change(entry)).verdict.code

    assert await mute(mine) is OK
    assert await mute(foreign) is GONE
    assert [row.state.muted_until_ms for row in await world.timelines.read_dialogs(ann.principal, [mine])] == [77]


async def test_an_admin_pins_a_message_for_all_and_unpins_it(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    said = await world.say(dialog, bo)

    async def pin(who: Person, target: int | None) -> VerdictCode:
        entry = ChangeEntry(dialog, who.principal, who.device, who.n(), bodies.Pinned(target))
        return (await world.change(entry)).verdict.code

    async def pinned(who: Person) -> int | None:
        return (await world.timelines.read_dialogs(who.principal, [dialog]))[0].state.pinned

    assert await pinned(bo) is None
    assert await pin(bo, said.seq) is VerdictCode.ROLE_REQUIRED
    assert await pin(ann, 1) is VerdictCode.EVENT_NOT_FOUND
    assert await pin(ann, 99) is VerdictCode.EVENT_NOT_FOUND
    assert await pin(ann, said.seq) is OK
    assert await pinned(bo) == said.seq
    await world.act(bodies.MemberRemoved, dialog, ann, cy)
    assert await pinned(cy) is None
    assert await pin(ann, None) is OK
    assert await pinned(bo) is None


async def test_what_is_invisible_is_not_pinned(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    said = await world.say(dialog, ann)
    await world.act(bodies.MembersAdded, dialog, ann, di)
    await world.act(bodies.Promoted, dialog, ann, di)
    entry = ChangeEntry(dialog, di.principal, di.device, di.n(), bodies.Pinned(said.seq))
    assert (await world.change(entry)).verdict.code is VerdictCode.EVENT_NOT_FOUND
