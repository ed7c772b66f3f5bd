"""The large dialogs of this node's sessions, registered so that others send their events here and nowhere else.

Of a small dialog others look up where each member is; of a large one (`LARGE_ABOVE`) which nodes have a room of it.
Invariants, for each large dialog and each session here of a member:

* The room is in the store, or this node reads from the journal, before the session's snapshot is taken: first its
  connection is written, then its large dialogs are read, then they are registered. An event that makes a dialog large,
  or brings the person into one, after that reading goes to the connection (`Publisher`), and so comes here.
* When such an event is delivered here, the room is registered, and then the dialog is read to its head: what others
  sent between the two went past this node. Until that is delivered no position moves on (`wait_settled`). Those events
  have a higher stamp than the first one, and this node has heard nothing beyond it before it came.
* A room is registered while a session of a member is here, and for `_KEPT_EMPTY_S` after the last one left.

Bounds: what is kept is bounded by the dialogs that each person may be in.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

from protocol.ids import NIL, to_text
from server.clock import Clock
from server.cluster.whereabouts import Whereabouts
from server.delivery.registry import Registry
from server.delivery.rooms import Room, Rooms, Spawn
from server.delivery.subscriber import Subscriber
from storage.nodes import LARGE_ABOVE, PAGE_ROWS, Nodes
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_KEPT_EMPTY_S = 60.0
"""Who loses a connection comes back soon: their rooms stay registered for so long."""
_DROPPED_AT_ONCE = 500

ReadToHead = Callable[[bytes, int], Awaitable[None]]
"""Delivers what is durable of a dialog after some number (`Resequencer.read_to_head`)."""


class _Large:
    """A large dialog with a member here. `told`: once it was registered, it was read to its head."""

    __slots__ = ("dialog", "sessions", "told")

    def __init__(self, dialog: bytes) -> None:
        self.dialog = dialog
        self.sessions = 0
        self.told = False


class LargeRooms:
    """Which large dialogs have members here. `spawn` runs something beside everything else."""

    def __init__(
        self,
        whereabouts: Whereabouts,
        nodes: Nodes,
        rooms: Rooms,
        read_to_head: ReadToHead,
        *,
        registry: Registry,
        spawn: Spawn,
        clock: Clock,
    ) -> None:
        self._whereabouts = whereabouts
        self._nodes = nodes
        self._rooms = rooms
        self._read_to_head = read_to_head
        self._registry = registry
        self._spawn = spawn
        self._clock = clock
        self._dialogs: dict[bytes, _Large] = {}
        self._of: dict[object, tuple[_Large, ...]] = {}
        self._empty: dict[bytes, float] = {}
        """Those without a session, and since when; the oldest first."""
        self._growing: Counter[bytes] = Counter()
        self._settling: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._dialogs)

    async def arrive(self, who: Subscriber, principal: bytes) -> None:
        """Have other nodes find a session that syncs, before its snapshot; raises StorageUnavailableError."""
        await self._whereabouts.arrive(who, principal)
        found: list[bytes] = []
        while True:
            page = await self._nodes.find_large(principal, after=found[-1] if found else NIL)
            found += page
            if len(page) < PAGE_ROWS:
                break
        if found and self._whereabouts.is_here(who):
            self._add(who, found)
            await self._whereabouts.register(found)

    def leave(self, who: object) -> None:
        """Forget a session; nothing happens if it never arrived."""
        self._whereabouts.leave(who)
        for large in self._of.pop(who, ()):
            large.sessions -= 1
            if not large.sessions:
                self._empty[large.dialog] = self._clock.monotonic()

    def note_growth(self, dialog: bytes, seq: int, added: Sequence[bytes]) -> None:
        """Look whether event `seq`, delivered here now, made a dialog large, or brought somebody here into one."""
        room = self._rooms.find(dialog, seq)
        if room is not None and not self._find_affected(room, seq, added):
            return
        self._growing[dialog] += 1
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.add(settled)
        self._spawn(self._register_grown(dialog, seq, added, settled))

    async def wait_settled(self) -> None:
        """Return once every dialog that has grown until now is registered, and read to its head."""
        if self._settling:
            await asyncio.wait(set(self._settling))

    async def is_nobody_here(self, dialog: bytes, seq: int) -> bool:
        """Whether surely nobody here is a member of a dialog, of which event `seq` is the next to be delivered.

        It has been large since that event or before, and no session here has made it known. False says nothing.
        """
        if self._has(dialog):
            return False
        try:
            roster_seq, members = await self._nodes.read_size(dialog)
        except StorageUnavailableError:
            return False
        return members > LARGE_ABOVE and roster_seq <= seq and not self._has(dialog)

    def drop_empty(self) -> None:
        """Register no longer what nobody here has been a member of for a while."""
        now = self._clock.monotonic()
        old = list(itertools.islice(self._empty.items(), _DROPPED_AT_ONCE))
        dialogs = [dialog for dialog, since in old if now - since >= _KEPT_EMPTY_S]
        for dialog in dialogs:
            del self._empty[dialog], self._dialogs[dialog]
        self._whereabouts.unregister(dialogs)

    def _has(self, dialog: bytes) -> bool:
        large = self._dialogs.get(dialog)
        return dialog in self._growing or (large is not None and large.sessions > 0)

    def _add(self, who: object, dialogs: Iterable[bytes]) -> None:
        known = self._of.get(who, ())
        held = set(known)
        new = [each for each in dict.fromkeys(map(self._get, dialogs)) if each not in held]
        for large in new:
            large.sessions += 1
            self._empty.pop(large.dialog, None)
        self._of[who] = (*known, *new)

    def _get(self, dialog: bytes) -> _Large:
        large = self._dialogs.get(dialog)
        if large is None:
            large = self._dialogs[dialog] = _Large(dialog)
        return large

    def _find_affected(self, room: Room, seq: int, added: Sequence[bytes]) -> list[Subscriber]:
        """Sessions here of whom event `seq` made a member of a large dialog, as far as the room knows, or more."""
        exact = room.roster_seq == seq
        if exact and len(room.members) <= LARGE_ABOVE:
            return []
        if exact and len(room.members) - len(added) > LARGE_ABOVE:
            return [subscriber for who in added for subscriber in self._registry.subscribers_of(who)]
        return list(room.find_subscribers(self._registry))

    async def _register_grown(
        self, dialog: bytes, seq: int, added: Sequence[bytes], settled: asyncio.Future[None]
    ) -> None:
        try:
            room = await self._rooms.open(dialog, seq)
            for who in self._find_affected(room, seq, added):
                if self._whereabouts.is_here(who):
                    self._add(who, [dialog])
            if room.roster_seq < seq:  # nobody knows who is here: it stays registered
                self._get(dialog).sessions += 1
                self._empty.pop(dialog, None)
            large = self._dialogs.get(dialog)
            if large is not None:
                await self._whereabouts.register([dialog])
                if not large.told:
                    await self._read_to_head(dialog, seq)
                    large.told = True
        except Exception:  # noqa: BLE001 - positions must not wait for this without end
            _log.exception("a dialog that became large cannot be read", extra={"dialog": to_text(dialog)})
            self._rooms.leave_to_sessions(dialog, seq)
        finally:
            self._growing -= Counter([dialog])
            self._settling.discard(settled)
            settled.set_result(None)
