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
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger(__name__)

AT_ONCE = 100
"""So many of each queue in a turn: 1 ms or less."""
GATHER_S = 0.008
_IDLE, _BUSY = 0.4, 0.8
"""Shares of one core. Below the first nothing gathers, from the second on it gathers for `GATHER_S`."""
_LOOK_EVERY_S = 0.1


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

    def time(self) -> float:
        """Monotonic seconds."""
        ...


class FlushTurn:
    """Collects outboxes with something to write; `cpu_s` is the CPU time of the loop's thread."""

    def __init__(self, timers: LoopTimers, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self._timers = timers
        self._cpu_s = cpu_s
        self._looked_at, self._used_s = timers.time(), cpu_s()
        self._gather_s = 0.0
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
        now = self._timers.time()
        if now - self._looked_at >= _LOOK_EVERY_S:
            used_s = self._cpu_s()
            share = (used_s - self._used_s) / (now - self._looked_at)
            self._looked_at, self._used_s = now, used_s
            self._gather_s = GATHER_S * min(1.0, max(0.0, (share - _IDLE) / (_BUSY - _IDLE)))
        if self._gather_s:
            self._timed = True
            self._timers.call_later(self._gather_s, self._end_gathering)
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
