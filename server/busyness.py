"""How busy a node is. While it is, work that many share gathers for a moment: it costs less, and nobody waits longer.

A node that rests does everything at once.
"""

from __future__ import annotations

from server.clock import Clock

_IDLE, _BUSY = 0.4, 0.8
"""Shares of one core."""
_LOOK_EVERY_S = 0.1


class Busyness:
    """How much of a core the thread of the event loop uses, as of a moment ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_at, self._used_s = clock.monotonic(), clock.cpu_s()
        self._level = 0.0

    def look(self) -> float:
        """From 0, below `_IDLE` of a core, to 1, from `_BUSY` on."""
        now = self._clock.monotonic()
        passed_s = now - self._looked_at
        if passed_s >= _LOOK_EVERY_S:
            used_s = self._clock.cpu_s()
            share = (used_s - self._used_s) / passed_s
            self._looked_at, self._used_s = now, used_s
            self._level = min(1.0, max(0.0, (share - _IDLE) / (_BUSY - _IDLE)))
        return self._level
