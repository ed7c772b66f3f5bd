"""Leases: a node that stands still is ended by the others.

A lease is a counter that a node raises with each reading of the cluster, not a time: clocks of machines differ, and a
paused node has none. Invariants:

* A node is ended only when its lease has stood still for `lease_s` of the watcher's own monotonic time, over at least
  `_READINGS_MIN` readings. Time in which the watcher did not look, because it was paused itself or the database was
  away, does not count: after that everybody's lease has stood still.
* What is ended is marked first; then, in a transaction of its own, who ends it waits for what it left running. That
  wait is short and is repeated with each reading, by every node, until the incarnation is fenced.

Any node may do any of it, at any time, and several at once: each step is done once.
"""

from __future__ import annotations

import logging

from server.clock import Clock
from server.delivery.rooms import Spawn
from storage.nodes import Nodes
from storage.rows import ClusterReading, IncarnationRow
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_READINGS_MIN = 3
_STEP_S_MAX = 2.0
"""Of the time between two readings so much counts, at most: they come each second."""


class _Watched:
    """A lease as it was seen last, and for how long it has stood there."""

    __slots__ = ("lease", "readings", "stood_s")

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.readings = 1
        self.stood_s = 0.0


class Leases:
    """Watches the leases of the other nodes. `spawn` runs what ends those that stand still."""

    def __init__(self, nodes: Nodes, clock: Clock, spawn: Spawn, *, incarnation: int, lease_s: float) -> None:
        self.ended = 0
        """Incarnations that this node has ended."""
        self._nodes = nodes
        self._clock = clock
        self._spawn = spawn
        self._incarnation = incarnation
        self._lease_s = lease_s
        self._looked_at = clock.monotonic()
        self._watched: dict[int, _Watched] = {}
        self._at_work = False

    def watch(self, reading: ClusterReading) -> None:
        """Note how the leases stand now, and end those that have stood still for too long."""
        now = self._clock.monotonic()
        step_s, self._looked_at = min(now - self._looked_at, _STEP_S_MAX), now
        others = [
            each for each in reading.incarnations if each.incarnation != self._incarnation and each.fenced_at is None
        ]
        self._watched = {each.incarnation: self._watch_one(each, step_s) for each in others}
        due = [each for each in others if each.ended or self._stands_still(each.incarnation)]
        if due and not self._at_work:
            self._at_work = True
            self._spawn(self._end_all(due))

    def _watch_one(self, other: IncarnationRow, step_s: float) -> _Watched:
        watched = self._watched.get(other.incarnation)
        if watched is None or watched.lease != other.lease:
            return _Watched(other.lease)
        watched.readings += 1
        watched.stood_s += step_s
        return watched

    def _stands_still(self, incarnation: int) -> bool:
        watched = self._watched[incarnation]
        return watched.readings >= _READINGS_MIN and watched.stood_s >= self._lease_s

    async def _end_all(self, due: list[IncarnationRow]) -> None:
        try:
            for other in due:
                await self._end(other)
        except StorageUnavailableError as error:
            _log.warning("a node that stands still cannot be ended now, trying again: %s", error)
        finally:
            self._at_work = False

    async def _end(self, other: IncarnationRow) -> None:
        if not other.ended:
            if not await self._nodes.end(other.incarnation, lease=other.lease):
                return
            self.ended += 1
            _log.warning(
                "node %s (incarnation %d) has stood still for %.0f s and was ended", other.node, other.incarnation,
                self._lease_s,
            )  # fmt: skip
        if not await self._nodes.fence(other.incarnation):
            _log.warning("waiting for what node %s (incarnation %d) left running", other.node, other.incarnation)
