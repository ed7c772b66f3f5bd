"""Who is in a sealed dialog is what its members have signed; the server's word alone only shrinks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from protocol import bodies as b
from protocol.device_log import LogState
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import created_dialog_id, direct_dialog_id, self_dialog_id
from protocol.limits import ROSTER_VIEWS_MAX
from protocol.roster import ChangePlace, addition_input, creation_input, invitation_input, promotion_input
from tchat.crypto.errors import LogsNeededError, RosterReason, RosterRefusedError
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.pins import PinnedLog
from tchat.crypto.sealed_roster import RosterRefusal, SealedRoster, snapshot_of
from tchat.crypto.signed_changes import RosterChange, fold_roster, join_roster
from tests.support.key_pairs import device_keys, device_signing_key

ANN, BOB, CEM, DI, EVE = (bytes([0xA0 + number]) * 16 for number in range(5))
NUMBER = {ANN: 1, BOB: 2, CEM: 3, DI: 4, EVE: 5}
"""Everybody has one device, with the keys of this number."""


def device_of(who: bytes) -> bytes:
    return bytes([NUMBER[who]]) * 16


def log_of(who: bytes) -> LogState:
    identity = OwnIdentity.from_secret(who, 1, bytes([NUMBER[who]]) * 96)
    log, _ = identity.start(b"", 0)
    return identity.add_device(log, device_of(who), device_keys(NUMBER[who]), 0)[0]


LOGS = {who: log_of(who) for who in NUMBER}
PINS = {who: PinnedLog(log) for who, log in LOGS.items()}
HEADS = {who: b.LogHead(log.generation, log.length, log.head) for who, log in LOGS.items()}
TEAM = created_dialog_id(device_of(ANN), 10)


@dataclass
class Team:
    """A group of Ann, Bob and Cem as one client folds it, and a server that says what it is told to."""

    roster: SealedRoster = field(default_factory=lambda: SealedRoster(TEAM))
    events: list[b.TimelineEvent] = field(default_factory=list)
    refusals: list[RosterRefusal] = field(default_factory=list)

    def event(self, author: bytes, n: int, body: b.AnyBody) -> b.TimelineEvent:
        return b.TimelineEvent(TEAM, len(self.events) + 1, author, device_of(author), n, 0, 0, body)

    def takes(self, author: bytes, n: int, body: b.AnyBody) -> list[RosterReason]:
        """The reasons for which the next event is not believed."""
        event = self.event(author, n, body)
        self.events.append(event)
        change = fold_roster(self.roster, event, PINS.get)
        self.roster = change.roster
        self.refusals += change.refusals
        return [refusal.reason for refusal in change.refusals]

    def signed(self, author: bytes, n: int, make: Callable[..., bytes], subject: object, **other: bytes) -> b.Signed:
        """What the device of the author signs in this dialog as it is now."""
        keys_seq = self.roster.keys_seq
        view = self.roster.views[keys_seq]
        at = ChangePlace(other.get("dialog", TEAM), author, device_of(author), n)
        message = make(at, keys_seq, view, subject)
        return b.Signed(keys_seq, view, device_signing_key(NUMBER[author]).sign(message).signature)

    def adds(self, author: bytes, n: int, *members: bytes, **other: bytes) -> b.MembersAdded:
        signed = self.signed(author, n, addition_input, list(members), **other)
        return b.MembersAdded(list(members), signed, logs=[HEADS[who] for who in members])

    def promotes(self, author: bytes, n: int, member: bytes) -> b.Promoted:
        return b.Promoted(member, self.signed(author, n, promotion_input, member))

    def invites(self, author: bytes, n: int, member: bytes) -> b.MembersAdded:
        """The joining of somebody whom the author has invited."""
        signed = self.signed(author, n, invitation_input, member)
        return b.MembersAdded([member], None, b.Invitation(author, device_of(author), n, signed), [HEADS[member]])

    def is_held_for(self, reason: RosterReason) -> bool:
        with pytest.raises(RosterRefusedError) as refused:
            _ = self.roster.readers
        return refused.value.reason is reason


def created(*members: bytes, author: bytes = ANN, n: int = 10, **changes: object) -> b.DialogCreated:
    roles = [b.MemberRole(who, Role.ADMIN if who == author else Role.MEMBER) for who in members]
    at = ChangePlace(created_dialog_id(device_of(author), n), author, device_of(author), n)
    message = creation_input(at, DialogType.GROUP, Mode.SEALED, roles)
    signature = device_signing_key(NUMBER[author]).sign(message).signature
    logs = [HEADS[who] for who in members]
    body = b.DialogCreated(DialogType.GROUP, Mode.SEALED, "", "", "", b.Settings(), roles, signature, logs)
    return msgspec.structs.replace(body, **changes)


@pytest.fixture
def team() -> Team:
    founded = Team()
    assert founded.takes(ANN, 10, created(ANN, BOB, CEM)) == []
    return founded


def test_members_come_by_signatures_and_go_without(team: Team) -> None:
    assert set(team.roster.readers) == {ANN, BOB, CEM}
    assert team.takes(ANN, 11, team.adds(ANN, 11, DI)) == []
    assert team.takes(ANN, 12, team.promotes(ANN, 12, BOB)) == []
    assert team.takes(BOB, 5, b.MemberRemoved(ANN)) == []
    assert team.takes(BOB, 6, team.adds(BOB, 6, ANN)) == []
    assert team.takes(CEM, 1, b.MemberLeft()) == []
    assert {who: member.role for who, member in team.roster.readers.items()} == {
        ANN: Role.MEMBER,
        BOB: Role.ADMIN,
        DI: Role.MEMBER,
    }


def test_all_who_fold_the_same_events_see_the_same(team: Team) -> None:
    team.takes(ANN, 11, team.adds(ANN, 11, DI))
    other = SealedRoster(TEAM)
    for event in (team.events[0], team.events[0], *team.events[1:]):
        other = fold_roster(other, event, PINS.get).roster
    assert (other.keys_seq, other.view) == (2, team.roster.view)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(other), type=SealedRoster) == other
    assert len(set(other.views.values())) == 2


def test_a_ghost_holds_the_dialog_until_the_server_removes_it(team: Team) -> None:
    assert team.takes(ANN, 11, b.MembersAdded([EVE], logs=[HEADS[EVE]])) == [RosterReason.UNSIGNED]
    assert team.is_held_for(RosterReason.UNSIGNED)
    assert EVE not in team.roster.members
    team.takes(ANN, 12, b.MemberRemoved(EVE))
    assert set(team.roster.readers) == {ANN, BOB, CEM}


def test_an_addition_by_somebody_who_is_no_admin_is_refused(team: Team) -> None:
    assert team.takes(BOB, 5, team.adds(BOB, 5, EVE)) == [RosterReason.NOT_ENTITLED]
    assert team.takes(EVE, 5, team.adds(EVE, 5, EVE)) == [RosterReason.NOT_ENTITLED]


def test_an_addition_signed_for_another_dialog_is_refused(team: Team) -> None:
    elsewhere = team.adds(ANN, 11, EVE, dialog=bytes(16))
    assert team.takes(ANN, 11, elsewhere) == [RosterReason.WRONG_SIGNATURE]


def test_an_addition_of_others_than_were_signed_is_refused(team: Team) -> None:
    signed = team.adds(ANN, 11, DI).signed
    assert team.takes(ANN, 11, b.MembersAdded([EVE], signed, logs=[HEADS[EVE]])) == [RosterReason.WRONG_SIGNATURE]


def test_an_addition_signed_by_another_device_is_refused(team: Team) -> None:
    body, device = team.adds(ANN, 11, EVE), device_of(EVE)
    event = msgspec.structs.replace(team.event(ANN, 11, body), device=device)
    assert [each.reason for each in fold_roster(team.roster, event, PINS.get).refusals] == [RosterReason.UNKNOWN_DEVICE]


def test_an_addition_is_not_repeated_after_a_removal(team: Team) -> None:
    body = team.adds(ANN, 11, DI)
    assert team.takes(ANN, 11, body) == []
    team.takes(ANN, 12, b.MemberRemoved(DI))
    assert team.takes(ANN, 11, body) == [RosterReason.REPLAYED]
    assert team.is_held_for(RosterReason.REPLAYED)
    assert team.takes(ANN, 13, team.adds(ANN, 13, DI)) == []
    assert DI in team.roster.readers


def test_an_addition_that_the_server_kept_back_is_not_used_after_a_removal(team: Team) -> None:
    kept_back = team.adds(ANN, 11, DI)
    team.takes(ANN, 12, team.promotes(ANN, 12, BOB))
    team.takes(BOB, 5, team.adds(BOB, 5, DI))
    team.takes(BOB, 6, b.MemberRemoved(DI))
    assert team.takes(ANN, 11, kept_back) == [RosterReason.REPLAYED]
    kept_back = msgspec.structs.replace(kept_back, signed=team.adds(ANN, 13, DI).signed)
    assert team.takes(ANN, 13, kept_back) == []


def test_an_addition_by_who_saw_other_members_is_refused(team: Team) -> None:
    other = Team()
    other.takes(ANN, 10, created(ANN, BOB, DI))
    assert team.takes(ANN, 11, other.adds(ANN, 11, EVE)) == [RosterReason.WRONG_VIEW]


def test_an_addition_that_crosses_another_change_is_believed(team: Team) -> None:
    crossing = team.adds(ANN, 11, DI)
    team.takes(BOB, 5, b.MemberLeft())
    assert team.takes(ANN, 11, crossing) == []


def test_a_promoted_stranger_is_shown_and_decides_nothing(team: Team) -> None:
    assert team.takes(ANN, 11, b.Promoted(BOB)) == [RosterReason.UNSIGNED]
    assert team.takes(CEM, 5, team.promotes(CEM, 5, BOB)) == [RosterReason.NOT_ENTITLED]
    assert team.roster.admins() == [ANN]
    assert team.roster.readers
    assert team.takes(BOB, 5, team.adds(BOB, 5, EVE)) == [RosterReason.NOT_ENTITLED]


def test_a_promotion_is_not_repeated_after_a_demotion(team: Team) -> None:
    body = team.promotes(ANN, 11, BOB)
    assert team.takes(ANN, 11, body) == []
    team.takes(ANN, 12, b.Demoted(BOB))
    assert team.takes(ANN, 11, body) == [RosterReason.REPLAYED]
    assert team.roster.admins() == [ANN]


def test_who_is_invited_joins_by_the_word_of_the_inviter(team: Team) -> None:
    joining = team.invites(ANN, 3, DI)
    team.takes(BOB, 5, b.MemberLeft())
    assert team.takes(DI, 1, joining) == []
    assert DI in team.roster.readers


def test_an_invitation_is_for_the_invited_and_of_an_admin(team: Team) -> None:
    of_bob, for_di = team.invites(BOB, 3, DI), team.invites(ANN, 3, DI)
    assert team.takes(DI, 1, of_bob) == [RosterReason.NOT_ENTITLED]
    stolen = msgspec.structs.replace(for_di, members=[EVE], logs=[HEADS[EVE]])
    assert team.takes(EVE, 1, stolen) == [RosterReason.WRONG_SIGNATURE]
    assert team.takes(DI, 2, msgspec.structs.replace(for_di, members=[EVE])) == [RosterReason.WRONG_MEMBERS]
    as_addition = msgspec.structs.replace(for_di, signed=team.signed(ANN, 3, invitation_input, DI), invitation=None)
    assert team.takes(ANN, 11, as_addition) == [RosterReason.WRONG_SIGNATURE]


def test_an_invitation_from_before_a_removal_lets_nobody_back_in(team: Team) -> None:
    joining = team.invites(ANN, 3, CEM)
    team.takes(ANN, 11, b.MemberRemoved(CEM))
    assert team.takes(CEM, 1, joining) == [RosterReason.REPLAYED]


def test_an_old_invitation_still_holds(team: Team) -> None:
    joining = team.invites(ANN, 3, EVE)
    for n in range(11, 11 + ROSTER_VIEWS_MAX, 2):
        team.takes(ANN, n, team.adds(ANN, n, DI))
        team.takes(ANN, n + 1, b.MemberRemoved(DI))
    assert len(team.roster.views) == ROSTER_VIEWS_MAX
    assert team.takes(EVE, 1, joining) == []


def test_the_heir_is_computed(team: Team) -> None:
    team.takes(ANN, 11, b.MemberLeft())
    assert team.roster.admins() == [BOB]
    assert team.takes(ANN, 0, b.Promoted(CEM)) == [RosterReason.WRONG_HEIR]
    assert team.roster.admins() == [BOB]


def test_the_promotion_of_the_heir_needs_no_signature_and_is_of_its_moment(team: Team) -> None:
    team.takes(ANN, 11, b.MemberLeft())
    assert team.takes(ANN, 0, b.Promoted(BOB)) == []
    team.takes(BOB, 5, b.MemberLeft())
    assert team.roster.admins() == [CEM]
    team.takes(CEM, 5, team.adds(CEM, 5, BOB))
    assert team.takes(ANN, 0, b.Promoted(BOB)) == [RosterReason.WRONG_HEIR]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (created(ANN, BOB, CEM, signature=None), RosterReason.UNSIGNED),
        (created(ANN, BOB, CEM, signature=bytes(64)), RosterReason.WRONG_SIGNATURE),
        (created(ANN, BOB, EVE, signature=created(ANN, BOB, CEM).signature), RosterReason.WRONG_SIGNATURE),
        (created(ANN, BOB, CEM, mode=Mode.OPEN), RosterReason.NOT_SEALED),
        (created(ANN, BOB, CEM, type=DialogType.CHANNEL), RosterReason.NOT_SEALED),
        (created(ANN, BOB, CEM, settings=b.Settings(is_public=True)), RosterReason.NOT_SEALED),
        (created(ANN, BOB, CEM, logs=[]), RosterReason.UNKNOWN_DEVICE),
        (created(ANN, BOB, CEM, logs=[HEADS[ANN]]), RosterReason.WRONG_LOG),
        (created(ANN, BOB, CEM, logs=[HEADS[ANN], HEADS[CEM], HEADS[BOB]]), RosterReason.WRONG_LOG),
        (created(ANN, BOB, BOB), RosterReason.WRONG_MEMBERS),
        (created(EVE, BOB, CEM), RosterReason.WRONG_MEMBERS),
        (created(ANN, BOB, CEM, type=DialogType.DIRECT), RosterReason.WRONG_MEMBERS),
    ],
)
def test_a_creation_is_refused_that_nobody_entitled_signed(body: b.DialogCreated, reason: RosterReason) -> None:
    team = Team()
    assert team.takes(ANN, 10, body) == [reason]
    assert team.is_held_for(reason)
    assert team.takes(ANN, 11, b.MembersAdded([EVE], logs=[HEADS[EVE]])) == []
    assert not team.roster.members


def test_a_dialog_has_the_id_that_its_creation_gives_it() -> None:
    team = Team()
    assert team.takes(ANN, 11, created(ANN, BOB, CEM, n=11)) == [RosterReason.WRONG_DIALOG]


def test_another_creation_of_the_same_dialog_is_a_fork(team: Team) -> None:
    assert team.takes(ANN, 10, created(ANN, BOB, EVE)) == [RosterReason.FORKED_CREATION]
    assert team.is_held_for(RosterReason.FORKED_CREATION)


def test_a_creation_that_comes_again_makes_nobody_an_admin_again(team: Team) -> None:
    team.takes(ANN, 11, team.promotes(ANN, 11, BOB))
    team.takes(BOB, 5, b.Demoted(ANN))
    assert team.takes(ANN, 10, created(ANN, BOB, CEM)) == [RosterReason.REPLAYED]
    assert team.is_held_for(RosterReason.REPLAYED)
    assert team.roster.admins() == [BOB]


def test_a_direct_dialog_has_the_members_of_its_id() -> None:
    members = [b.MemberRole(ANN, Role.MEMBER), b.MemberRole(BOB, Role.MEMBER)]
    body = b.DialogCreated(DialogType.DIRECT, Mode.SEALED, "", "", "", b.Settings(), members)
    dialog = direct_dialog_id(ANN, BOB)
    event = b.TimelineEvent(dialog, 1, ANN, device_of(ANN), 4, 0, 0, body)
    change = fold_roster(SealedRoster(dialog), event, PINS.get)
    assert (set(change.roster.readers), change.refusals) == ({ANN, BOB}, ())
    swapped = msgspec.structs.replace(body, members=[members[0], b.MemberRole(EVE, Role.MEMBER)])
    change = fold_roster(SealedRoster(dialog), msgspec.structs.replace(event, body=swapped), PINS.get)
    assert [refusal.reason for refusal in change.refusals] == [RosterReason.WRONG_DIALOG]


def test_ones_own_dialog_is_believed_though_the_server_creates_it_under_no_number() -> None:
    body = b.DialogCreated(
        DialogType.SELF, Mode.SEALED, "", "", "", b.Settings(), [b.MemberRole(ANN, Role.MEMBER)], logs=[HEADS[ANN]]
    )
    dialog = self_dialog_id(ANN)
    event = b.TimelineEvent(dialog, 1, ANN, device_of(ANN), 0, 0, 0, body)
    change = fold_roster(SealedRoster(dialog), event, PINS.get)
    assert (set(change.roster.readers), change.refusals) == ({ANN}, ())


def test_nothing_is_believed_before_the_logs_are_read(team: Team) -> None:
    event = team.event(ANN, 11, team.adds(ANN, 11, DI, EVE))
    without = {who: pin for who, pin in PINS.items() if who not in {DI, EVE}}
    with pytest.raises(LogsNeededError) as needed:
        fold_roster(team.roster, event, without.get)
    assert needed.value.generations == {DI: 1, EVE: 1}
    assert not fold_roster(team.roster, event, PINS.get).refusals


def test_of_whom_the_server_gives_no_more_the_log_is_its_word(team: Team) -> None:
    """They get no keys meanwhile; without this a log that was purged would hold the dialog for ever."""
    longer = b.LogHead(1, HEADS[BOB].length + 1, bytes(32))
    grown = team.event(ANN, 0, b.DevicesChanged(BOB, longer))
    with pytest.raises(LogsNeededError):
        fold_roster(team.roster, grown, PINS.get, unknown=[ANN])
    change = fold_roster(team.roster, grown, PINS.get, unknown=[BOB])
    assert (change.refusals, change.roster.members[BOB].log) == ((), longer)


def test_the_same_log_again_is_no_lie(team: Team) -> None:
    assert team.takes(ANN, 0, b.DevicesChanged(ANN, HEADS[ANN])) == []
    assert (team.roster.keys_seq, team.roster.members[ANN].log) == (2, HEADS[ANN])


def test_a_device_that_was_removed_signs_nothing_more(team: Team) -> None:
    identity = OwnIdentity.from_secret(ANN, 1, bytes([NUMBER[ANN]]) * 96)
    log, _ = identity.remove_device(LOGS[ANN], device_of(ANN), 0)
    pins = PINS | {ANN: PinnedLog(log)}
    addition = team.event(ANN, 11, team.adds(ANN, 11, DI))
    assert not fold_roster(team.roster, addition, pins.get).refusals
    gone = team.event(ANN, 0, b.DevicesChanged(ANN, b.LogHead(1, log.length, log.head)))
    with pytest.raises(LogsNeededError):
        fold_roster(team.roster, gone, PINS.get)
    roster = fold_roster(team.roster, gone, pins.get).roster
    assert (roster.keys_seq, roster.view == team.roster.view) == (2, False)
    later = msgspec.structs.replace(addition, seq=3)
    assert [each.reason for each in fold_roster(roster, later, pins.get).refusals] == [RosterReason.UNKNOWN_DEVICE]


@pytest.mark.parametrize("head", [b.LogHead(1, 1, LOGS[ANN].heads[0]), b.LogHead(1, 2, bytes(32))])
def test_a_log_that_does_not_go_on_is_refused(team: Team, head: b.LogHead) -> None:
    assert team.takes(ANN, 0, b.DevicesChanged(ANN, head)) == [RosterReason.WRONG_LOG]
    assert team.roster.members[ANN].log == HEADS[ANN]


def test_who_was_removed_stays_removed_when_a_restore_loses_that(team: Team) -> None:
    team.takes(ANN, 11, b.MemberRemoved(CEM))
    restored = Team(team.roster.after_restore())
    assert restored.takes(ANN, 10, created(ANN, BOB, CEM)) == [RosterReason.STILL_REMOVED]
    assert restored.is_held_for(RosterReason.STILL_REMOVED)
    restored.takes(ANN, 12, b.MemberRemoved(CEM))
    assert set(restored.roster.readers) == {ANN, BOB}
    assert restored.takes(ANN, 13, restored.adds(ANN, 13, CEM)) == []
    assert CEM in restored.roster.readers


def test_a_restore_does_not_excuse_another_creation(team: Team) -> None:
    restored = Team(team.roster.after_restore())
    assert restored.takes(ANN, 10, created(ANN, BOB, EVE)) == [RosterReason.FORKED_CREATION]


def test_an_honest_restore_is_no_alarm(team: Team) -> None:
    team.takes(ANN, 11, team.adds(ANN, 11, DI))
    team.takes(ANN, 12, b.MemberRemoved(CEM))
    team.takes(ANN, 13, team.adds(ANN, 13, CEM))
    restored = team.roster.after_restore()
    for event in team.events:
        restored = fold_roster(restored, event, PINS.get).roster
    assert (set(restored.readers), restored.view) == ({ANN, BOB, CEM, DI}, team.roster.view)


def joined(team: Team, *events: b.TimelineEvent, without: bytes | None = None) -> RosterChange:
    """What Di believes who was brought in by the last of these events, and sees nothing older."""
    seen = {who: member for who, member in team.roster.members.items() if who != without}
    return join_roster(snapshot_of(TEAM, team.roster.keys_seq, seen), DI, events, PINS.get)


def test_who_joins_believes_the_members_for_whom_the_admin_vouches(team: Team) -> None:
    addition = team.event(ANN, 11, team.adds(ANN, 11, DI))
    change = joined(team, addition)
    team.takes(ANN, 11, addition.body)
    assert (set(change.roster.readers), change.roster.view) == ({ANN, BOB, CEM, DI}, team.roster.view)


def test_who_joins_is_not_shown_other_members_than_the_admin_saw(team: Team) -> None:
    change = joined(team, team.event(ANN, 11, team.adds(ANN, 11, DI)), without=CEM)
    assert {refusal.reason for refusal in change.refusals} == {RosterReason.WRONG_VIEW}
    with pytest.raises(RosterRefusedError):
        _ = change.roster.readers


def test_who_joins_by_nobodys_signature_believes_nothing(team: Team) -> None:
    for events in ((), (team.event(ANN, 11, b.MembersAdded([DI], logs=[HEADS[DI]])),)):
        with pytest.raises(RosterRefusedError):
            _ = joined(team, *events).roster.readers
