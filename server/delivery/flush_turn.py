"""At most one write per connection and turn of the loop: outboxes that got something are flushed together.

A message to a large room is written in parts, one in each turn, so that what happens next does not wait for all of it:
thousands of writes take tens of milliseconds. What later turns add goes beside the parts, unless it is many itself. An
outbox that waits for its part keeps its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

AT_ONCE = 100
"""So many of what a turn has added, and as many that wait: 1 to 2 ms each."""


class Flushable(Protocol):
    """Something with bytes to write."""

    def flush(self) -> None:
        """Write what is queued."""
        ...


class FlushTurn:
    """Collects outboxes with something to write; `call_soon` is the loop's."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._dirty: list[Flushable] = []
        self._later: deque[Flushable] = deque()
        self.writes = 0
        """Writes to sockets."""
        self.frames = 0
        """Frames in them."""

    def add(self, outbox: Flushable) -> None:
        """Flush this outbox at the end of this turn, or in one of the next."""
        if not self._dirty and not self._later:
            self._call_soon(self._flush)
        self._dirty.append(outbox)

    def _flush(self) -> None:
        dirty, self._dirty, later = self._dirty, [], self._later
        waiting = min(AT_ONCE, len(later))
        if len(dirty) > AT_ONCE:
            later.extend(dirty[AT_ONCE:])
            del dirty[AT_ONCE:]
        dirty += [later.popleft() for _ in range(waiting)]
        if later:
            self._call_soon(self._flush)
        for outbox in dirty:
            outbox.flush()
