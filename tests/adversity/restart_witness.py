"""What one life of a client received, and what is wrong with it whatever the timeline says.

A witness stands at two places: behind the codec, where it sees every message of the server connection by connection,
and behind the client, where it sees what an app would. It keeps what can only be judged against the timeline.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol.bodies import MemberLeft, MemberRemoved, MembersAdded, Posted, TimelineEvent
from protocol.codec import Codec, ServerMessage
from protocol.commands import AnyCommand
from protocol.events import CaughtUp, DialogState, KeySlices, MissedChanges, ReceiptChanged, TypingChanged
from protocol.replies import Acked, Authenticated, HistoryPage, RosterPage, Synced
from tchat.actions import Notification, Refused, Renumbered, Reset, Sent
from tests.support.sharing import KeyRing

RECENT_MAX = 40
"""Messages per dialog that a device remembers to edit, react to and delete."""


@dataclass(frozen=True)
class Hole:
    """A dialog's events went on at `then` after `before`; right only if nothing between may be seen.

    In a `resume` also if one joined in between: then all is read anew. What is `unnamed` is right of who has left: a
    sync without a position names no dialog that one has left, and this node may deliver the last events of it later.
    """

    principal: bytes
    dialog: bytes
    before: int
    then: int
    where: str


class WitnessedCodec:
    """A codec that shows its witness every message of the server before the client gets it."""

    def __init__(self, codec: Codec, heard: Callable[[ServerMessage], None]) -> None:
        self.subprotocol = codec.subprotocol
        self.text = codec.text
        self._codec = codec
        self._heard = heard

    def encode(self, message: msgspec.Struct) -> bytes:
        return self._codec.encode(message)

    def decode_command(self, data: bytes) -> AnyCommand:
        return self._codec.decode_command(data)

    def decode_server(self, data: bytes) -> ServerMessage | None:
        message = self._codec.decode_server(data)
        if message is not None:
            self._heard(message)
        return message


@dataclass
class Ledger:
    """A device's numbered commands over all its lives: what was asked for, and what became of it."""

    asked: dict[int, msgspec.Struct] = field(default_factory=dict)
    acked: dict[int, Acked] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    renumbered: dict[int, int] = field(default_factory=dict)
    """By new number the one before."""
    acked_again: int = 0
    _replies: dict[int, list[Acked]] = field(default_factory=lambda: defaultdict(list))
    """By number its acks, each once: a right server gives one."""

    @property
    def unsettled(self) -> int:
        """Commands without a definite answer."""
        return len(self.asked) - len(self.acked) - len(self.refused)

    @property
    def unequal_acks(self) -> list[tuple[Acked, Acked]]:
        """The first ack of a number with each other one that it got."""
        return [(replies[0], other) for replies in self._replies.values() for other in replies[1:]]

    def take(self, event: Sent | Refused | Renumbered) -> None:
        """What the client learned of a command."""
        match event:
            case Sent(n=n, acked=acked):
                self._note(acked)
                self.acked[n] = acked
            case Refused(n=n, failed=failed):
                self.refused[n] = failed.code
            case Renumbered(old=old, n=n):
                self.asked[n] = self.asked.pop(old)
                self.renumbered[n] = old

    def replied(self, acked: Acked) -> None:
        """An ack as the server said it."""
        self.acked_again += acked.n in self.acked
        self._note(acked)

    def forget(self, is_lost: Callable[[Acked], bool]) -> None:
        """Forget the acks whose rows are lost. A number that got another one is held to that."""
        for n, replies in self._replies.items():
            replies[:] = [acked for acked in replies if not is_lost(acked)]
            if n in self.acked and is_lost(self.acked[n]):
                del self.acked[n]
                self.acked.update((n, acked) for acked in replies[:1])

    def _note(self, acked: Acked) -> None:
        plain = msgspec.structs.replace(acked, id=0)
        if plain not in self._replies[acked.n]:
            self._replies[acked.n].append(plain)


@dataclass
class Received:
    """What awaits its comparison with the timeline."""

    events: list[TimelineEvent] = field(default_factory=list)
    changes: list[TimelineEvent] = field(default_factory=list)
    """What was done to messages, as it comes with a page or after a return: not in the order of the timeline."""
    holes: list[Hole] = field(default_factory=list)
    after_removal: list[TimelineEvent] = field(default_factory=list)
    dialogs: set[bytes] = field(default_factory=set)
    twice: int = 0
    after_end: int = 0
    without_keys: list[TimelineEvent] = field(default_factory=list)
    """Sealed events that came before their keys."""
    listed: int = 0
    """The length of the device log that listed this device first; 0: it has no keys."""


class Witness:
    """See the module."""

    def __init__(
        self,
        principal: bytes,
        ledger: Ledger,
        on_settled: Callable[[Sent | Refused], None],
        keys: KeyRing | None = None,
    ) -> None:
        self.received = Received()
        self.reached: dict[bytes, int] = {}
        self.recent: dict[bytes, deque[TimelineEvent]] = {}
        self.counts: Counter[str] = Counter()
        self.jumps: Counter[bytes] = Counter()
        """How often the server passed over a part of a dialog that this client did not hold."""
        self.ended = False
        self.ending = False
        """Its sign-in may end at any moment: from that one on nobody hands it keys."""
        self.connects = 0
        self._principal = principal
        self._keys = keys
        self._ledger = ledger
        self._on_settled = on_settled
        self._on_the_wire: dict[bytes, int] = {}
        self._as_of: dict[bytes, tuple[int, bool]] = {}
        self._gone_at: dict[bytes, int] = {}
        self._resuming = self._named_anew = False
        """How this connection began: from a position, or without one, so that each dialog is named again."""

    def take_received(self) -> Received:
        """What was gathered since the last call."""
        received, self.received = self.received, Received()
        return received

    # at the wire

    def heard(self, message: ServerMessage) -> None:
        """One message of the server, as it came."""
        self.received.after_end += self.ended
        self._look_for_keys(message)
        match message:
            case Authenticated():
                self.connects += 1
                self._on_the_wire = dict(self.reached)
            case Synced(recovered=recovered):
                self._begun(recovered)
            case CaughtUp():
                self._resuming = False
            case DialogState():
                self._state(message)
            case TimelineEvent():
                self._happened(message)
            case HistoryPage(events=events, later=later):
                self.received.events += events
                self.received.changes += later
            case MissedChanges(events=changes):
                self.received.changes += changes
            case Acked():
                self._ledger.replied(message)
            case ReceiptChanged() | TypingChanged() | RosterPage():
                self.received.dialogs.add(message.dialog)
            case _:
                pass

    def _look_for_keys(self, message: ServerMessage) -> None:
        """Take the keys that came; whatever else came, its keys must be here."""
        if self._keys is None:
            return
        events: Sequence[TimelineEvent] = ()
        match message:
            case KeySlices():
                self._keys.take(message)
            case TimelineEvent():
                events = [message]
            case HistoryPage():
                events = [*message.events, *message.later]
            case MissedChanges():
                events = message.events
            case _:
                pass
        if not self.ending:
            self.received.without_keys += (event for event in events if not self._keys.opens(event))

    def _begun(self, recovered: bool) -> None:
        self._resuming, self._named_anew = recovered, not recovered
        if self._named_anew:  # the client forgets all that it has, removals too
            self._on_the_wire = {}
            self._gone_at.clear()
            self._as_of.clear()

    def _state(self, state: DialogState) -> None:
        dialog = state.dialog
        self.received.dialogs.add(dialog)
        before = self._on_the_wire.get(dialog)
        if self._resuming and state.member and before is not None and state.first_seq > before + 1:
            self.received.holes.append(Hole(self._principal, dialog, before, state.first_seq, "resume"))
        self._on_the_wire[dialog] = max(before or 0, state.first_seq - 1)
        self._as_of[dialog] = (state.seq, state.member)
        if not state.member:
            self._gone_at[dialog] = state.seq
        elif self._gone_at.get(dialog, 0) <= state.seq:
            self._gone_at.pop(dialog, None)

    def _happened(self, event: TimelineEvent) -> None:
        dialog, seq = event.dialog, event.seq
        self.received.events.append(event)
        before = self._on_the_wire.get(dialog)
        if before is None and self._own_end(event):
            return  # a client that begins with nothing may receive the last event of a dialog that it does not know
        if seq > (before or 0) + 1:
            where = "unnamed" if before is None and self._named_anew else "wire"
            self.received.holes.append(Hole(self._principal, dialog, before or 0, seq, where))
        self._on_the_wire[dialog] = max(before or 0, seq)
        self._came_or_went(event)

    def _own_end(self, event: TimelineEvent) -> bool:
        """Whether by this event one is no member any more."""
        removed = isinstance(event.body, MemberRemoved) and event.body.member == self._principal
        return removed or (isinstance(event.body, MemberLeft) and event.author == self._principal)

    def _came_or_went(self, event: TimelineEvent) -> None:
        """Nothing of a dialog may come after one's own removal, until an event makes one a member again."""
        dialog, body, me = event.dialog, event.body, self._principal
        if isinstance(body, MembersAdded) and me in body.members:
            self._gone_at.pop(dialog, None)
        elif dialog in self._gone_at and event.seq > self._gone_at[dialog]:
            self.received.after_removal.append(event)
        if self._own_end(event):
            as_of, member = self._as_of.get(dialog, (0, True))
            if event.seq > as_of or (event.seq == as_of and not member):
                self._gone_at[dialog] = event.seq

    # behind the client

    def noticed(self, event: Notification) -> None:
        """One event, as an app gets it."""
        self.counts[type(event).__name__] += 1
        match event:
            case TimelineEvent(dialog=dialog, seq=seq):
                before = self.reached.get(dialog, seq - 1)
                self.received.twice += seq <= before
                if seq > before + 1:
                    self.received.holes.append(Hole(self._principal, dialog, before, seq, "app"))
                self.reached[dialog] = max(before, seq)
                if isinstance(event.body, Posted):
                    self.recent.setdefault(dialog, deque(maxlen=RECENT_MAX)).append(event)
            case DialogState(dialog=dialog, first_seq=first_seq):
                self.jumps[dialog] += first_seq > self.reached.get(dialog, 0) + 1
                self.reached[dialog] = max(self.reached.get(dialog, 0), first_seq - 1)
            case MissedChanges(dialog=dialog, complete=False):
                self.jumps[dialog] += 1  # the client has dropped what is older
            case Reset():
                self.reached.clear()
                self.recent.clear()
            case Sent() | Refused():
                self._ledger.take(event)
                self._on_settled(event)
            case Renumbered():
                self._ledger.take(event)
            case _:
                pass
