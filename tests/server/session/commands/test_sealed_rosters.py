"""What a newcomer asks about a sealed dialog, over the wire: pages that fit, for members only."""

from __future__ import annotations

import pytest

from protocol.codec import CODECS, Codec
from protocol.key_commands import ReadRosterAt
from protocol.limits import REPLY_BYTES_MAX
from protocol.replies import RosterSnapshot
from protocol.roster import RosterMember
from server.session.commands import sealed_rosters
from storage.postgres.device_keys import PostgresDeviceKeys
from tchat.crypto.sealed_roster import SealedRoster, snapshot_of
from tchat.crypto.signed_changes import fold_roster, join_roster
from tests.support.harness import Running
from tests.support.signing_team import SigningTeam

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
@pytest.mark.parametrize("page_bytes", [REPLY_BYTES_MAX, 10])
async def test_a_newcomer_reads_the_roster_page_by_page(
    server: Running, codec: Codec, page_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await SigningTeam.found(server.world, PostgresDeviceKeys(server.world.pool), 4)
    bo, di = team.people[1], team.people[3]
    invitation = await team.invite(team.ann, di)
    for _ in range(3):
        await team.promote(team.ann, bo)
    await team.accept(di, invitation)
    monkeypatch.setattr(sealed_rosters, "REPLY_BYTES_MAX", page_bytes + 400)
    async with server.live(di.person, codec) as wire:
        first = page = await wire.ask(ReadRosterAt(1, team.dialog))
        assert isinstance(page, RosterSnapshot)
        members = {each.principal: RosterMember(each.role, each.joined, each.log) for each in first.members}
        events, pages = list(page.events), 1
        while page.more:
            after = events[-1].seq if events else first.keys_seq
            page = await wire.ask(ReadRosterAt(2, team.dialog, after))
            assert page.members == []
            events += page.events
            pages += 1
    joined = join_roster(snapshot_of(team.dialog, first.keys_seq, members), di.person.principal, events, team.pin)
    assert (joined.refusals, joined.roster.view, len(events)) == ((), team.roster.view, 4)
    assert (pages > 1) is (page_bytes < REPLY_BYTES_MAX)


@pytest.mark.parametrize("page_bytes", [REPLY_BYTES_MAX, 10])
async def test_who_heard_a_window_reads_what_changed_before(
    server: Running, page_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await SigningTeam.found(server.world, PostgresDeviceKeys(server.world.pool), 4)
    bo = team.people[1]
    for _ in range(3):
        await team.promote(team.ann, bo)
    monkeypatch.setattr(sealed_rosters, "REPLY_BYTES_MAX", page_bytes)
    roster, pages = SealedRoster(team.dialog), 0
    async with server.live(bo.person) as wire:
        more = True
        while more:
            page = await wire.ask(ReadRosterAt(1, team.dialog, since=roster.seq + 1))
            for event in page.events:
                roster = fold_roster(roster, event, team.pin).roster
            more, pages = page.more, pages + 1
    assert (roster.view, pages > 1) == (team.roster.view, page_bytes < REPLY_BYTES_MAX)


async def test_who_is_no_member_reads_no_roster(server: Running) -> None:
    team = await SigningTeam.found(server.world, PostgresDeviceKeys(server.world.pool), 4)
    async with server.live(team.people[3].person) as wire:
        for question in (ReadRosterAt(1, team.dialog), ReadRosterAt(1, team.dialog, since=0)):
            assert (await wire.ask(question)).code == "dialog_not_found"
