"""What a stage of a measurement found: how much was done, at whose expense, and how long each took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import msgspec

from loadtest.measure_server import Server, Usage


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
        """Throughput by the clock on the wall."""
        return self.done / self.seconds


class Meter:
    """Runs from its making to `stop`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._usage = server.usage()
        self._load_s = time.process_time()
        self._started = time.perf_counter()

    def stop(self, done: int) -> Stage:
        """What was used so far for `done` things."""
        return Stage(
            seconds=time.perf_counter() - self._started,
            done=done,
            usage=self._server.usage().since(self._usage),
            load_s=time.process_time() - self._load_s,
        )


def percentiles(nanoseconds: list[int]) -> Latency | None:
    """Of a sample, None of an empty one. By nearest rank: every percentile is a value that was seen."""
    if not nanoseconds:
        return None
    ranked = sorted(nanoseconds)

    def at(part: float) -> float:
        return ranked[min(len(ranked) - 1, int(part * len(ranked)))] / 1e6

    return Latency(at(0.5), at(0.99), at(0.999))


def median(stages: Sequence[Stage]) -> Stage:
    """Field by field, of several rounds."""
    latencies = [stage.latency for stage in stages if stage.latency is not None]
    latency = None
    if latencies:
        latency = Latency(
            statistics.median(each.p50_ms for each in latencies),
            statistics.median(each.p99_ms for each in latencies),
            statistics.median(each.p999_ms for each in latencies),
        )
    return Stage(
        seconds=statistics.median(stage.seconds for stage in stages),
        done=int(statistics.median(stage.done for stage in stages)),
        usage=Usage(
            statistics.median(stage.usage.tchat_s for stage in stages),
            statistics.median(stage.usage.postgres_s for stage in stages),
        ),
        load_s=statistics.median(stage.load_s for stage in stages),
        latency=latency,
    )
