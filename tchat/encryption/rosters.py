"""Who is in each dialog, as this device believes it: kept in its state, folded from what the server says, in order.

Invariants:

- A dialog that was sealed once is sealed for good, whatever the server says later.
- An event changes a roster after all events of the roster before it. One that needs device logs waits for them, and
  what comes after it in its dialog waits, too.
- When the server has lost events (it was restored), the dialog is folded anew: who was removed stays removed.
- What waits is bounded; what does not fit is read from the server again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.codec import MSGPACK
from protocol.dialog_types import Mode
from protocol.events import DialogState
from tchat.crypto.errors import LogsNeededError
from tchat.crypto.olm import KnownDevice
from tchat.crypto.people import People
from tchat.crypto.sealed_roster import SealedRoster
from tchat.crypto.signed_changes import RosterChange, fold_roster
from tchat.crypto.state import CryptoState, Step, Table
from tchat.encryption.device_logs import DeviceLogs
from tchat.encryption.notices import ChangeNotBelieved, ReaderNotice, ViewsDiffer

WAITING_MAX = 200
"""Events of one dialog that wait for device logs, or for events before them."""
_OF_ROSTERS = (
    b.DialogCreated,
    b.MembersAdded,
    b.MemberRemoved,
    b.MemberLeft,
    b.Promoted,
    b.Demoted,
    b.DevicesChanged,
)


class KeptRoster(msgspec.Struct, frozen=True):
    """What the state keeps of a sealed dialog."""

    roster: SealedRoster
    last: bytes = b""
    """The hash of the last event that was folded: the server is asked for it again, to notice that it lost events."""
    disputed: bytes | None = None
    """A member who sees other members or devices, until a person agrees: nothing is sent."""


@dataclass(slots=True)
class Track:
    """What is known of a dialog in this process. `kept` is None while it is not known to be sealed.

    `stated`: its state was heard. `have`: its events up to here were heard. `behind`: events of the roster are missing.
    `ahead`: the server has named this `keys_seq`.
    """

    kept: KeptRoster | None
    stated: bool = False
    open: bool = False
    member: bool = True
    have: int = 0
    behind: bool = False
    ahead: int = 0
    waiting: list[TimelineEvent] = field(default_factory=list)
    asked_logs: tuple[int, int] | None = None
    """For which event, and as of which change of the logs, device logs were asked for."""


class Rosters:
    """The rosters of a device. `heard` gets each event of the server in order, before the app."""

    def __init__(self, state: CryptoState, people: People, logs: DeviceLogs) -> None:
        self._state = state
        self._people = people
        self._logs = logs
        self._tracks: dict[bytes, Track] = {}
        self._notices: list[ReaderNotice] = []

    def track(self, dialog: bytes) -> Track:
        """What is known of a dialog."""
        track = self._tracks.get(dialog)
        if track is None:
            data = self._state.read(Table.ROSTERS, dialog)
            kept = None if data is None else msgspec.msgpack.decode(data, type=KeptRoster)
            track = self._tracks[dialog] = Track(kept)
        return track

    def heard(self, event: TimelineEvent | DialogState) -> None:
        """An event of the server, in order."""
        track = self.track(event.dialog)
        if isinstance(event, DialogState):
            self._stated(track, event)
        else:
            self._happened(track, event)

    def reset(self) -> None:
        """All that is known of dialogs comes again."""
        self._tracks.clear()

    def disconnected(self) -> None:
        """What was asked is asked again."""
        for track in self._tracks.values():
            track.asked_logs = None

    def want(self, dialog: bytes) -> None:
        """What is missing of this dialog is needed now."""

    def is_ahead(self, dialog: bytes, keys_seq: int) -> bool:
        """The server names this `keys_seq`: whether events up to there have to come first."""
        track = self.track(dialog)
        track.ahead = max(track.ahead, keys_seq)
        return track.kept is not None and keys_seq > track.kept.roster.keys_seq

    def logs_changed(self) -> None:
        """DeviceLogs were read: fold what waited for them."""
        for dialog, track in self._tracks.items():
            if track.waiting and not track.behind:
                self._advance(dialog, track)

    def is_sealed(self, dialog: bytes) -> bool:
        """Whether this dialog is sealed, or was once."""
        return self.track(dialog).kept is not None

    def view_at(self, dialog: bytes, keys_seq: int) -> bytes | None:
        """The hash of who could read at this `keys_seq`; None if it is not known, or not yet (`is_behind`)."""
        track = self.track(dialog)
        return None if track.kept is None else track.kept.roster.views.get(keys_seq)

    def is_behind(self, dialog: bytes) -> bool:
        """Whether something of this dialog still has to be read: what is not known now may be known later."""
        track = self.track(dialog)
        return track.behind or bool(track.waiting)

    def writer(self, event: TimelineEvent) -> KnownDevice | None:
        """The device that wrote an event, if it was in its person's log then; None if it was not, or not yet."""
        kept, pin = self.track(event.dialog).kept, self._people.pin_of(event.author)
        if kept is None or pin is None:
            return None
        member = kept.roster.members.get(event.author)
        if member is not None and event.seq > kept.roster.seq:
            return self._people.writer_at(event.author, event.device, member.log.generation, member.log.length)
        for log in (pin.log, pin.before):
            for listed in () if log is None else log.listed:
                if listed.device == event.device:
                    return KnownDevice(event.author, event.device, listed.keys)
        return None

    def dispute(self, event: TimelineEvent) -> None:
        """The author of this event sees other members or devices: nothing is sent until a person agrees."""
        track = self.track(event.dialog)
        if track.kept is not None and track.kept.disputed is None:
            self._keep(event.dialog, track, msgspec.structs.replace(track.kept, disputed=event.author))
            self._notices.append(ViewsDiffer(event.dialog, event.author))

    def agree(self, dialog: bytes) -> None:
        """A person has compared who is in the dialog with the others, and goes on."""
        track = self.track(dialog)
        if track.kept is not None and track.kept.disputed is not None:
            self._keep(dialog, track, msgspec.structs.replace(track.kept, disputed=None))

    def seal_from_the_start(self, dialog: bytes) -> None:
        """This device creates a sealed dialog: the server cannot say that it is open."""
        track = self.track(dialog)
        if track.kept is None:
            self._keep(dialog, track, KeptRoster(SealedRoster(dialog)))

    def take_notices(self) -> list[ReaderNotice]:
        """What a person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _stated(self, track: Track, state: DialogState) -> None:
        track.stated, track.member = True, state.member
        self._has_mode(track, state.dialog, state.mode)
        if track.kept is None:
            return
        if state.seq < track.kept.roster.seq:
            self._start_again(state.dialog, track)
        if state.first_seq > track.have + 1:
            track.behind = True
            track.have = state.first_seq - 1

    def _happened(self, track: Track, event: TimelineEvent) -> None:
        if isinstance(event.body, b.DialogCreated):
            track.stated = True
            self._has_mode(track, event.dialog, event.body.mode)
        if event.seq > track.have + 1 and not track.stated:
            track.behind = True
        track.have = max(track.have, event.seq)
        if track.kept is None or not isinstance(event.body, _OF_ROSTERS):
            return
        if event.seq == track.kept.roster.seq and _hash_of(event) != track.kept.last:
            self._start_again(event.dialog, track)
        self._wait(track, [event])
        if not track.behind:
            self._advance(event.dialog, track)

    def _has_mode(self, track: Track, dialog: bytes, mode: Mode) -> None:
        track.open = mode is Mode.OPEN
        if mode is Mode.SEALED:
            self.seal_from_the_start(dialog)

    def _start_again(self, dialog: bytes, track: Track) -> None:
        """The server has lost events that were folded."""
        assert track.kept is not None, "only what is sealed is folded"
        roster = track.kept.roster.after_restore()
        self._keep(dialog, track, msgspec.structs.replace(track.kept, roster=roster, last=b""))
        track.waiting.clear()
        track.behind = track.have > 1

    def _wait(self, track: Track, events: Iterable[TimelineEvent]) -> None:
        by_seq = {event.seq: event for event in (*track.waiting, *events)}
        if len(by_seq) > WAITING_MAX:
            by_seq, track.behind = {}, True
        track.waiting = [by_seq[seq] for seq in sorted(by_seq)]

    def _advance(self, dialog: bytes, track: Track) -> None:
        """Fold what waits, in order, as far as the logs are known."""
        assert track.kept is not None, "only what is sealed is folded"
        roster, last = track.kept.roster, track.kept.last
        while track.waiting:
            event = track.waiting[0]
            change = self._fold(dialog, track, roster, event)
            if change is None:
                break
            del track.waiting[0]
            if change.roster.seq == event.seq:
                last = _hash_of(event)
            roster = change.roster
            self._notices += [
                ChangeNotBelieved(dialog, refusal.seq, refusal.reason, refusal.about) for refusal in change.refusals
            ]
        self._keep(dialog, track, msgspec.structs.replace(track.kept, roster=roster, last=last))

    def _fold(self, dialog: bytes, track: Track, roster: SealedRoster, event: TimelineEvent) -> RosterChange | None:
        """The roster after an event; None if it waits for logs, which are asked for."""
        try:
            return fold_roster(roster, event, self._people.pin_of)
        except LogsNeededError as error:
            if self._logs.awaits(dialog):
                return None
            if track.asked_logs != (asked := (event.seq, self._logs.changes)):
                track.asked_logs = asked
                for principal in error.principals:
                    self._logs.need(dialog, principal)
                return None
            return fold_roster(roster, event, self._people.pin_of, unknown=error.principals)

    def _keep(self, dialog: bytes, track: Track, kept: KeptRoster) -> None:
        if kept != track.kept:
            track.kept = kept
            step = Step(self._state)
            step.write(Table.ROSTERS, dialog, msgspec.msgpack.encode(kept))
            step.commit()


def _hash_of(event: TimelineEvent) -> bytes:
    return hashlib.sha256(MSGPACK.encode(event)).digest()
