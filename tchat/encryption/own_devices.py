"""The own person's devices: how this one becomes one of them, and what it changes in their log.

- A person without a log: this is their first device. It starts their identity, keeps the private keys, and only then
  tells the server.
- A person with a log that does not name this device: it waits for its person, who confirms it on another device, enters
  the recovery key, or starts a new identity.
- A device that was removed, and is signed in again, is a new one: it drops the private keys of the identity, and makes
  new keys of its own, since nobody would believe the old ones.
- With the private keys this device adds itself, gives the server back what a restore has lost, and removes devices.

Nothing is appended before the server has the keys of this device, nor before it has said how far the log goes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocol.bodies import TimelineEvent
from protocol.command_rules import Command
from protocol.device_log import LogError, LogState
from protocol.errors import ErrorCode
from protocol.events import DialogState
from protocol.ids import self_dialog_id
from protocol.key_commands import AppendDeviceLog, PutIdentity, ReadDevices
from protocol.limits import DEVICE_LOG_ENTRIES_PER_COMMAND_MAX
from protocol.replies import DevicesPage, Failed, PersonDevices, Reply
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tchat.crypto.people import People
from tchat.crypto.recovery import new_recovery_key, write_recovery_key
from tchat.encryption.device_logs import DeviceLogs
from tchat.encryption.key_uploads import KeyUploads
from tchat.encryption.notices import DeviceRemoved, IdentityStarted, KeysNotTaken, Standing, StandingChanged
from tchat.encryption.one_command import OneCommand

PASSED_MAX = 5
"""So often in a row an addition may be too late before no more is made on this connection."""


class OwnDevices:
    """What this device is to others, and the changes of its person's log that it makes."""

    def __init__(
        self, machine: CryptoMachine, people: People, logs: DeviceLogs, uploads: KeyUploads, now_ms: Callable[[], int]
    ) -> None:
        self._machine = machine
        self._people = people
        self._logs = logs
        self._uploads = uploads
        self._now_ms = now_ms
        self._dialog: bytes | None = self_dialog_id(people.principal)
        """In which the own log is read."""
        self._wanted = False
        self._given: PersonDevices | None = None
        """What the server has said of the own person on this connection."""
        self._refused = False
        self._passed = 0
        """How often in a row another device was faster."""
        self._to_remove: set[bytes] = set()
        self._commands = OneCommand(people, self._next)
        self._notices: list[StandingChanged | IdentityStarted | KeysNotTaken | DeviceRemoved] = []
        self.standing = self._standing()
        self.renew: Callable[[], None] = lambda: None
        """Makes new keys of this device."""

    def synced(self) -> None:
        """A connection begins: the server says again how far the log goes."""
        self._given, self._wanted, self._refused, self._passed = None, False, False, 0
        self._commands.disconnected()

    def heard(self, event: TimelineEvent | DialogState) -> None:
        """A dialog in which the own log can be read, if there is none yet."""
        if self._dialog is None and isinstance(event, DialogState) and event.member:
            self._dialog = event.dialog

    def look_again(self) -> None:
        """The private keys of the identity have come: this device signs itself in with them."""
        self._commands.look_again()
        self._judge()

    def start_new_identity(self) -> None:
        """Give up the identity of before, with all of its devices; contacts see that this is another one."""
        pin = self._people.pin_of(self._people.principal)
        before = None if pin is None else pin.newest
        if pin is not None and pin.refused:
            # The server has another log of this generation. It takes the next one after that only, but later ones.
            before = msgspec.structs.replace(pin.newest, generation=pin.newest.generation + 1)
        self._start_identity(before)

    def remove(self, device: bytes) -> bool:
        """Take a device out of the log; False on a device without the private keys."""
        if self._people.identity is None:
            return False
        self._to_remove.add(device)
        self._commands.look_again()
        return True

    def due(self) -> list[Command]:
        """The command to send now, once."""
        if not self._uploads.done or self._refused or self._dialog is None:
            return []
        if self._given is None:
            if not self._wanted:
                self._wanted = True
                self._logs.need(self._dialog, self._people.principal)
            return []
        return self._commands.due()

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command, after the logs have had it."""
        self._commands.look_again()
        if isinstance(command, ReadDevices):
            self._read(command, reply)
        elif self._commands.end(command):
            self._changed(reply)

    def disconnected(self) -> None:
        """What was asked is looked at anew on the next connection."""
        self.synced()

    def take_notices(self) -> list[StandingChanged | IdentityStarted | KeysNotTaken | DeviceRemoved]:
        """What the person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _next(self) -> Command | None:
        assert self._given is not None, "it is known how far the log goes"
        try:
            entries = self._missing_entries(self._given)
        except LogError as error:  # too many devices, or the log is full
            self._refuse(str(error))
            return None
        if entries:
            return AppendDeviceLog(0, entries[:DEVICE_LOG_ENTRIES_PER_COMMAND_MAX])
        if self.standing is Standing.LISTED and (identity := self._people.identity) is not None:
            objects = identity.objects()
            if self._given.master != objects.master:
                return PutIdentity(0, objects.master, objects.self_signing, objects.user_signing)
        return None

    def _read(self, command: ReadDevices, reply: Reply) -> None:
        me = self._people.principal
        if all(known.principal != me for known in command.people):
            return
        if isinstance(reply, DevicesPage):
            given = next((person for person in reply.people if person.principal == me), None)
            if self._logs.was_answered(command.dialog, me):
                self._given = given or PersonDevices(me)
                self._judge()
        elif isinstance(reply, Failed):
            self._wanted = False
            if reply.code == ErrorCode.DIALOG_NOT_FOUND and command.dialog == self._dialog:
                self._dialog = None

    def _changed(self, reply: Reply) -> None:
        passed = isinstance(reply, Failed) and reply.code == ErrorCode.LOG_PASSED
        self._passed = self._passed + 1 if passed else 0
        if isinstance(reply, Failed) and not reply.temporary and not 0 < self._passed < PASSED_MAX:
            self._refuse(reply.message)
        else:
            self._given, self._wanted = None, False

    def _refuse(self, message: str) -> None:
        """Nothing more is changed on this connection."""
        self._notices.append(KeysNotTaken(message))
        self._refused = True

    def _judge(self) -> None:
        """The server has said how far the log goes."""
        if self._given is not None and self._given.generation == 0 and self._standing() is Standing.UNKNOWN:
            self._start_identity(None)
        if self._people.was_removed(self._machine.public):
            self._people.forget_identity()
            self.renew()
        standing = self._standing()
        if standing is not self.standing:
            self.standing = standing
            self._notices.append(StandingChanged(standing))
        if (pin := self._people.pin_of(self._people.principal)) is not None:
            removed = sorted(self._to_remove - pin.log.devices.keys())
            self._to_remove.difference_update(removed)
            self._notices += map(DeviceRemoved, removed)
        self._uploads.show_again()

    def _standing(self) -> Standing:
        pin = self._people.pin_of(self._people.principal)
        if pin is None:
            return Standing.UNKNOWN
        listed = self._people.is_listed(self._machine.device, self._machine.public)
        return Standing.LISTED if listed else Standing.UNVERIFIED

    def _start_identity(self, before: LogState | None) -> None:
        """Keep the private keys of a new identity, unless this was done before and the server has not heard of it."""
        kept, generation = self._people.kept_identity, 1 if before is None else before.generation + 1
        if kept is not None and kept.generation == generation:
            return
        identity, _, _ = new_identity(self._people.principal, before, self._now_ms())
        recovery_key = new_recovery_key()
        self._people.keep_identity(identity, recovery_key)
        self._notices.append(IdentityStarted(write_recovery_key(recovery_key)))

    def _missing_entries(self, given: PersonDevices) -> list[bytes]:
        """What the log lacks, of what this device can sign."""
        pin, kept, now_ms = self._people.pin_of(self._people.principal), self._people.kept_identity, self._now_ms()
        if kept is None:
            return []
        if pin is None or kept.generation > pin.newest.generation:
            log, started = kept.start(b"" if pin is None else pin.newest.head, now_ms)
            return [started, *self._own_entry(kept, log, now_ms)]
        if pin.held is not None or not kept.owns(pin.log):
            return []
        if (given.generation, given.length) < (pin.log.generation, pin.log.length):
            return self._people.lost_entries(given.length if given.generation == pin.log.generation else 0)
        entries = self._own_entry(kept, pin.log, now_ms)
        if entries:
            return entries
        return self._removals(kept, pin.log, now_ms)

    def _own_entry(self, identity: OwnIdentity, log: LogState, now_ms: int) -> list[bytes]:
        """The entry by which the log names this device with its keys."""
        device, keys = self._machine.device, self._machine.public
        if any(one.keys == keys for one in log.listed):
            return []  # it is in the log, or was removed with these keys
        change = identity.change_keys if device in log.devices else identity.add_device
        return [change(log, device, keys, now_ms)[1]]

    def _removals(self, identity: OwnIdentity, log: LogState, now_ms: int) -> list[bytes]:
        entries = []
        for device in sorted(self._to_remove & log.devices.keys()):
            log, entry = identity.remove_device(log, device, now_ms)
            entries.append(entry)
        return entries
