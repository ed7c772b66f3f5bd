"""Events of several nodes, put into the order of their numbers before they are delivered.

Own events come when their flush is answered, those of other nodes when they are told or read: so number 5 may come
before number 4. Invariants:

* `deliver` gets the events of a dialog in rising order, each number once, and none is left out.
* A number that is missing is waited for as long as another node usually needs to tell it (`GAP_WAIT_S`). Then what is
  missing is read from the journal: an event is durable, so all numbers before it are.
* Of a dialog that is not known here the first number is looked up: every session here has all that lies before the
  floor. What lies between it and the first event that comes is read.
* A dialog may be forgotten when the floor has passed its last event. With too many dialogs some are forgotten earlier:
  then sessions may get events again, which their clients know.

Bounds: `dialogs_max` dialogs are known. At most `_HELD_MAX` events of a dialog and `_HELD_BYTES_MAX` of all wait; what
comes beyond is read from the journal when its turn comes.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from protocol.bodies import TimelineEventRaw
from protocol.ids import to_text
from protocol.limits import N_MAX
from server.clock import Sleep
from server.delivery.rooms import Spawn
from server.writing.durable import DurableEvents
from storage.nodes import PAGE_ROWS, Nodes
from storage.rows import WrittenRow
from storage.timelines import cut_short
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

GAP_WAIT_S = 0.05
_RETRY_FIRST_S = 0.2
_RETRY_MAX_S = 5.0
_FAULTS_MAX = 8
_HELD_MAX = 1000
_HELD_BYTES_MAX = 33_554_432

Deliver = Callable[[TimelineEventRaw, int], None]
"""Gets an event, and the `roster_seq` of its dialog after it or later."""

_T = TypeVar("_T")


class _Stream:
    """What is known of one dialog: the number that comes next (0: not looked up yet), and what came before its turn."""

    __slots__ = ("awaited", "filling", "held", "known_to", "next_seq", "round")

    def __init__(self) -> None:
        self.next_seq = 0
        self.known_to = 0
        self.held: dict[int, tuple[TimelineEventRaw, int]] = {}
        self.filling = False
        self.awaited: list[tuple[int, asyncio.Future[None]]] = []
        """By number: who waits until it has been delivered."""
        self.round = 0


class Resequencer:
    """Puts what a node delivers into order. `floor` is a stamp: every session here has all that was written before it.

    `leave` is called with a dialog whose events cannot be read, and the first number: every session must read it.
    """

    def __init__(
        self,
        nodes: Nodes,
        deliver: Deliver,
        leave: Callable[[bytes, int], None],
        floor: Callable[[], int],
        spawn: Spawn,
        *,
        dialogs_max: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.round = 0
        """Counts the readings of the cluster: dialogs of earlier rounds are forgotten (`forget_before`)."""
        self.gaps_read = 0
        """Rows that were read because their numbers were missing."""
        self._nodes = nodes
        self._deliver = deliver
        self._leave = leave
        self._floor = floor
        self._spawn = spawn
        self._dialogs_max = dialogs_max
        self._sleep = sleep
        self._streams: dict[bytes, _Stream] = {}
        self._held_bytes = 0
        self._filling: set[_Stream] = set()

    def __len__(self) -> int:
        return len(self._streams)

    def route(self, durable: Sequence[DurableEvents]) -> None:
        """Take what a flush of this node made durable."""
        for item in durable:
            for event in item.events:
                self.take(event, item.roster_seq)

    def take(self, event: TimelineEventRaw, roster_seq: int) -> None:
        """Deliver an event if it is its turn, drop it if it has been delivered, else hold it."""
        stream = self._streams.get(event.dialog)
        if stream is None:
            stream = self._streams[event.dialog] = _Stream()
            if len(self._streams) > self._dialogs_max:
                self._forget_one(but=event.dialog)
        stream.round = self.round
        if event.seq == stream.next_seq:
            self._deliver_next(stream, event, roster_seq)
            if stream.held:
                self._deliver_held(stream)
        elif event.seq > stream.next_seq:
            self._hold(stream, event, roster_seq)
            if not stream.filling:
                self._fill_soon(event.dialog, stream)

    async def open(self, rows: Iterable[WrittenRow]) -> None:
        """Look up the dialogs of these rows that are not known, all at once."""
        firsts: dict[bytes, int] = {}
        for row in rows:
            if row.event.dialog not in self._streams:
                firsts.setdefault(row.event.dialog, row.event.seq)
        if not firsts:
            return
        heads = list(firsts.items())
        found = await self._nodes.find_unseen(heads, self._floor())
        for (dialog, _), first in zip(heads, found, strict=True):
            if dialog not in self._streams:
                stream = self._streams[dialog] = _Stream()
                stream.next_seq, stream.round = first, self.round
        while len(self._streams) > self._dialogs_max and self._forget_one():
            pass

    async def read_to_head(self, dialog: bytes, after: int) -> None:
        """Take all of a dialog that is durable after event `after`, which was delivered; raises what a read raises."""
        more = True
        while more:
            stream = self._streams.get(dialog)
            first = max(after + 1, stream.next_seq if stream is not None else 0)
            rows = await self._try(functools.partial(self._nodes.read_rows, dialog, first, N_MAX))
            self.gaps_read += len(rows)
            for row in rows:
                self.take(row.event, row.roster_seq)
                after = row.event.seq
            more = len(rows) >= PAGE_ROWS or cut_short([row.event for row in rows])

    async def wait_settled(self) -> None:
        """Return once everything that waits for its turn now has been delivered."""
        waits: list[asyncio.Future[None]] = []
        for stream in self._filling:
            waits.append(asyncio.get_running_loop().create_future())
            stream.awaited.append((stream.known_to, waits[-1]))
        if waits:
            await asyncio.wait(waits)

    def forget_before(self, since: int) -> None:
        """Forget the dialogs whose last event came before round `since`: the floor has passed them."""
        self._streams = {
            dialog: stream for dialog, stream in self._streams.items() if stream.round >= since or stream.filling
        }

    def forget_all(self) -> None:
        """Forget every dialog, and what waits: in the new epoch it may never have happened."""
        for stream in self._streams.values():
            stream.held.clear()
        self._streams = {}
        self._held_bytes = 0

    def _forget_one(self, *, but: bytes = b"") -> bool:
        for dialog, stream in self._streams.items():
            if not stream.filling and dialog != but:
                del self._streams[dialog]
                return True
        return False

    def _hold(self, stream: _Stream, event: TimelineEventRaw, roster_seq: int) -> None:
        stream.known_to = max(stream.known_to, event.seq)
        size = len(event.body)
        if event.seq in stream.held or len(stream.held) >= _HELD_MAX or self._held_bytes + size > _HELD_BYTES_MAX:
            return
        stream.held[event.seq] = event, roster_seq
        self._held_bytes += size

    def _deliver_next(self, stream: _Stream, event: TimelineEventRaw, roster_seq: int) -> None:
        stream.next_seq += 1
        try:
            self._deliver(event, roster_seq)
        except Exception:  # noqa: BLE001 - it must stop neither the dialog nor the node
            ids = {"dialog": to_text(event.dialog)}
            _log.exception("an event could not be delivered: sessions read it from the timeline", extra=ids)
            self._leave(event.dialog, event.seq)

    def _deliver_held(self, stream: _Stream) -> None:
        for seq in [seq for seq in stream.held if seq < stream.next_seq]:
            self._held_bytes -= len(stream.held.pop(seq)[0].body)
        while (found := stream.held.pop(stream.next_seq, None)) is not None:
            event, roster_seq = found
            self._held_bytes -= len(event.body)
            self._deliver_next(stream, event, roster_seq)

    def _fill_soon(self, dialog: bytes, stream: _Stream) -> None:
        stream.filling = True
        self._filling.add(stream)
        self._spawn(self._fill(dialog, stream))

    async def _fill(self, dialog: bytes, stream: _Stream) -> None:
        try:
            await self._look_up(dialog, stream)
            while stream.next_seq <= stream.known_to and self._streams.get(dialog) is stream:
                await self._sleep(GAP_WAIT_S)
                if stream.next_seq <= stream.known_to:
                    await self._read_missing(dialog, stream)
                _settle(stream, stream.next_seq)
        except Exception:  # noqa: BLE001 - nothing may wait for this dialog without end
            _log.exception("the events of a dialog cannot be put into order: sessions read it from the timeline")
            self._leave_to_sessions(dialog, stream)
        finally:
            stream.filling = False
            self._filling.discard(stream)
            _settle(stream, stream.known_to + 1)

    async def _look_up(self, dialog: bytes, stream: _Stream) -> None:
        if stream.next_seq:
            return
        first = min(stream.held, default=stream.known_to)
        [found] = await self._try(lambda: self._nodes.find_unseen([(dialog, first)], self._floor()))
        if self._streams.get(dialog) is stream:
            stream.next_seq = found
            self._deliver_held(stream)

    async def _read_missing(self, dialog: bytes, stream: _Stream) -> None:
        first = stream.next_seq
        last = min(stream.held, default=stream.known_to + 1) - 1
        rows = await self._try(lambda: self._nodes.read_rows(dialog, first, last))
        if not rows or rows[0].event.seq != first:
            raise LookupError(f"numbers {first} to {last} are not in the journal")
        if self._streams.get(dialog) is not stream:
            return
        self.gaps_read += len(rows)
        for row in rows:
            if row.event.seq == stream.next_seq:
                self._deliver_next(stream, row.event, row.roster_seq)
        self._deliver_held(stream)

    async def _try(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """What a read returns, as often as the store is away; raises after `_FAULTS_MAX` other errors."""
        backoff_s, faults = _RETRY_FIRST_S, 0
        while True:
            try:
                return await read()
            except StorageUnavailableError as error:
                _log.warning("missing events cannot be read, trying again: %s", error)
            except Exception:
                faults += 1
                if faults >= _FAULTS_MAX:
                    raise
            await self._sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _RETRY_MAX_S)

    def _leave_to_sessions(self, dialog: bytes, stream: _Stream) -> None:
        if self._streams.get(dialog) is not stream:
            return
        del self._streams[dialog]
        self._held_bytes -= sum(len(event.body) for event, _ in stream.held.values())
        self._leave(dialog, stream.next_seq or min(stream.held, default=stream.known_to))


def _settle(stream: _Stream, before: int) -> None:
    """Let those go on who wait for numbers `before` this one."""
    for seq, future in stream.awaited:
        if seq < before and not future.done():
            future.set_result(None)
    stream.awaited = [each for each in stream.awaited if each[0] >= before]
