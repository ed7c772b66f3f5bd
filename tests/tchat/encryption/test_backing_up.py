"""Sessions are in the backup once they are here, and come back only as what their person has sealed."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import pytest
import vodozemac

from protocol.bodies import Header
from protocol.canonical import from_base64
from protocol.commands import Send
from protocol.device_commands import BackupValue, PutBackup, ReadBackup
from protocol.errors import ErrorCode
from protocol.ids import new_id
from protocol.limits import BACKUP_VALUES_PER_COMMAND_MAX, N_MAX
from protocol.replies import Done, Failed
from tchat.crypto.inbound import add_own
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.people import People
from tchat.crypto.recovery import (
    BackedUpSession,
    RecoveryError,
    RecoveryReason,
    new_recovery_key,
    write_recovery_key,
)
from tchat.crypto.state import Step, Table
from tchat.encryption.backing_up import IDENTITY_KEY, BackingUp
from tchat.encryption.encrypting import Encryption
from tchat.encryption.notices import BackupRefused, BackupRestored, IdentityStarted, Notice, NotRecovered, Standing
from tchat.memory_store import MemoryStore
from tests.support.scripted import ME
from tests.tchat.crypto.devices import NOW_MS
from tests.tchat.encryption.message_server import PAGE, MessageServer

T = TypeVar("T")
PHONE, LAPTOP = bytes([1]) * 16, bytes([2]) * 16


class Device:
    """A device of one person; `notices` are all that it ever gave."""

    def __init__(self, server: MessageServer, device: bytes) -> None:
        self.server, self.device, self.store = server, device, MemoryStore()
        self.notices: list[Notice] = []
        self.start()

    def start(self) -> None:
        """A process begins, and connects."""
        self.encryption = Encryption(self.store, lambda: NOW_MS)
        self.encryption.signed_in(ME, self.device, self.server.synced(self.device))
        self.encryption.caught_up()
        self.serve()

    def serve(self) -> list[PutBackup | ReadBackup]:
        """All that it asks is answered; what it asked of the backup."""
        asked = self.server.serve(self.encryption, self.device)
        self.notices += self.encryption.take_notices()
        return [one for one in asked if isinstance(one, PutBackup | ReadBackup)]

    def writes(self, count: int = 1) -> set[bytes]:
        """So many sessions of this device begin, each with a message that is acked."""
        before = self.sessions
        for number in range(count):
            session, dialog, step = vodozemac.GroupSession(), new_id(), Step(self.store)
            add_own(step, ME, self.device, dialog, session.session_key)
            step.commit()
            self.encryption.acked(Send(0, dialog, 1 + number, b"", Header(session=from_base64(session.session_id))))
        return self.sessions - before

    @property
    def sessions(self) -> set[bytes]:
        """The sessions that it can read."""
        return set(self.store.keys(Table.INBOUND, b""))

    def newest(self, kind: type[T]) -> T:
        """The newest notice of a kind."""
        return next(one for one in reversed(self.notices) if isinstance(one, kind))

    def recovers(self, recovery_key: str) -> None:
        self.encryption.recover(recovery_key)
        self.serve()


@pytest.fixture
def server() -> MessageServer:
    return MessageServer(ME)


@pytest.fixture
def phone(server: MessageServer) -> Device:
    """The first device of its person."""
    return Device(server, PHONE)


def test_the_identity_is_backed_up_first_and_sessions_as_they_come(server: MessageServer, phone: Device) -> None:
    assert list(server.backup) == [IDENTITY_KEY]
    phone.writes(3)
    (put,) = phone.serve()
    assert isinstance(put, PutBackup)
    assert len(put.values) == 3
    assert len(server.backup) == 4
    phone.start()
    assert phone.serve() == []


def test_what_comes_while_an_addition_is_under_way_goes_together_in_the_next(phone: Device) -> None:
    phone.writes()
    (first,) = phone.encryption.due(0.0)
    for _ in range(BACKUP_VALUES_PER_COMMAND_MAX + 1):
        phone.writes()
        assert phone.encryption.due(0.0) == []
    phone.encryption.replied(first, Done(0), 0.0)
    counts = [len(put.values) for put in phone.serve() if isinstance(put, PutBackup)]
    assert counts == [BACKUP_VALUES_PER_COMMAND_MAX, 1]


@pytest.mark.parametrize("lost", ["the connection", "the answer", "the process"])
def test_what_the_server_did_not_answer_is_added_again(server: MessageServer, phone: Device, lost: str) -> None:
    phone.writes()
    (put,) = phone.encryption.due(0.0)
    if lost == "the answer":
        phone.encryption.replied(put, Failed(0, ErrorCode.UNAVAILABLE, ""), 0.0)
        phone.encryption.disconnected()
    elif lost == "the connection":
        phone.encryption.disconnected()
    phone.start() if lost == "the process" else phone.serve()
    assert len(server.backup) == 2


def test_a_session_of_which_more_is_known_replaces_the_one_before(server: MessageServer, phone: Device) -> None:
    outbound, dialog = vodozemac.GroupSession(), new_id()
    exported = vodozemac.InboundGroupSession(outbound.session_key)
    for first_index in (5, 0):
        keys = exported.export_at(first_index)
        assert keys is not None
        session = from_base64(outbound.session_id)
        found = BackedUpSession(session, dialog, ME, PHONE, keys.to_base64(), first_index)
        CryptoMachine(phone.store, ME, PHONE, 1).restore([found])
        phone.encryption.acked(Send(0, dialog, 6 - first_index, b"", Header(session=session)))
        phone.serve()
    (value,) = (value for key, value in server.backup.items() if key != IDENTITY_KEY)
    assert value.version == N_MAX


def test_a_fresh_device_has_everything_by_the_recovery_key_alone(server: MessageServer, phone: Device) -> None:
    sessions = phone.writes(2 * PAGE)
    phone.serve()
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    assert laptop.encryption.standing is Standing.LISTED
    assert laptop.sessions == sessions
    assert laptop.newest(BackupRestored) == BackupRestored(2 * PAGE, 0)
    laptop.start()
    assert laptop.serve() == []


def test_what_was_changed_moved_or_slipped_in_is_refused_and_the_rest_kept(
    server: MessageServer, phone: Device
) -> None:
    sessions = phone.writes(4)
    phone.serve()
    changed, moved, other, *_ = [value for key, value in server.backup.items() if key != IDENTITY_KEY]
    flipped = changed.value[:-1] + bytes([changed.value[-1] ^ 1])
    server.backup[changed.key] = msgspec.structs.replace(changed, value=flipped)
    server.backup[moved.key] = msgspec.structs.replace(other, key=moved.key)
    injected = BackupValue(bytes([9]) * 32, 1, other.value)
    server.backup[injected.key] = injected
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    assert laptop.newest(BackupRestored) == BackupRestored(2, 3)
    assert len(laptop.sessions) == 2
    assert laptop.sessions < sessions


def test_another_key_opens_nothing_and_what_is_no_key_is_not_tried(server: MessageServer, phone: Device) -> None:
    assert phone.encryption.standing is Standing.LISTED
    laptop = Device(server, LAPTOP)
    laptop.recovers(write_recovery_key(new_recovery_key()))
    assert laptop.newest(NotRecovered).reason is RecoveryReason.NOT_OURS
    assert (laptop.encryption.standing, laptop.sessions) == (Standing.UNVERIFIED, set())
    with pytest.raises(RecoveryError):
        laptop.encryption.recover("EsTc")
    assert laptop.serve() == []


def test_a_session_that_is_missing_is_looked_for_once_on_a_connection(server: MessageServer, phone: Device) -> None:
    """Another own device adds it after this one has read the backup."""
    laptop = Device(server, LAPTOP)
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    (row,) = phone.writes()
    machine, people = CryptoMachine(laptop.store, ME, LAPTOP, 1), People(laptop.store, ME)
    opened: list[bytes] = []
    backup = BackingUp(laptop.store, machine, people, recovered=lambda _own, _key: True, restored=opened.extend)
    for asked, found in ((1, []), (0, []), (1, [row[:32]])):
        backup.want(row[:32], row[32:])
        questions = [one for one in backup.due() if isinstance(one, ReadBackup)]
        for one in questions:
            backup.answered(one, server.answer(LAPTOP, one))
        assert (len(questions), opened) == (asked, found)
        phone.serve()
        if not asked:
            backup.disconnected()


def test_a_new_identity_has_a_backup_of_all_that_this_device_can_read(phone: Device) -> None:
    phone.writes(3)
    phone.serve()
    phone.encryption.start_new_identity()
    puts = [one for one in phone.serve() if isinstance(one, PutBackup)]
    assert {one.generation for one in puts} == {2}
    assert sum(len(one.values) for one in puts) == 4


def test_a_full_backup_is_told_once_and_tried_again_at_the_next_connection(
    server: MessageServer, phone: Device
) -> None:
    server.refusals = [Failed(0, ErrorCode.BACKUP_BOUND, "full")]
    phone.writes()
    phone.serve()
    phone.writes()
    assert phone.serve() == []
    assert [one for one in phone.notices if isinstance(one, BackupRefused)] == [BackupRefused("full")]
    phone.encryption.disconnected()
    phone.serve()
    assert len(server.backup) == 3


def test_a_device_adds_nothing_before_it_is_in_the_log(server: MessageServer, phone: Device) -> None:
    laptop = Device(server, LAPTOP)
    laptop.writes()
    assert laptop.serve() == []
    server.log_is_full = True
    laptop.recovers(phone.newest(IdentityStarted).recovery_key)
    assert (laptop.encryption.standing, len(server.backup)) == (Standing.UNVERIFIED, 1)
    assert not any(isinstance(one, BackupRefused) for one in laptop.notices)
    server.log_is_full = False
    laptop.start()
    assert (laptop.encryption.standing, len(server.backup)) == (Standing.LISTED, 2)


def test_while_nothing_changes_nothing_is_read_to_see_that(phone: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at with each message that arrives."""
    read: list[Table] = []

    def reads(table: Table, key: bytes) -> bytes | None:
        read.append(table)
        return MemoryStore.read(phone.store, table, key)

    monkeypatch.setattr(phone.store, "read", reads)
    assert phone.serve() == []
    assert read == [Table.CLAIMS]
