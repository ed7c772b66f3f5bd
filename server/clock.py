"""Time: code that asks for it takes a `Clock`, and code that waits takes a `Sleep`, so that a test can own both.

Two kinds of time and no third: wall time in milliseconds since the epoch, which is stored and shown and may jump, and
monotonic seconds, which measure how long something took and never go back.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

Sleep = Callable[[float], Awaitable[None]]
"""`asyncio.sleep`, or what a test puts in its place."""


class Clock(Protocol):
    """Where the time comes from."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; only differences mean something."""
        ...


class SystemClock(Clock):
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
