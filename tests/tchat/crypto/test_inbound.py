"""Sessions that this device can read: the earliest index counts, and keys that contradict those here are refused."""

from __future__ import annotations

import msgspec
import pytest
import vodozemac

from protocol.canonical import from_base64, room_id_of, to_base64
from protocol.ids import new_id
from tchat.crypto import inbound
from tchat.crypto.envelope import Opened
from tchat.crypto.errors import OpenError, Reason
from tchat.crypto.inbound import back_up
from tchat.crypto.machine import KeysReceived
from tchat.crypto.recovery import BackedUpSession
from tchat.crypto.state import Step, Table
from tests.tchat.crypto.devices import Phone, phone

DIALOG = new_id()


@pytest.fixture
def alice() -> Phone:
    return phone()


@pytest.fixture
def bob(alice: Phone) -> Phone:
    made = phone()
    alice.connect(made)
    return made


def backed_up(reader: Phone, writer: Phone, session: bytes) -> BackedUpSession:
    found = back_up(Step(reader.state), session, writer.known.device)
    assert found is not None
    return found


def reason_of(outcome: object) -> Reason:
    assert isinstance(outcome, OpenError), outcome
    return outcome.reason


def hand(writer: Phone, reader: Phone, **fields: object) -> object:
    """Give the reader a room key that says this, in the writer's channel; what came of it."""
    session = vodozemac.GroupSession()
    room_key = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": room_id_of(DIALOG),
        "session_id": session.session_id,
        "session_key": session.session_key.to_base64(),
    }
    return reader.take(writer, writer.machine.write_to(reader.known, "m.room_key", {**room_key, **fields}))[0]


def test_a_room_key_is_kept(alice: Phone, bob: Phone) -> None:
    assert isinstance(hand(alice, bob), KeysReceived)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"algorithm": "none"}, Reason.WRONG_FIELDS),
        ({"room_id": "!room:elsewhere"}, Reason.WRONG_FIELDS),
        ({"room_id": None}, Reason.WRONG_FIELDS),
        ({"session_id": "AAAA"}, Reason.WRONG_FIELDS),
        ({"session_id": to_base64(bytes(32))}, Reason.OTHER_SESSION),
        ({"session_key": ""}, Reason.MALFORMED),
        ({"session_key": "a b"}, Reason.MALFORMED),
        ({"session_key": "A" * 306}, Reason.MALFORMED),
    ],
)
def test_a_room_key_that_is_none_is_refused(
    alice: Phone, bob: Phone, fields: dict[str, object], reason: Reason
) -> None:
    assert reason_of(hand(alice, bob, **fields)) == reason


def test_a_session_is_for_one_dialog(alice: Phone, bob: Phone) -> None:
    session = vodozemac.GroupSession()
    named = {"session_id": session.session_id, "session_key": session.session_key.to_base64()}
    assert isinstance(hand(alice, bob, **named), KeysReceived)
    assert isinstance(hand(alice, bob, **named), KeysReceived)
    assert reason_of(hand(alice, bob, **named, room_id=room_id_of(new_id()))) == Reason.WRONG_DIALOG


def test_the_earliest_index_counts(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG)
    early = alice.post(DIALOG, b"early")
    alice.introduce(DIALOG, bob)
    late = alice.post(DIALOG, b"late")
    assert isinstance(bob.open(late), Opened)
    assert reason_of(bob.open(early)) == Reason.BEFORE_KEYS
    whole, part = backed_up(alice, alice, early.session), backed_up(bob, alice, late.session)
    assert bob.machine.restore([whole]) == []
    assert isinstance(bob.open(early), Opened)
    assert bob.machine.restore([part]) == []
    assert isinstance(bob.open(early), Opened)


def test_keys_that_differ_under_the_same_name_are_refused(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    event = alice.post(DIALOG, b"")
    found = backed_up(bob, alice, event.session)
    ratchet = bytearray(from_base64(found.exported))
    ratchet[40] ^= 1
    (refused,) = bob.machine.restore([msgspec.structs.replace(found, exported=to_base64(bytes(ratchet)))])
    assert refused.reason == Reason.OTHER_SESSION
    assert isinstance(bob.open(event), Opened)


def test_of_one_device_the_newest_sessions_of_a_dialog_are_kept_and_the_others_come_back_from_the_backup(
    alice: Phone, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound, "SESSIONS_OF_A_DEVICE_MAX", 3)
    alice.introduce(DIALOG, bob)
    event = alice.post(DIALOG, b"old")
    kept = backed_up(bob, alice, event.session)
    for _ in range(2):
        assert isinstance(hand(alice, bob), KeysReceived)
    assert isinstance(bob.open(event), Opened)
    assert isinstance(hand(alice, bob, room_id=room_id_of(new_id())), KeysReceived)
    assert isinstance(bob.open(event), Opened), "the bound is for one dialog"
    for _ in range(9):
        assert isinstance(hand(alice, bob), KeysReceived)
    assert len(bob.state.keys(Table.INBOUND, b"")) == 3 + 1
    assert reason_of(bob.open(event)) == Reason.UNKNOWN_SESSION
    assert bob.machine.restore([kept]) == []
    assert isinstance(bob.open(event), Opened)
    assert len(bob.state.keys(Table.INBOUND, b"")) == 3 + 1


def test_a_fresh_device_reads_what_the_backup_holds(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    event = alice.post(DIALOG, b"kept")
    fresh = phone(bob.known.principal)
    assert fresh.machine.restore([backed_up(bob, alice, event.session)]) == []
    opened = fresh.open(event)
    assert isinstance(opened, Opened)
    assert opened.content == b"kept"


def test_a_backup_that_contradicts_what_is_here_is_refused(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    event = alice.post(DIALOG, b"")
    found = backed_up(bob, alice, event.session)
    (refused,) = bob.machine.restore([msgspec.structs.replace(found, dialog=new_id())])
    assert refused.reason == Reason.WRONG_DIALOG
    assert isinstance(bob.open(event), Opened)
