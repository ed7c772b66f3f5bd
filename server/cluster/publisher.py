"""Publishing to other nodes: one lookup for all rows that wait, then one message for each node with readers.

Fed after the commit and after local delivery, which wait for nothing of this. Rows leave in the order of their dialogs.
What cannot be looked up or sent uses a number (`links.py`), so its readers come to it through the journal.

Invariants, of who gets an event:

* The number of members at the event decides. Of a large dialog the nodes get it that have registered a room. The event
  that makes a dialog large goes where its members are, as any of a small one; who comes, goes or is blocked is always
  looked up by name. `large_rooms.py` says why that is enough.
* The members of a small dialog are those of the roster at the event. When only a newer one is at hand, it may lack
  somebody who was removed since: then, and when it is not known how many members there were, every node gets it.

Bounds: `_ROWS_MAX` rows and `_BYTES_MAX` bytes wait; what is above that is not sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw
from server.cluster.links import Links
from server.delivery.rooms import Rooms
from server.writing.durable import DurableEvents
from storage.bus import PresenceStore
from storage.nodes import LARGE_ABOVE
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_ROSTER_S_MAX = 1.0
_ROWS_MAX = 20_000
_BYTES_MAX = 33_554_432
_BATCH_BYTES_MAX = 1_048_576

_Sent = tuple[list[TimelineEventRaw], list[int]]
"""Events, and for each the `roster_seq` of its dialog."""


class Publisher:
    """Sends the rows of this node to others; `run` until it is cancelled. `get_epoch` is that of the node."""

    def __init__(self, store: PresenceStore, links: Links, rooms: Rooms, get_epoch: Callable[[], int]) -> None:
        self.rows = 0
        """Rows that were looked up and sent to whom they concern."""
        self._store = store
        self._links = links
        self._rooms = rooms
        self._get_epoch = get_epoch
        self._waiting: deque[tuple[int, DurableEvents]] = deque()
        """What waits, with the epoch in which it was given."""
        self._waiting_rows = self._waiting_bytes = 0
        self._given = self._done = 0
        self._progress = asyncio.Event()
        self._wake = asyncio.Event()

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return self._waiting_rows

    def publish(self, durable: Sequence[DurableEvents]) -> None:
        """Queue what a flush made durable; call it after local delivery."""
        if not len(self._links):
            return
        epoch = self._get_epoch()
        for item in durable:
            size = sum(len(event.body) for event in item.events)
            if self._waiting_rows >= _ROWS_MAX or self._waiting_bytes + size > _BYTES_MAX:
                self._links.spend()
                continue
            self._waiting.append((epoch, item))
            self._waiting_rows += len(item.events)
            self._waiting_bytes += size
            self._given += 1
        self._wake.set()

    async def wait_settled(self) -> None:
        """Return once everything that waits now was sent, or has used a number."""
        given = self._given
        while self._done < given:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Send what waits, a batch after the other."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                epoch, batch = self._take_batch()
                try:
                    if epoch == self._get_epoch():
                        await self._send(epoch, batch)
                    else:  # it may never have happened, and nobody waits for it
                        self._links.spend()
                except Exception as error:  # noqa: BLE001 - whatever it is, the numbers say that something is missing
                    expected = isinstance(error, StorageUnavailableError | TimeoutError)
                    _log.warning("rows could not be sent to other nodes, which read them", exc_info=not expected)
                    self._links.spend()
                self._done += len(batch)
                self._progress.set()

    def _take_batch(self) -> tuple[int, list[DurableEvents]]:
        """Some of what waits, all of one epoch."""
        batch, size, epoch = [], 0, self._waiting[0][0]
        while self._waiting and size < _BATCH_BYTES_MAX and self._waiting[0][0] == epoch:
            _, item = self._waiting.popleft()
            batch.append(item)
            taken = sum(len(event.body) for event in item.events)
            size += taken
            self._waiting_bytes -= taken
            self._waiting_rows -= len(item.events)
        return epoch, batch

    async def _send(self, epoch: int, batch: list[DurableEvents]) -> None:
        async with asyncio.timeout(_ROSTER_S_MAX):
            concerned = [await self._find_concerned(item) for item in batch]
        asked = list({principal for each in concerned for principal in each or ()})
        located = await self._store.locate(asked)
        self._links.spend(located.token)
        nodes_of = dict(zip(asked, located.nodes, strict=True))
        sent: dict[int, _Sent] = {}
        for item, principals in zip(batch, concerned, strict=True):
            targets = set(self._links) if principals is None else {node for who in principals for node in nodes_of[who]}
            if principals is not None and item.dialog in principals:
                targets.update(self._links.without_rooms())
            for target in targets:
                events, roster_seqs = sent.setdefault(target, ([], []))
                events += item.events
                roster_seqs += [item.roster_seq] * len(item.events)
        for target, (events, roster_seqs) in sent.items():
            self._links.send(target, epoch, events, roster_seqs)
        self.rows += sum(len(item.events) for item in batch)

    async def _find_concerned(self, item: DurableEvents) -> set[bytes] | None:
        """Whose nodes get these events: principals, and the dialog itself if it is large; None: every node."""
        if not item.member_count:
            return None
        added, moved = _moved_by(item)
        if item.member_count - len(added) > LARGE_ABOVE:
            return {item.dialog, *added, *moved}
        room = await self._rooms.open(item.dialog, item.roster_seq)
        if room.roster_seq < item.roster_seq:
            raise StorageUnavailableError("a roster cannot be read")
        return None if room.roster_seq > item.roster_seq else {*room.members, *added, *moved}


def _moved_by(item: DurableEvents) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Whom a change brings in; and whom it takes out, who are in no roster after it, or blocks."""
    if item.change is None:
        return (), ()
    match item.change.body:
        case b.DialogCreated(members=members):
            return [each.principal for each in members], ()
        case b.MembersAdded(members=members):
            return members, ()
        case b.MemberRemoved(member=who) | b.Blocked(principal=who):
            return (), [who]
        case b.MemberLeft():
            return (), [item.change.author]
        case _:
            return (), ()
