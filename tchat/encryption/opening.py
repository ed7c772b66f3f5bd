"""What arrives is opened: the app gets what its author wrote, or is told that it cannot be read or is not believed.

Invariants:

- In a dialog that was sealed once, nothing that members write is shown unless it was opened, by a device that its
  author had then, and is what the server says it is.
- What cannot be opened yet is tried again when keys, logs or members come; WAITING_MAX events are kept for that.
  Others are opened when they are read again.
- A message names the last one that its device knew to be stored. If the one before it here is older, one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from protocol.bodies import MembersAdded, Posted, TimelineEvent
from protocol.events import DialogState
from tchat.crypto.envelope import Opened, Received
from tchat.crypto.errors import OpenError, Reason
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.olm import KnownDevice
from tchat.crypto.state import CryptoState, Step, Table
from tchat.encryption.contents import Content, content_of, place_of, shown, with_payload
from tchat.encryption.notices import MessagesMissing, NowReadable, Unreadable

WAITING_MAX = 1000
"""Events that wait for keys, device logs or members; the oldest give way."""


class Members(Protocol):
    """Who was in a dialog, as this device believes it: `Rosters`."""

    def is_sealed(self, dialog: bytes) -> bool:
        """Whether this dialog is sealed, or was once."""

    def awaits(self, event: TimelineEvent) -> bool:
        """Whether what is not known of the members at this event may be known later."""

    def want(self, dialog: bytes) -> None:
        """What is missing of this dialog is needed now."""

    def view_at(self, dialog: bytes, keys_seq: int) -> bytes | None:
        """The hash of who could read at this `keys_seq`; None if it is not known."""

    def keys_seq_at(self, event: TimelineEvent) -> int | None:
        """What a sealed event at this place names, as far as the members are known; None if it is too old."""

    def writer(self, event: TimelineEvent) -> KnownDevice | None:
        """The device that wrote an event, if its author was a member with it then."""

    def dispute(self, event: TimelineEvent) -> None:
        """The author of this event sees other members or devices."""


class Opening:
    """The events of all dialogs, as they come and as they are read again."""

    def __init__(self, state: CryptoState, machine: CryptoMachine, members: Members) -> None:
        self._state = state
        self._machine = machine
        self._members = members
        self.lacking: Callable[[bytes, bytes], None] = lambda _session, _device: None
        """Called with a session that opens an event and is not here, or not from early enough on, and its device."""
        self._waiting: dict[tuple[bytes, int], tuple[TimelineEvent, Reason]] = {}
        self._newest: dict[bytes, int] = {}
        """By dialog: the last event that was heard."""
        self._numbers: dict[bytes, dict[bytes, int]] = {}
        """By dialog and device: the number of its last event, while no event since is missing here."""
        self._notices: list[Unreadable | NowReadable | MessagesMissing] = []
        self._history = int.from_bytes(state.read(Table.HISTORY, b"") or b"", "big")

    def heard(self, state: DialogState) -> None:
        """The state of a dialog: how far it goes, and where its events begin."""
        newest = self._newest.get(state.dialog, 0)
        if state.seq < newest:
            self._begin_history()
            self._newest[state.dialog] = state.seq
        if state.first_seq > newest + 1 or state.seq < newest:
            self._numbers.pop(state.dialog, None)

    def reset(self) -> None:
        """All events come again."""
        self._numbers.clear()
        self._waiting.clear()

    def open(self, event: TimelineEvent) -> TimelineEvent | Unreadable:
        """What the app gets of the next event of a dialog."""
        numbers = self._numbers.setdefault(event.dialog, {})
        if isinstance(event.body, MembersAdded) and self._machine.principal in event.body.members:
            numbers.clear()  # what happened while this member was away is not visible
        before = numbers.get(event.device)
        outcome = self._open(event)
        if event.n:
            numbers[event.device] = event.n
        self._newest[event.dialog] = max(self._newest.get(event.dialog, 0), event.seq)
        if isinstance(outcome, Opened) and before is not None and outcome.last_acked_n > before:
            self._notices.append(MessagesMissing(event.dialog, event.author, event.device, event.seq))
        return self._shown(event, outcome)

    def open_all(self, events: Sequence[TimelineEvent]) -> list[TimelineEvent]:
        """What the app gets of events that it reads again; a notice names what is not readable."""
        outcomes = [self._shown(event, self._open(event)) for event in events]
        self._notices += (outcome for outcome in outcomes if isinstance(outcome, Unreadable))
        return shown(outcomes)

    def try_again(self, sessions: Iterable[bytes] | None = None) -> None:
        """Keys of these sessions have come; None: members or device logs are known better."""
        keys = None if sessions is None else set(sessions)
        for place, (event, reason) in list(self._waiting.items()):
            body = content_of(event)
            if keys is not None and (body is None or body.header.session not in keys):
                continue
            if keys is None and reason not in (Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_MEMBERS):
                continue
            del self._waiting[place]
            outcome = self._shown(event, self._open(event))
            if not isinstance(outcome, Unreadable):
                self._notices.append(NowReadable(outcome))
            elif outcome.reason is not reason:
                self._notices.append(outcome)

    def take_notices(self) -> list[Unreadable | NowReadable | MessagesMissing]:
        """What the app is to be told, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _open(self, event: TimelineEvent) -> Opened | OpenError | None:
        """None for what nobody seals: changes, what services post, and all in open dialogs."""
        body = content_of(event)
        if body is None or not self._members.is_sealed(event.dialog):
            return None
        try:
            return self._open_sealed(event, body)
        except OpenError as error:
            return error

    def _open_sealed(self, event: TimelineEvent, body: Content) -> Opened:
        header = body.header
        if header.session is None or header.commitment is None or header.content_type:
            raise OpenError(Reason.UNSEALED)
        if isinstance(body, Posted) and (body.acting_for, body.requester) != (None, None):
            raise OpenError(Reason.UNSEALED)
        view = self._members.view_at(event.dialog, header.keys_seq)
        known = self._members.writer(event) is not None
        if not (known and view) and self._members.awaits(event):
            self._members.want(event.dialog)
            raise OpenError(Reason.UNKNOWN_MEMBERS)
        if not known:
            raise OpenError(Reason.UNKNOWN_DEVICE)
        if self._members.keys_seq_at(event) not in (None, header.keys_seq):
            raise OpenError(Reason.WRONG_KEYS_SEQ)
        place = place_of(event, body)
        (outcome,) = self._machine.open(
            [Received(place, event.seq, body.payload, header.session, header.commitment, view, self._history)]
        )
        if isinstance(outcome, OpenError):
            raise outcome
        return outcome

    def _shown(self, event: TimelineEvent, outcome: Opened | OpenError | None) -> TimelineEvent | Unreadable:
        if outcome is None:
            return event
        if isinstance(outcome, OpenError):
            if outcome.reason in (Reason.WRONG_VIEW, Reason.WRONG_KEYS_SEQ):
                self._members.dispute(event)
            if outcome.reason.may_pass:
                self._wait(event, outcome.reason)
            return Unreadable(event, outcome.reason)
        body = content_of(event)
        assert body is not None, "only content is opened"
        self._waiting.pop((event.dialog, event.seq), None)
        return with_payload(event, body, outcome.content)

    def _wait(self, event: TimelineEvent, reason: Reason) -> None:
        self._waiting[event.dialog, event.seq] = event, reason
        body = content_of(event)
        if reason in (Reason.UNKNOWN_SESSION, Reason.BEFORE_KEYS) and body is not None and body.header.session:
            self.lacking(body.header.session, event.device)
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]

    def _begin_history(self) -> None:
        """The server has lost events: the same messages may come under other numbers, once."""
        self._history += 1
        step = Step(self._state)
        step.write(Table.HISTORY, b"", self._history.to_bytes(4, "big"))
        step.commit()
