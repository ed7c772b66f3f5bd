"""Time: code that asks for it takes a `Clock`, and code that waits takes a `Sleep`, so that a test can own both.

Three kinds of time and no fourth: wall time in milliseconds since the epoch, which is stored and shown and may jump;
monotonic seconds, which measure how long something took and never go back; and seconds of CPU.
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

    def cpu_s(self) -> float:
        """Seconds of CPU that the calling thread has used."""
        ...


class SystemClock(Clock):
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(time.monotonic)  # without a call around it: each message asks a few times

    def cpu_s(self) -> float:
        return time.thread_time()
