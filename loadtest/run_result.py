"""What came out of one run, for machines: a struct that is written as JSON and read again by `compare` and the page.

Times are seconds, latencies milliseconds, memory bytes. CPU seconds are user and system time of whole processes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

_TICK_S = 0.01
"""The unit in which the kernel counts CPU time."""


class ResultError(Exception):
    """A file does not hold the result of a run, or cannot; the text says which, and why."""


class Cpu(msgspec.Struct, frozen=True):
    """CPU seconds of the measured part: of the server's own processes, of PostgreSQL's, and of each worker's."""

    tchat_s: float = 0.0
    postgres_s: float = 0.0
    workers_s: list[float] = []


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles; `histogram` is the whole of it as HdrHistogram writes it (V2, base64), in microseconds."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    histogram: str = ""


class Checks(msgspec.Struct, frozen=True):
    """Every delivery is expected exactly once and in order; what was not so. All zero: the run is good.

    `lost` and `doubled` deliveries, `misordered` ones, sends that were `refused`, or had no answer at the end
    (`unanswered`), connections that ended although nobody ended them (`broken`), messages that nobody expected (`odd`).
    `first` says what the first of these was.
    """

    expected: int = 0
    received: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    refused: int = 0
    unanswered: int = 0
    broken: int = 0
    odd: int = 0
    first: str = ""

    @property
    def failed(self) -> int:
        """How much was not as it must be."""
        return self.lost + self.doubled + self.misordered + self.refused + self.unanswered + self.broken + self.odd


CHECK_COUNTS = tuple(name for name in Checks.__struct_fields__ if name != "first")
"""The numbers among them."""


class Sample(msgspec.Struct, frozen=True):
    """One look at the run, each second: totals since its beginning; `at_s` is negative during the warm-up.

    `metrics` are the server's own (`/metrics`), those with labels summed; empty for a server without a known address
    of them.
    """

    at_s: float
    cpu: Cpu
    resident_bytes: int = 0
    postgres_bytes: int = 0
    connected: int = 0
    acked: int = 0
    delivered: int = 0
    p50_ms: float | None = None
    """Of the deliveries since the last sample, as far as they were timed."""
    p99_ms: float | None = None
    metrics: dict[str, float] = {}


class Machine(msgspec.Struct, frozen=True):
    """Where it ran."""

    cores: int
    processor: str
    system: str
    python: str


class CheckedThreshold(msgspec.Struct, frozen=True):
    """One threshold, and whether it held."""

    metric: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def held(self) -> bool:
        """Whether the number is known and within its bounds."""
        if self.value is None:
            return False
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `acked` sends, `delivered` events and `connects` (with authentication and sync) of the measured part."""

    scenario: str
    about: str
    server: str
    """`embedded`, or the URL."""
    version: str
    started_at: str
    machine: Machine
    seconds: Annotated[float, Meta(gt=0)]
    people: int
    connected: int
    acked: int = 0
    delivered: int = 0
    connects: int = 0
    cpu: Cpu = Cpu()
    delivery: Percentiles | None = None
    """From when a message was due (closed loop: sent) until another device had it."""
    ack: Percentiles | None = None
    """From when a message was due until its author had the ack."""
    connect: Percentiles | None = None
    """From the first packet until the client was caught up."""
    bytes_per_session: float | None = None
    """Resident memory of the server's own processes that each idle session added."""
    checks: Checks = Checks()
    bottleneck: str = ""
    """Why the numbers show the load and not the server; empty when they do show the server."""
    samples: list[Sample] = []
    checked: list[CheckedThreshold] = []

    @property
    def good(self) -> bool:
        """Whether everything was delivered as it must be and every threshold held."""
        return not self.checks.failed and all(each.held for each in self.checked)


def read_result(path: Path) -> RunResult:
    """The result in this file; raises `ResultError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunResult)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ResultError(f"{path} is not the result of a run: {error}") from None


def check_writable(path: Path) -> None:
    """Raise `ResultError` if no result can be written to this file: a run asks before it begins."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ResultError(f"{path} cannot be written: name a file in a folder that you may write.")


def _per_cpu_s(done: int, used_s: float) -> float:
    return done / max(used_s, _TICK_S)


def _delay(result: RunResult, which: str, percentile: str) -> float | None:
    latency: Percentiles | None = getattr(result, which)
    return None if latency is None else float(getattr(latency, percentile))


METRICS: dict[str, Callable[[RunResult], float | None]] = {
    "acked_per_s": lambda it: it.acked / it.seconds,
    "delivered_per_s": lambda it: it.delivered / it.seconds,
    "connects_per_s": lambda it: it.connects / it.seconds,
    "acked_per_cpu_s": lambda it: _per_cpu_s(it.acked, it.cpu.tchat_s + it.cpu.postgres_s),
    "delivered_per_cpu_s": lambda it: _per_cpu_s(it.delivered, it.cpu.tchat_s + it.cpu.postgres_s),
    "connects_per_cpu_s": lambda it: _per_cpu_s(it.connects, it.cpu.tchat_s + it.cpu.postgres_s),
    "delivered_per_tchat_cpu_s": lambda it: _per_cpu_s(it.delivered, it.cpu.tchat_s),
    "server_cores": lambda it: (it.cpu.tchat_s + it.cpu.postgres_s) / it.seconds,
    "tchat_cores": lambda it: it.cpu.tchat_s / it.seconds,
    "postgres_cores": lambda it: it.cpu.postgres_s / it.seconds,
    "worker_cores": lambda it: max(it.cpu.workers_s, default=0.0) / it.seconds,
    "bytes_per_session": lambda it: it.bytes_per_session,
    **{
        f"{which}_{percentile}": functools.partial(_delay, which=which, percentile=percentile)
        for which in ("delivery", "ack", "connect")
        for percentile in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
    },
}
"""What a threshold may name, a table shows, and `compare` compares: by name; None where a result has none."""
