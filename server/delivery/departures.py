"""Members who were removed between an event and the roster under which it was delivered: they read it themselves.

A roster may be newer than an event. Who was removed between the two is not in it, and yet may see the event. When that
happens it is noted here, and all who were removed in between are looked up once and told to read the dialog from the
event on; their removal, durable by then, is the last that they read. Invariants:

* `wait_settled` returns once they have been told, so no position passes what they have not got.
* When the removal itself comes, whoever was told gets nothing more of it.
* Notes outlive the room, until the events up to the roster have come.

Bounds: notes of `_ROSTERS_MAX` rosters for each dialog, and removals among `_EVENTS_MAX` events; beyond that every
session here reads the dialog. `dialogs_max` dialogs are known: notes stay where the events up to the roster never come,
because nobody here is a member any more, so the oldest are forgotten first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw, decode_body
from protocol.ids import to_text
from server.clock import Sleep
from server.delivery.prepared_message import PreparedEvents
from server.delivery.registry import Registry
from storage.timelines import Timelines
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_ROSTERS_MAX = 16
_EVENTS_MAX = 10_000
_RETRY_S = 0.5


class _Note:
    """A roster, and the `first` event that was delivered under it before its time.

    `told`: up to which event those who were removed have been told to read.
    """

    __slots__ = ("first", "roster_seq", "told")

    def __init__(self, roster_seq: int, first: int, told: dict[bytes, int]) -> None:
        self.roster_seq = roster_seq
        self.first = first
        self.told = told

    def first_for(self, principal: bytes) -> int:
        """From where a principal reads who was removed."""
        return max(self.first, self.told.get(principal, 0) + 1)


class Departures:
    """What was delivered without those who have left. `leave` has every session read a dialog from a number on."""

    def __init__(
        self,
        timelines: Timelines,
        registry: Registry,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        leave: Callable[[bytes, int], None],
        *,
        dialogs_max: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.settling: set[asyncio.Future[None]] = set()
        """Lookups that have not ended."""
        self._timelines = timelines
        self._registry = registry
        self._spawn = spawn
        self._leave = leave
        self._dialogs_max = dialogs_max
        self._sleep = sleep
        self.notes: dict[bytes, list[_Note]] = {}
        """By dialog. While there are none, an event that is not older than its roster needs no `delivered`."""

    def delivered(self, event: TimelineEventRaw, roster_seq: int, told: dict[bytes, int]) -> None:
        """Note that an event was delivered under a roster.

        `told` read it themselves, up to their removal, which came while the event waited.
        """
        if event.seq >= roster_seq:
            self.notes.pop(event.dialog, None)
            return
        notes = [note for note in self.notes.get(event.dialog, ()) if note.roster_seq > event.seq]
        if event.dialog not in self.notes and len(self.notes) >= self._dialogs_max:
            del self.notes[next(iter(self.notes))]
        self.notes[event.dialog] = notes
        before = notes[-1].roster_seq if notes else event.seq
        if before >= roster_seq and notes:
            return
        if roster_seq - event.seq > _EVENTS_MAX or len(notes) >= _ROSTERS_MAX:
            first = min([event.seq, *(note.first for note in self.notes.pop(event.dialog))])
            self._leave(event.dialog, first)
            return
        notes.append(_Note(roster_seq, event.seq, told | _removed_by(event)))
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.settling.add(settled)
        self._spawn(self._tell(event.dialog, before, notes[-1], settled))

    def deliver_last(self, event: TimelineEventRaw, principal: bytes, waiting_from: int | None) -> None:
        """Deliver a member's own removal, the last event that they see, and all before it that they did not get.

        `waiting_from`: the first event that waits for a roster; it may be one without them.
        """
        firsts = [] if waiting_from is None else [waiting_from]
        note = next((each for each in self.notes.get(event.dialog, ()) if each.roster_seq >= event.seq), None)
        if note is not None:
            if note.told.get(principal, 0) >= event.seq:
                return
            firsts.append(note.first_for(principal))
            note.told[principal] = event.seq
        prepared = PreparedEvents([event])
        for subscriber in self._registry.subscribers_of(principal):
            if firsts:
                subscriber.outbox.read_from(event.dialog, min(firsts))
            else:
                subscriber.outbox.push_events(prepared)

    def forget_all(self) -> None:
        """Forget everything: in a new epoch it may never have happened."""
        self.notes.clear()

    async def _tell(self, dialog: bytes, after: int, note: _Note, settled: asyncio.Future[None]) -> None:
        try:
            removed = await self._find_removed(dialog, after, note.roster_seq)
            for principal, seq in removed.items():
                if note.told.get(principal, 0) < seq:
                    for subscriber in self._registry.subscribers_of(principal):
                        subscriber.outbox.read_from(dialog, note.first_for(principal))
                    note.told[principal] = seq
        except Exception:  # noqa: BLE001 - positions must not wait for this without end
            _log.exception("who was removed cannot be read", extra={"dialog": to_text(dialog)})
            self._leave(dialog, note.first)
        finally:
            self.settling.discard(settled)
            settled.set_result(None)

    async def _find_removed(self, dialog: bytes, after: int, until: int) -> dict[bytes, int]:
        while True:
            try:
                return await self._timelines.find_removed(dialog, after, until)
            except StorageUnavailableError as error:
                _log.warning("who was removed cannot be read, trying again: %s", error)
            await self._sleep(_RETRY_S)


def _removed_by(event: TimelineEventRaw) -> dict[bytes, int]:
    match decode_body(event.body):
        case b.MemberRemoved(member=who):
            return {who: event.seq}
        case b.MemberLeft():
            return {event.author: event.seq}
        case _:
            return {}
