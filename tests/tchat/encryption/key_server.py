"""What a truthful server answers about keys and device logs, in memory, for the parts of a client that ask it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from protocol.command_rules import Command
from protocol.device_commands import PutBackup, ReadBackup
from protocol.device_log import LogState, extend, fold, hash_of_entry
from protocol.errors import ErrorCode
from protocol.key_commands import AppendDeviceLog, PutIdentity, ReadDevices, UploadKeys
from protocol.replies import (
    BackupPage,
    DeviceKeys,
    DevicesPage,
    Done,
    Failed,
    KeysUploaded,
    PersonDevices,
    Reply,
    Synced,
)
from protocol.share_commands import ConfirmSlices
from tchat.encryption.encrypting import Encryption

_ASKED_MAX = 1000


@dataclass
class KeyServer:
    """One person's keys and log. While `refusals` has answers, the next of these is given."""

    principal: bytes
    entries: list[bytes] = field(default_factory=list)
    identity: PutIdentity | None = None
    uploads: defaultdict[bytes, list[UploadKeys]] = field(default_factory=lambda: defaultdict(list))
    refusals: list[Failed] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)
    passes: bool = False
    """It says of every addition to the log that another device was faster."""

    @property
    def log(self) -> LogState | None:
        return fold(self.principal, self.entries) if self.entries else None

    def synced(self, device: bytes) -> Synced:
        """What a sign-in of this device is told: none of its one-time keys was given out."""
        uploads = self.uploads[device]
        held = sum(len(each.one_time_keys) for each in uploads)
        return Synced(0, False, 0, uploads[-1].generation if uploads else 0, held)

    def serve(self, encryption: Encryption, device: bytes, now: float = 0.0) -> list[Command]:
        """Answer all that a device asks, until it asks nothing more; what it asked."""
        asked: list[Command] = []
        while commands := encryption.due(now):
            for command in commands:
                asked.append(command)
                encryption.replied(command, self.answer(device, command), now)
            assert len(asked) < _ASKED_MAX, "a device that asks without end"
        return asked

    def answer(self, device: bytes, command: Command) -> Reply:
        if self.refusals:
            return self.refusals.pop(0)
        match command:
            case UploadKeys():
                self.uploads[device].append(command)
                return KeysUploaded(0, sum(len(each.one_time_keys) for each in self.uploads[device]), False)
            case ReadDevices():
                people = [self._person(known.generation, known.length) for known in command.people]
                return DevicesPage(0, command.dialog, people)
            case AppendDeviceLog(entries=entries):
                return self._append(entries)
            case PutIdentity():
                self.identity = command
                return Done(0)
            case ConfirmSlices(numbers=numbers):
                self.confirmed += numbers
                return Done(0)
            case ReadBackup():
                return BackupPage(0, [])
            case PutBackup():
                return Done(0)
            case _:
                raise AssertionError(command)

    def _append(self, entries: list[bytes]) -> Reply:
        known = {hash_of_entry(entry) for entry in self.entries}
        new = [entry for entry in entries if hash_of_entry(entry) not in known]
        log = self.log
        if self.passes:
            return Failed(0, ErrorCode.LOG_PASSED, "")
        if log is not None and b'"started"' not in new[0]:
            extend(log, new)
            self.entries += new
            return Done(0)
        begun = fold(self.principal, new)
        if log is not None and begun.generation == log.generation + 1 and begun.previous != log.head:
            return Failed(0, ErrorCode.LOG_PASSED, "")
        self.entries = new
        return Done(0)

    def _person(self, generation: int, length: int) -> PersonDevices:
        log = self.log
        if log is None:
            return PersonDevices(self.principal)
        put = self.identity
        newest = {device: sent[-1] for device, sent in self.uploads.items() if sent}
        keys = [DeviceKeys(device, sent.generation, sent.device_keys) for device, sent in newest.items()]
        return PersonDevices(
            self.principal,
            log.generation,
            log.length,
            log.head,
            self.entries[length if generation == log.generation else 0 :],
            *((put.master, put.self_signing, put.user_signing) if put else (b"", b"", b"")),
            keys,
        )
