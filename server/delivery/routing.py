"""From what became durable to whom it concerns. The one place that says who is told of an event.

With one node that is: the sessions here. The routing between nodes belongs at this seam: it sees every
flush, after its commit, in order, with the `roster_seq` under which it was judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.delivery.prepared_message import PreparedMessage
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.delivery.rows_to_wire import timeline_event
from server.writing.pipeline import Appended
from storage.rows import ChangeEntry, JournalRow, Op


class Router:
    """Tells members through rooms; those who just came or went, directly."""

    def __init__(self, registry: Registry, rooms: Rooms, presence: Presence) -> None:
        self._registry = registry
        self._rooms = rooms
        self._presence = presence

    def route(self, appended: Sequence[Appended]) -> None:
        """Fan out what a flush made durable."""
        for item in appended:
            if item.change is not None:
                self._tell_those_who_came_or_went(item.change, item.rows[0])
            for row in item.rows:
                self._rooms.content(item.dialog, row.seq, PreparedMessage(timeline_event(row)), item.roster_seq)

    def _tell_those_who_came_or_went(self, change: ChangeEntry, row: JournalRow) -> None:
        match change.op:
            case Op.CREATE | Op.ADD:
                # They read the dialog's state, and its events from here on, from the timeline.
                for principal in change.subjects:
                    for session in self._registry.of(principal):
                        session.miss(change.dialog, row.seq)
            case Op.BLOCK:
                self._presence.part(change.author, change.subjects[0])
            case Op.REMOVE | Op.LEAVE:
                # They are not in the roster any more; their own removal is the last that they see.
                prepared = PreparedMessage(timeline_event(row))
                undelivered_from = self._rooms.undelivered_from(change.dialog, row.seq)
                for principal in change.subjects or (change.author,):
                    for session in self._registry.of(principal):
                        if undelivered_from is None:
                            session.outbox.content(change.dialog, row.seq, prepared)
                        else:
                            session.miss(change.dialog, undelivered_from)
