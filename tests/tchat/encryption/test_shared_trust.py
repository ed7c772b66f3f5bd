"""Whom a person has verified on one device is verified on all of them; a server that lies brings nobody trust."""

from __future__ import annotations

import msgspec
import pytest

from protocol.device_commands import PutBackup
from protocol.device_log import LogState
from protocol.errors import ErrorCode
from protocol.replies import Failed
from tchat.crypto.own_identity import new_identity
from tchat.crypto.pins import GivenLog, HeldError, Hold, LogVerdict, PinnedLog
from tchat.crypto.recovery import TRUST_PREFIX
from tchat.encryption.notices import DevicesDoubted, IdentityStarted, VerifiedElsewhere
from tests.support.scripted import ME
from tests.tchat.encryption.message_server import PAGE, MessageServer
from tests.tchat.encryption.test_backing_up import LAPTOP, PHONE, Device

BOB = bytes([0xB0]) * 16


class Identities:
    """Bob's identities, one after the other, as a server shows them."""

    def __init__(self, principal: bytes = BOB) -> None:
        self.principal = principal
        self.logs: list[LogState] = []
        self.shown: list[GivenLog] = []

    def start(self) -> bytes:
        """The master key of a new one."""
        _, log, entry = new_identity(self.principal, self.logs[-1] if self.logs else None, 0)
        self.logs.append(log)
        self.shown.append(GivenLog(log.generation, log.length, log.head, [entry]))
        return log.master


def shows(device: Device, bob: Identities, which: int = -1) -> LogVerdict:
    return device.encryption.people.take_log(bob.principal, bob.shown[which]).verdict


def pin(device: Device, principal: bytes = BOB) -> PinnedLog:
    found = device.encryption.people.pin_of(principal)
    assert found is not None
    return found


def hold_of(device: Device) -> Hold | None:
    """Why nothing is sent to Bob."""
    try:
        device.encryption.people.devices_of(BOB)
    except HeldError as error:
        return error.hold
    return None


def is_held(device: Device) -> bool:
    """Whether nothing is sent to Bob until a person has said something."""
    return hold_of(device) is Hold.IDENTITY_CHANGED


@pytest.fixture
def server() -> MessageServer:
    return MessageServer(ME)


@pytest.fixture
def phone(server: MessageServer) -> Device:
    return Device(server, PHONE)


@pytest.fixture
def laptop(server: MessageServer, phone: Device) -> Device:
    """Another device, which is in the log."""
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    phone.encryption.disconnected()
    phone.serve()
    return laptop


@pytest.fixture
def bob() -> Identities:
    bob = Identities()
    bob.start()
    return bob


def say(device: Device, bob: Identities, which: int = -1) -> None:
    """The person compares Bob's master key on this device."""
    assert device.encryption.people.verified(BOB, bob.logs[which].master)
    device.serve()


def test_who_is_verified_on_the_phone_is_verified_on_the_laptop(phone: Device, laptop: Device, bob: Identities) -> None:
    shows(phone, bob)
    shows(laptop, bob)
    say(phone, bob)
    for message in laptop.server.waiting[LAPTOP]:
        laptop.encryption.received(message)
    laptop.serve()
    assert pin(laptop).verified
    assert laptop.newest(VerifiedElsewhere) == VerifiedElsewhere(BOB)


def test_a_fresh_device_knows_who_was_verified_before_it_has_seen_their_log(
    server: MessageServer, phone: Device, bob: Identities
) -> None:
    many = [Identities(bytes([number]) * 16) for number in range(10, 11 + PAGE)]
    for each in (bob, *many):
        master = each.logs[0].master if each.logs else each.start()
        shows(phone, each)
        assert phone.encryption.people.verified(each.principal, master)
    phone.serve()
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    for each in (bob, *many):
        assert shows(laptop, each) is LogVerdict.FIRST
        assert pin(laptop, each.principal).verified


def test_another_identity_than_the_verified_one_is_held_on_all_devices(
    phone: Device, laptop: Device, bob: Identities
) -> None:
    """The laptop took the new one, since nobody had verified the first one there."""
    shows(phone, bob)
    shows(laptop, bob)
    bob.start()
    assert shows(laptop, bob) is LogVerdict.CHANGED
    say(phone, bob, 0)
    laptop.encryption.disconnected()
    laptop.serve()
    assert pin(laptop).log == bob.logs[0]
    assert shows(laptop, bob) is LogVerdict.HELD
    assert is_held(laptop)


def test_a_device_to_which_the_server_shows_another_person_sends_them_nothing(
    phone: Device, laptop: Device, bob: Identities
) -> None:
    mallory = Identities()
    mallory.start()
    shows(phone, bob)
    shows(laptop, mallory)
    say(phone, bob)
    laptop.encryption.disconnected()
    laptop.serve()
    assert is_held(laptop)
    assert laptop.newest(DevicesDoubted) == DevicesDoubted(BOB, LogVerdict.HELD)
    laptop.encryption.agree_to_identity(BOB)
    assert not is_held(laptop)


def test_a_first_log_that_is_not_of_the_verified_identity_is_held(
    server: MessageServer, phone: Device, bob: Identities
) -> None:
    shows(phone, bob)
    say(phone, bob)
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    mallory = Identities()
    mallory.start()
    assert shows(laptop, mallory) is LogVerdict.HELD
    assert is_held(laptop)


def test_an_identity_that_was_agreed_to_is_held_nowhere(phone: Device, laptop: Device, bob: Identities) -> None:
    for device in (phone, laptop):
        shows(device, bob)
    say(phone, bob)
    laptop.encryption.disconnected()
    laptop.serve()
    bob.start()
    for device in (phone, laptop):
        assert shows(device, bob) is LogVerdict.HELD
    phone.encryption.agree_to_identity(BOB)
    phone.serve()
    laptop.encryption.disconnected()
    laptop.serve()
    assert (is_held(laptop), pin(laptop).log, pin(laptop).verified) == (False, bob.logs[1], False)


def test_a_new_identity_that_was_verified_on_the_phone_is_no_alarm_on_the_laptop(
    phone: Device, laptop: Device, bob: Identities
) -> None:
    for device in (phone, laptop):
        shows(device, bob)
    say(phone, bob)
    bob.start()
    shows(phone, bob)
    say(phone, bob)
    laptop.encryption.disconnected()
    laptop.serve()
    assert hold_of(laptop) is Hold.BEHIND, "what is verified now is not known here"
    assert shows(laptop, bob) is LogVerdict.GROWN
    assert pin(laptop) == PinnedLog(bob.logs[1], verified=True, before=bob.logs[0])
    assert not any(isinstance(one, DevicesDoubted) for one in laptop.notices)


def test_the_identity_before_the_one_that_was_decided_for_is_a_lie_to_a_fresh_device(
    server: MessageServer, phone: Device, bob: Identities
) -> None:
    shows(phone, bob)
    say(phone, bob)
    bob.start()
    shows(phone, bob)
    phone.encryption.agree_to_identity(BOB)
    phone.serve()
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    assert shows(laptop, bob, 0) is LogVerdict.SHORTER
    laptop.encryption.agree_to_identity(BOB)
    assert hold_of(laptop) is Hold.BEHIND, "what the server shows cannot be agreed to"
    assert shows(laptop, bob) is LogVerdict.GROWN
    assert (hold_of(laptop), pin(laptop).verified) == (None, False)


def test_an_older_decision_that_the_server_brings_again_changes_nothing(
    server: MessageServer, phone: Device, laptop: Device, bob: Identities
) -> None:
    shows(phone, bob)
    say(phone, bob)
    (old,) = (value for value in server.backup.values() if value.key.startswith(TRUST_PREFIX))
    bob.start()
    shows(phone, bob)
    say(phone, bob)
    shows(laptop, bob, 0)
    laptop.encryption.disconnected()
    laptop.serve()
    shows(laptop, bob)
    believed = pin(laptop)
    server.backup[old.key] = old
    for device in (phone, laptop):
        device.encryption.disconnected()
        device.serve()
    assert pin(laptop) == believed
    assert pin(phone).log == bob.logs[1]
    assert server.backup[old.key].version > old.version, "the newer decision is given back"


def test_what_nobody_of_this_person_has_sealed_verifies_nobody(
    server: MessageServer, phone: Device, laptop: Device, bob: Identities
) -> None:
    shows(phone, bob)
    shows(laptop, bob)
    say(phone, bob)
    (value,) = (value for value in server.backup.values() if value.key.startswith(TRUST_PREFIX))
    server.backup[value.key] = msgspec.structs.replace(value, value=value.value[:-1] + bytes([value.value[-1] ^ 1]))
    laptop.encryption.disconnected()
    laptop.serve()
    assert not pin(laptop).verified


def test_a_new_own_identity_backs_decisions_up_again(server: MessageServer, phone: Device, bob: Identities) -> None:
    shows(phone, bob)
    say(phone, bob)
    server.backup.clear()
    phone.encryption.start_new_identity()
    phone.serve()
    assert any(key.startswith(TRUST_PREFIX) for key in server.backup)


def test_a_decision_that_the_server_refuses_is_sent_again_with_the_next_connection(
    server: MessageServer, phone: Device, bob: Identities
) -> None:
    shows(phone, bob)
    server.refusals = [Failed(0, ErrorCode.BACKUP_BOUND, "full")]
    say(phone, bob)
    assert not any(isinstance(one, PutBackup) for one in phone.serve())
    phone.encryption.disconnected()
    phone.serve()
    assert any(key.startswith(TRUST_PREFIX) for key in server.backup)
