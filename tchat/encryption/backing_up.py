"""The backup: sessions are added to it as they come, and read from it by a device that has got the recovery key.

Invariants:

- What is added is sealed under the recovery key, by a device that has the identity and is in its log. The identity
  comes first, so that the recovery key alone brings both back.
- What is noted as backed up was taken by the server. One addition is under way at a time; what comes meanwhile goes
  together in the next.
- What is read is kept only if this person has sealed it, as the keys of that session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol.command_rules import Command
from protocol.device_commands import BackupValue, PutBackup, ReadBackup
from protocol.limits import BACKUP_KEY_BYTES, BACKUP_VALUES_PER_COMMAND_MAX, N_MAX
from protocol.replies import BackupPage, Failed, Reply
from tchat.crypto.inbound import SESSION_ID_BYTES
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.people import People
from tchat.crypto.recovery import (
    TRUST_PREFIX,
    BackedUpSession,
    RecoveryError,
    RecoveryReason,
    open_identity,
    open_session,
    read_recovery_key,
    seal_identity,
    seal_session,
    session_place,
)
from tchat.crypto.state import CryptoState, Step, Table
from tchat.encryption.notices import BackupNotice, BackupRefused, BackupRestored, NotRecovered
from tchat.encryption.one_command import OneCommand

WANTED_MAX = 1000
"""Sessions that are looked for one by one on a connection."""
IDENTITY_KEY = bytes(BACKUP_KEY_BYTES)
"""Where the identity is, before all sessions."""
_IDENTITY_VERSION = 1


class BackingUp:
    """The backup of a device's person. `recovered` is called with the identity that a recovery key has opened."""

    def __init__(
        self,
        state: CryptoState,
        machine: CryptoMachine,
        people: People,
        *,
        recovered: Callable[[OwnIdentity, bytes], bool],
        restored: Callable[[Iterable[bytes]], None],
    ) -> None:
        self._state = state
        self._machine = machine
        self._people = people
        self._recovered = recovered
        self._restored = restored
        self._pending: dict[bytes, None] = {}
        """Keys in `Table.INBOUND` that may not be in the backup of the generation that was looked through."""
        self._looked_through = 0
        self._adding: dict[bytes, int] = {}
        """By key in `Table.INBOUND`: the first index with which it is being added."""
        self._commands = OneCommand(people, self._next)
        self._refused = False
        self._recovery_key: bytes | None = None
        """What the person has entered, until the identity is opened with it."""
        self._after: bytes | None = None
        self._wanted: dict[bytes, bool] = {}
        """Places of sessions that open something here; True: it was asked for on this connection."""
        self._counts = (0, 0)
        self._notices: list[BackupNotice] = []

    def recover(self, recovery_key: str) -> None:
        """Bring the identity and the sessions back; `RecoveryError` if it cannot be a recovery key."""
        self._recovery_key = read_recovery_key(recovery_key)
        self._commands.look_again()

    def want(self, session: bytes, device: bytes) -> None:
        """Look for a session of a device, once on a connection: another own device may have added it meanwhile."""
        self._commands.look_again()
        if len(self._wanted) < WANTED_MAX:
            self._wanted.setdefault(session_place(session, device), False)

    def keys_came(self, sessions: Iterable[bytes]) -> None:
        """These sessions, or keys of them from earlier on, are here now."""
        self._commands.look_again()
        for session in sessions:
            self._pending.update(dict.fromkeys(self._state.keys(Table.INBOUND, session)))

    def due(self) -> list[Command]:
        """The command to send now, once."""
        return self._commands.due()

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command."""
        if not self._commands.end(command):
            return
        match command, reply:
            case ReadBackup(limit=1), BackupPage():
                self._restore(reply, command.generation)
            case ReadBackup(), BackupPage():
                self._read(reply, command.generation)
            case PutBackup(), Failed():
                self._give_back()
                self._refused = not reply.temporary
                if self._refused:
                    self._notices.append(BackupRefused(reply.message))
            case PutBackup(), _:
                if self._adding.pop(IDENTITY_KEY, None) is not None:
                    self._note(command.generation, IDENTITY_KEY)
                self._machine.note_backed_up(command.generation, self._adding)
                self._adding = {}
            case _:
                pass

    def disconnected(self) -> None:
        """What was not answered is sent again."""
        self._commands.disconnected()
        self._refused = False
        self._wanted.clear()
        self._give_back()

    def take_notices(self) -> list[BackupNotice]:
        """What the person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _next(self) -> Command | None:
        pin = self._people.pin_of(self._people.principal)
        if pin is not None and self._recovery_key is not None:
            return ReadBackup(0, pin.newest.generation)
        keys = self._people.backup_keys
        if keys is None:
            return None
        if not self._people.is_listed(self._machine.device, self._machine.public):
            return None  # what is written from then on is for this device, too
        identity, key = keys
        if self._state.read(Table.BACKED_UP, _mark(identity.generation)) is None:
            return ReadBackup(0, identity.generation, self._after)
        return self._question(identity) or (None if self._refused else self._addition(identity, key))

    def _question(self, identity: OwnIdentity) -> ReadBackup | None:
        """About one session that is wanted."""
        place = next((place for place, asked in self._wanted.items() if not asked), None)
        if place is None:
            return None
        self._wanted[place] = True
        below = int.from_bytes(place, "big") - 1
        return ReadBackup(0, identity.generation, below.to_bytes(BACKUP_KEY_BYTES, "big"), limit=1)

    def _addition(self, identity: OwnIdentity, recovery_key: bytes) -> PutBackup | None:
        if self._looked_through != identity.generation:
            self._looked_through = identity.generation
            self._pending = dict.fromkeys([IDENTITY_KEY, *self._state.keys(Table.INBOUND, b"")])
        values: list[BackupValue] = []
        while self._pending and len(values) < BACKUP_VALUES_PER_COMMAND_MAX:
            row = next(iter(self._pending))
            del self._pending[row]
            if row == IDENTITY_KEY:
                if self._state.read(Table.BACKED_UP, _mark(identity.generation, row)) is None:
                    values.append(BackupValue(IDENTITY_KEY, _IDENTITY_VERSION, seal_identity(recovery_key, identity)))
                    self._adding[row] = 0
                continue
            session = self._machine.back_up(row[:SESSION_ID_BYTES], row[SESSION_ID_BYTES:], identity.generation)
            if session is not None:
                sealed = seal_session(recovery_key, identity, session)
                values.append(
                    BackupValue(session_place(session.session, session.device), N_MAX - session.first_index, sealed)
                )
                self._adding[row] = session.first_index
        return PutBackup(0, identity.generation, values) if values else None

    def _give_back(self) -> None:
        """What was being added is to be added again."""
        self._pending.update(dict.fromkeys(self._adding))
        self._adding = {}

    def _note(self, generation: int, row: bytes = b"") -> None:
        """The backup was read, or has the identity."""
        step = Step(self._state)
        step.write(Table.BACKED_UP, _mark(generation, row), b"")
        step.commit()

    def _read(self, page: BackupPage, generation: int) -> None:
        if self._recovery_key is not None:
            self._open_identity(page, self._recovery_key, generation)
            self._recovery_key = None
            return
        sessions, refused = self._restore(page, generation)
        self._counts = self._counts[0] + sessions, self._counts[1] + refused
        if page.more and page.values:
            self._after = page.values[-1].key
            return
        self._note(generation)
        self._wanted.clear()
        if self._counts != (0, 0):
            self._notices.append(BackupRestored(*self._counts))
        self._after, self._counts = None, (0, 0)

    def _restore(self, page: BackupPage, generation: int) -> tuple[int, int]:
        """Keep the sessions of a page; how many that were, and how many were refused."""
        keys = self._people.backup_keys
        if keys is None or keys[0].generation != generation:
            return 0, 0
        identity, key = keys
        sessions: list[BackedUpSession] = []
        refused = 0
        for value in page.values:
            if value.key != IDENTITY_KEY and not value.key.startswith(TRUST_PREFIX):
                try:
                    sessions.append(open_session(key, identity, value.key, value.value))
                except RecoveryError:
                    refused += 1
        refused += len(self._machine.restore(sessions))
        self._machine.note_backed_up(generation, {one.session + one.device: one.first_index for one in sessions})
        self._restored([one.session for one in sessions])
        return len(sessions), refused

    def _open_identity(self, page: BackupPage, recovery_key: bytes, generation: int) -> None:
        sealed = next((value.value for value in page.values if value.key == IDENTITY_KEY), b"")
        try:
            identity = open_identity(recovery_key, self._people.principal, generation, sealed)
        except RecoveryError as error:
            self._notices.append(NotRecovered(error.reason))
            return
        if not self._recovered(identity, recovery_key):
            self._notices.append(NotRecovered(RecoveryReason.NOT_OURS))


def _mark(generation: int, row: bytes = b"") -> bytes:
    return generation.to_bytes(8, "big") + row
