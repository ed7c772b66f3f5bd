"""What is believed of people outlives the process, and is changed by logs and people only."""

from __future__ import annotations

import pytest

from protocol.device_log import LogState
from tchat.crypto.olm import KnownDevice, ToDevice
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tchat.crypto.people import HANDED, People
from tchat.crypto.pins import GivenLog, HeldError, Hold, LogVerdict
from tchat.crypto.state import MemoryState
from tests.support.key_pairs import device_keys

ALICE, BOB = bytes([0xA1]) * 16, bytes([0xB0]) * 16
PHONE, LAPTOP = bytes([1]) * 16, bytes([2]) * 16


def with_phone(principal: bytes, before: LogState | None = None) -> tuple[OwnIdentity, LogState, list[bytes]]:
    identity, log, first = new_identity(principal, before, 0)
    log, added = identity.add_device(log, PHONE, device_keys(log.generation), 0)
    return identity, log, [first, added]


def given(log: LogState, entries: list[bytes]) -> GivenLog:
    return GivenLog(log.generation, log.length, log.head, entries)


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
def people(state: MemoryState) -> People:
    """Of Alice's device."""
    return People(state, ALICE)


def test_a_pin_outlives_the_process(state: MemoryState, people: People) -> None:
    _, log, entries = with_phone(BOB)
    assert people.newest_of(BOB) == (0, 0)
    assert people.take_log(BOB, given(log, entries)).verdict is LogVerdict.FIRST
    again = People(state, ALICE)
    assert again.newest_of(BOB) == (1, 2)
    assert again.devices_of(BOB) == [KnownDevice(BOB, PHONE, device_keys(1))]
    assert again.take_log(BOB, GivenLog(1, 1, log.heads[0])).verdict is LogVerdict.SHORTER
    with pytest.raises(HeldError):
        People(state, ALICE).devices_of(BOB)


def test_a_device_is_believed_at_its_time(people: People) -> None:
    identity, log, entries = with_phone(BOB)
    log, removed = identity.remove_device(log, PHONE, 0)
    people.take_log(BOB, given(log, [*entries, removed]))
    assert people.devices_of(BOB) == []
    assert people.writer_at(BOB, PHONE, 1, 2) == KnownDevice(BOB, PHONE, device_keys(1))
    assert people.writer_at(BOB, PHONE, 1, 3) is None
    assert people.writer_at(BOB, LAPTOP, 1, 2) is None
    assert people.writer_at(BOB, PHONE, 2, 2) is None
    assert people.writer_at(ALICE, PHONE, 1, 2) is None


def test_a_verified_person_is_held_until_somebody_agrees(people: People) -> None:
    _, log, entries = with_phone(BOB)
    people.take_log(BOB, given(log, entries))
    assert not people.verified(BOB, bytes(32))
    assert people.verified(BOB, log.master)
    _, anew, new_entries = with_phone(BOB, log)
    assert people.take_log(BOB, given(anew, new_entries)).verdict is LogVerdict.HELD
    assert people.newest_of(BOB) == (2, 2)
    with pytest.raises(HeldError) as refused:
        people.devices_of(BOB)
    assert refused.value.hold is Hold.IDENTITY_CHANGED
    people.agreed(BOB)
    people.agreed(BOB)
    assert people.devices_of(BOB) == [KnownDevice(BOB, PHONE, device_keys(2))]
    assert not people.verified(ALICE, log.master)


RECOVERY_KEY = bytes([7]) * 32


def owning(state: MemoryState) -> tuple[People, OwnIdentity, LogState, list[bytes]]:
    """Alice's first device, which has made her identity."""
    people = People(state, ALICE)
    identity, log, entries = with_phone(ALICE)
    people.keep_identity(identity, RECOVERY_KEY)
    people.take_log(ALICE, given(log, entries))
    return people, identity, log, entries


def test_private_keys_are_kept_before_the_server_has_their_log(state: MemoryState, people: People) -> None:
    identity, log, entries = with_phone(ALICE)
    assert not people.keep_identity(identity, RECOVERY_KEY)
    assert people.identity is None
    again = People(state, ALICE)
    assert again.take_log(ALICE, given(log, entries)).verdict is LogVerdict.FIRST
    assert again.identity is not None
    assert again.identity.public == identity.public
    assert again.recovery_key == RECOVERY_KEY
    assert again.devices_of(ALICE) == [KnownDevice(ALICE, PHONE, device_keys(1))]


def test_another_identity_in_the_place_of_the_own_one_is_held(state: MemoryState) -> None:
    people, identity, log, _ = owning(state)
    _, stranger, entries = with_phone(ALICE, log)
    assert people.take_log(ALICE, given(stranger, entries)).verdict is LogVerdict.HELD
    with pytest.raises(HeldError):
        people.devices_of(ALICE)
    assert people.identity is not None
    assert people.identity.public == identity.public


def test_a_new_own_identity_replaces_the_one_before(state: MemoryState) -> None:
    people, _, log, _ = owning(state)
    second, second_log, entries = with_phone(ALICE, log)
    people.keep_identity(second, RECOVERY_KEY)
    people.take_log(ALICE, given(second_log, entries))
    assert people.identity is not None
    assert people.identity.generation == 2
    assert people.devices_of(ALICE) == [KnownDevice(ALICE, PHONE, device_keys(2))]
    assert people.writer_at(ALICE, PHONE, 1, 2) == KnownDevice(ALICE, PHONE, device_keys(1))


def test_a_recovered_identity_must_be_the_one_of_the_log(people: People) -> None:
    identity, log, entries = with_phone(ALICE)
    people.take_log(ALICE, given(log, entries))
    assert not people.keep_identity(OwnIdentity(ALICE, 1), RECOVERY_KEY)
    assert people.identity is None
    assert people.keep_identity(identity, RECOVERY_KEY)
    assert people.identity is not None


def handed(by: People, sender: KnownDevice, **changes: object) -> ToDevice:
    return ToDevice(sender, HANDED, {**by.identity_to_hand(), **changes}, opened=False)


OLD_PHONE = KnownDevice(ALICE, PHONE, device_keys(1))


def test_a_new_device_takes_the_identity_from_an_own_one_that_it_has_compared(people: People) -> None:
    old, identity, log, entries = owning(MemoryState())
    people.take_log(ALICE, given(log, entries))
    message = handed(old, OLD_PHONE)
    assert not people.take_identity(message)
    assert people.verified(ALICE, log.master)
    assert people.take_identity(message)
    assert people.identity is not None
    assert (people.identity.public, people.recovery_key) == (identity.public, RECOVERY_KEY)


def test_a_new_device_takes_no_other_keys_for_its_identity(people: People) -> None:
    old, _, log, entries = owning(MemoryState())
    stranger, _, _, _ = owning(MemoryState())
    people.take_log(ALICE, given(log, entries))
    people.verified(ALICE, log.master)
    refused = [
        handed(stranger, OLD_PHONE),
        handed(old, KnownDevice(BOB, PHONE, device_keys(1))),
        handed(old, KnownDevice(ALICE, LAPTOP, device_keys(1))),
        handed(old, KnownDevice(ALICE, PHONE, device_keys(2))),
        handed(old, OLD_PHONE, secret="AA"),
        handed(old, OLD_PHONE, recovery_key=7),
        ToDevice(OLD_PHONE, "m.dummy", old.identity_to_hand(), opened=False),
    ]
    assert [people.take_identity(message) for message in refused] == [False] * len(refused)
    assert people.identity is None


def test_a_server_gets_back_the_entries_that_it_has_lost(state: MemoryState) -> None:
    people, identity, log, entries = owning(state)
    log, added = identity.add_device(log, LAPTOP, device_keys(5), 0)
    people.take_log(ALICE, given(log, [added]))
    restored = GivenLog(1, 1, log.heads[0])
    assert people.take_log(ALICE, restored).verdict is LogVerdict.SHORTER
    assert people.lost_entries(restored.length) == [entries[1], added]
    assert people.take_log(ALICE, given(log, [])).verdict is LogVerdict.SAME
    assert people.lost_entries(log.length) == []


def test_a_refused_log_leaves_no_entries(state: MemoryState) -> None:
    people, _, log, entries = owning(state)
    people.take_log(ALICE, GivenLog(1, 3, bytes(32), [entries[0]]))
    assert people.lost_entries(0) == entries
    assert People(MemoryState(), ALICE).lost_entries(0) == []
    assert people.newest_of(ALICE) == (1, log.length)
