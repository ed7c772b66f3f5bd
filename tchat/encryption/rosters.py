"""Who is in each dialog, as this device believes it: kept in its state, folded from what the server says, in order.

Invariants:

- A dialog that was sealed once is sealed for good, whatever the server says later.
- An event changes a roster after all events of the roster before it. One that needs device logs waits for them, and
  what comes after it in its dialog waits, too.
- Events that this device has not heard are read, when somebody needs the dialog. The first that is read is the last one
  that was folded: if it is another one, the server has lost events (it was restored), and the dialog is folded anew;
  who was removed stays removed.
- A newcomer, who sees nothing older, believes what an admin has signed; a person who returns believes only an admin who
  was there before.
- After a catch-up, this person may have left a dialog of which the server has said nothing: it is asked when that
  dialog is needed.
- What waits is bounded; what does not fit is read from the server again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.dialog_types import Mode
from protocol.events import DialogState
from protocol.key_commands import ReadRosterAt
from protocol.replies import Failed, Reply, RosterSnapshot
from protocol.roster import RosterMember
from tchat.crypto.errors import LogsNeededError, RosterReason
from tchat.crypto.olm import KnownDevice
from tchat.crypto.people import People
from tchat.crypto.sealed_roster import RosterRefusal, SealedRoster, snapshot_of
from tchat.crypto.signed_changes import RosterChange, fold_roster, join_roster
from tchat.crypto.state import CryptoState, Step, Table
from tchat.encryption.device_logs import DeviceLogs, waits_since
from tchat.encryption.notices import ChangeNotBelieved, ReaderNotice, ViewsDiffer
from tchat.encryption.tracks import Joining, KeptRoster, Track

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


class Rosters:
    """The rosters of a device. `heard` gets each event of the server in order, before the app."""

    def __init__(self, state: CryptoState, people: People, logs: DeviceLogs, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._people = people
        self._me = people.principal
        self._logs = logs
        self._now_ms = now_ms
        self._refused_ms = 0
        self._told_all = False
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
        self._told_all = False

    def caught_up(self) -> None:
        """The server has told the state of all dialogs of this person."""
        self._told_all = True

    def disconnected(self) -> None:
        """What was asked is asked again."""
        self._refused_ms = 0
        for track in self._tracks.values():
            track.disconnected()

    def want(self, dialog: bytes) -> None:
        """What is missing of this dialog is needed now."""
        track = self.track(dialog)
        track.wanted = track.wanted or track.behind

    def ask_if_member(self, dialog: bytes) -> None:
        """Somebody needs a dialog of which no state came: they may be none of its members any more."""
        track = self.track(dialog)
        created_here = track.kept is not None and track.roster.type is None
        if self._told_all and not (track.stated or track.doubted or created_here):
            track.doubted = track.wanted = True
            track.fall_behind(track.have + 1)

    def is_ahead(self, dialog: bytes, keys_seq: int) -> bool:
        """The server names this `keys_seq`: whether events up to there have to come first."""
        track = self.track(dialog)
        track.ahead = max(track.ahead, keys_seq)
        ahead = track.kept is not None and keys_seq > track.roster.keys_seq
        if ahead and not track.behind:
            track.fall_behind(track.have + 1)
        return ahead

    def due(self) -> list[ReadRosterAt]:
        """The questions to ask now, each once."""
        if waits_since(self._refused_ms, self._now_ms()):
            return []
        asking = [(dialog, track) for dialog, track in self._tracks.items() if track.may_ask()]
        for _, track in asking:
            track.asked = True
        return [self._question(dialog, track) for dialog, track in asking]

    def answered(self, command: ReadRosterAt, reply: Reply) -> None:
        """The answer to a question."""
        track = self.track(command.dialog)
        if not track.asked:
            return  # all of the dialog has come again meanwhile
        track.asked = False
        if track.kept is None and not (isinstance(reply, Failed) and reply.temporary):
            track.behind = track.wanted = False  # if this person is a member, its state is on its way
        elif isinstance(reply, RosterSnapshot) and all(event.dialog == command.dialog for event in reply.events):
            if command.since is None:
                self._told_newcomer(command, reply, track)
            else:
                self._told_since(command.dialog, reply, track)
        elif isinstance(reply, Failed) and reply.temporary:
            self._refused_ms = self._now_ms()
        else:
            track.refused = True
            track.behind = track.behind and not track.doubted  # nothing more comes of what was left

    def logs_changed(self) -> None:
        """Logs were read: fold what waited for them."""
        for dialog, track in self._tracks.items():
            if track.joining is not None and track.joining.whole:
                self._join(dialog, track, track.joining)
            if track.waiting:
                self._advance(dialog, track)

    def is_sealed(self, dialog: bytes) -> bool:
        """Whether this dialog is sealed, or was once."""
        return self.track(dialog).kept is not None

    def view_at(self, dialog: bytes, keys_seq: int) -> bytes | None:
        """The hash of who could read at this `keys_seq`; None if it is not known, or not yet (`awaits`)."""
        track = self.track(dialog)
        view = None if track.kept is None else track.kept.roster.views.get(keys_seq)
        if view is None:
            self.want(dialog)
        return view

    def keys_seq_at(self, event: TimelineEvent) -> int | None:
        """What a sealed event at this place names, as far as the roster is known; None if that is not as far back."""
        track = self.track(event.dialog)
        views = {} if track.kept is None or track.has_to_hear(event) else track.roster.views
        return max((keys_seq for keys_seq in views if keys_seq < event.seq), default=None)

    def is_behind(self, dialog: bytes) -> bool:
        """Whether something of this dialog still has to be read."""
        track = self.track(dialog)
        return track.behind or bool(track.waiting)

    def awaits(self, event: TimelineEvent) -> bool:
        """Whether what is not known of the members at this event may be known later."""
        track = self.track(event.dialog)
        comes = track.stated or not self._told_all
        return self.is_behind(event.dialog) or (comes and track.has_to_hear(event))

    def writer(self, event: TimelineEvent) -> KnownDevice | None:
        """The device that wrote an event, if its person was a member with it then; None if not, or not yet."""
        kept, pin = self.track(event.dialog).kept, self._people.pin_of(event.author)
        if kept is None or pin is None:
            return None
        member = kept.roster.members.get(event.author)
        if event.seq > kept.roster.seq:
            if member is None:
                return None
            return self._people.writer_at(event.author, event.device, member.log.generation, member.log.length)
        for log in pin.logs:
            for listed in log.listed:
                if listed.device == event.device:
                    return KnownDevice(event.author, event.device, listed.keys)
        return None

    def brings_me(self, event: TimelineEvent) -> bool:
        """Whether the server says that this event makes a member of this person."""
        return isinstance(event.body, b.MembersAdded) and self._me in event.body.members

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
        if state.member:
            self._is_member(state.dialog, track)
        if track.kept is None:
            return
        if state.seq < track.roster.seq or (state.member and state.keys_seq < track.roster.keys_seq):
            self._start_again(state.dialog, track)
        if state.first_seq > max(track.have, track.roster.seq) + 1:
            track.fall_behind(state.first_seq)
        track.have = max(track.have, state.first_seq - 1)

    def _happened(self, track: Track, event: TimelineEvent) -> None:
        if isinstance(event.body, b.DialogCreated):
            track.stated = True
            self._has_mode(track, event.dialog, event.body.mode)
        if not track.stated and event.seq > track.have + 1:
            track.fall_behind(event.seq)
        track.have = max(track.have, event.seq)
        if self.brings_me(event):
            self._is_member(event.dialog, track)
        if track.kept is None:
            return
        if event.seq == track.roster.seq and not track.kept.ends_with(event):
            self._start_again(event.dialog, track)
            track.fall_behind(event.seq)
        if not isinstance(event.body, _OF_ROSTERS):
            return
        if not track.behind:
            track.waiting.append(event)
            self._advance(event.dialog, track)
            if len(track.waiting) > WAITING_MAX:
                track.waiting = []
                track.fall_behind(event.seq + 1)
        elif len(track.later) < WAITING_MAX:
            track.later.append(event)
        else:
            track.later, track.later_lost = [], True

    def _is_member(self, dialog: bytes, track: Track) -> None:
        """What the server did not show to who was no member, it shows now."""
        self._logs.reopen(dialog)
        track.member, track.refused, track.asked_logs = True, False, None

    def _has_mode(self, track: Track, dialog: bytes, mode: Mode) -> None:
        track.open = mode is Mode.OPEN
        if mode is Mode.SEALED:
            self.seal_from_the_start(dialog)

    def _start_again(self, dialog: bytes, track: Track) -> None:
        """The server has lost events that were folded."""
        assert track.kept is not None, "only what is sealed is folded"
        self._keep(dialog, track, track.kept.started_again())
        track.forget()

    def _question(self, dialog: bytes, track: Track) -> ReadRosterAt:
        if track.kept is None:
            return ReadRosterAt(0, dialog, since=0)
        roster = track.roster
        if self._is_newcomer(roster) and not track.founder:
            joining = track.joining
            after = None if joining is None else max(joining.snapshot.seq, *(event.seq for event in joining.events), 0)
            return ReadRosterAt(0, dialog, after)
        last = max(roster.seq, track.read_to)
        return ReadRosterAt(0, dialog, since=last + 1 if track.checked else last)

    def _is_newcomer(self, roster: SealedRoster) -> bool:
        """Whether this person sees nothing of what made them a member."""
        return roster.type is None or (roster.refusal is None and self._me not in roster.members)

    def _told_since(self, dialog: bytes, reply: RosterSnapshot, track: Track) -> None:
        """Events of the roster; the first one is the last that was folded."""
        assert track.kept is not None, "only what is sealed is asked for"
        events = reply.events
        if not track.checked and track.roster.seq and not track.kept.ends_with(events[0] if events else None):
            self._start_again(dialog, track)
            return
        track.checked = track.stated = True
        track.waiting = events
        if events and reply.more:
            track.read_to = events[-1].seq
        else:
            track.catch_up()
        self._advance(dialog, track)

    def _told_newcomer(self, command: ReadRosterAt, reply: RosterSnapshot, track: Track) -> None:
        joining = track.joining
        if command.after is None:
            if not reply.members:
                track.founder = track.roster.type is None
                track.refused = not track.founder
                return
            members = {each.principal: RosterMember(each.role, each.joined, each.log) for each in reply.members}
            joining = Joining(snapshot_of(command.dialog, reply.keys_seq, members), (), whole=False)
        if joining is not None:
            whole = not (reply.more and reply.events)
            track.joining = joining = Joining(joining.snapshot, (*joining.events, *reply.events), whole)
            if whole:
                self._join(command.dialog, track, joining)

    def _join(self, dialog: bytes, track: Track, joining: Joining) -> None:
        """Believe what an admin has signed of the members before this person; see `join_roster`."""
        assert track.kept is not None, "only what is sealed is joined"
        change = self._joined(dialog, track, joining)
        if change is None:
            return
        track.joining, track.checked = None, True
        before = track.kept
        roster = msgspec.structs.replace(change.roster, ended=before.roster.ended, creation=before.roster.creation)
        kept = msgspec.structs.replace(before, roster=roster)
        self._keep(dialog, track, kept.followed_by(roster, joining.events[-1]) if joining.events else kept)
        self._show(dialog, change)
        track.behind = roster.seq + 1 < track.heard_from
        if not track.behind:
            track.catch_up()
            self._advance(dialog, track)

    def _joined(self, dialog: bytes, track: Track, joining: Joining) -> RosterChange | None:
        """None while device logs are missing, which are asked for."""
        seq = joining.events[-1].seq if joining.events else joining.snapshot.seq
        if not self._is_brought_by_known(track, joining):
            refusal = RosterRefusal(seq, RosterReason.NOT_ENTITLED, self._me)
            return RosterChange(msgspec.structs.replace(joining.snapshot, seq=seq, refusal=refusal), (refusal,))
        return self._with_logs(
            dialog,
            track,
            seq,
            lambda unknown: join_roster(
                joining.snapshot, self._me, joining.events, self._people.pin_of, unknown=unknown
            ),
        )

    def _is_brought_by_known(self, track: Track, joining: Joining) -> bool:
        """Whether who brings this person back was there before: else the server could swap all others."""
        assert track.kept is not None, "only what is sealed is joined"
        known = list(track.roster.members) or track.kept.known
        body = joining.events[-1].body if joining.events else None
        if not known or not isinstance(body, b.MembersAdded):
            return True
        return (joining.events[-1].author if body.invitation is None else body.invitation.by) in known

    def _advance(self, dialog: bytes, track: Track) -> None:
        """Fold what waits, in order, as far as the logs are known."""
        kept = track.kept
        assert kept is not None, "only what is sealed is folded"
        while track.waiting:
            event = track.waiting[0]
            if self._brings_back(kept.roster, event):
                track.later, track.waiting = [*track.waiting, *track.later], []
                track.fall_behind(event.seq)
                track.refused = track.founder
                break
            change = self._fold(dialog, track, kept.roster, event)
            if change is None:
                break
            del track.waiting[0]
            kept = kept.followed_by(change.roster, event)
            self._show(dialog, change)
        self._keep(dialog, track, kept)

    def _brings_back(self, roster: SealedRoster, event: TimelineEvent) -> bool:
        """Whether an event makes a member of this person, who could not see what happened before."""
        return self.brings_me(event) and event.seq > roster.seq and self._is_newcomer(roster)

    def _fold(self, dialog: bytes, track: Track, roster: SealedRoster, event: TimelineEvent) -> RosterChange | None:
        """The roster after an event; None if it waits for logs, which are asked for."""
        return self._with_logs(
            dialog, track, event.seq, lambda unknown: fold_roster(roster, event, self._people.pin_of, unknown=unknown)
        )

    def _with_logs(
        self, dialog: bytes, track: Track, seq: int, fold: Callable[[Sequence[bytes]], RosterChange]
    ) -> RosterChange | None:
        """What becomes of a roster; None while device logs are missing, which are asked for.

        What the server does not give to a member who asks is missing for good.
        """
        try:
            return fold(())
        except LogsNeededError as error:
            if self._logs.awaits(dialog) or self._logs.is_closed(dialog):
                return None
            if track.asked_logs != (asked := (seq, self._logs.changes)):
                track.asked_logs = asked
                for principal, generation in error.generations.items():
                    self._logs.need(dialog, principal, generation)
                return None
            return fold(list(error.generations))

    def _show(self, dialog: bytes, change: RosterChange) -> None:
        self._notices += [
            ChangeNotBelieved(dialog, refusal.seq, refusal.reason, refusal.about) for refusal in change.refusals
        ]

    def _keep(self, dialog: bytes, track: Track, kept: KeptRoster) -> None:
        if kept != track.kept:
            track.kept = kept
            step = Step(self._state)
            step.write(Table.ROSTERS, dialog, msgspec.msgpack.encode(kept))
            step.commit()
