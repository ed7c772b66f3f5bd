"""Whom a person has verified, known to all of their devices: each seals its decisions into the backup, and reads it.

Invariants:

- A decision is sealed under the recovery key, by a device that has the identity and is in its log. The server learns
  how many there are; it can withhold one, which loses a verification, and gains nothing with an older one.
- They are read on each connection, and when an own device says that there are more. One command is under way at a time.
"""

from __future__ import annotations

import contextlib

from protocol.command_rules import Command
from protocol.device_commands import BackupValue, PutBackup, ReadBackup
from protocol.ids import self_dialog_id
from protocol.limits import BACKUP_KEY_BYTES, BACKUP_VALUES_PER_COMMAND_MAX
from protocol.replies import BackupPage, Failed, Reply
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.people import People
from tchat.crypto.pins import HeldError, LogVerdict
from tchat.crypto.recovery import TRUST_PREFIX, RecoveryError, open_trust, seal_trust
from tchat.crypto.trust import Trust
from tchat.encryption.device_logs import DeviceLogs
from tchat.encryption.device_messages import DeviceMessages, ReceivedMessage
from tchat.encryption.notices import DevicesDoubted, VerifiedElsewhere
from tchat.encryption.one_command import OneCommand

TRUST_GREW = "tchat.trust_grew"
"""The type of the message to own devices, without content: there is more to read in the backup."""
_FROM = TRUST_PREFIX + bytes(BACKUP_KEY_BYTES - len(TRUST_PREFIX))


class SharedTrust:
    """The decisions about people that the devices of a person share."""

    def __init__(self, machine: CryptoMachine, people: People, logs: DeviceLogs, messages: DeviceMessages) -> None:
        self._machine = machine
        self._people = people
        self._logs = logs
        self._messages = messages
        self._after: bytes | None = _FROM
        """How far the decisions were read; None: all of them."""
        self._more = False
        """An own device has added one since reading began."""
        self._lacking: dict[bytes, Trust] = {}
        """By whom they are about: decisions that the backup may lack."""
        self._looked = -1
        """`People.decisions` as of which that is so."""
        self._adding: dict[bytes, Trust] = {}
        self._commands = OneCommand(people, self._next)
        self._refused = False
        self._notices: list[DevicesDoubted | VerifiedElsewhere] = []
        messages.handlers[TRUST_GREW] = self._grew

    def due(self) -> list[Command]:
        """The command to send now, once."""
        return self._commands.due()

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command."""
        if not self._commands.end(command):
            return
        match command, reply:
            case ReadBackup(), BackupPage():
                self._read(command, reply)
            case PutBackup(), Failed():
                self._refused = not reply.temporary
            case PutBackup(), _:
                for principal, trust in self._adding.items():
                    self._people.is_backed_up(principal, trust, command.generation)
                self._looked = -1
                self._tell_own_devices()
            case _:
                pass

    def disconnected(self) -> None:
        """What was not answered is sent again, and all is read again."""
        self._commands.disconnected()
        self._refused, self._after = False, _FROM

    def take_notices(self) -> list[DevicesDoubted | VerifiedElsewhere]:
        """What the person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _grew(self, message: ReceivedMessage) -> None:
        if message.sender.principal == self._people.principal:
            self._more = True
            self._commands.look_again()

    def _next(self) -> Command | None:
        keys = self._people.backup_keys
        if keys is None or not self._people.is_listed(self._machine.device, self._machine.public):
            return None
        identity, key = keys
        if self._after is None and self._more:
            self._after, self._more = _FROM, False
        if self._after is not None:
            return ReadBackup(0, identity.generation, self._after)
        if self._looked != self._people.decisions:
            self._looked, self._lacking = self._people.decisions, self._people.to_back_up(identity.generation)
        return self._addition(identity, key) if self._lacking and not self._refused else None

    def _addition(self, identity: OwnIdentity, key: bytes) -> PutBackup:
        self._adding = dict(list(self._lacking.items())[:BACKUP_VALUES_PER_COMMAND_MAX])
        values = []
        for principal, trust in self._adding.items():
            place, sealed = seal_trust(key, identity, principal, trust)
            values.append(BackupValue(place, trust.at_ms, sealed))
        return PutBackup(0, identity.generation, values)

    def _read(self, command: ReadBackup, page: BackupPage) -> None:
        keys = self._people.backup_keys
        if keys is None or keys[0].generation != command.generation:
            return  # it is read anew
        identity, key = keys
        for value in page.values:
            with contextlib.suppress(RecoveryError):
                self._take(*open_trust(key, identity, value.key, value.value), command.generation)
        self._after = page.values[-1].key if page.more and page.values else None

    def _take(self, principal: bytes, trust: Trust, generation: int) -> None:
        before, was_held = self._people.pin_of(principal), self._people.is_held(principal)
        self._people.take_trust(principal, trust, generation)
        pin = self._people.pin_of(principal)
        if self._people.is_held(principal) and not was_held:
            self._notices.append(DevicesDoubted(principal, LogVerdict.HELD))
        elif pin is not None and pin.verified and before is not None and not before.verified:
            self._notices.append(VerifiedElsewhere(principal))

    def _tell_own_devices(self) -> None:
        me = self._people.principal
        keyless = self._logs.keyless(me)
        try:
            devices = self._people.devices_of(me)
        except HeldError:
            return  # they read it with their next connection
        for known in devices:
            if known.device != self._machine.device and known.device not in keyless:
                self._messages.tell(self_dialog_id(me), known.device, b"{}", TRUST_GREW)
