"""How steady the machine is beside a bench: how fast it counts, and how long it stops a process that only counts.

Two benches can be compared as far as their speeds can. A percentile may come from the machine and not from the server,
if stops of that length are frequent enough. After jHiccup (Gil Tene), which measures stops beside a run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

from loadtest.processes import find_cores, staying_on

_STOP_NS = 500_000
"""A step takes a ten-thousandth of this: whatever is as long was not ours."""
_STEPS = 20_000
"""Steps whose time is one reading of the speed: some milliseconds."""


class MachineNoise(msgspec.Struct, frozen=True):
    """`step_ns`: the least and the most that a step of counting took, over some milliseconds, without stops."""

    step_ns_least: float
    step_ns_most: float
    stopped_share: float
    stop_ms_max: float

    def __str__(self) -> str:
        speed = f"{self.step_ns_least:.0f} to {self.step_ns_most:.0f} ns"
        stops = f"{self.stopped_share:.1%} of the time, {self.stop_ms_max:.1f} ms at most"
        return f"the machine counted a step in {speed}, and did not run the counting process for {stops}"


def join_noise(measured: Sequence[MachineNoise]) -> MachineNoise:
    """What was measured at several times, for as long each time, at least once."""
    return MachineNoise(
        min(each.step_ns_least for each in measured),
        max(each.step_ns_most for each in measured),
        statistics.fmean(each.stopped_share for each in measured),
        max(each.stop_ms_max for each in measured),
    )


def measure_noise(seconds: float, clock_ns: Callable[[], int] = time.perf_counter_ns) -> MachineNoise:
    """Count for so long, each core that this process may use in turn."""
    speeds: list[float] = []
    stops: list[int] = []
    counted_ns = 0
    places = [[core] for core in find_cores()] or [[]]
    for place in places:
        with staying_on(place):
            until_ns = clock_ns() + int(seconds * 1e9 / len(places))
            while True:
                taken_ns, stopped = _count(clock_ns)
                counted_ns += taken_ns
                speeds.append((taken_ns - sum(stopped)) / _STEPS)
                stops += stopped
                if clock_ns() >= until_ns:
                    break
    return MachineNoise(min(speeds), max(speeds), sum(stops) / counted_ns, max(stops, default=0) / 1e6)


def _count(clock_ns: Callable[[], int]) -> tuple[int, list[int]]:
    """How long some steps took, and the stops among them."""
    began_ns = last_ns = clock_ns()
    stopped: list[int] = []
    for _ in range(_STEPS):
        now_ns = clock_ns()
        if now_ns - last_ns > _STOP_NS:
            stopped.append(now_ns - last_ns)
        last_ns = now_ns
    return last_ns - began_ns, stopped
