"""A room: one dialog's roster, and those of its members who are here.

A member gets only events with `seq >= from_seq` of their membership: a roster may be newer than the event. The members
of a large room who are here are listed. A room keeps the registry's own lists of their subscribers, so it learns of
other devices by itself, and keeps no subscriber that has ended. Whoever comes is looked up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw, decode_body, tag_of
from protocol.dialog_types import DialogType
from protocol.events import KeySlice, KeySlices
from server.delivery.prepared_message import PreparedEvents
from server.delivery.registry import Registry
from server.delivery.subscriber import Subscriber
from storage.rows import DialogRoster

_UNLISTED_MAX = 8
"""The members of so small a room are looked up for each event: that costs no more than to see whether a list is old."""
_GONE_MAX = 64
_LARGE = 50
"""Members of a room from which on its writes gather (`flush_turn.py`)."""
_BRINGS_IN = frozenset(tag_of(body) for body in (b.DialogCreated, b.MembersAdded))


class Room:
    """One dialog's roster and its local subscribers."""

    __slots__ = (
        "_arrivals",
        "_departures",
        "_from_max",
        "_present",
        "busy",
        "known_seq",
        "loading",
        "members",
        "missed",
        "needed_seq",
        "roster_seq",
        "told",
        "type",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self) -> None:
        self.roster_seq = -1
        self.known_seq = 0
        """The roster is that of the dialog after this event."""
        self.needed_seq = 0
        self.type = DialogType.SELF
        self.members: dict[bytes, int] = {}
        self.busy = False
        """Something is read, for which what comes waits."""
        self.loading = False
        """That is the roster."""
        self.waiting: list[TimelineEventRaw] = []  # few, so no deque: an empty one would take 700 bytes in every room
        self.waiting_bytes = 0
        self.missed = 0
        self.told: dict[bytes, int] = {}
        """Whose removal, by number, came while events waited: they read these themselves."""
        self._from_max = 0
        self._present: dict[bytes, list[Subscriber]] = {}  # as of these numbers of the registry
        self._arrivals = self._departures = -1

    @property
    def waiting_from(self) -> int | None:
        """The first event that waits."""
        return self.waiting[0].seq if self.waiting else self.missed or None

    @property
    def is_old(self) -> bool:
        """Whether something waits for a newer roster than this."""
        return self.roster_seq < max(self.needed_seq, 0)

    def take_roster(self, roster: DialogRoster) -> None:
        """Take a roster that was read."""
        self.roster_seq = self.known_seq = roster.roster_seq
        self.type = roster.type
        self.members = roster.members
        self._from_max = max(roster.members.values(), default=0)
        self._arrivals = -1

    def try_change(self, event: TimelineEventRaw, registry: Registry) -> bool:
        """Apply an event that changes the roster; False if the room does not know the roster before it."""
        if self.busy or self.known_seq != event.seq - 1:
            return False
        match decode_body(event.body):
            case b.DialogCreated(type=kind, members=members):
                self.type = kind
                self.members = {each.principal: event.seq for each in members}
                self._arrivals = -1
            case b.MembersAdded(members=principals):
                self.members.update(dict.fromkeys(principals, event.seq))
                self._present.update((who, here) for who in principals if (here := registry.subscribers_of(who)))
            case b.MemberRemoved(member=principal):
                self.members.pop(principal, None)
                self._present.pop(principal, None)
            case b.MemberLeft():
                self.members.pop(event.author, None)
                self._present.pop(event.author, None)
            case _:
                return False
        self.roster_seq = self._from_max = event.seq
        return True

    def find_subscribers(self, registry: Registry) -> Iterable[Subscriber]:
        """The subscribers of the members that are here.

        Costs as much as came to this node since the last time, and not more than a look at every member.
        """
        if len(self.members) <= _UNLISTED_MAX:
            return registry.find_few(self.members)
        if self._arrivals != registry.arrivals:
            self._find_arrived(registry)
        return chain.from_iterable(self._present.values())

    def _find_arrived(self, registry: Registry) -> None:
        gone = registry.departures - self._departures
        few = registry.arrivals - self._arrivals <= len(self.members) and gone <= len(self._present) + _GONE_MAX
        arrived = registry.find_arrived(self._arrivals) if few else None
        if arrived is None:
            self._present = dict(registry.find_present(self.members))
            self._departures = registry.departures
        else:
            self._present.update((who, registry.subscribers_of(who)) for who in arrived if who in self.members)
        self._arrivals = registry.arrivals

    def deliver(
        self, registry: Registry, event: TimelineEventRaw, keys: Mapping[bytes, list[KeySlice]] | None = None
    ) -> None:
        """Append to the outboxes of the members that are here; `keys` are those that the event brings, by device."""
        prepared = self._prepare((event,))
        self.known_seq = max(self.known_seq, event.seq)
        bring_in(registry, event)
        if keys is not None:
            self._deliver_with_keys(registry, event, prepared, keys)
        elif event.seq >= self._from_max:
            self._push(registry, prepared)
        else:
            for subscriber in self.find_subscribers(registry):
                if event.seq >= self.members[subscriber.principal]:
                    subscriber.outbox.push_events(prepared)

    def try_deliver_all(self, registry: Registry, events: Sequence[TimelineEventRaw]) -> bool:
        """Append events that bring no keys and no members, at once; False if some members may not get all of them."""
        if events[0].seq < max(self._from_max, self.roster_seq):
            return False
        self.known_seq = max(self.known_seq, events[-1].seq)
        self._push(registry, self._prepare(events))
        return True

    def _prepare(self, events: Sequence[TimelineEventRaw]) -> PreparedEvents:
        return PreparedEvents(events, gathers=len(self.members) >= _LARGE)

    def _push(self, registry: Registry, prepared: PreparedEvents) -> None:
        for subscriber in self.find_subscribers(registry):
            subscriber.outbox.push_events(prepared)

    def _deliver_with_keys(
        self,
        registry: Registry,
        event: TimelineEventRaw,
        prepared: PreparedEvents,
        keys: Mapping[bytes, list[KeySlice]],
    ) -> None:
        for subscriber in self.find_subscribers(registry):
            slices, outbox = keys.get(subscriber.device), subscriber.outbox
            if event.seq < self.members[subscriber.principal]:
                continue
            if slices is None or (slices and not outbox.live):
                outbox.read_from(event.dialog, event.seq)
                continue
            if slices:
                outbox.push(KeySlices(slices))
            outbox.push_events(prepared)


def bring_in(registry: Registry, event: TimelineEventRaw) -> None:
    """Have those whom an event makes members read the dialog's state, and its events from this one on."""
    if memoryview(event.body)[1] not in _BRINGS_IN:  # a body is an array that begins with its tag
        return
    match decode_body(event.body):
        case b.DialogCreated(members=members):
            joined = [each.principal for each in members]
        case b.MembersAdded(members=principals):
            joined = principals
    for who in joined:
        for subscriber in registry.subscribers_of(who):
            subscriber.outbox.read_from(event.dialog, event.seq)
