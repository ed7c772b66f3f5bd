"""The result of a measurement, for machines (as a struct) and for people (as a table)."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence

import msgspec
import psutil

from loadtest.measure_stage import Latency, Stage

_HEAD = ("", "per s", "per CPU-s", "tchat", "PostgreSQL", "p50 ms", "p99 ms", "p99.9 ms", "load")


class Measurement(msgspec.Struct):
    """Every round of every load. It counts connects, acked sends (direct), deliveries (rooms)."""

    rounds: int
    seconds: float
    bytes_per_session: float = 0.0
    stages: dict[str, list[Stage]] = {}
    python: str = platform.python_version()
    cores: int = psutil.cpu_count() or 1

    def add(self, load: str, stage: Stage) -> None:
        """Add one round of a load."""
        self.stages.setdefault(load, []).append(stage)


def as_text(report: Measurement) -> str:
    """The medians as a table, with a note on how to read it."""
    rows = [_HEAD, *(_row(load, stages) for load, stages in report.stages.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    table = "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return (
        f"{table}\n\n{report.bytes_per_session / 1024:.1f} KiB resident memory per idle session\n\n"
        "Counted: connects with authentication and sync; acked sends; deliveries.\n"
        "per CPU-s: of tchat and PostgreSQL together; the two columns after it: per CPU second of each alone.\n"
        "load: share of one core that the load itself took; near 100 % the load, not the server, was the limit.\n"
        f"Each number is the median of {report.rounds} rounds of {report.seconds:g} s; "
        f"Python {report.python}, {report.cores} cores shared by everything.\n"
    )


def _row(load: str, stages: Sequence[Stage]) -> tuple[str, ...]:
    def middle(value: Callable[[Stage], float]) -> float:
        return statistics.median(map(value, stages))

    def delay(value: Callable[[Latency], float]) -> str:
        known = [value(stage.latency) for stage in stages if stage.latency is not None]
        return f"{statistics.median(known):.1f}" if known else ""

    return (
        load,
        f"{middle(lambda stage: stage.per_second):,.0f}",
        f"{middle(lambda stage: stage.per_cpu_second()):,.0f}",
        f"{middle(lambda stage: stage.per_cpu_second(postgres=False)):,.0f}",
        f"{middle(lambda stage: stage.per_cpu_second(tchat=False)):,.0f}",
        delay(lambda latency: latency.p50_ms),
        delay(lambda latency: latency.p99_ms),
        delay(lambda latency: latency.p999_ms),
        f"{middle(lambda stage: 100 * stage.load_s / stage.seconds):.0f} %",
    )
