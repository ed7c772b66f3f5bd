"""The other nodes that share the database: what they write reaches the sessions here, and holds the positions here.

Each second one reading of the cluster: the horizon, who lives, the epoch. Then, of every node in doubt, the rows that
it has written are read from the journal and delivered. Nobody must have told us anything for that.

A node that tells us what it writes is *whole*: its messages carry dense numbers, and a tick says "all that I wrote
before this horizon has been told up to this number". Of a whole node nothing is read. A missing number, silence, the
end of its incarnation, or `doubt` from outside put it into doubt.

Invariants, for each other incarnation X:

* `heard` of X is h: every row of X with a stamp below h that concerns sessions here has been handed to the resequencer.
  It begins, for one that is new, at the horizon of the reading before: all that X wrote lies behind that. For those
  that were there before us it begins at our first horizon, before which no session is here.
* X is watched until a horizon has passed all that it wrote: `Nodes.read_cluster` names it until then, fenced or not.
* A position is at most the least of all `heard`, and of the horizon itself, once all that was handed over by then, and
  all that was under way on this node, has been delivered (`Horizon.settle`).
* X becomes whole again only when its numbers have been without a gap since some moment, and all that it had begun to
  write at a reading after that moment has been read: what was told before, and missed, is among it.
* Delivery waits for no horizon. A transaction that somebody left open holds `heard` and the positions; rows beyond it
  are durable, and `read_to` says how far they were read. Before `read_to` only rows may be missing whose transaction
  was long open when it was passed: they are read once the horizon has passed them.

One reading takes a bounded number of rows, bytes and seconds, so a lease is renewed in time however much there is to
read. When there is more, the next one follows at once; positions then move with what has been read. The work that must
not wait for this node's own writes (a stuck lane) does not: positions are handed out by a task beside the readings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from protocol.bodies import TimelineEventRaw
from protocol.ids import NIL
from server.clock import Clock
from server.cluster.leases import Leases
from server.delivery.resequencer import Resequencer
from server.writing.horizon import Horizon
from storage.nodes import PAGE_ROWS, Nodes
from storage.rows import ClusterReading, HorizonReading, WrittenRow
from storage.timelines import cut_short
from storage.unavailable import IncarnationEndedError, OtherHistoryError, StorageUnavailableError

_log = logging.getLogger(__name__)

SILENT_S = 2.0
"""A whole node that has not ticked for this long, or whose ticks stand still behind our horizon, is in doubt."""
_RECENT_S = 2.0
"""A transaction that has been open for twice as long is waited for by positions only; a write waits less for a lock."""
_ROWS_PER_READING = 5_000
_BYTES_PER_READING = 8_388_608
_READING_S_MAX = 2.0
_NO_READING_YET = 2**62
_ROUNDS_BETWEEN_MARKS = 60

Heard = tuple[TimelineEventRaw, int]
"""An event that another node tells, and the `roster_seq` of its dialog after its flush."""


class _Source:
    """Another incarnation."""

    __slots__ = ("breaks", "ended", "heard", "heard_at", "name", "next_k", "read_to", "settles_at", "whole")

    def __init__(self, name: str, heard: int, now: float) -> None:
        self.name = name
        self.heard = heard
        self.read_to = heard
        """How far its rows were read, while it is in doubt; at least `heard`."""
        self.heard_at = now
        self.ended = False
        self.whole = False
        self.breaks = 0
        self.next_k: int | None = None
        """The number that it tells next; None: numbers were missed, or none has come."""
        self.settles_at: int | None = None
        """It is whole when all rows before this stamp have been read; None: not known yet."""


class Peers:
    """The other nodes, as this one hears them. `run` reads the cluster each second until it is cancelled.

    `begin_epoch` is called with a new epoch: it closes every session here.
    """

    def __init__(
        self,
        nodes: Nodes,
        resequencer: Resequencer,
        horizon: Horizon,
        leases: Leases,
        clock: Clock,
        *,
        incarnation: int,
        begin_epoch: Callable[[int], None],
    ) -> None:
        self.settled = 0
        """All that this node wrote before this horizon has been delivered here; for ticks to other nodes."""
        self.doubts = 0
        """How often a node that was whole came into doubt."""
        self.rows_read = 0
        """Rows of other nodes that were read from the journal."""
        self._nodes = nodes
        self._resequencer = resequencer
        self._horizon = horizon
        self._leases = leases
        self._clock = clock
        self._incarnation = incarnation
        self._begin_epoch = begin_epoch
        self._sources: dict[int, _Source] = {}
        self._newest = 0
        """The highest number of an incarnation that a reading has named."""
        self._last_horizon = 0
        self._recent_since = self._next_recent_since = 0
        """What began at this stamp or later began lately; and what will be so next."""
        self._recent_moved_at = clock.monotonic()
        self._begun_at = 0
        """The first horizon of this epoch: all sessions came later, and their snapshots have what was before it."""
        self._settling: asyncio.Task[None] | None = None
        self._settled_again = asyncio.Event()
        self._mark: tuple[int, int] | None = None
        """A round, and a stamp past all that was written before it: once reached, older dialogs are forgotten."""
        self._marks_at = _ROUNDS_BETWEEN_MARKS

    @property
    def floor(self) -> int:
        """Every session here has all that was written before this stamp."""
        return max(self._begun_at, self._horizon.reached)

    @property
    def living(self) -> list[int]:
        """The incarnations of the other nodes that have not ended."""
        return [incarnation for incarnation, source in self._sources.items() if not source.ended]

    @property
    def in_doubt(self) -> int:
        """Nodes whose rows are read from the journal."""
        return sum(not source.whole for source in self._sources.values())

    @property
    def behind_s(self) -> float:
        """How long ago the node that is furthest behind was heard last; 0 when there is no other."""
        now = self._clock.monotonic()
        return max((now - source.heard_at for source in self._sources.values()), default=0.0)

    @property
    def slowest(self) -> str:
        """The node that is heard least far, in words; empty when all are heard as far as PostgreSQL lets anybody be."""
        behind = [(source.heard, source.name) for source in self._sources.values() if source.heard < self._last_horizon]
        return min(behind)[1] if behind else ""

    @property
    def ended(self) -> int:
        """Incarnations that this node has ended since its start."""
        return self._leases.ended

    # -- what other nodes tell

    def has_ended(self, incarnation: int) -> bool:
        """Whether this one is known to have ended: what it still tells, awake after a pause, is nobody's word.

        What it committed is read from the journal. One that no reading names, with a number below others, has been
        forgotten, or will be named by the next.
        """
        known = self._sources.get(incarnation)
        return incarnation <= self._newest if known is None else known.ended

    def hear(self, source: int, k: int, events: Sequence[Heard]) -> None:
        """Take message number `k` of a node."""
        self._count(source, k)
        for event, roster_seq in events:
            self._resequencer.take(event, roster_seq)

    def tick(self, source: int, k: int, horizon: int) -> None:
        """Take a tick: all that the node wrote before `horizon` was told in the messages up to number `k`."""
        known = self._sources.get(source)
        if known is None or (known.next_k is not None and k < known.next_k - 1):
            return  # of a node that no reading has named yet, or an old one
        if known.next_k is not None and k >= known.next_k:  # what was told up to this number has not all come
            self.doubt(source)
        known.next_k = k + 1
        if known.whole and (horizon > known.heard or horizon >= self._last_horizon):
            known.heard, known.heard_at = max(horizon, known.heard), self._clock.monotonic()

    def doubt(self, source: int) -> None:
        """Read what this node writes from the journal, until it is heard without a gap again."""
        known = self._sources.get(source)
        if known is not None:
            if known.whole:
                self.doubts += 1
                known.read_to = known.heard
            known.whole, known.next_k, known.settles_at = False, None, None
            known.breaks += 1

    def _count(self, source: int, k: int) -> None:
        known = self._sources.get(source)
        if known is None or (known.next_k is not None and k < known.next_k):
            return
        if known.next_k is not None and k > known.next_k:
            self.doubt(source)
        known.next_k = k + 1

    # -- what is read

    async def run(self, interval_s: float) -> None:
        """Read every `interval_s` until cancelled. Raises IncarnationEndedError when another node has ended it."""
        while True:
            more = False
            try:
                more = await self.look()
                await self._horizon.warn_if_old(self.slowest)
            except IncarnationEndedError:
                raise
            except OtherHistoryError:
                self._horizon.on_other_history()
            except StorageUnavailableError as error:
                _log.warning("what other nodes write cannot be read, trying again: %s", error)
            except Exception:  # noqa: BLE001 - a row that one node cannot read would end all of them, one by one
                _log.exception("what other nodes write cannot be read, trying again")
            await asyncio.sleep(0 if more else interval_s)

    async def wait_settled_again(self) -> None:
        """Return once `settled` has been read anew since the last such wait."""
        await self._settled_again.wait()
        self._settled_again.clear()

    async def wait_handed_out(self) -> None:
        """Return once the position that is on its way has been handed out."""
        if self._settling is not None:
            await self._settling

    async def look(self) -> bool:
        """Read the cluster, and what nodes in doubt have written; whether there is more than was read."""
        looked_at = self._clock.monotonic()
        self._resequencer.round += 1
        round_ = self._resequencer.round
        self._doubt_the_silent(looked_at)
        unbroken = [(each, each.breaks) for each in self._sources.values() if each.next_k is not None]
        reading = await self._nodes.read_cluster(
            incarnation=self._incarnation, since=self._heard_of_all, recent_since=self._recent_since
        )
        if reading.epoch != self._horizon.epoch:
            self._begin_epoch(reading.epoch)
            self._sources, self._last_horizon, self._begun_at, self._mark = {}, 0, 0, None
            self._recent_since = self._next_recent_since = 0
            self.settled = 0  # a horizon of the other history would say more than is true
        for source, breaks in unbroken:
            if source.breaks == breaks and source.settles_at is None:
                source.settles_at = reading.next_xid
        if looked_at - self._recent_moved_at >= _RECENT_S:
            self._recent_since, self._next_recent_since = self._next_recent_since, reading.next_xid
            self._recent_moved_at = looked_at
        self._note(reading)
        self._leases.watch(reading)  # first: rows that cannot be read must not keep a dead node alive
        more = await self._read_journal(reading)
        self._hand_out(reading, round_, looked_at)
        return more

    @property
    def _heard_of_all(self) -> int:
        """All that any other node wrote before this stamp has been heard."""
        return min([self._last_horizon or _NO_READING_YET, *(source.heard for source in self._sources.values())])

    def _doubt_the_silent(self, now: float) -> None:
        for incarnation, source in self._sources.items():
            if source.whole and now - source.heard_at >= SILENT_S:
                _log.warning("incarnation %d is silent: what it writes is read from the journal", incarnation)
                self.doubt(incarnation)

    def _note(self, reading: ClusterReading) -> None:
        before, self._sources = self._sources, {}
        for row in reading.incarnations:
            if row.incarnation == self._incarnation:
                continue
            source = before.get(row.incarnation)
            if source is None:
                name = f"node {row.node} (incarnation {row.incarnation})"
                source = _Source(name, self._last_horizon or reading.horizon, self._clock.monotonic())
            self._sources[row.incarnation] = source
            if row.ended:
                source.ended = True
                self.doubt(row.incarnation)
        self._newest = max(self._newest, *(row.incarnation for row in reading.incarnations))
        self._last_horizon = reading.horizon
        self._begun_at = self._begun_at or reading.horizon

    async def _read_journal(self, reading: ClusterReading) -> bool:
        """Deliver what nodes in doubt have committed; whether there is more of it.

        What is new comes first. Then, when a horizon that was held has moved, what may have been missed before it.
        """
        doubted = {each: source for each, source in self._sources.items() if not source.whole}
        if not doubted:
            return False
        give_up_at = self._clock.monotonic() + _READING_S_MAX
        since = min(source.read_to for source in doubted.values())
        reached = await self._deliver(doubted, since, reading.next_xid, give_up_at)
        more = reached < reading.next_xid
        for source in doubted.values():
            if source.heard >= source.read_to:
                source.heard = max(source.heard, min(reached, reading.horizon))
            source.read_to = max(source.read_to, reached if more else reading.recent_horizon)
        passed = {each: source for each, source in doubted.items() if source.heard < reading.horizon and not more}
        if passed:
            since = min(source.heard for source in passed.values())
            reached = await self._deliver(passed, since, reading.horizon, give_up_at)
            for source in passed.values():
                source.heard = max(source.heard, reached)
            more = reached < reading.horizon
        for source in doubted.values():
            if source.heard >= reading.horizon:
                source.heard_at = self._clock.monotonic()
            if source.next_k is not None and source.settles_at is not None and source.heard >= source.settles_at:
                source.whole = True
        return more

    async def _deliver(self, sources: Collection[int], since: int, before: int, give_up_at: float) -> int:
        """Deliver what these wrote with `since <= stamp < before`; the stamp before which that is all."""
        after, count, size = (0, NIL, 0), 0, 0
        while since < before:
            page = await self._nodes.read_written(list(sources), since, before, after=after)
            await self._resequencer.open(page)
            for row in page:
                self._resequencer.take(row.event, row.roster_seq)
            count, size = count + len(page), size + sum(len(row.event.body) for row in page)
            self.rows_read += len(page)
            if _is_last(page):
                break
            after = (page[-1].stamp, page[-1].event.dialog, page[-1].event.seq)
            enough = count >= _ROWS_PER_READING or size >= _BYTES_PER_READING or self._clock.monotonic() >= give_up_at
            if enough and page[-1].stamp > since:
                return page[-1].stamp
        return before

    # -- what is handed out

    def _hand_out(self, reading: ClusterReading, round_: int, looked_at: float) -> None:
        """Let the position move to what has been read, once it is delivered; one such task at a time."""
        if self._settling is None or self._settling.done():
            least = min([reading.horizon, *(source.heard for source in self._sources.values())])
            self._settling = asyncio.create_task(self._settle(reading, round_, least, looked_at))

    async def _settle(self, reading: ClusterReading, round_: int, least: int, looked_at: float) -> None:
        await self._horizon.settle(HorizonReading(least, reading.next_xid), epoch=reading.epoch, looked_at=looked_at)
        if reading.epoch != self._horizon.epoch:
            return
        self.settled = reading.horizon
        self._settled_again.set()
        if self._mark is not None and least >= self._mark[1]:
            self._resequencer.forget_before(self._mark[0])
            self._mark = None
        if self._mark is None and round_ >= self._marks_at:
            self._mark, self._marks_at = (round_, reading.next_xid), round_ + _ROUNDS_BETWEEN_MARKS


def _is_last(page: Sequence[WrittenRow]) -> bool:
    return len(page) < PAGE_ROWS and not cut_short([row.event for row in page])
