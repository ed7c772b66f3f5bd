"""Who may bring whom into a dialog, and invitations: what the store judges, and what it keeps."""

from __future__ import annotations

import asyncio

import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Role
from protocol.ids import new_id, self_dialog_id
from protocol.limits import INVITATIONS_BY_ONE_MAX, INVITATIONS_MAX
from storage.identity_rows import WhoMayAdd
from storage.rows import ChangeEntry, ChangeResult, VerdictCode
from tests.support.identity_people import GRACE, NOW, IdentityStores, purge, sign_in
from tests.support.world import Person, World, reaction

pytestmark = pytest.mark.anyio

OK, DUPLICATE, GONE = VerdictCode.OK, VerdictCode.DUPLICATE, VerdictCode.NOT_FOUND
CONSENT_REQUIRED = VerdictCode.CONSENT_REQUIRED


async def people(world: World, *choices: WhoMayAdd | None) -> list[Person]:
    """Ann, who may be added by everybody, and people with these choices; each has a `self` dialog."""
    made = await world.people(1 + len(choices))
    for person, choice in zip(made, (WhoMayAdd.EVERYBODY, *choices), strict=True):
        await world.chooses(person, choice)
        await world.create(DialogType.SELF, person)
    return made


async def add(world: World, dialog: bytes, author: Person, *whom: Person) -> VerdictCode:
    """Try to add members."""
    return (await world.act(bodies.MembersAdded, dialog, author, *whom)).verdict.code


async def invite(
    world: World, dialog: bytes, author: Person, whom: Person, *, n: int | None = None, name: str = "name"
) -> ChangeResult:
    """Try to invite somebody."""
    body = bodies.Invited(dialog, author.principal, DialogType.CHANNEL, name)
    number = author.n() if n is None else n
    return await world.change(
        ChangeEntry(self_dialog_id(whom.principal), author.principal, author.device, number, body)
    )


async def decline(world: World, dialog: bytes, person: Person) -> VerdictCode:
    """Try to decline an invitation."""
    home = self_dialog_id(person.principal)
    entry = ChangeEntry(home, person.principal, person.device, person.n(), bodies.Declined(dialog))
    return (await world.change(entry)).verdict.code


async def invitations(world: World, person: Person) -> list[bytes]:
    """The dialogs of the open invitations, as a sync returns them."""
    (row,) = await world.timelines.read_dialogs(person.principal, [self_dialog_id(person.principal)])
    return [invited.dialog for invited in row.state.invitations]


async def test_a_stranger_is_not_added_and_nothing_of_the_list_is(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.KNOWN, WhoMayAdd.EVERYBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    assert await add(world, channel, ann, cy, bo) is CONSENT_REQUIRED
    assert set((await world.timelines.read_roster(channel)).members) == {ann.principal}
    assert await add(world, channel, ann, cy) is OK


async def test_a_stranger_is_not_in_a_new_group_or_channel(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.KNOWN, WhoMayAdd.EVERYBODY)
    for kind in (DialogType.GROUP, DialogType.CHANNEL):
        refused, dialog = await world.try_create(kind, ann, bo, cy)
        assert refused.verdict.code is CONSENT_REQUIRED
        assert (await world.timelines.read_roster(dialog)).members == {}


async def test_a_direct_dialog_with_a_stranger_is_possible_and_makes_only_its_creator_known(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.KNOWN)
    await world.chooses(ann, WhoMayAdd.KNOWN)
    direct = await world.create(DialogType.DIRECT, ann, bo)
    await world.say(direct, ann)
    assert await add(world, await world.create(DialogType.CHANNEL, ann), ann, bo) is CONSENT_REQUIRED
    assert await add(world, await world.create(DialogType.CHANNEL, bo), bo, ann) is OK


async def test_who_answers_in_a_direct_dialog_may_be_added_by_the_other_alone(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.KNOWN, WhoMayAdd.EVERYBODY)
    direct = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(reaction(direct, bo, (await world.say(direct, ann)).seq))
    assert await add(world, await world.create(DialogType.CHANNEL, ann), ann, bo) is OK
    assert await add(world, await world.create(DialogType.CHANNEL, cy), cy, bo) is CONSENT_REQUIRED


async def test_to_write_in_a_group_makes_nobody_known(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.EVERYBODY, WhoMayAdd.EVERYBODY)
    await world.say(await world.create(DialogType.GROUP, ann, bo, cy), bo)
    await world.chooses(bo, WhoMayAdd.KNOWN)
    assert await add(world, await world.create(DialogType.CHANNEL, ann), ann, bo) is CONSENT_REQUIRED


async def test_nobody_is_nobody(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    await world.say(await world.create(DialogType.DIRECT, bo, ann), bo)
    assert await add(world, await world.create(DialogType.CHANNEL, ann), ann, bo) is CONSENT_REQUIRED


async def test_who_chose_nothing_is_added_as_the_deployment_says(world: World) -> None:
    ann, bo = await people(world, None)
    channel = await world.create(DialogType.CHANNEL, ann)
    assert await add(world, channel, ann, bo) is CONSENT_REQUIRED
    await world.pool.execute("UPDATE deployment SET who_may_add = $1", WhoMayAdd.EVERYBODY)
    assert await add(world, channel, ann, bo) is OK


async def test_bots_and_businesses_are_added_by_everybody(world: World) -> None:
    (ann,) = await people(world)
    channel = await world.create(DialogType.CHANNEL, ann)
    assert await add(world, channel, ann, await world.person(kind=2), await world.person(kind=3)) is OK


async def test_a_public_dialog_is_joined_without_an_invitation(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    assert await add(world, await world.create(DialogType.CHANNEL, ann, public=True), bo, bo) is OK


async def test_an_invited_person_joins_by_themself(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.NOBODY, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    assert await add(world, channel, bo, bo) is GONE
    invited = await invite(world, channel, ann, bo)
    assert (invited.verdict.code, len(invited.events)) == (OK, 1)
    assert await invitations(world, bo) == [channel]
    assert await add(world, channel, cy, cy) is GONE
    assert await add(world, channel, bo, bo) is OK
    assert await invitations(world, bo) == []


async def test_an_invitation_is_used_once(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    await invite(world, channel, ann, bo)
    assert await add(world, channel, bo, bo) is OK
    assert (await world.act(bodies.MemberRemoved, channel, ann, bo)).verdict.code is OK
    assert await add(world, channel, bo, bo) is GONE


async def test_a_removed_member_does_not_return_by_an_invitation_from_before(world: World) -> None:
    """One that was committed while the member joined otherwise."""
    ann, bo = await people(world, WhoMayAdd.EVERYBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    await invite(world, channel, ann, bo)
    rows = await world.pool.fetch("SELECT * FROM invitations")
    assert await add(world, channel, ann, bo) is OK
    await world.pool.execute("INSERT INTO invitations VALUES ($1, $2, $3, $4, $5)", *rows[0])
    await world.act(bodies.MemberRemoved, channel, ann, bo)
    assert await add(world, channel, bo, bo) is GONE


async def test_an_invitation_ends_with_the_role_of_its_inviter(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.EVERYBODY, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann, bo)
    await world.act(bodies.Promoted, channel, ann, bo)
    await invite(world, channel, bo, cy)
    await world.act(bodies.Demoted, channel, ann, bo)
    assert await add(world, channel, cy, cy) is GONE
    assert (await invite(world, channel, ann, cy)).verdict.code is DUPLICATE
    assert await add(world, channel, cy, cy) is OK


async def test_an_invitation_of_somebody_suspended_lets_nobody_in(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    await invite(world, channel, ann, bo)
    await world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", ann.principal)
    assert await add(world, channel, bo, bo) is GONE


async def test_a_second_invitation_and_one_after_a_refusal_are_no_events(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    first = await invite(world, channel, ann, bo)
    for open_ones in ([channel], []):
        again = await invite(world, channel, ann, bo)
        assert (again.verdict.code, again.verdict.seq, again.events) == (DUPLICATE, first.verdict.seq, ())
        assert await invitations(world, bo) == open_ones
        await decline(world, channel, bo)
    assert await add(world, channel, bo, bo) is GONE
    assert await decline(world, channel, bo) is GONE


async def test_a_retry_of_an_invitation_returns_the_first_ack_whatever_happened_since(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channel, other = await world.create(DialogType.CHANNEL, ann), await world.create(DialogType.CHANNEL, ann)
    n = ann.n()
    first = await invite(world, channel, ann, bo, n=n)
    assert await add(world, channel, bo, bo) is OK
    again = await invite(world, channel, ann, bo, n=n, name="renamed since")
    assert (again.verdict.code, again.verdict.seq) == (DUPLICATE, first.verdict.seq)
    assert (await invite(world, other, ann, bo, n=n)).verdict.code is VerdictCode.CONFLICT


async def test_an_invitation_is_judged(world: World) -> None:
    ann, bo, cy, di = await people(world, WhoMayAdd.EVERYBODY, WhoMayAdd.NOBODY, WhoMayAdd.NOBODY)
    channel, direct = await world.create(DialogType.CHANNEL, ann, bo), await world.create(DialogType.DIRECT, ann, bo)

    async def judged(dialog: bytes, author: Person, whom: Person) -> VerdictCode:
        return (await invite(world, dialog, author, whom)).verdict.code

    assert await judged(channel, cy, di) is GONE
    assert await judged(new_id(), ann, di) is GONE
    assert await judged(channel, bo, cy) is VerdictCode.ROLE_REQUIRED
    assert await judged(direct, ann, cy) is VerdictCode.FIXED_ROSTER
    assert await judged(channel, ann, bo) is VerdictCode.ALREADY_MEMBER
    assert await judged(channel, ann, Person(new_id())) is VerdictCode.PRINCIPAL_NOT_FOUND
    await world.act(bodies.Blocked, self_dialog_id(cy.principal), cy, ann)
    assert await judged(channel, ann, cy) is VerdictCode.BLOCKED
    await world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", ann.principal)
    assert await judged(channel, ann, di) is VerdictCode.SUSPENDED
    assert await invitations(world, cy) == await invitations(world, di) == []


async def test_who_cannot_invite_takes_no_lock(world: World) -> None:
    ann, bo, cy = await people(world, WhoMayAdd.NOBODY, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    async with world.held(self_dialog_id(cy.principal)), asyncio.timeout(10):
        assert (await invite(world, channel, bo, cy)).verdict.code is GONE


async def test_one_inviter_has_a_bounded_number_of_invitations_of_a_person(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channels = [await world.create(DialogType.CHANNEL, ann) for _ in range(INVITATIONS_BY_ONE_MAX + 1)]
    verdicts = [(await invite(world, channel, ann, bo)).verdict.code for channel in channels]
    assert verdicts == [OK] * INVITATIONS_BY_ONE_MAX + [VerdictCode.INVITATIONS_BOUND]


async def test_a_person_has_a_bounded_number_of_invitations_and_declined_ones_make_room(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    await world.pool.execute(
        "INSERT INTO invitations SELECT $1, uuidv7(), uuidv7(), 1000 + g FROM generate_series(1, $2) g",
        bo.principal,
        INVITATIONS_MAX - 1,
    )
    first, second = await world.create(DialogType.CHANNEL, ann), await world.create(DialogType.CHANNEL, ann)
    assert (await invite(world, first, ann, bo)).verdict.code is OK
    assert (await invite(world, second, ann, bo)).verdict.code is VerdictCode.INVITATIONS_BOUND
    assert await decline(world, first, bo) is OK
    assert (await invite(world, second, ann, bo)).verdict.code is OK
    assert await world.pool.fetchval("SELECT count(*) FROM invitations") == INVITATIONS_MAX
    assert await invitations(world, bo) == [second]


async def test_a_person_is_in_a_bounded_number_of_dialogs(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.EVERYBODY)
    await world.pool.execute("UPDATE deployment SET dialogs_per_person_max = 3")
    public = await world.create(DialogType.CHANNEL, ann, public=True)
    held = [await world.create(DialogType.CHANNEL, bo) for _ in range(2)]
    bound = VerdictCode.DIALOGS_BOUND
    assert await add(world, public, ann, bo) is bound
    assert await add(world, public, bo, bo) is bound
    for kind, author, others in ((DialogType.CHANNEL, bo, []), (DialogType.DIRECT, ann, [bo])):
        assert (await world.try_create(kind, author, *others))[0].verdict.code is bound
    assert (await world.act(bodies.MemberLeft, held[0], bo)).verdict.code is OK
    assert await add(world, public, bo, bo) is OK


async def test_the_dialogs_of_who_does_not_agree_are_neither_counted_nor_shown(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    await world.create(DialogType.CHANNEL, bo)
    await world.pool.execute("UPDATE deployment SET dialogs_per_person_max = 1")
    assert await add(world, channel, ann, bo) is VerdictCode.CONSENT_REQUIRED
    assert (await invite(world, channel, ann, bo)).verdict.code is OK
    assert await add(world, channel, bo, bo) is VerdictCode.DIALOGS_BOUND


async def test_a_business_is_in_any_number_of_dialogs(world: World) -> None:
    ann, shop = await world.person(), await world.person(kind=3)
    await world.pool.execute("UPDATE deployment SET dialogs_per_person_max = 1")
    for _ in range(2):
        await world.create(DialogType.CHANNEL, ann, shop)


async def test_who_joins_by_an_invitation_is_a_plain_member(world: World) -> None:
    ann, bo = await people(world, WhoMayAdd.NOBODY)
    channel = await world.create(DialogType.CHANNEL, ann)
    await invite(world, channel, ann, bo)
    await add(world, channel, bo, bo)
    members = await world.timelines.read_members(ann.principal, [channel], after=bytes(16), limit=9)
    assert {each.principal: each.role for each in members[channel]}[bo.principal] is Role.MEMBER


async def test_a_purged_person_leaves_no_contacts_and_no_invitations(world: World, stores: IdentityStores) -> None:
    me = (await sign_in(stores)).principal
    await world.pool.execute("INSERT INTO contacts SELECT $1, uuidv7() FROM generate_series(1, 5)", me)
    await world.pool.execute("INSERT INTO invitations SELECT $1, uuidv7(), uuidv7(), 2 FROM generate_series(1, 5)", me)
    assert await stores.people.delete(NOW, me)
    assert await purge(stores, NOW + GRACE) == 1
    assert await world.pool.fetchval("SELECT count(*) FROM contacts") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM invitations") == 0
