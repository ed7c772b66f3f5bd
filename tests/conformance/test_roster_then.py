"""A newcomer learns the roster that an admin has signed to bring them: what a member who saw all of it computes."""

from __future__ import annotations

import random

import pytest

from protocol import bodies as b
from protocol.dialog_types import DialogType, Mode, Role
from protocol.limits import ROSTER_EVENTS_MAX
from storage.device_keys import DeviceKeyStore
from storage.postgres import sealed_rosters
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.rows import VerdictCode
from storage.sealed_rosters import RosterThen, SealedRosters
from storage.unavailable import StorageUnavailableError
from tchat.crypto.sealed_roster import snapshot_of
from tchat.crypto.signed_changes import join_roster
from tests.support.device_logs import LoggedPerson
from tests.support.signing_team import SigningTeam
from tests.support.world import World

pytestmark = pytest.mark.anyio

OK = VerdictCode.OK


@pytest.fixture
async def team(world: World, device_keys: DeviceKeyStore) -> SigningTeam:
    return await SigningTeam.found(world, device_keys, 7)


async def is_believed_by(team: SigningTeam, rosters: SealedRosters, who: LoggedPerson) -> bool:
    """Whether a newcomer believes what the store says; what they then have is what the others had at that event."""
    then = await rosters.read_for_newcomer(who.person.principal, team.dialog)
    assert then is not None
    snapshot = snapshot_of(team.dialog, then.keys_seq, then.members)
    joined = join_roster(snapshot, who.person.principal, then.events, team.pin)
    same = joined.roster.view == team.roster.views.get(joined.roster.keys_seq)
    return joined.refusals == () and same


async def change_something(team: SigningTeam, rnd: random.Random) -> LoggedPerson | None:
    """Some change of the roster; who was brought in by it."""
    outside = [each for each in team.people if each not in team.members]
    by, who = rnd.choice(team.admins), rnd.choice(team.members)
    what = rnd.choice(["add", "add", "invite", "remove", "leave", "promote", "demote", "devices"])
    if what == "add" and outside:
        newcomer = rnd.choice(outside)
        assert (await team.add(by, newcomer)).verdict.code is OK
        return newcomer
    if what == "invite" and outside:
        newcomer = rnd.choice(outside)
        invitation = await team.invite(by, newcomer)
        await team.promote(by, who)
        assert (await team.accept(newcomer, invitation)).verdict.code is OK
        return newcomer
    if what == "devices":
        await who.start()
        await who.add(who.person)
        await team.announce(who)
    elif what == "promote":
        await team.promote(by, who)
    elif what == "leave" and len(team.members) > 2:
        await team.change(who.person, b.MemberLeft())
    elif what == "remove" and who is not by:
        await team.change(by.person, b.MemberRemoved(who.person.principal))
    elif what == "demote":
        await team.change(by.person, b.Demoted(who.person.principal))
    return None


@pytest.mark.parametrize("seed", range(4))
async def test_a_newcomer_believes_it_whatever_happened_before(
    team: SigningTeam, rosters: SealedRosters, seed: int
) -> None:
    rnd, brought = random.Random(seed), 0
    for _ in range(40):
        newcomer = await change_something(team, rnd)
        if newcomer is not None:
            assert await is_believed_by(team, rosters, newcomer)
            brought += 1
    assert brought > 5


async def test_who_follows_the_last_admin_brings_somebody(team: SigningTeam, rosters: SealedRosters) -> None:
    di = team.people[3]
    await team.change(team.ann.person, b.MemberLeft())
    assert (await team.add(team.admins[0], di)).verdict.code is OK
    assert await is_believed_by(team, rosters, di)


async def test_a_device_that_is_new_later_learns_the_same(team: SigningTeam, rosters: SealedRosters) -> None:
    di, em = team.people[3:5]
    await team.add(team.ann, di)
    then = await rosters.read_for_newcomer(di.person.principal, team.dialog)
    await team.promote(team.ann, di)
    await team.add(di, em)
    await team.change(team.ann.person, b.MemberLeft())
    assert await rosters.read_for_newcomer(di.person.principal, team.dialog) == then
    assert then is not None
    assert [type(event.body) for event in then.events] == [b.MembersAdded]
    assert [each.role for each in then.members.values()].count(Role.ADMIN) == 1


async def test_an_addition_is_signed_by_who_sees_the_members_that_there_are(team: SigningTeam) -> None:
    bo, cy, di = team.people[1:4]
    seen = team.roster
    await team.change(team.ann.person, b.MemberRemoved(cy.person.principal))
    now, team.roster = team.roster, seen
    stale = await team.add(team.ann, di)
    assert (stale.verdict.code, stale.verdict.keys_seq) == (VerdictCode.STALE, now.keys_seq)
    team.roster = now
    assert (await team.add(team.ann, di)).verdict.code is OK
    assert bo.person.principal in team.roster.readers


async def test_who_joins_believes_a_promotion_since_the_last_change(team: SigningTeam, rosters: SealedRosters) -> None:
    bo, cy, di = team.people[1:4]
    seen = team.roster
    await cy.start()
    await cy.add(cy.person)
    await team.announce(cy)
    now, team.roster = team.roster, seen
    stale = await team.promote(team.ann, bo)
    assert (stale.verdict.code, stale.verdict.keys_seq) == (VerdictCode.STALE, now.keys_seq)
    team.roster = now
    assert (await team.promote(team.ann, bo)).verdict.code is OK
    assert (await team.add(bo, di)).verdict.code is OK
    assert await is_believed_by(team, rosters, di)


async def test_an_invitation_ends_when_too_much_has_changed_since(team: SigningTeam, rosters: SealedRosters) -> None:
    bo, di, em = team.people[1], team.people[3], team.people[4]
    old, older = await team.invite(team.ann, di), await team.invite(team.ann, em)
    for _ in range(ROSTER_EVENTS_MAX - 1):
        await team.promote(team.ann, bo)
    assert (await team.accept(di, old)).verdict.code is OK
    assert await is_believed_by(team, rosters, di)
    assert (await team.accept(em, older)).verdict.code is VerdictCode.NOT_FOUND


async def test_there_is_nothing_for_who_was_there_or_was_brought_unsigned_and_none_for_strangers(
    team: SigningTeam, rosters: SealedRosters, world: World
) -> None:
    stranger, bo, cy, di = await world.people(4)
    assert await rosters.read_for_newcomer(stranger.principal, team.dialog) is None
    assert await rosters.read_for_newcomer(team.ann.person.principal, team.dialog) == RosterThen()
    unsigned = await world.create(DialogType.GROUP, bo, cy, di)
    await world.act(b.MembersAdded, unsigned, bo, stranger)
    await world.pool.execute("UPDATE heads SET mode = $1", Mode.SEALED)  # as servers from before encryption left them
    assert await rosters.read_for_newcomer(stranger.principal, unsigned) == RosterThen()


async def test_what_has_changed_since_is_read_up_to_a_bound(
    team: SigningTeam, rosters: SealedRosters, monkeypatch: pytest.MonkeyPatch
) -> None:
    bo, di = team.people[1], team.people[3]
    await team.add(team.ann, di)
    bounded = sealed_rosters._INTERVALS.replace(str(sealed_rosters._INTERVALS_READ_MAX), "8")
    monkeypatch.setattr(sealed_rosters, "_INTERVALS", bounded)
    monkeypatch.setattr(sealed_rosters, "_INTERVALS_READ_MAX", 8)
    assert await is_believed_by(team, rosters, di)
    for _ in range(4):
        await team.promote(team.ann, bo)
    assert await rosters.read_for_newcomer(di.person.principal, team.dialog) == RosterThen()


async def changes_since(rosters: SealedRosters, team: SigningTeam, who: LoggedPerson, since: int) -> list[int]:
    """The events of the roster that somebody reads, page by page."""
    found: list[int] = []
    while True:
        page = await rosters.read_since(who.person.principal, team.dialog, since)
        assert page is not None
        events, more = page
        found += [event.seq for event in events]
        if not more:
            return found
        since = found[-1] + 1


@pytest.mark.parametrize("edges", [1_200, 4])
async def test_who_missed_a_part_reads_what_changed_in_it(
    team: SigningTeam, rosters: SealedRosters, monkeypatch: pytest.MonkeyPatch, edges: int
) -> None:
    monkeypatch.setattr(sealed_rosters, "_SINCE", sealed_rosters._SINCE.replace("1200", str(edges)))
    monkeypatch.setattr(sealed_rosters, "_EDGES_READ_MAX", edges)
    monkeypatch.setattr(sealed_rosters, "ROSTER_EVENTS_MAX", 3 if edges == 4 else ROSTER_EVENTS_MAX)
    bo, cy, di, em = team.people[1:5]
    await team.promote(team.ann, bo)
    await team.add(team.ann, di, em)
    await team.change(team.ann.person, b.SettingsChanged("name", "", "", b.Settings()))
    await team.change(bo.person, b.Demoted(team.ann.person.principal))
    await team.change(cy.person, b.MemberLeft())
    await team.change(bo.person, b.MemberRemoved(di.person.principal))
    await team.add(bo, di)
    await bo.start()
    await bo.add(bo.person)
    await team.announce(bo)
    assert await changes_since(rosters, team, bo, 0) == [1, 2, 3, 5, 6, 7, 8, 9]
    assert await changes_since(rosters, team, bo, 6) == [6, 7, 8, 9]
    assert await changes_since(rosters, team, di, 0) == [3, 5, 6, 7, 8, 9]
    assert await changes_since(rosters, team, bo, 10) == []
    assert await rosters.read_since(cy.person.principal, team.dialog, 0) is None


async def test_a_dialog_that_is_deleted_leaves_no_roster(team: SigningTeam, rosters: SealedRosters) -> None:
    di = team.people[3]
    await team.add(team.ann, di)
    await team.change(team.ann.person, b.DialogDeleted())
    assert await rosters.read_for_newcomer(di.person.principal, team.dialog) is None
    deleted = PostgresDeletedDialogs(team.world.pool)
    while (step := await deleted.purge_some(2**50, grace_ms=1, limit=3)).more:
        if step.ended is not None:
            await deleted.finish(step.ended, 2**50, grace_ms=1)
    assert await team.world.pool.fetchval("SELECT count(*) FROM roster_intervals") == 0
    await team.world.pool.close()
    with pytest.raises(StorageUnavailableError):
        await rosters.read_for_newcomer(di.person.principal, team.dialog)
