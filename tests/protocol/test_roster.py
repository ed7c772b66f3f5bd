"""A signature under a change of members holds for that change, in its place, and for nothing else."""

from __future__ import annotations

import dataclasses
import hashlib

import msgspec
import pytest

from protocol.bodies import LogHead, MemberRole
from protocol.canonical import frame
from protocol.dialog_types import DialogType, Mode, Role
from protocol.public_keys import is_signature
from protocol.roster import (
    ChangePlace,
    RosterMember,
    addition_input,
    creation_input,
    heir_of,
    invitation_input,
    promotion_input,
    view_of,
)
from tests.support.key_pairs import device_keys, device_signing_key

ANN, BOB, CEM, PHONE, TEAM = (bytes([number]) * 16 for number in range(1, 6))
AT = ChangePlace(TEAM, ANN, PHONE, 7)
VIEW = bytes([9]) * 32
FOUNDED = [MemberRole(ANN, Role.ADMIN), MemberRole(BOB, Role.MEMBER)]
MEMBERS = {
    ANN: RosterMember(Role.ADMIN, 1, LogHead(1, 2, bytes([1]) * 32)),
    BOB: RosterMember(Role.MEMBER, 1),
}


@pytest.mark.parametrize(
    "at",
    [
        dataclasses.replace(AT, dialog=BOB),
        dataclasses.replace(AT, author=BOB),
        dataclasses.replace(AT, device=BOB),
        dataclasses.replace(AT, n=8),
    ],
)
def test_every_input_names_its_place(at: ChangePlace) -> None:
    for make in (addition_input, invitation_input, promotion_input):
        subject = [CEM] if make is addition_input else CEM
        assert make(AT, 3, VIEW, subject) != make(at, 3, VIEW, subject)  # type: ignore[arg-type]
    creation = (DialogType.GROUP, Mode.SEALED, FOUNDED)
    assert creation_input(AT, *creation) != creation_input(at, *creation)


def test_every_operation_and_subject_has_an_input_of_its_own() -> None:
    promoted = [MemberRole(who, Role.ADMIN) for who in (ANN, BOB)]
    inputs = {
        creation_input(AT, DialogType.GROUP, Mode.SEALED, FOUNDED),
        creation_input(AT, DialogType.GROUP, Mode.OPEN, FOUNDED),
        creation_input(AT, DialogType.CHANNEL, Mode.SEALED, FOUNDED),
        creation_input(AT, DialogType.GROUP, Mode.SEALED, promoted),
        addition_input(AT, 3, VIEW, [CEM]),
        addition_input(AT, 4, VIEW, [CEM]),
        addition_input(AT, 3, bytes(32), [CEM]),
        addition_input(AT, 3, VIEW, [BOB]),
        addition_input(AT, 3, VIEW, [BOB, CEM]),
        invitation_input(AT, 3, VIEW, CEM),
        promotion_input(AT, 3, VIEW, CEM),
    }
    assert len(inputs) == 11
    assert addition_input(AT, 3, VIEW, [BOB, CEM]) == addition_input(AT, 3, VIEW, [CEM, BOB])


def test_only_the_device_with_the_key_has_signed() -> None:
    message = promotion_input(AT, 3, VIEW, CEM)
    signature = device_signing_key(1).sign(message).signature
    assert is_signature(signature, message, device_keys(1).ed25519)
    assert not is_signature(signature, message, device_keys(2).ed25519)
    assert not is_signature(signature, message + b"\0", device_keys(1).ed25519)
    assert not is_signature(bytes(64), message, device_keys(1).ed25519)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": Role.ADMIN},
        {"joined": 2},
        {"log": LogHead(1, 0, b"")},
        {"log": LogHead(0, 1, b"")},
        {"log": LogHead(0, 0, bytes(32))},
    ],
)
def test_a_view_differs_with_everything_that_it_covers(changes: dict[str, object]) -> None:
    view = view_of(TEAM, 3, MEMBERS)
    assert view == view_of(TEAM, 3, dict(reversed(MEMBERS.items())))
    others = MEMBERS | {BOB: msgspec.structs.replace(MEMBERS[BOB], **changes)}
    assert view_of(TEAM, 3, others) != view
    assert len({view, view_of(TEAM, 4, MEMBERS), view_of(BOB, 3, MEMBERS), view_of(TEAM, 3, {ANN: MEMBERS[ANN]})}) == 4


def test_the_heir_has_been_there_longest() -> None:
    members = {ANN: RosterMember(Role.MEMBER, 4), CEM: RosterMember(Role.MEMBER, 2), BOB: RosterMember(Role.MEMBER, 2)}
    assert heir_of(members) == BOB
    assert heir_of({}) is None


def test_a_view_is_the_hash_of_the_frame_of_all_its_parts() -> None:
    """However it is computed: every client must come to the same."""
    parts: list[bytes] = []
    for principal, member in sorted(MEMBERS.items()):
        numbers = (member.joined, member.log.generation, member.log.length)
        parts += [principal, bytes([member.role]), *(number.to_bytes(8, "big") for number in numbers), member.log.head]
    whole = frame(b"tchat/view/1", TEAM, (3).to_bytes(8, "big"), *parts)
    assert view_of(TEAM, 3, MEMBERS) == hashlib.sha256(whole).digest()
    assert {member.log for member in MEMBERS.values()} != {LogHead()}
