"""Changes of who reads are signed as they leave, by a device that believes what it signs, and others believe them."""

from __future__ import annotations

import msgspec
import pytest

from protocol import bodies as b
from protocol.commands import Accept, Add, Create, Invite, Mute, Numbered, Promote
from protocol.dialog_types import DialogType, Mode, Role
from protocol.errors import ErrorCode
from protocol.ids import created_dialog_id, new_id, self_dialog_id
from protocol.replies import Failed
from tchat.crypto.errors import RosterReason
from tchat.encryption.sealing import Clear, NotYet, Ready
from tests.support.scripted import dialog_state
from tests.tchat.encryption.ann import Ann, devices, grown, left, state
from tests.tchat.encryption.people_site import Somebody, Told, group


class Team:
    """Ann and Bob, each on a device that signs, with others; what one signs is told to both."""

    def __init__(self) -> None:
        self.cem, self.di = Somebody(), Somebody()
        a, b_ = Somebody(), Somebody()
        self.ann, self.bob = Ann(b_, self.cem, self.di, person=a), Ann(a, self.cem, self.di, person=b_)
        self.told = group(a, b_, self.cem)
        self.hear(state(self.told), *self.told.events)

    def hear(self, *events: object) -> None:
        for each in (self.ann, self.bob):
            each.hears(*events)  # type: ignore[arg-type]

    def add(self, intent: Add, n: int = 2) -> b.MembersAdded:
        """What the server makes of an addition that Ann's device signs."""
        signed = left(self.ann, msgspec.structs.replace(intent, n=n))
        assert isinstance(signed, Add)
        logs = [each.head for each in (self.di,) if each.principal in signed.members]
        return b.MembersAdded(signed.members, signed.signed, logs=logs)


@pytest.fixture
def team() -> Team:
    return Team()


def test_a_group_is_created_with_a_signature() -> None:
    bob, cem = Somebody(), Somebody()
    ann = Ann(bob, cem)
    members = [bob.principal, cem.principal, bob.principal, ann.person.principal]
    created = left(ann, Create(0, 7, DialogType.GROUP, members, "Team"))
    assert isinstance(created, Create)
    roles = [b.MemberRole(ann.person.principal, Role.ADMIN)]
    roles += [b.MemberRole(each.principal, Role.MEMBER) for each in (bob, cem)]
    logs = [each.head for each in (ann.person, bob, cem)]
    body = b.DialogCreated(DialogType.GROUP, Mode.SEALED, "Team", "", "", b.Settings(), roles, created.signature, logs)
    told = Told(created_dialog_id(ann.person.phone.known.device, 7))
    told.next(ann.person, body, 7)
    assert ann.found(told) == NotYet()
    ann.hears(*told.events)
    assert ann.readers(told) == devices(ann.person, bob, cem)


@pytest.mark.parametrize(
    "intent",
    [
        Create(0, 1, DialogType.DIRECT, [new_id()]),
        Create(0, 1, DialogType.GROUP, [new_id(), new_id()], "Team", Mode.OPEN),
        Create(0, 1, DialogType.CHANNEL, [], "News"),
        Mute(0, new_id(), 1, 5),
        Accept(0, new_id(), 1),
    ],
)
def test_what_brings_nobody_into_a_sealed_group_is_not_signed(intent: Numbered) -> None:
    assert Ann().signs(intent) == Clear()


def test_who_joins_an_open_dialog_alone_signs_nothing() -> None:
    ann = Ann()
    assert ann.signs(Add(0, new_id(), 1, [ann.person.principal])) == Clear()
    assert ann.signs(Add(0, new_id(), 1, [new_id()])) == NotYet()


def test_a_group_that_the_server_calls_open_stays_sealed_for_its_author() -> None:
    ann = Ann()
    left(ann, Create(0, 7, DialogType.GROUP, [new_id(), new_id()], "Team"))
    told = Told(created_dialog_id(ann.person.phone.known.device, 7))
    ann.hears(msgspec.structs.replace(state(told), mode=Mode.OPEN))
    assert "not encrypted any more" in ann.reason(told)


def test_who_is_added_by_an_admin_is_believed_by_all(team: Team) -> None:
    body = team.add(Add(0, team.told.dialog, 0, [team.di.principal]))
    team.hear(team.told.next(team.ann.person, body, 2))
    for each in (team.ann, team.bob):
        assert each.readers(team.told) == devices(team.ann.person, team.bob.person, team.cem, team.di)
        assert each.engine.take_notices() == []


def test_an_addition_that_was_overtaken_is_signed_anew(team: Team) -> None:
    add = Add(0, team.told.dialog, 2, [team.di.principal])
    first = left(team.ann, add)
    team.hear(team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 1))
    team.ann.engine.stale(team.told.dialog, 0, Failed(0, ErrorCode.STALE, "", keys_seq=2))
    again = left(team.ann, add)
    assert isinstance(first, Add)
    assert isinstance(again, Add)
    assert first.signed is not None
    assert again.signed is not None
    assert (first.signed.keys_seq, again.signed.keys_seq, again.n) == (0, 2, 2)
    body = b.MembersAdded(again.members, again.signed, logs=[team.di.head])
    team.hear(team.told.next(team.ann.person, body, 2))
    assert team.bob.readers(team.told) == devices(team.ann.person, team.bob.person, team.di)


def test_a_promoted_member_may_add(team: Team) -> None:
    promoted = left(team.ann, Promote(0, team.told.dialog, 2, team.bob.person.principal))
    assert isinstance(promoted, Promote)
    team.hear(team.told.next(team.ann.person, b.Promoted(promoted.member, promoted.signed), 2))
    added = left(team.bob, Add(0, team.told.dialog, 3, [team.di.principal]))
    assert isinstance(added, Add)
    body = b.MembersAdded(added.members, added.signed, logs=[team.di.head])
    team.hear(team.told.next(team.bob.person, body, 3))
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob.person, team.cem, team.di)


def test_who_is_invited_brings_what_the_inviter_signed(team: Team) -> None:
    di = Ann(team.ann.person, person=team.di)
    invited = left(team.ann, Invite(0, team.told.dialog, 2, di.person.principal))
    assert isinstance(invited, Invite)
    own = Told(self_dialog_id(di.person.principal))
    body = b.Invited(invited.dialog, team.ann.person.principal, DialogType.GROUP, "Team", invited.signed)
    di.hears(own.next(team.ann.person, body, 2))
    di.start()
    accepted = left(di, Accept(0, team.told.dialog, 1))
    assert isinstance(accepted, Accept)
    joining = b.MembersAdded([di.person.principal], None, accepted.invitation, [di.person.head])
    joined = team.told.next(di.person, joining, 1)
    team.hear(joined)
    assert team.bob.readers(team.told) == devices(team.ann.person, team.bob.person, team.cem, team.di)
    di.hears(joined)
    assert di.signs(Accept(0, team.told.dialog, 2)) == Clear()


def test_a_device_that_has_not_heard_the_invitation_brings_it_from_the_state_of_its_own_dialog(team: Team) -> None:
    di, own = Ann(person=team.di), self_dialog_id(team.di.principal)
    signed, device = b.Signed(0, bytes(32), bytes(64)), team.ann.person.phone.known.device
    invited = b.Invited(team.told.dialog, team.ann.person.principal, DialogType.GROUP, "", signed)
    di.hears(dialog_state(9, 9, dialog=own, invitations=[invited], invited_by=[(device, 2)]))
    accepted = left(di, Accept(0, team.told.dialog, 1))
    assert isinstance(accepted, Accept)
    assert accepted.invitation == b.Invitation(team.ann.person.principal, device, 2, signed)


def test_an_invitation_that_was_declined_is_forgotten(team: Team) -> None:
    di = Ann(person=team.di)
    own, signed = Told(self_dialog_id(di.person.principal)), b.Signed(0, bytes(32), bytes(64))
    di.hears(own.next(team.ann.person, b.Invited(team.told.dialog, new_id(), DialogType.GROUP, "", signed), 2))
    di.hears(own.next(di.person, b.Declined(team.told.dialog), 1))
    assert di.signs(Accept(0, team.told.dialog, 1)) == Clear()


def test_nothing_is_signed_in_a_group_that_is_not_believed() -> None:
    bob, cem = Somebody(), Somebody()
    ann = Ann(bob, cem)
    told = group(ann.person, bob, cem, signed=False)
    ann.hears(state(told), *told.events)
    assert ann.signs(Add(0, told.dialog, 2, [new_id()])) == NotYet(RosterReason.UNSIGNED.sentence)


def test_a_change_waits_while_the_own_log_is_not_told(team: Team) -> None:
    """Others would not believe a device that the dialog does not know yet."""
    team.ann.person.adds()
    add = Add(0, team.told.dialog, 2, [team.di.principal])
    team.ann.engine.logs.need(team.told.dialog, team.ann.person.principal)
    assert team.ann.signs(add) == NotYet()
    team.hear(grown(team.told, team.ann.person))
    assert isinstance(team.ann.signs(add), Ready)
