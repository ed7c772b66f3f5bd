"""Who may read a sealed dialog: the devices that its members have now, by their logs, and to which keys can be sent.

Invariants:

- Only members of a roster that is believed as a whole have devices here, and only devices in a log that is pinned.
- What the server says (it has no keys of a device, nobody is there) can only make the list shorter.
- What is missing is asked for in the background: until the answer, nothing is sealed.
- When the server contradicts itself TRIES_MAX times, a person is told, and it is asked again after the next event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from protocol.bodies import DevicesChanged, LogHead, TimelineEvent
from protocol.command_rules import Command
from protocol.commands import Accept, Add, Create, Invite, Numbered, Promote
from protocol.errors import ErrorCode
from protocol.events import DialogState
from protocol.ids import created_dialog_id, self_dialog_id
from protocol.key_commands import ClaimKeys, ReadDevices, ReadRosterAt
from protocol.replies import Failed, Reply, SlicesUploaded
from protocol.roster import RosterMember
from protocol.share_commands import UploadSlices
from tchat.crypto.errors import RosterRefusedError
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.megolm import Removals
from tchat.crypto.olm import KnownDevice
from tchat.crypto.people import People
from tchat.crypto.pins import HeldError, Hold
from tchat.crypto.sealed_roster import SealedRoster
from tchat.crypto.state import CryptoState
from tchat.encryption.channels import Channels
from tchat.encryption.device_logs import DeviceLogs
from tchat.encryption.device_sealer import Readers
from tchat.encryption.notices import VIEWS_DIFFER, NotReadBy, ReaderNotice, Standing
from tchat.encryption.rosters import Rosters
from tchat.encryption.sealing import Clear, NotYet, Outcome, Ready
from tchat.encryption.signing import Invitations, Signing, is_sealed_group
from tchat.encryption.tracks import KeptRoster, Track

TRIES_MAX = 3
KEPT_MS = 600_000
"""Channels are looked at again after so long: one may have broken."""
_SAID_SEALED = (
    "The server says that this dialog is not encrypted any more. Nothing is sent: it was encrypted before. Tell its"
    " members in another way, and create another dialog."
)
_IF_IT_STAYS = " If that stays so after a restart, tell whoever runs the server, and reach the members in another way."
_KEPT_BACK = (
    "The server keeps back the newest devices of a member of this dialog. Nothing is sent until it shows them."
    + _IF_IT_STAYS
)
_CONTRADICTS = (
    "The server refuses what you write: it says that others read here than it shows. Nothing is sent." + _IF_IT_STAYS
)
_NOT_SHOWN = "The server does not show who is in this dialog. Nothing is sent." + _IF_IT_STAYS
_NO_MEMBER = "You are no member of this dialog any more."
_HELD = {
    Hold.REFUSED: "The server shows a wrong list of the devices of a member. Nothing is sent until it is right. If it"
    " was restored from a backup, that member opens tchat on another device of theirs, or starts a new identity.",
    Hold.IDENTITY_CHANGED: "A member whom you verified has another identity now. It may be somebody else: verify them"
    " again, or agree to the new identity. Nothing is sent until then.",
}


@dataclass(slots=True)
class _Found:
    """Readers that were found, and of what: of this roster, and as of this change of the logs."""

    readers: Readers
    roster: SealedRoster
    changes: int
    at_ms: int

    def holds(self, roster: SealedRoster, changes: int, now_ms: int) -> bool:
        """Whether nothing can have changed since."""
        same = self.roster is roster and self.changes == changes
        return same and self.at_ms <= now_ms < self.at_ms + KEPT_MS


class ReaderEngine:
    """A `ReaderSource` of one device. `due` has the commands of the background; `now_ms` is the time since 1970."""

    def __init__(self, state: CryptoState, machine: CryptoMachine, people: People, now_ms: Callable[[], int]) -> None:
        self._machine = machine
        self._people = people
        self._now_ms = now_ms
        self.logs = DeviceLogs(state, people, now_ms)
        self.rosters = Rosters(state, people, self.logs, now_ms)
        self.channels = Channels(machine, self.logs, now_ms)
        self._signing = Signing(machine)
        self._invitations = Invitations(state, machine.principal)
        self._found: dict[bytes, _Found] = {}
        self._tries: dict[bytes, tuple[int, int]] = {}
        """By dialog: a `keys_seq`, and how often the server has refused what was made for it."""
        self._gone: set[bytes] = set()
        self._unread_by: dict[bytes, frozenset[bytes]] = {}
        self._notices: list[NotReadBy] = []

    def readers_of(self, dialog: bytes) -> Readers | Clear | NotYet | Failed:
        """The devices that may read, once something can be written to each of them."""
        roster = self._roster_of(dialog)
        if not isinstance(roster, SealedRoster):
            return roster
        found, now_ms = self._found.get(dialog), self._now_ms()
        if found is not None and found.holds(roster, self.logs.changes, now_ms):
            return found.readers
        try:
            members, view = roster.readers, roster.view
        except RosterRefusedError as error:
            return NotYet(error.reason.sentence)
        devices = self._devices_of(dialog, members)
        if isinstance(devices, NotYet):
            return devices
        if self.channels.want(dialog, devices):
            return NotYet()
        readers = Readers(roster.keys_seq, view, devices, {person: self._removals_of(person) for person in members})
        self._found[dialog] = _Found(readers, roster, self.logs.changes, now_ms)
        self._tell_of(dialog, members.keys() - {known.principal for known in devices})
        return readers

    def _tell_of(self, dialog: bytes, unread_by: AbstractSet[bytes]) -> None:
        """Who is a member and has no device that reads: what is written now is lost for them."""
        if new := unread_by - self._unread_by.get(dialog, frozenset()):
            self._notices.append(NotReadBy(dialog, tuple(sorted(new))))
        self._unread_by[dialog] = frozenset(unread_by)

    def sign(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        """Sign a creation, an addition, a promotion or an invitation; bring the invitation with which one joins."""
        match intent:
            case Create() if is_sealed_group(intent):
                me = self._machine.principal
                found = self._devices_at(self_dialog_id(me), me, self._pinned_head(me))
                if isinstance(found, NotYet):
                    return found
                signed = self._signing.creation(intent, row)
                self.rosters.seal_from_the_start(created_dialog_id(self._machine.device, intent.n))
                return Ready(signed)
            case Add(members=[member]) if member == self._machine.principal:
                return Clear()  # what anybody may join is not sealed
            case Add() | Promote() | Invite():
                return self._sign_change(intent, row)
            case Accept(dialog=dialog) if (invitation := self._invitations.to(dialog)) is not None:
                return Ready(self._signing.joining(intent, invitation, row))
            case _:
                return Clear()

    def _sign_change(self, intent: Add | Promote | Invite, row: Callable[[Numbered], bytes]) -> Outcome:
        roster = self._roster_of(intent.dialog)
        if not isinstance(roster, SealedRoster):
            return roster
        if roster.refusal is not None:
            return NotYet(roster.refusal.reason.sentence)
        me = self._machine.principal
        found = self._devices_at(intent.dialog, me, roster.members[me].log)
        return found if isinstance(found, NotYet) else Ready(self._signing.change(intent, roster, row))

    def _roster_of(self, dialog: bytes) -> SealedRoster | Clear | NotYet | Failed:
        """The roster as of now, if this device may go by it."""
        track = self.rosters.track(dialog)
        self.rosters.ask_if_member(dialog)
        kept = track.kept
        if dialog in self._gone or (kept is not None and self._is_left(kept.roster, track)):
            return Failed(0, ErrorCode.DIALOG_NOT_FOUND, _NO_MEMBER)
        if kept is None:
            return Clear() if track.open else NotYet()
        self.rosters.want(dialog)
        reason = self._why_withheld(dialog, kept, track)
        behind = self.rosters.is_behind(dialog) or self.logs.awaits(dialog)
        return NotYet(reason) if reason or behind or kept.roster.type is None or not track.stated else kept.roster

    def _is_left(self, roster: SealedRoster, track: Track) -> bool:
        """Whether this person is no member any more."""
        believed = roster.type is not None and roster.refusal is None and not track.behind
        return not track.member or (believed and self._machine.principal not in roster.members)

    def _why_withheld(self, dialog: bytes, kept: KeptRoster, track: Track) -> str:
        """What a person has to know before anything is sent; empty if nothing."""
        if track.open:
            return _SAID_SEALED
        if kept.disputed is not None:
            return VIEWS_DIFFER
        if track.refused:
            return _NOT_SHOWN
        keys_seq = kept.roster.keys_seq
        kept_back = track.ahead > keys_seq and not self.rosters.is_behind(dialog)
        return _CONTRADICTS if kept_back or self._tries.get(dialog) == (keys_seq, TRIES_MAX) else ""

    def has_channel(self, dialog: bytes, known: KnownDevice) -> bool:
        """Whether something can be written to this device; if not, a key of it is claimed in this dialog."""
        return not self.channels.want(dialog, [known])

    def due(self) -> list[Command]:
        """The commands to send now, each once; `answered` gets their answers."""
        found = (self.logs.due(), self.channels.due(), *self.rosters.due())
        return [command for command in found if command is not None]

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command of `due`, or to an upload of slices."""
        match command:
            case ReadDevices():
                self.logs.answered(command, reply)
                self._not_found(command.dialog, reply)
                self.rosters.logs_changed()
            case ClaimKeys():
                self.channels.answered(reply)
                self._found.clear()
            case ReadRosterAt():
                self.rosters.answered(command, reply)
                self._not_found(command.dialog, reply)
            case UploadSlices():
                self._uploaded(command, reply)
            case _:
                pass

    def stale(self, dialog: bytes, made_at: int, failed: Failed) -> None:
        """The server says that others read now: it has to show them, or is not believed."""
        if not self.rosters.is_ahead(dialog, failed.keys_seq or 0) and made_at == failed.keys_seq:
            self._refused(dialog)

    def heard(self, event: TimelineEvent | DialogState) -> None:
        """An event of the server, in order."""
        self.rosters.heard(event)
        if isinstance(event, DialogState):
            self._invitations.stated(event)
        else:
            self._invitations.heard(event)
            if isinstance(event.body, DevicesChanged) and self.logs.keyless(event.body.principal):
                self.logs.need(event.dialog, event.body.principal)  # keys of these devices may have come back
        if isinstance(event, DialogState) or event.device == self._machine.device or self.rosters.brings_me(event):
            self._tries.pop(event.dialog, None)
            self._gone.discard(event.dialog)

    def caught_up(self) -> None:
        """The server has told the state of all dialogs of this person."""
        self.rosters.caught_up()

    def reset(self) -> None:
        """All that is known of dialogs comes again."""
        self.rosters.reset()
        self._gone.clear()

    def disconnected(self) -> None:
        """What was asked is asked again on the next connection."""
        self.logs.disconnected()
        self.rosters.disconnected()
        self.channels.disconnected()
        self._tries.clear()

    def take_notices(self) -> list[ReaderNotice]:
        """What a person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return [*self.logs.take_notices(), *self.rosters.take_notices(), *taken]

    def _removals_of(self, person: bytes) -> Removals:
        pin = self._people.pin_of(person)
        return (0, 0) if pin is None else (pin.log.generation, sum(one.until is not None for one in pin.log.listed))

    def _devices_of(self, dialog: bytes, members: Mapping[bytes, RosterMember]) -> list[KnownDevice] | NotYet:
        """The devices of these members that may get keys; the logs that it takes to know them are asked for."""
        devices: list[KnownDevice] = []
        waits: NotYet | None = None
        for principal, member in members.items():
            found = self._devices_at(dialog, principal, member.log)
            if isinstance(found, NotYet):
                waits = waits or found
            else:
                keyless = self.logs.keyless(principal)
                devices += [known for known in found if known.device not in keyless]
        return NotYet() if self.logs.awaits(dialog) else waits or devices

    def _devices_at(self, dialog: bytes, principal: bytes, head: LogHead) -> list[KnownDevice] | NotYet:
        """The devices of a member whose log is the one that the roster names: all members are to see the same."""
        try:
            found = self._people.devices_of(principal)
        except HeldError as error:
            nobody = error.hold is Hold.UNKNOWN and head == LogHead()
            reason = "" if nobody else _HELD.get(error.hold, _KEPT_BACK)
        else:
            pinned = self._pinned_head(principal)
            if head == pinned:
                return found if self._lists_this_device(principal, found) else NotYet(Standing.UNVERIFIED.sentence)
            if (head.generation, head.length) < (pinned.generation, pinned.length):
                return NotYet()  # that the log has grown is still to be said in the dialog
            reason = _KEPT_BACK
        if not self.logs.was_answered(dialog, principal):
            self.logs.need(dialog, principal)
            return NotYet()
        return NotYet(reason) if reason else []

    def _pinned_head(self, principal: bytes) -> LogHead:
        pin = self._people.pin_of(principal)
        return LogHead() if pin is None else LogHead(pin.log.generation, pin.log.length, pin.log.head)

    def _lists_this_device(self, principal: bytes, found: Iterable[KnownDevice]) -> bool:
        """Whether others will believe this device; it says nothing about logs of others."""
        me = self._machine
        return principal != me.principal or any(known.device == me.device for known in found)

    def _uploaded(self, command: UploadSlices, reply: Reply) -> None:
        if isinstance(reply, SlicesUploaded) and reply.complete:
            self._tries.pop(command.dialog, None)
        elif isinstance(reply, SlicesUploaded) and not command.more:
            self._refused(command.dialog)
            self._read_all_logs(command.dialog)
        elif isinstance(reply, Failed) and reply.code == ErrorCode.STALE:
            self.stale(command.dialog, command.keys_seq, reply)
        elif isinstance(reply, Failed) and reply.code == ErrorCode.INVALID_ARGUMENT:
            self._refused(command.dialog)
            self._read_all_logs(command.dialog)
        self._not_found(command.dialog, reply)

    def _not_found(self, dialog: bytes, reply: Reply) -> None:
        if isinstance(reply, Failed) and reply.code == ErrorCode.DIALOG_NOT_FOUND:
            self._gone.add(dialog)

    def _refused(self, dialog: bytes) -> None:
        kept = self.rosters.track(dialog).kept
        keys_seq = 0 if kept is None else kept.roster.keys_seq
        before, tries = self._tries.get(dialog, (keys_seq, 0))
        self._tries[dialog] = (keys_seq, min(tries + 1, TRIES_MAX) if before == keys_seq else 1)

    def _read_all_logs(self, dialog: bytes) -> None:
        """Others read than this device knows: somebody's log, or who of them has keys, is another one."""
        kept = self.rosters.track(dialog).kept
        for principal in () if kept is None else kept.roster.members:
            self.logs.need(dialog, principal)
