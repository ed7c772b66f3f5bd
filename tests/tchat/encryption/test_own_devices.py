"""How a device becomes one of its person's: the first, another one, one that gets the private keys."""

from __future__ import annotations

import pytest

from protocol.cross_signing import read_cross_signing
from protocol.errors import ErrorCode
from protocol.events import KeySlice, KeySlices
from protocol.ids import new_id
from protocol.key_commands import AppendDeviceLog, PutIdentity, ReadDevices, UploadKeys
from protocol.replies import Failed
from protocol.share_commands import ConfirmSlices
from tchat.encryption.encrypting import Encryption
from tchat.encryption.key_inbox import CONFIRM_WITHIN_S
from tchat.encryption.notices import DevicesDoubted, IdentityStarted, KeysNotTaken, Standing, StandingChanged
from tchat.memory_store import MemoryStore
from tests.support.key_pairs import bears_signature
from tests.support.scripted import DEVICE, DIALOG, ME
from tests.tchat.crypto.devices import NOW_MS
from tests.tchat.encryption.key_server import KeyServer


class Device:
    """A device of one person, and the server of keys."""

    def __init__(self, server: KeyServer, device: bytes = DEVICE) -> None:
        self.server, self.device, self.store = server, device, MemoryStore()
        self.start()

    def start(self) -> None:
        """A new process on the same store."""
        self.encryption = Encryption(self.store, lambda: NOW_MS)

    def connect(self) -> list[type]:
        """A connection; the kinds of what was asked."""
        self.encryption.signed_in(ME, self.device, self.server.synced(self.device))
        self.encryption.caught_up()
        return self.serve()

    def serve(self) -> list[type]:
        return [type(command) for command in self.server.serve(self.encryption, self.device)]

    def notices(self) -> list[type]:
        return [type(notice) for notice in self.encryption.take_notices()]


@pytest.fixture
def server() -> KeyServer:
    return KeyServer(ME)


def test_the_first_device_of_a_person_starts_their_identity(server: KeyServer) -> None:
    phone = Device(server)
    asked = phone.connect()
    assert asked[:3] == [UploadKeys, ReadDevices, AppendDeviceLog]
    assert asked.count(PutIdentity) == 1
    log = server.log
    assert log is not None
    assert list(log.devices) == [DEVICE]
    assert phone.notices() == [IdentityStarted, StandingChanged]
    assert phone.encryption.standing is Standing.LISTED
    assert phone.connect() == [ReadDevices]


def test_its_keys_are_signed_by_the_identity_that_others_read(server: KeyServer) -> None:
    Device(server).connect()
    put = server.identity
    assert put is not None
    identity = read_cross_signing(ME, put.master, put.self_signing, put.user_signing)
    assert bears_signature(server.uploads[DEVICE][-1].device_keys, ME, identity.self_signing)


def test_nothing_is_appended_before_the_server_has_the_keys(server: KeyServer) -> None:
    server.refusals = [Failed(0, ErrorCode.KEYS_REFUSED, "reused")]
    phone = Device(server)
    assert phone.connect() == [UploadKeys]
    assert phone.notices() == [KeysNotTaken]


def test_the_identity_is_kept_before_the_server_hears_of_it(server: KeyServer) -> None:
    """A crash between the two must not leave a log whose keys nobody has."""
    phone = Device(server)
    phone.encryption.signed_in(ME, DEVICE, server.synced(DEVICE))
    asked: list[object] = []
    while not any(isinstance(command, AppendDeviceLog) for command in asked):
        for command in phone.encryption.due(0.0):
            asked.append(command)
            reply = server.answer(DEVICE, command)
            if not isinstance(command, AppendDeviceLog):
                phone.encryption.replied(command, reply, 0.0)
    first = server.log
    phone.start()
    assert AppendDeviceLog not in phone.connect()
    assert server.log == first
    assert phone.encryption.standing is Standing.LISTED
    assert phone.encryption.people.identity is not None


def test_an_identity_that_the_server_has_not_heard_of_is_not_made_twice(server: KeyServer) -> None:
    phone = Device(server)
    phone.encryption.signed_in(ME, DEVICE, server.synced(DEVICE))
    while (kept := phone.encryption.people.kept_identity) is None:
        for command in phone.encryption.due(0.0):
            phone.encryption.replied(command, server.answer(DEVICE, command), 0.0)
    phone.start()
    phone.connect()
    log = server.log
    assert log is not None
    assert kept.owns(log)


def test_another_device_waits_for_its_person(server: KeyServer) -> None:
    Device(server).connect()
    tablet = Device(server, new_id())
    assert tablet.connect() == [UploadKeys, ReadDevices]
    assert tablet.notices() == [StandingChanged]
    assert tablet.encryption.standing is Standing.UNVERIFIED
    assert tablet.connect() == [ReadDevices]


def test_it_signs_itself_in_once_it_has_the_private_keys(server: KeyServer) -> None:
    phone, tablet = Device(server), Device(server, new_id())
    phone.connect()
    tablet.connect()
    identity, key = phone.encryption.people.identity, phone.encryption.people.recovery_key
    assert identity is not None
    assert key is not None
    tablet.encryption.keep_identity(identity, key)
    assert AppendDeviceLog in tablet.serve()
    assert tablet.encryption.standing is Standing.LISTED
    log = server.log
    assert log is not None
    assert list(log.devices) == [DEVICE, tablet.device]


def test_a_person_who_has_lost_everything_begins_anew(server: KeyServer) -> None:
    phone, tablet = Device(server), Device(server, new_id())
    phone.connect()
    tablet.connect()
    tablet.encryption.start_new_identity()
    tablet.serve()
    assert tablet.encryption.standing is Standing.LISTED
    log = server.log
    assert log is not None
    assert (log.generation, list(log.devices)) == (2, [tablet.device])
    phone.notices()
    phone.connect()
    assert phone.notices() == [StandingChanged, DevicesDoubted]
    assert phone.encryption.standing is Standing.UNVERIFIED


def test_a_device_that_was_removed_is_a_new_one_when_its_person_signs_in_on_it_again(server: KeyServer) -> None:
    phone, tablet = Device(server), Device(server, new_id())
    phone.connect()
    identity, key = phone.encryption.people.identity, phone.encryption.people.recovery_key
    assert identity is not None
    assert key is not None
    tablet.connect()
    tablet.encryption.keep_identity(identity, key)
    tablet.serve()
    phone.connect()
    phone.encryption.remove_device(tablet.device)
    phone.serve()
    tablet.notices()
    tablet.connect()
    assert tablet.notices() == [StandingChanged]
    assert tablet.encryption.people.kept_identity is None, "it needs its person's word to be one of theirs again"
    tablet.encryption.keep_identity(identity, key)
    tablet.serve()
    assert tablet.encryption.standing is Standing.LISTED
    assert server.log is not None
    assert server.log.devices.keys() == {phone.device, tablet.device}
    assert [upload.generation for upload in server.uploads[tablet.device]] == [1, 1, 2, 2]


def test_whose_log_has_forked_after_a_restore_begins_anew(server: KeyServer) -> None:
    phone, watch, laptop = (Device(server, device) for device in (DEVICE, new_id(), new_id()))
    phone.connect()
    identity, key = phone.encryption.people.identity, phone.encryption.people.recovery_key
    assert identity is not None
    assert key is not None
    for other in (watch, laptop):
        other.connect()
        other.encryption.keep_identity(identity, key)
    before = list(server.entries)
    watch.serve()
    phone.connect()
    server.entries = before  # a restore has lost the watch, which the laptop has not seen
    laptop.serve()
    phone.notices()
    phone.connect()
    assert phone.notices() == [DevicesDoubted]
    phone.encryption.start_new_identity()
    phone.serve()
    assert phone.encryption.standing is Standing.LISTED
    assert server.log is not None
    assert list(server.log.devices) == [DEVICE]


def test_an_addition_that_is_always_too_late_is_given_up(server: KeyServer) -> None:
    phone = Device(server)
    phone.encryption.signed_in(ME, DEVICE, server.synced(DEVICE))
    server.passes = True
    asked = phone.connect()
    assert 1 < asked.count(AppendDeviceLog) < 9
    assert KeysNotTaken in phone.notices()


def test_a_device_with_the_private_keys_removes_another(server: KeyServer) -> None:
    phone, tablet = Device(server), Device(server, new_id())
    phone.connect()
    tablet.connect()
    identity, key = phone.encryption.people.identity, phone.encryption.people.recovery_key
    assert identity is not None
    assert key is not None
    tablet.encryption.keep_identity(identity, key)
    tablet.serve()
    phone.connect()
    assert phone.encryption.remove_device(tablet.device)
    phone.serve()
    log = server.log
    assert log is not None
    assert list(log.devices) == [DEVICE]
    assert AppendDeviceLog not in tablet.connect(), "who was removed does not put themselves back"
    assert KeysNotTaken not in tablet.notices()
    assert tablet.encryption.standing is Standing.UNVERIFIED


def test_a_device_without_the_private_keys_removes_none(server: KeyServer) -> None:
    Device(server).connect()
    tablet = Device(server, new_id())
    tablet.connect()
    assert not tablet.encryption.remove_device(DEVICE)


def test_what_a_restore_has_lost_of_the_log_is_given_back(server: KeyServer) -> None:
    phone = Device(server)
    phone.connect()
    entries = list(server.entries)
    del server.entries[1:]
    phone.connect()
    assert server.entries == entries
    server.entries.clear()
    phone.connect()
    assert server.entries == entries


def test_a_temporary_refusal_is_asked_again_after_a_while(server: KeyServer) -> None:
    server.refusals = [Failed(0, ErrorCode.UNAVAILABLE, "", 3.0)]
    phone = Device(server)
    assert phone.connect() == [UploadKeys]
    assert phone.encryption.next_due() == 3.0
    assert phone.encryption.due(2.9) == ()
    server.serve(phone.encryption, DEVICE, 3.0)
    assert phone.encryption.standing is Standing.LISTED
    assert phone.encryption.next_due() is None


def test_keys_are_confirmed_soon_though_nothing_happens_meanwhile(server: KeyServer) -> None:
    phone = Device(server)
    phone.connect()
    phone.encryption.received(KeySlices([KeySlice(7, DIALOG, ME, DEVICE, 1, b"spoilt")]))
    assert not any(isinstance(command, ConfirmSlices) for command in phone.encryption.due(100.0))
    at = phone.encryption.next_due()
    assert at is not None
    assert 100.0 < at <= 100.0 + CONFIRM_WITHIN_S
    assert ConfirmSlices(0, [7]) in phone.encryption.due(at)


def test_what_the_server_refuses_for_good_is_said_and_not_tried_again(server: KeyServer) -> None:
    phone = Device(server)
    phone.encryption.signed_in(ME, DEVICE, server.synced(DEVICE))
    asked: list[type] = []
    for _ in range(6):
        for command in phone.encryption.due(0.0):
            asked.append(type(command))
            refused = isinstance(command, AppendDeviceLog)
            reply = Failed(0, ErrorCode.KEYS_REFUSED, "no") if refused else server.answer(DEVICE, command)
            phone.encryption.replied(command, reply, 0.0)
    assert asked.count(AppendDeviceLog) == 1
    assert phone.notices() == [IdentityStarted, KeysNotTaken]
