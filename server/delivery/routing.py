"""From what became durable to the subscribers here whom it concerns: the one place that decides who gets an event.

On a node that serves alone this module sees every flush, after its commit, in order. Where several nodes write, it sees
each event by itself, its own and those of others, in the order that the `Resequencer` gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol import bodies as b
from protocol.bodies import Body, TimelineEventRaw, decode_body, tag_of
from server.delivery.presence import Presence
from server.delivery.rooms import Rooms
from server.writing.durable import DurableEvents

_MOVES_PEOPLE = frozenset(
    tag_of(body) for body in (b.DialogCreated, b.MembersAdded, b.MemberRemoved, b.MemberLeft, b.Blocked)
)
"""Tags of what changes who gets events. A body is an array that begins with its tag: its second byte."""


class Router:
    """Delivers to members through rooms; to those who leave, directly."""

    def __init__(self, rooms: Rooms, presence: Presence) -> None:
        self._rooms = rooms
        self._presence = presence
        self.on_growth: Callable[[bytes, int, Sequence[bytes]], None] = lambda _dialog, _seq, _added: None
        """Called when an event that several nodes deliver has added these members, after its delivery here."""

    def route(self, durable: Sequence[DurableEvents]) -> None:
        """Fan out what a flush made durable."""
        for item in durable:
            if item.change is None:
                self._rooms.deliver_events(item.events, item.roster_seq, may_bring_keys=item.may_bring_keys)
                continue
            self._route_change(item.change.body, item.events[0])
            for event in item.events:
                self._rooms.deliver_event(event, item.roster_seq)

    def deliver(self, event: TimelineEventRaw, roster_seq: int) -> None:
        """Fan out one event, whichever node wrote it; `roster_seq` is that of its dialog after it or later."""
        if memoryview(event.body)[1] not in _MOVES_PEOPLE:
            self._rooms.deliver_events((event,), roster_seq)
            return
        change = decode_body(event.body)
        self._route_change(change, event)
        self._rooms.deliver_event(event, roster_seq)
        match change:
            case b.DialogCreated(members=members):
                self.on_growth(event.dialog, event.seq, [each.principal for each in members])
            case b.MembersAdded(members=members):
                self.on_growth(event.dialog, event.seq, members)
            case _:
                pass

    def _route_change(self, change: Body, event: TimelineEventRaw) -> None:
        match change:
            case b.MemberRemoved(member=member):
                self._rooms.deliver_last(event, member)
            case b.MemberLeft():
                self._rooms.deliver_last(event, event.author)
            case b.Blocked(principal=principal):
                self._presence.separate(event.author, principal)
            case _:
                pass
