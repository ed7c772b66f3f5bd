"""One write per connection and turn of the loop: outboxes that got something are flushed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


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
        self.writes = 0
        """Writes to sockets."""
        self.frames = 0
        """Frames in them."""

    def add(self, outbox: Flushable) -> None:
        """Flush this outbox at the end of this turn."""
        if not self._dirty:
            self._call_soon(self._flush)
        self._dirty.append(outbox)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            outbox.flush()
