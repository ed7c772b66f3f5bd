"""What is believed of people outlives the process, and is changed by logs and people only."""

from __future__ import annotations

import pytest

from protocol.device_log import LogState
from tchat.crypto.olm import KnownDevice
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tchat.crypto.people import People
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


def test_the_own_identity_is_kept_and_believed(state: MemoryState, people: People) -> None:
    identity, log, _ = with_phone(ALICE)
    assert people.identity is None
    people.adopt(identity, log)
    again = People(state, ALICE)
    assert again.identity is not None
    assert again.identity.public == identity.public
    assert again.take_log(ALICE, given(log, [])).verdict is LogVerdict.SAME
    assert again.devices_of(ALICE) == [KnownDevice(ALICE, PHONE, device_keys(1))]


def test_another_identity_in_the_place_of_the_own_one_is_held(people: People) -> None:
    identity, log, _ = with_phone(ALICE)
    people.adopt(identity, log)
    _, stranger, entries = with_phone(ALICE, log)
    assert people.take_log(ALICE, given(stranger, entries)).verdict is LogVerdict.HELD
    with pytest.raises(HeldError):
        people.devices_of(ALICE)


def test_a_new_own_identity_replaces_the_one_before(people: People) -> None:
    identity, log, _ = with_phone(ALICE)
    people.adopt(identity, log)
    second, second_log, _ = with_phone(ALICE, log)
    people.adopt(second, second_log)
    assert people.identity is not None
    assert people.identity.generation == 2
    assert people.devices_of(ALICE) == [KnownDevice(ALICE, PHONE, device_keys(2))]
    assert people.writer_at(ALICE, PHONE, 1, 2) == KnownDevice(ALICE, PHONE, device_keys(1))
