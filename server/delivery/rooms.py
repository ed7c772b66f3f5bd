"""Rooms: the members of a dialog who get its events, and delivery to them.

A room is a dialog's roster as of some `roster_seq`, kept while it is used. An event comes with the `roster_seq` of its
dialog after its flush. An event that changes the roster is applied to the room that has seen the event before it.
Otherwise, when the room is older, the roster is read again first, and the dialog's later events wait behind it, so
every member gets them in order.

An event that names a share waits, like those after it, until the slices of the share for the devices here have been
read; each of these gets its slice before the event. Who is not live, or came meanwhile, reads both from the store.

Nothing that waits is dropped: what cannot be read is read again. While the store is unavailable this has no end, and
holds the positions of the node (`wait_settled`). After `_FAULTS_MAX` other errors, or rosters that are older than the
event, every session here reads the dialog from the timeline instead.

Who joins reads the dialog from the timeline from then on. They are told to when their event comes, whatever becomes of
what waits, and again when it is delivered: else who has read it by then would get it once more, without a state. Who is
removed gets all before their removal: see `departures.py` for what was delivered under a roster without them.

Bounds: `rooms_max` rosters are kept, the least recently used is dropped. At most `_WAITING_MAX` events of a room and
`_WAITING_BYTES_MAX` of all wait; beyond that only the first number is remembered, and the members catch
up.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from protocol.bodies import TimelineEventRaw
from protocol.events import KeySlice
from protocol.ids import to_text
from server.clock import Sleep
from server.delivery.departures import Departures
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry
from server.delivery.room import Room, bring_in
from server.delivery.shared_keys import find_share, read_keys
from server.delivery.subscriber import Subscriber
from storage.rows import DialogRoster
from storage.shares import Shares
from storage.timelines import Timelines
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

Spawn = Callable[[Coroutine[Any, Any, None]], object]

_RETRY_FIRST_S = 0.2
_RETRY_MAX_S = 5.0
_FAULTS_MAX = 8
_WAITING_MAX = 1000
_WAITING_BYTES_MAX = 33_554_432


class _OldRosterError(Exception):
    """A roster was read that is older than an event, which needs it."""


class Rooms:
    """The rooms of this node. `spawn` runs the reading of a roster beside everything else."""

    def __init__(
        self,
        timelines: Timelines,
        shares: Shares,
        registry: Registry,
        spawn: Spawn,
        *,
        rooms_max: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._timelines = timelines
        self._shares = shares
        self._registry = registry
        self._spawn = spawn
        self._rooms_max = rooms_max
        self._sleep = sleep
        self._rooms: OrderedDict[bytes, Room] = OrderedDict()
        self._loads: set[asyncio.Future[None]] = set()
        self._waiting_bytes = 0
        self.is_nobody_here: Callable[[bytes, int], Awaitable[bool]] | None = None
        """Whether surely no member of a dialog is here, of which some event is the next; None: a roster says so."""
        self._departures = Departures(
            timelines, registry, spawn, self.leave_to_sessions, dialogs_max=rooms_max, sleep=sleep
        )

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def loading(self) -> int:
        """Rooms whose events wait for something that is being read."""
        return len(self._loads)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the events that wait."""
        return self._waiting_bytes

    def deliver_events(
        self, events: Sequence[TimelineEventRaw], roster_seq: int, *, may_bring_keys: bool = True
    ) -> None:
        """Push durable events of one dialog, in order, to the members that are here; none of them brings members in.

        `may_bring_keys` false: none of them names a share, so no body is decoded to see it.
        """
        room = self._room(events[0].dialog)
        if (
            not room.busy
            and room.roster_seq >= roster_seq
            and not self._departures.notes
            and not (may_bring_keys and any(map(find_share, events)))
            and room.try_deliver_all(self._registry, events)
        ):
            return
        for event in events:
            self.deliver_event(event, roster_seq)

    def deliver_event(self, event: TimelineEventRaw, roster_seq: int) -> None:
        """Push a durable event to the members that are here; `roster_seq` is that of its dialog after its flush."""
        room, registry = self._room(event.dialog), self._registry
        known = not room.busy and room.roster_seq >= roster_seq
        if (known and find_share(event) is None) or (event.seq == roster_seq and room.try_change(event, registry)):
            room.deliver(registry, event)
            if event.seq < room.roster_seq or self._departures.notes:
                self._departures.delivered(event, room.roster_seq, room.told)
            return
        bring_in(registry, event)  # now, too: whatever becomes of what waits
        size = len(event.body)
        if room.missed or len(room.waiting) >= _WAITING_MAX or self._waiting_bytes + size > _WAITING_BYTES_MAX:
            room.missed = room.missed or event.seq
        else:
            room.waiting.append(event)
            room.waiting_bytes += size
            self._waiting_bytes += size
        room.needed_seq = max(room.needed_seq, roster_seq)
        self._start(event.dialog, room)

    def deliver_ephemeral(self, dialog: bytes, prepared: PreparedMessage, *, but: bytes) -> None:
        """Push an ephemeral event to the members except the principal `but`, if the room is open."""
        room = self._rooms.get(dialog)
        if room is not None and not room.loading:
            for subscriber in self._others(room, but):
                subscriber.outbox.push_ephemeral(prepared)

    def deliver_receipt(self, room: Room, dialog: bytes, principal: bytes, prepared: PreparedMessage) -> None:
        """Push how far a member has received and read to the others in a room, which may be closed again already."""
        for subscriber in self._others(room, principal):
            subscriber.outbox.push_state((dialog, principal), prepared)

    def deliver_last(self, event: TimelineEventRaw, principal: bytes) -> None:
        """Deliver a member's own removal, and what they did not get before it; call it before `deliver_events`."""
        room = self._rooms.get(event.dialog)
        waiting_from = None if room is None else room.waiting_from
        if room is not None and waiting_from is not None:
            room.told[principal] = event.seq
        self._departures.deliver_last(event, principal, waiting_from)

    def find(self, dialog: bytes, roster_seq: int) -> Room | None:
        """The room of a dialog, if its roster is here and not older than `roster_seq`."""
        room = self._rooms.get(dialog)
        return room if room is not None and not room.loading and room.roster_seq >= roster_seq else None

    async def open(self, dialog: bytes, roster_seq: int = 0) -> Room:
        """The room of a dialog, its roster read if it is older than `roster_seq`; after errors it may still be older.

        A dialog that does not exist has no members.
        """
        room = self._room(dialog)
        if room.roster_seq < roster_seq:
            room.needed_seq = max(room.needed_seq, roster_seq)
            self._start(dialog, room)
        while room.loading or (room.busy and room.roster_seq < roster_seq):
            await self.wait_settled()
        return room

    async def wait_settled(self) -> None:
        """Return once everything that waits now has been delivered."""
        if self._loads:
            await asyncio.wait(set(self._loads))
        if self._departures.settling:
            await asyncio.wait(set(self._departures.settling))

    def leave_to_sessions(self, dialog: bytes, first: int) -> None:
        """Have every session read a dialog from the timeline, which knows who may, and forget its room."""
        for subscriber in self._registry:
            subscriber.outbox.read_from(dialog, first)
        room = self._rooms.get(dialog)
        if room is not None and not room.busy:
            del self._rooms[dialog]

    def knows_member(self, dialog: bytes, principal: bytes) -> bool:
        """Whether the principal is known to be a member; False says nothing."""
        room = self._rooms.get(dialog)
        return room is not None and principal in room.members

    def forget_rosters(self) -> None:
        """Forget every roster, and what waits: in the new epoch it may never have happened.

        Rosters that are being read now are of the new epoch.
        """
        self._departures.forget_all()
        for dialog, room in list(self._rooms.items()):
            if room.busy:
                self._forget_waiting(room)
                room.needed_seq, room.roster_seq = 0, -1
            else:
                del self._rooms[dialog]

    def _others(self, room: Room, principal: bytes) -> Iterator[Subscriber]:
        for subscriber in room.find_subscribers(self._registry):
            if subscriber.principal != principal:
                yield subscriber

    def _room(self, dialog: bytes) -> Room:
        room = self._rooms.get(dialog)
        if room is None:
            room = self._rooms[dialog] = Room()
            if len(self._rooms) > self._rooms_max:
                self._close_one(but=dialog)
        else:
            self._rooms.move_to_end(dialog)
        return room

    def _close_one(self, *, but: bytes) -> None:
        for dialog, room in self._rooms.items():
            if not room.busy and dialog != but:
                del self._rooms[dialog]
                return

    def _start(self, dialog: bytes, room: Room) -> None:
        """Read what a room lacks, and deliver what waits for it."""
        if room.busy:
            return
        room.busy, room.loading = True, room.is_old
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loads.add(done)
        self._spawn(self._read_and_deliver(dialog, room, done))

    async def _read_and_deliver(self, dialog: bytes, room: Room, done: asyncio.Future[None]) -> None:
        try:
            await self._deliver_waiting(dialog, room)
        except Exception:  # noqa: BLE001 - nothing may wait for this room without end
            _log.exception("what waited for a read could not be delivered", extra={"dialog": to_text(dialog)})
            self._leave_to_sessions(dialog, room)
        finally:
            room.busy = room.loading = False
            self._loads.discard(done)
            done.set_result(None)

    async def _deliver_waiting(self, dialog: bytes, room: Room) -> None:
        """Deliver what waits, in order, each event under a roster as new as what came meanwhile."""
        keys: dict[bytes, list[KeySlice]] = {}
        keys_of: tuple[bytes, bytes] | None = None
        while await self._renew_roster(dialog, room) and room.waiting:
            event = room.waiting[0]
            share = find_share(event)
            if share is not None and share != keys_of:
                found = await self._try(dialog, functools.partial(self._read_keys, room, event, share))
                if found is None:
                    self._leave_to_sessions(dialog, room)
                    return
                keys_of, keys = share, found
                continue  # the roster may be too old meanwhile
            room.deliver(self._registry, event, None if share is None else keys)
            if share is not None:
                keys = {device: [] for device in keys}  # the next event may name it again
            self._departures.delivered(event, room.roster_seq, room.told)
            del room.waiting[0]
            room.waiting_bytes -= len(event.body)
            self._waiting_bytes -= len(event.body)
        if room.missed:
            for subscriber in room.find_subscribers(self._registry):
                subscriber.outbox.read_from(dialog, max(room.missed, room.members[subscriber.principal]))
        self._forget_waiting(room)

    async def _renew_roster(self, dialog: bytes, room: Room) -> bool:
        """See that the roster is as new as all that waits; False when nothing is to be delivered here any more."""
        while room.is_old:
            room.loading = True
            roster = None
            if not await self._concerns_nobody(dialog, room):
                roster = await self._try(dialog, functools.partial(self._read_roster, dialog, room))
                if roster is None:
                    self._leave_to_sessions(dialog, room)
            if roster is None:
                self._forget(dialog, room)
                return False
            room.take_roster(roster)
        room.loading = False
        return True

    async def _concerns_nobody(self, dialog: bytes, room: Room) -> bool:
        """Whether what waits is for nobody here: then a roster of many thousands is not read."""
        if self.is_nobody_here is None or not room.waiting:
            return False
        return await self.is_nobody_here(dialog, room.waiting[0].seq)

    async def _read_roster(self, dialog: bytes, room: Room) -> DialogRoster:
        """A roster as new as the newest event that waits for it."""
        while True:
            needed_seq = room.needed_seq
            roster = await self._timelines.read_roster(dialog)
            if roster.roster_seq >= room.needed_seq:
                return roster
            if roster.roster_seq < needed_seq:  # a replica that lags, or it belongs to a history that was lost
                raise _OldRosterError(f"a roster is older than an event: {roster.roster_seq} than {needed_seq}")

    async def _read_keys(
        self, room: Room, event: TimelineEventRaw, share: tuple[bytes, bytes]
    ) -> dict[bytes, list[KeySlice]]:
        """What the event's share has for the devices that are here and get the event."""
        here = room.find_subscribers(self._registry)
        devices = [subscriber.device for subscriber in here if event.seq >= room.members[subscriber.principal]]
        return await read_keys(self._shares, share, devices)

    async def _try(self, dialog: bytes, read: Callable[[], Awaitable[_T]]) -> _T | None:
        """What a read returns, as often as the store is away; None after `_FAULTS_MAX` other errors."""
        backoff_s, faults, ids = _RETRY_FIRST_S, 0, {"dialog": to_text(dialog)}
        while True:
            try:
                return await read()
            except StorageUnavailableError as error:
                _log.warning("what a room lacks cannot be read, trying again: %s", error, extra=ids)
            except _OldRosterError as error:
                faults += 1
                _log.warning("%s (%d of %d)", error, faults, _FAULTS_MAX, extra=ids)
            except Exception:  # noqa: BLE001 - whatever it is, what waits must not be lost
                faults += 1
                first = faults == 1
                _log.error(
                    "what a room lacks cannot be read (%d of %d)", faults, _FAULTS_MAX, exc_info=first, extra=ids
                )
            if faults >= _FAULTS_MAX:
                return None
            await self._sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _RETRY_MAX_S)

    def _leave_to_sessions(self, dialog: bytes, room: Room) -> None:
        """Have every session read the dialog from the timeline, which knows who may, and forget the room."""
        first = room.waiting_from
        if first is not None:
            for subscriber in self._registry:
                subscriber.outbox.read_from(dialog, first)
        self._forget(dialog, room)

    def _forget(self, dialog: bytes, room: Room) -> None:
        self._forget_waiting(room)
        room.members = {}
        if self._rooms.get(dialog) is room:
            del self._rooms[dialog]

    def _forget_waiting(self, room: Room) -> None:
        self._waiting_bytes -= room.waiting_bytes
        room.waiting.clear()
        room.waiting_bytes, room.missed, room.told = 0, 0, {}
