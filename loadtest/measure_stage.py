"""The result of one stage of a measurement: how much was done, the CPU time, and the latencies."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from loadtest.measure_server import Usage

_TICK_S = 0.01
"""The unit in which the kernel counts CPU time."""


class Latency(msgspec.Struct, frozen=True):
    """Percentiles in milliseconds."""

    p50_ms: float
    p99_ms: float
    p999_ms: float


class Stage(msgspec.Struct, frozen=True):
    """`done` things in `seconds`; CPU seconds of the server's processes and of the load itself."""

    seconds: float
    done: int
    usage: Usage
    load_s: float
    latency: Latency | None = None

    @property
    def per_second(self) -> float:
        """Throughput by wall-clock time."""
        return self.done / self.seconds

    def per_cpu_second(self, *, tchat: bool = True, postgres: bool = True) -> float:
        """Throughput by CPU time of the server's processes, all of them or only some."""
        used_s = tchat * self.usage.tchat_s + postgres * self.usage.postgres_s
        return self.done / max(used_s, _TICK_S)


class Measured(Protocol):
    """What a load is put on: a server, or several."""

    def usage(self) -> Usage:
        """CPU time up to now."""


class Meter:
    """Measures from its creation to `stop`."""

    def __init__(self, server: Measured) -> None:
        self._server = server
        self._usage = server.usage()
        self._load_s = time.process_time()
        self._started = time.perf_counter()

    def stop(self, done: int) -> Stage:
        """The stage so far, in which `done` things were done."""
        return Stage(
            seconds=time.perf_counter() - self._started,
            done=done,
            usage=self._server.usage().since(self._usage),
            load_s=time.process_time() - self._load_s,
        )


def percentiles(nanoseconds: list[int]) -> Latency | None:
    """The percentiles of a sample, None if it is empty. By nearest rank: each is a value of the sample."""
    if not nanoseconds:
        return None
    ranked = sorted(nanoseconds)

    def at(part: float) -> float:
        return ranked[min(len(ranked) - 1, int(part * len(ranked)))] / 1e6

    return Latency(at(0.5), at(0.99), at(0.999))
