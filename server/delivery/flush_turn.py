"""When outboxes are written: at most once per turn of the loop, and those of large rooms less often while that pays.

A write to a socket costs several microseconds whatever its size: two messages in one write cost half as much as in
two. So while the process is busy, what large rooms have for their members gathers for up to `GATHER_S`, the longer the
busier. Replies and the events of small rooms never wait.

What a turn has beyond `AT_ONCE` is written in parts, one in each turn: thousands of writes take tens of milliseconds,
and what happens next does not wait for all of them. An outbox that waits for its part keeps its place, and takes more.

An outbox that cannot be written ends its own connection; those after it are written.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from server.busyness import Busyness

_log = logging.getLogger(__name__)

AT_ONCE = 100
"""So many of each queue in a turn: 1 ms or less."""
GATHER_S = 0.008


class Flushable(Protocol):
    """Something with bytes to write."""

    def flush(self) -> None:
        """Write what is queued."""
        ...

    def abort(self) -> None:
        """End the connection now."""
        ...


class LoopTimers(Protocol):
    """The part of an event loop that is used; tests pass their own."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the next turn."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call back after `delay` seconds."""
        ...


class FlushTurn:
    """Collects outboxes with something to write."""

    def __init__(self, timers: LoopTimers, busyness: Busyness) -> None:
        self._timers = timers
        self._busyness = busyness
        self._called = self._timed = False
        self._now: deque[Flushable] = deque()
        self._gathering: list[Flushable] = []
        self._leaving: deque[Flushable] = deque()
        self.writes = 0
        """Writes to sockets."""
        self.frames = 0
        """Frames in them."""

    def add(self, outbox: Flushable) -> None:
        """Flush this outbox, which has what a large room gives to all."""
        if not self._gathering:
            self._begin_gathering()
        self._gathering.append(outbox)

    def add_now(self, outbox: Flushable) -> None:
        """Flush this outbox, which has something that does not wait, at the end of this turn."""
        self._now.append(outbox)
        if not self._called:
            self._call()

    def _call(self) -> None:
        self._called = True
        self._timers.call_soon(self._flush)

    def _begin_gathering(self) -> None:
        if level := self._busyness.look():
            self._timed = True
            self._timers.call_later(GATHER_S * level, self._end_gathering)
        elif not self._called:
            self._call()

    def _end_gathering(self) -> None:
        self._timed = False
        if not self._called:
            self._call()

    def _flush(self) -> None:
        self._called = False
        leaving, waiting = self._leaving, self._now
        if not self._timed:
            leaving.extend(self._gathering)
            self._gathering.clear()
        part = [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]
        part += [leaving.popleft() for _ in range(min(AT_ONCE, len(leaving)))]
        if leaving or waiting:
            self._call()
        for outbox in part:
            try:
                outbox.flush()
            except Exception:  # noqa: BLE001 - the others have left the queues, and nobody would write them again
                _log.exception("an outbox could not be written")
                outbox.abort()
